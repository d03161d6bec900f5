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
import csv
import gzip
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from negajoule.errors import CatalogError
from negajoule.physics.accelerators import format_bytes, hardware_of
from negajoule.physics.decoding import Coefficients, Layout, Served, deploy, request_cost
from negajoule.physics.hosted_setting import COEFFICIENT_FILE, SCHEMA, Fitted, deployment_of
from negajoule.physics.model_size import all_layouts, find_model, typical_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

V3 = "measurement/llm/mlenergy_v3_llm_runs.csv"
V2 = "serving/mlenergy_v2_llm.csv.gz"
ENGINES = "serving/nv_aic_silicon_ttft_tpot.csv.gz"

TASKS = (
    "lm-arena-chat",
    "gpqa",
    "image-chat",
    "video-chat",
    "sourcegraph-fim",
    "v2 chat",
    "v2 code",
    "v2 image",
)
V2_TASKS = {
    "llm_text_generation/chat": "v2 chat",
    "llm_text_generation/code": "v2 code",
    "mllm_text_generation/chat": "v2 image",
}

# Logarithm of the prior's middle and its standard deviation. The middles are physics or others' figures:
# prompts reach 0.2 to 0.67 of the data sheet's rate (splitwise, A100 and H100) at full rated power; weights
# are read at some 0.85 of the bandwidth. The prompts of the tasks weren't published: they're inferred.
PRIORS: dict[str, tuple[float, float]] = {
    "read_efficiency": (np.log(0.85), 0.05),
    "compute_efficiency": (np.log(0.5), 0.4),
    "prefill_efficiency": (np.log(0.45), 0.25),
    "expert_read": (np.log(1.5), 0.4),
    "expert_spread": (np.log(0.75), 0.15),
    "context_share": (0.0, 0.15),
    "step_s": (np.log(1e-3), 0.7),
    "layer_s": (np.log(8e-5), 0.7),
    "sequence_s": (np.log(2e-5), 1.0),
    "moe_s": (np.log(5e-4), 1.0),
    "hybrid_s": (np.log(2e-3), 1.0),
    "link_s": (np.log(1e-5), 0.7),
    "replica_wait": (0.0, 0.3),
    "base": (np.log(0.35), 0.3),
    "reading": (np.log(0.4), 0.4),
    "computing": (np.log(0.55), 0.3),
    "fp8 read": (0.0, 0.5),
    "mxfp4 read": (0.0, 0.5),
    "blackwell read": (0.0, 0.2),
    "blackwell power": (0.0, 0.2),
    "blackwell host": (0.0, 0.3),
    "ampere read": (0.0, 0.2),
    "ampere power": (0.0, 0.2),
    "ampere host": (0.0, 0.3),
    "old engine read": (0.0, 0.3),
    "old engine host": (np.log(2.0), 0.7),
    **{
        f"prompt {task}": (np.log(tokens), 0.6)
        for task, tokens in zip(TASKS, (100, 250, 1500, 3000, 1500, 200, 200, 1000), strict=True)
    },
}
NAMES = tuple(PRIORS)
MIDDLE = np.array([middle for middle, _ in PRIORS.values()])
SPREAD = np.array([spread for _, spread in PRIORS.values()])


@dataclass(frozen=True)
class Run:
    """One measured deployment at a steady batch.

    Attributes:
        model: as the source names it.
        task: what it was asked.
        accelerator: name that the catalogue knows.
        precision: number format of the weights.
        architecture: as the source names it; empty if it doesn't.
        active: parameters used for a token [1e9].
        total: all parameters [1e9].
        accelerators: number of them.
        replicas: data parallel copies of the attention.
        batch: mean number of sequences in flight.
        tokens_out: mean length of the answers [tokens].
        energy_j: of all accelerators, for one request [J].
        token_s: batch / output rate [s]; the time from token to token, prefills included.
        old: whether it's of the second ML.ENERGY release, with the engine of 2024.
    """

    model: str
    task: str
    accelerator: str
    precision: str
    architecture: str
    active: float
    total: float
    accelerators: float
    replicas: float
    batch: float
    tokens_out: float
    energy_j: float
    token_s: float
    old: bool


def read_runs(path: Path) -> list[Run]:
    """Read runs with the columns of ML.ENERGY v3, plain or gzipped.

    Raises:
        ValueError: if a column is missing, or a row isn't a measurement.
    """
    runs = []
    for line, row in enumerate(_rows(path), start=2):
        try:
            number = {
                name: float(row[name])
                for name in (
                    "activated_params_billions",
                    "total_params_billions",
                    "num_gpus",
                    "avg_batch_size",
                    "avg_output_len",
                    "energy_per_token_joules",
                    "output_throughput_tokens_per_sec",
                )
            }
            if not all(0 < value < float("inf") for value in number.values()):
                raise ValueError("a figure isn't positive")
            runs.append(
                Run(
                    model=row["model_id"],
                    task=row["task"],
                    accelerator=row["gpu_model"].lower(),
                    precision=row["weight_precision"],
                    architecture=row["architecture"],
                    active=number["activated_params_billions"],
                    total=number["total_params_billions"],
                    accelerators=number["num_gpus"],
                    replicas=float(row.get("data_parallel") or 1),
                    batch=number["avg_batch_size"],
                    tokens_out=number["avg_output_len"],
                    energy_j=number["energy_per_token_joules"] * number["avg_output_len"],
                    token_s=number["avg_batch_size"] / number["output_throughput_tokens_per_sec"],
                    old=False,
                )
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}:{line}: {error!r}") from None
    return runs


def read_old_runs(path: Path) -> list[Run]:
    """Read the second ML.ENERGY release; runs of models without a published layout are left out."""
    runs = []
    for row in _rows(path):
        try:
            size = find_model(row["Model"])
        except CatalogError:
            continue
        batch, tokens_out = float(row["Avg BS (reqs)"]), float(row["Avg Output Tokens"])
        runs.append(
            Run(
                model=row["Model"],
                task=V2_TASKS[row["task"]],
                accelerator="a100-40gb" if "A100" in row["GPU"] else "h100",
                precision="bfloat16",
                architecture="",
                active=size.active,
                total=size.total,
                accelerators=float(row["TP"]) * float(row["PP"]),
                replicas=1.0,
                batch=batch,
                tokens_out=tokens_out,
                energy_j=float(row["Energy/req (J)"]),
                token_s=batch / float(row["Token tput (tok/s)"]),
                old=True,
            )
        )
    return runs


def _rows(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def base_model(run: Run) -> str:
    """What a run's model is a version of: runs of one base model leave the fit together."""
    try:
        return find_model(run.model).name
    except CatalogError:
        return run.model.rpartition("/")[2].lower().removesuffix("-fp8")


class Unlisted(NamedTuple):
    """Layouts of models whose layout nobody published, from their size.

    Attributes:
        layers: factor and exponent of total parameters [1e9].
        kv: factor and exponent of active parameters [1e9], for all layers together.
        expert_share: factor of active / total parameters.
    """

    layers: tuple[float, float]
    kv: tuple[float, float]
    expert_share: float


def fit_unlisted(left_out: Iterable[str] = ()) -> Unlisted:
    """Typical layouts by size, from the published ones except those left out."""
    sizes = [size for size in all_layouts() if size.name not in set(left_out)]
    layouts = [size.layout for size in sizes if size.layout is not None]
    total = np.log([layout.total for layout in layouts])
    active = np.log([layout.active for layout in layouts])
    layers = np.polyfit(total, np.log([layout.layers for layout in layouts]), 1)
    kept = [(layout.attention_layers + layout.window_layers) * layout.kv_elements for layout in layouts]
    kv = np.polyfit(active, np.log(kept), 1)
    shares = [layout.expert_share * layout.total / layout.active for layout in layouts if layout.is_moe]
    return Unlisted(
        (float(np.exp(layers[1])), float(layers[0])),
        (float(np.exp(kv[1])), float(kv[0])),
        float(np.median(shares)),
    )


def guess_layout(run: Run, unlisted: Unlisted) -> Layout:
    """The layout of a run's model if only its sizes were known."""
    kind = "hybrid" if "hybrid" in run.architecture.lower() else "moe" if run.active < run.total else "dense"
    return typical_layout(run.active, run.total, kind, unlisted._asdict())


class Design(NamedTuple):
    """Runs as columns: what a prediction needs, and what was measured."""

    layout: Layout
    batch: Floats
    accelerators: Floats
    replicas: Floats
    weight_bytes: Floats
    bandwidth: Floats
    compute: Floats
    power: Floats
    tokens_out: Floats
    switches: dict[str, Floats]
    tasks: Floats
    log_energy: Floats
    log_time: Floats
    weight: Floats


def design(runs: Sequence[Run], layouts: Sequence[Layout], old_weight: float = 0.3) -> Design:
    """Columns of the runs."""
    hardware = [hardware_of(run.accelerator) for run in runs]

    def column(values: Iterable[float]) -> Floats:
        return np.array(list(values), dtype=np.float64)

    def switch(test: Callable[[Run], bool]) -> Floats:
        return column(float(test(run)) for run in runs)

    fields = zip(*layouts, strict=True)
    return Design(
        layout=Layout(*(column(field) for field in fields)),  # type: ignore[arg-type]
        batch=column(run.batch for run in runs),
        accelerators=column(run.accelerators for run in runs),
        replicas=column(run.replicas for run in runs),
        weight_bytes=column(format_bytes(run.precision) for run in runs),
        bandwidth=column(part.bandwidth for part in hardware),
        compute=column(
            part.compute_8bit if run.precision == "fp8" else part.compute_16bit
            for run, part in zip(runs, hardware, strict=True)
        ),
        power=column(part.power for part in hardware),
        tokens_out=column(run.tokens_out for run in runs),
        switches={
            "fp8": switch(lambda run: run.precision == "fp8"),
            "mxfp4": switch(lambda run: run.precision == "mxfp4"),
            "blackwell": column(part.generation == "blackwell" for part in hardware),
            "ampere": column(part.generation == "ampere" for part in hardware),
            "old engine": switch(lambda run: run.old),
        },
        tasks=column([])
        if not runs
        else np.array([[run.task == task for task in TASKS] for run in runs], float),
        log_energy=np.log(column(run.energy_j for run in runs)),
        log_time=np.log(column(run.token_s for run in runs)),
        weight=column(old_weight if run.old else 1.0 for run in runs),
    )


def pick(columns: Design, chosen: NDArray[np.bool_]) -> Design:
    """Some of the rows."""
    return Design(
        Layout(*(field[chosen] for field in columns.layout)),  # type: ignore[index]
        *(
            {name: values[chosen] for name, values in part.items()}
            if isinstance(part, dict)
            else part[chosen]
            for part in columns[1:]
        ),
    )


def predict(theta: Floats, columns: Design) -> tuple[Floats, Floats]:
    """Logarithms of energy per request [J] and of time per token [s]."""
    value = dict(zip(NAMES, theta, strict=True))
    on = columns.switches

    def factor(what: str, *names: str) -> Floats:
        return np.exp(sum(value[f"{name} {what}"] * on[name] for name in names))

    served: Any = Served(
        layout=columns.layout,
        batch=columns.batch,  # type: ignore[arg-type]
        accelerators=columns.accelerators,  # type: ignore[arg-type]
        replicas=columns.replicas,  # type: ignore[arg-type]
        linked=(columns.accelerators > 1).astype(float),
        weight_bytes=columns.weight_bytes,  # type: ignore[arg-type]
        read_rate=columns.bandwidth * factor("read", "fp8", "mxfp4", "blackwell", "ampere", "old engine"),
        compute_rate=columns.compute,  # type: ignore[arg-type]
        power=columns.power,  # type: ignore[arg-type]
        power_factor=factor("power", "blackwell", "ampere"),
        host_factor=factor("host", "blackwell", "ampere", "old engine"),
    )
    prompt: Any = np.exp(columns.tasks @ np.array([value[f"prompt {task}"] for task in TASKS]))
    tokens_out: Any = columns.tokens_out
    cost = request_cost(deploy(served, coefficients_of(theta)), prompt, tokens_out)
    energy = cost.prefill_j + cost.decode_j
    time = cost.step_s + columns.batch * cost.prefill_s / tokens_out
    return np.log(energy), np.log(time)


def coefficients_of(theta: Floats) -> Coefficients:
    """The part of the parameters that's the same for every accelerator, format and task."""
    value = dict(zip(NAMES, np.exp(theta), strict=True))
    return Coefficients(**{name: float(value[name]) for name in Coefficients._fields})


class Choice(NamedTuple):
    """What is chosen inside each fold.

    Attributes:
        prior: strength of the priors against the data.
        time: weight of a run's time against its energy.
    """

    prior: float
    time: float


CHOICES = tuple(Choice(prior, time) for prior in (1.0, 4.0) for time in (0.1, 0.5))
NOISE = 0.15  # size of a residual that counts as ordinary, in logarithms; larger ones count linearly


def fit(columns: Design, choice: Choice) -> Floats:
    """Parameters (logarithms) at the least robust cost.

    Levenberg-Marquardt on the pseudo-Huber loss with Gaussian priors, Jacobian by differences.
    """
    weights = np.sqrt(np.concatenate([columns.weight, columns.weight * choice.time])) / NOISE
    measured = np.concatenate([columns.log_energy, columns.log_time])
    precision = choice.prior / SPREAD**2

    def residuals(theta: Floats) -> Floats:
        return (np.concatenate(predict(theta, columns)) - measured) * weights

    def cost(theta: Floats, z: Floats) -> float:
        return float(np.sum(2 * (np.sqrt(1 + z * z) - 1)) + np.sum((theta - MIDDLE) ** 2 * precision))

    theta = MIDDLE.copy()
    z = residuals(theta)
    current, damping = cost(theta, z), 1e-2
    for _ in range(60):
        jacobian = np.empty((len(z), len(theta)))
        for index in range(len(theta)):
            moved = theta.copy()
            moved[index] += 1e-5
            jacobian[:, index] = (residuals(moved) - z) / 1e-5
        robust = 1 / np.sqrt(1 + z * z)
        hessian = jacobian.T @ (jacobian * robust[:, None]) + np.diag(precision)
        gradient = jacobian.T @ (robust * z) + (theta - MIDDLE) * precision
        for _ in range(10):
            trial = theta - np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
            trial_z = residuals(trial)
            trial_cost = cost(trial, trial_z)
            if trial_cost < current:
                break
            damping *= 4
        else:
            return theta
        done = current - trial_cost < 1e-6 * current
        theta, z, current, damping = trial, trial_z, trial_cost, max(damping / 5, 1e-7)
        if done:
            return theta
    return theta


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


def listed_layout(run: Run) -> Layout | None:
    """The published layout of a run's model, with the run's own parameter counts."""
    try:
        layout = find_model(run.model).layout
    except CatalogError:
        return None
    if layout is None:
        return None
    return layout._replace(active=run.active, total=run.total if layout.is_moe else run.active)


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
    for row in _rows(path):
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
