"""Fit the energy of serving: from measured runs to ``physics/serving/serving_model.json``.

    python fitting/serving_energy.py [--data DIR] [--write]

Without ``--write`` it only prints what it found. The data are ML.ENERGY v3 (H100, B200) and v2 (A100, H100).
Physics first (``step_physics``), fitted to the logarithms of energy, time and gap with priors and a robust
loss; then what it misses, as a Gaussian process over setup and batch. The strength of the priors and the
scales of the process are chosen by whole (model, accelerator) pairs that a fit leaves out; intervals come
from the residuals of those pairs. ``benchmarks/energy_model.py`` repeats all of it inside each of its folds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
from fitting.serving_fit import Choice, coefficients_of, fit, physics_of, prompts_of
from fitting.serving_residuals import PROCESSES, Process, likeness_of, predicted, residuals_of
from fitting.serving_runs import WEIGHTS, Columns, Run, columns_of, pick, read_old_runs, read_runs

from negajoule.physics.serving.known_shapes import shape_of_size
from negajoule.physics.serving.predictor import MODEL_FILE, SCHEMA, ServingModel, group_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

V3 = "serving/mlenergy_v3_llm.csv.gz"
V2 = "serving/mlenergy_v2_llm.csv.gz"
JUDGED = ("lm-arena-chat", "gpqa")
CHOICES = (Choice(1.0, 0.5), Choice(3.0, 0.5))
COVERAGE = 0.9
_FEWEST = 30  # residuals that a group's own quantile needs


class Study(NamedTuple):
    """Runs, their columns, and what they're left out by."""

    runs: Sequence[Run]
    columns: Columns
    pairs: NDArray[np.str_]
    judged: NDArray[np.bool_]

    def subset(self, chosen: NDArray[np.bool_]) -> Study:
        """Some of the runs."""
        runs = [run for run, kept in zip(self.runs, chosen, strict=True) if kept]
        return Study(runs, pick(self.columns, chosen), self.pairs[chosen], self.judged[chosen])


def study_of(runs: Sequence[Run]) -> Study:
    """Columns and pairs of runs."""
    return Study(
        runs,
        columns_of(runs, WEIGHTS),
        np.array([run.pair for run in runs]),
        np.array([run.task in JUDGED and not run.old for run in runs]),
    )


def folds_of(study: Study, count: int, seed: int = 0) -> list[NDArray[np.bool_]]:
    """Runs of each fold: whole pairs of the judged runs, in an order that only the seed decides."""
    pairs = sorted(set(study.pairs[study.judged].tolist()))
    np.random.default_rng(seed).shuffle(pairs)
    return [np.isin(study.pairs, pairs[start::count]) for start in range(count)]


class Chosen(NamedTuple):
    """What left-out pairs preferred, and how far off it was on them.

    Attributes:
        choice: of the physics.
        process: of what it misses.
        missed: logarithms of measured over predicted time and energy of the judged runs; ``nan`` elsewhere.
    """

    choice: Choice
    process: Process
    missed: Floats


def choose(study: Study, folds: int = 4, seed: int = 1) -> Chosen:
    """Choose by leaving out whole pairs; the least mean error of energy wins."""
    likeness, columns = likeness_of(study.runs), study.columns
    kernels = [likeness.kernel(process) for process in PROCESSES]
    found: list[tuple[float, Chosen]] = []
    for choice in CHOICES:
        all_missed = [np.full((len(study.runs), 2), np.nan) for _ in PROCESSES]
        for out in folds_of(study, folds, seed):
            missed = missed_by(fit(pick(columns, ~out), choice), columns)
            for kernel, into in zip(kernels, all_missed, strict=True):
                into[out] = missed[out] - predicted(kernel, missed, columns.weight, out)
        for process, missed in zip(PROCESSES, all_missed, strict=True):
            missed[~study.judged] = np.nan
            error = float(np.mean(abs(np.expm1(-missed[study.judged, 1]))))
            found.append((error, Chosen(choice, process, missed)))
    return min(found, key=lambda pair: pair[0])[1]


def missed_by(theta: Floats, columns: Columns) -> Floats:
    """Logarithms of measured over predicted time and energy, a column each."""
    found = physics_of(theta, columns)
    time = columns.log_token_s - found.log_token_s
    return np.column_stack([time, time + columns.log_power - found.log_power])


def half_width(residuals: Floats, coverage: float = COVERAGE) -> float:
    """Half of an interval, in logarithms, that holds this share of the residuals (conformal quantile)."""
    sizes = np.sort(abs(residuals))
    rank = int(np.ceil(coverage * (len(sizes) + 1))) - 1
    return float(sizes[min(rank, len(sizes) - 1)])


def widths_of(missed: Floats) -> tuple[float, float, float]:
    """Half-widths of energy, time and power."""
    time, energy = missed[:, 0], missed[:, 1]
    return half_width(energy), half_width(time), half_width(energy - time)


def half_widths_of(study: Study, chosen: Chosen) -> dict[str, tuple[float, float, float]]:
    """Half-widths by group; a group of few runs is no narrower than all runs together."""
    judged = study.judged
    missed = chosen.missed[judged]
    groups = np.array([group_of(run.setup) for run in study.runs])[judged]
    everyone = widths_of(missed)
    found = {"any": everyone}
    for group in sorted(set(groups.tolist())):
        own = widths_of(missed[groups == group])
        if np.sum(groups == group) < _FEWEST:
            own = tuple(max(one, other) for one, other in zip(own, everyone, strict=True))  # type: ignore[assignment]
        found[group] = own
    found["calibrated"] = widths_of(calibrated_residuals(study, missed))
    return found


def calibrated_residuals(study: Study, missed: Floats) -> Floats:
    """Residuals that are left next to a measured point: of neighbours in a pair's sweep of batches."""
    runs = [run for run, judged in zip(study.runs, study.judged, strict=True) if judged]
    order = sorted(
        range(len(runs)), key=lambda index: (runs[index].pair, runs[index].task, runs[index].batch)
    )
    left = [
        missed[after] - 0.9 * missed[before]
        for before, after in pairwise(order)
        if (runs[before].pair, runs[before].task) == (runs[after].pair, runs[after].task)
    ]
    return np.array(left)


def transfer_widths(study: Study, chosen: Chosen) -> dict[str, tuple[float, float, float]]:
    """Half-widths for what was never measured: another generation, another format, another engine."""
    columns = study.columns
    inputs = columns.inputs
    likeness = likeness_of(study.runs)
    kernel = likeness.kernel(chosen.process)

    def without(out: NDArray[np.bool_]) -> tuple[float, float, float]:
        missed = missed_by(fit(pick(columns, ~out), chosen.choice), columns)
        return widths_of(missed[out] - predicted(kernel, missed, columns.weight, out))

    def worst(kinds: Sequence[NDArray[np.bool_]]) -> tuple[float, float, float]:
        energy, time, power = zip(*(without(kind) for kind in kinds if kind.any()), strict=True)
        return max(energy), max(time), max(power)

    def beyond(widths: tuple[float, float, float]) -> tuple[float, float, float]:
        """What must be added in quadrature to the usual half-width."""
        usual = widths_of(chosen.missed[study.judged])
        energy, time, power = (
            max(wide**2 - own**2, 0.0) ** 0.5 for wide, own in zip(widths, usual, strict=True)
        )
        return energy, time, power

    guessed = study_of([with_guessed_shape(run) for run in study.runs]).columns
    theta = fit(columns, chosen.choice)
    by_size = missed_by(theta, guessed) - missed_by(theta, columns) + chosen.missed
    return {
        "guessed": beyond(widths_of(by_size[study.judged])),
        "accelerator": beyond(worst([inputs.is_blackwell > 0, inputs.is_ampere > 0])),
        "format": beyond(worst([inputs.is_fp8 > 0, inputs.is_fp4 > 0])),
        "engine": beyond(worst([inputs.is_old > 0])),
    }


def with_guessed_shape(run: Run) -> Run:
    """The same run, its model's layers guessed from the sizes."""
    shape = run.setup.shape
    guess = shape_of_size(shape.name, shape.active_parameters, shape.parameters, shape.kind)
    guess = msgspec.structs.replace(guess, block_scales=shape.block_scales)
    return replace(run, setup=msgspec.structs.replace(run.setup, shape=guess))


def extrapolation_slope(study: Study, chosen: Chosen) -> float:
    """How much an interval must widen for each e-fold outside the measured range.

    The fit is repeated without the ends of the batch and of the size; what its residuals there exceed the
    usual half-width by, over the distance, is the slope. The worst end counts.
    """
    columns = study.columns
    usual = widths_of(chosen.missed[study.judged])[0]
    kernel = likeness_of(study.runs).kernel(chosen.process)
    active = np.array([run.setup.shape.active_parameters for run in study.runs]) / 1e9
    slopes = [0.0]
    for values, low, high in ((columns.batch, 24.0, 400.0), (active, 6.0, 60.0)):
        for out, distance in ((values < low, np.log(low / values)), (values > high, np.log(values / high))):
            missed = missed_by(fit(pick(columns, ~out), chosen.choice), columns)
            left = missed[out] - predicted(kernel, missed, columns.weight, out)
            seen = study.judged[out]
            excess = (abs(left[seen, 1]) - usual) / np.maximum(distance[out][seen], 0.25)
            slopes.append(float(np.quantile(excess, COVERAGE)))
    return max(slopes)


def model_of(study: Study, chosen: Chosen, data: Sequence[tuple[str, str]]) -> ServingModel:
    """Fit with what was chosen, in the form that is shipped.

    Args:
        study: the runs that may be looked at.
        chosen: by ``choose``, on the same runs.
        data: names of files and their SHA-256.
    """
    theta = fit(study.columns, chosen.choice)
    prompts = prompts_of(theta)
    runs = study.runs

    def span(values: Sequence[float]) -> tuple[float, float]:
        return min(values), max(values)

    return ServingModel(
        schema=SCHEMA,
        script="fitting/serving_energy.py",
        data=[{"file": name, "sha256": digest} for name, digest in data],
        rows=[run.digest for run in runs if run.digest],
        pairs=sorted({run.pair for run in runs if not run.old}),
        coefficients=coefficients_of(theta)._asdict(),
        residuals=residuals_of(runs, missed_by(theta, study.columns), study.columns.weight, chosen.process),
        prompts=prompts,
        half_widths=half_widths_of(study, chosen) | transfer_widths(study, chosen),
        ranges={
            "batch": span([run.batch for run in runs]),
            "tokens_in": (0.0, max(prompts.values())),
            "context": (0.0, max(run.context_out + prompts[run.task] for run in runs)),
            "active": span([run.setup.shape.active_parameters for run in runs]),
        },
        accelerators=sorted({run.setup.hardware.name for run in runs}),
        slope=extrapolation_slope(study, chosen),
    )


def data_folder(given: str | None) -> Path:
    """Where the measurements are: the option, ``NEGAJOULE_DATA``, or ``../shared/data``."""
    return Path(given or os.environ.get("NEGAJOULE_DATA") or "../shared/data")


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rounded(value: object) -> object:
    """The same with five digits in every number: no more is known, and the file stays small."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    """Fit, print, and write the model file if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help="folder of the measurements")
    parser.add_argument("--write", action="store_true", help=f"write {MODEL_FILE.name}")
    options = parser.parse_args()
    data = data_folder(options.data)
    study = study_of(read_runs(data / V3) + read_old_runs(data / V2))
    chosen = choose(study)
    model = model_of(study, chosen, [(name, digest_of(data / name)) for name in (V3, V2)])
    print(f"chosen: {chosen.choice} {chosen.process}")
    for name, value in model.coefficients.items():
        print(f"  {name:20} {value:.4g}")
    for name, tokens in model.prompts.items():
        print(f"  prompt of {name:15} {tokens:.0f} tokens")
    for name, widths in model.half_widths.items():
        print(f"  90 % of {name:18} energy x{np.exp(widths[0]):.2f}  time x{np.exp(widths[1]):.2f}")
    if options.write:
        content = rounded(msgspec.to_builtins(model))
        MODEL_FILE.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=-1) + b"\n")
        print(f"written: {MODEL_FILE.name}, {MODEL_FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
