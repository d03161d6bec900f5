"""Fit the estimate for hosted models: from measured serving runs to ``physics/hosted_model.json``.

    python fitting/hosted_llm.py [--data DIR] [--write]

Without ``--write`` it only prints what it would write. The data are ML.ENERGY v3 (H100, B200) and v2 (A100,
H100); both give the energy of all accelerators of a deployment at a steady batch. The model's shape is
``negajoule.physics.decoding``, the same function that serves estimates. Its numbers are fitted on the
logarithms of energy and time by damped least squares with priors and a robust loss, so that what the data
don't settle stays where physics puts it.

Nothing that is reported is judged on data it was fitted to. Folds leave out whole models, and models that
share a layout (an FP8 version, a vision or a reasoning variant) leave together. The strength of the priors
and the weight of time are chosen inside each fold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting.hosted_roofline import (
    CHOICES,
    NAMES,
    Choice,
    Design,
    coefficients_of,
    design,
    fit,
    pick,
    predict,
)
from fitting.hosted_runs import (
    TASKS,
    Run,
    base_model,
    fit_unlisted,
    guess_layout,
    listed_layout,
    read_old_runs,
    read_rows,
    read_runs,
)

from negajoule.errors import CatalogError
from negajoule.physics.accelerators import hardware_of
from negajoule.physics.decoding import request_cost
from negajoule.physics.hosted_setting import COEFFICIENT_FILE, SCHEMA, Fitted, deployment_of
from negajoule.physics.model_size import find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

V3 = "measurement/llm/mlenergy_v3_llm_runs.csv"
V2 = "serving/mlenergy_v2_llm.csv.gz"
ENGINES = "serving/nv_aic_silicon_ttft_tpot.csv.gz"


class Study(NamedTuple):
    """The measured runs, as columns in both ways a layout can be known, and their groups.

    Attributes:
        listed: columns with published layouts where there are any.
        unlisted: columns with the layouts that sizes alone suggest.
        groups: base model of each run.
        judged: whether a run counts in what is reported: the newer release does.
    """

    listed: Design
    unlisted: Design
    groups: NDArray[np.str_]
    judged: NDArray[np.bool_]


def study_of(runs: Sequence[Run]) -> Study:
    """Columns and groups of the runs.

    A run's unlisted layout comes from a fit to the layouts of other models than its own.
    """
    groups = [base_model(run) for run in runs]
    typical = {group: fit_unlisted([group]) for group in set(groups)}
    unlisted = [guess_layout(run, typical[group]) for run, group in zip(runs, groups, strict=True)]
    listed = [listed_layout(run) or guess for run, guess in zip(runs, unlisted, strict=True)]
    return Study(
        design(runs, listed),
        design(runs, unlisted),
        np.array(groups),
        np.array([not run.old for run in runs]),
    )


def held_out(study: Study, choice: Choice, folds: Sequence[Sequence[str]]) -> dict[str, Floats]:
    """Residuals (logarithm of predicted / measured) of each judged run, from a fit without its fold.

    Returns:
        ``energy`` and ``time`` with published layouts, the same with ``unlisted`` by size alone.
        Runs outside every fold are ``nan``.
    """
    names = ("energy", "time", "unlisted energy", "unlisted time")
    residuals = {name: np.full(len(study.groups), np.nan) for name in names}
    for fold in folds:
        out = np.isin(study.groups, fold)
        theta = fit(pick(study.listed, ~out), choice)
        seen = out & study.judged
        for prefix, columns in (("", study.listed), ("unlisted ", study.unlisted)):
            rows = pick(columns, seen)
            energy, time = predict(theta, rows)
            residuals[f"{prefix}energy"][seen] = energy - rows.log_energy
            residuals[f"{prefix}time"][seen] = time - rows.log_time
    return residuals


def judged_groups(study: Study) -> list[str]:
    """Base models of the runs that are judged, sorted."""
    return sorted(set(study.groups[study.judged].tolist()))


def subset(study: Study, chosen: NDArray[np.bool_]) -> Study:
    """Some of the runs."""
    return Study(
        pick(study.listed, chosen), pick(study.unlisted, chosen), study.groups[chosen], study.judged[chosen]
    )


def choose(study: Study, folds: int | None = None) -> tuple[Choice, dict[str, Floats]]:
    """The choice with the least mean residual over left-out models, and its residuals.

    Args:
        study: the runs that may be looked at.
        folds: number of folds of whole models; ``None`` for one fold a model.
    """
    groups = judged_groups(study)
    count = len(groups) if folds is None else folds
    parts = [groups[start::count] for start in range(count)]
    tried = [(choice, held_out(study, choice, parts)) for choice in CHOICES]
    return min(tried, key=lambda pair: float(np.nanmean(abs(pair[1]["energy"]))))


def half_width(residuals: Floats, coverage: float = 0.9) -> float:
    """Half of an interval, in logarithms, that holds this share of the residuals (conformal quantile)."""
    sizes = np.sort(abs(residuals[np.isfinite(residuals)]))
    rank = int(np.ceil(coverage * (len(sizes) + 1))) - 1
    return float(sizes[min(rank, len(sizes) - 1)])


class Nested(NamedTuple):
    """Leave-whole-models-out figures in which nothing was chosen on the model that's judged.

    Attributes:
        residuals: as of ``held_out``, with the choice made without the model.
        widths: half-width of the interval that the other models' residuals gave, for each run.
        unlisted_widths: the same by size alone.
        chosen: what was chosen for each model.
    """

    residuals: dict[str, Floats]
    widths: Floats
    unlisted_widths: Floats
    chosen: dict[str, Choice]


def nested(study: Study, inner_folds: int = 5) -> Nested:
    """Judge every model by a fit, a choice and an interval made without it."""
    size = len(study.groups)
    residuals = {
        name: np.full(size, np.nan) for name in ("energy", "time", "unlisted energy", "unlisted time")
    }
    widths, unlisted_widths = np.full(size, np.nan), np.full(size, np.nan)
    chosen = {}
    for group in judged_groups(study):
        out = study.groups == group
        choice, inner = choose(subset(study, ~out), inner_folds)
        for name, values in held_out(study, choice, [[group]]).items():
            residuals[name][out] = values[out]
        widths[out] = half_width(inner["energy"])
        unlisted_widths[out] = half_width(inner["unlisted energy"])
        chosen[group] = choice
    return Nested(residuals, widths, unlisted_widths, chosen)


def transfer_width(study: Study, choice: Choice, left_out: NDArray[np.bool_]) -> float:
    """Half-width for runs of a kind that the fit has never seen, the judged and the older ones alike."""
    theta = fit(pick(study.listed, ~left_out), choice)
    rows = pick(study.listed, left_out)
    return half_width(predict(theta, rows)[0] - rows.log_energy)


def extrapolation_slope(study: Study, choice: Choice, width: float) -> float:
    """How much an interval must widen for each e-fold outside the measured range.

    The fit is repeated without the ends of the batch and of the size; what its residuals there exceed the
    usual half-width by, over the distance, is the slope. The worst end counts.
    """
    batch, active = study.listed.batch, study.listed.layout.active
    slopes = [0.0]
    for values, low, high in ((batch, 24.0, 400.0), (active, 9.0, 60.0)):
        for out, distance in ((values < low, np.log(low / values)), (values > high, np.log(values / high))):
            rows = pick(study.listed, out)
            residuals = predict(fit(pick(study.listed, ~out), choice), rows)[0] - rows.log_energy
            excess = (abs(residuals) - width) / np.maximum(distance[out], 0.1)
            slopes.append(float(np.quantile(excess, 0.9)))
    return max(slopes)


def engine_factors(path: Path, found: Fitted) -> Floats:
    """Measured over predicted time of a decode step, for other engines and newer releases than were fitted.

    Args:
        path: NVIDIA's published deployments of vLLM, SGLang and TensorRT-LLM; only the plain ones are used.
        found: the coefficients.
    """
    formats = {"": "bfloat16", "bf16": "bfloat16", "fp8": "fp8", "fp4": "mxfp4"}
    factors = []
    for row in read_rows(path):
        accelerator = row["system"].removesuffix("_sxm")
        plain = row["mode"] == "agg" and float(row["attention_dp_size"] or 1) <= 1 >= float(
            row["pp_size"] or 1
        )
        if not plain or accelerator not in ("h100", "h200", "b200") or row["precision"] not in formats:
            continue
        try:
            size = find_model(row["model_path"])
        except CatalogError:
            continue
        if size.layout is None:
            continue
        count, form = max(1.0, float(row["tp_size"] or 1)), formats[row["precision"]]
        where = deployment_of(found, size.layout, float(row["batch_size"]), accelerator, form, count)
        context = float(row["isl"]) + float(row["osl"]) / 2
        factors.append(float(row["silicon_tpot_ms"]) / 1e3 / request_cost(where, context, 0.0).step_s)
    return np.array(factors)


def coefficient_file(study: Study, runs: Sequence[Run], data: Path) -> dict[str, Any]:
    """Everything that ``physics/hosted_model.json`` holds."""
    choice, residuals = choose(study)
    theta = fit(study.listed, choice)
    value = dict(zip(NAMES, np.exp(theta), strict=True))
    width = half_width(residuals["energy"])
    accelerators = np.array([hardware_of(run.accelerator).generation for run in runs])
    formats = np.array([run.precision for run in runs])
    columns = study.listed

    def span(values: Floats) -> list[float]:
        return [float(values.min()), float(values.max())]

    content: dict[str, Any] = {
        "schema": SCHEMA,
        "script": "fitting/hosted_llm.py",
        "data": [
            {"file": name, "sha256": hashlib.sha256((data / name).read_bytes()).hexdigest()}
            for name in (V3, V2, ENGINES)
        ],
        "runs": len(runs),
        "choice": choice._asdict(),
        "coefficients": coefficients_of(theta)._asdict(),
        "generations": {
            "hopper": {"read": 1.0, "power": 1.0, "host": 1.0},
            **{
                name: {what: value[f"{name} {what}"] for what in ("read", "power", "host")}
                for name in ("blackwell", "ampere")
            },
        },
        "formats": {"bfloat16": 1.0, "fp8": value["fp8 read"], "mxfp4": value["mxfp4 read"]},
        "prompts": {task: value[f"prompt {task}"] for task in TASKS if not task.startswith("v2 ")},
        "unlisted": fit_unlisted()._asdict(),
        "half_widths": {
            "listed": width,
            "unlisted": half_width(residuals["unlisted energy"]),
            "listed time": half_width(residuals["time"]),
            "unlisted time": half_width(residuals["unlisted time"]),
            "accelerator": max(
                transfer_width(study, choice, accelerators == name)
                for name in ("hopper", "blackwell", "ampere")
            ),
            "format": max(transfer_width(study, choice, formats == name) for name in ("fp8", "mxfp4")),
        },
        "slope": extrapolation_slope(study, choice, width),
        "ranges": {
            "batch": span(columns.batch),
            "active": span(columns.layout.active),
            "total": span(columns.layout.total),
            "accelerators": span(columns.accelerators),
            "tokens_in": span(np.array([value[f"prompt {task}"] for task in TASKS])),
            "tokens_out": span(columns.tokens_out),
        },
        "accelerators": sorted({hardware_of(run.accelerator).name for run in runs}),
        "engine": [1.0, 1.0],
    }
    found = Fitted(coefficients_of(theta), *(content[name] for name in Fitted._fields[1:]))
    content["engine"] = np.quantile(engine_factors(data / ENGINES, found), (0.05, 0.95)).tolist()
    return content


def rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The same with five digits in every number: no more is known, and the file stays small."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def data_folder(given: str | None) -> Path:
    """Where the measurements are: the option, ``NEGAJOULE_DATA``, or ``../shared/data``."""
    return Path(given or os.environ.get("NEGAJOULE_DATA") or "../shared/data")


def main() -> None:
    """Fit, and print or write the coefficient file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help="folder of the measurements")
    parser.add_argument("--write", action="store_true", help=f"write {COEFFICIENT_FILE.name}")
    options = parser.parse_args()
    data = data_folder(options.data)
    runs = read_runs(data / V3) + read_old_runs(data / V2)
    text = json.dumps(rounded(coefficient_file(study_of(runs), runs, data)), indent=1) + "\n"
    if options.write:
        COEFFICIENT_FILE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
