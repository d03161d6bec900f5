"""How far the predicted energy of serving is off on models and accelerators that it hasn't seen.

    python benchmarks/energy_model.py [--data DIR] [--kernels DIR]

DIR holds runs with the columns of ML.ENERGY v3 (``*.csv`` or ``*.csv.gz``, there or in ``serving``). On runs
that the shipped coefficients were fitted to, everything is repeated in five folds of whole (model,
accelerator) pairs: the fit, what is chosen, the intervals; nothing is chosen on a pair that it's judged on.
Runs that weren't fitted to are judged by the shipped coefficients as they are; nothing is fitted. If there
are only such runs, their errors stand under the usual keys too.

Beside it, on the same runs and folds: a line through active parameters, a plane through parameters, batch,
accelerators, format and length, gradient boosting on these and more columns, and the law from utilisation to
power of the energy fork of Vidur (ozcanmiraay/vidur-energy). Errors are of the energy per output token.

``--kernels DIR`` judges the laws of single kernels on a folder of kernel tables. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
import timeit
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting.serving_energy import (
    JUDGED,
    V2,
    V3,
    Study,
    choose,
    data_folder,
    folds_of,
    model_of,
    study_of,
)
from fitting.serving_runs import Run, read_old_runs, read_runs

from negajoule.errors import NegajouleError
from negajoule.physics.serving import (
    MeasuredPoint,
    Prediction,
    Predictor,
    ServingSetup,
    fit_setup_calibration,
    load_predictor,
    shape_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Fit = Callable[[Floats, Floats, Floats], Floats]

CHAT = JUDGED[0]
CALLS = 4000
NEEDED = {"model_id", "task", "gpu_model", "energy_per_token_joules", "output_throughput_tokens_per_sec"}


class Judged(NamedTuple):
    """Logarithms of predicted over measured energy, and half-widths, for each run; ``nan`` where not judged.

    Attributes:
        energy: as predicted.
        calibrated: with one measured point of the pair; ``nan`` at that point.
        width: half-width of the 90 % interval.
        time: the same as ``energy`` for the time from token to token.
        power: for the power.
    """

    energy: Floats
    calibrated: Floats
    width: Floats
    time: Floats
    power: Floats


def run_files(data: Path) -> list[Path]:
    """Files of runs in a folder or in its ``serving``, or the file itself."""
    if data.is_file():
        return [data]
    found = []
    for folder in (data, data / "serving"):
        for path in sorted((*folder.glob("*.csv"), *folder.glob("*.csv.gz"))):
            opener = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rt", encoding="utf-8", newline="") as stream:
                if set(next(csv.reader(stream), [])) >= NEEDED:
                    found.append(path)
    return found


def predict(predictor: Predictor, run: Run) -> Prediction:
    """The prediction for a run; its prompts are as long as its task's are inferred to be."""
    prompts = predictor.model.prompts
    tokens_in = prompts.get(run.task, prompts[CHAT])
    return predictor.predict(
        run.setup,
        batch=run.batch,
        tokens_in=tokens_in,
        tokens_out=run.tokens_out,
        context=tokens_in + run.context_out,
        extrapolate=True,
    )


def judge(predictor: Predictor, runs: Sequence[Run], chosen: NDArray[np.bool_], into: Judged) -> None:
    """Judge some of the runs."""
    for index in np.flatnonzero(chosen):
        run = runs[index]
        found = predict(predictor, run)
        into.energy[index] = np.log(found.energy_per_token_j / run.energy_j)
        into.width[index] = found.energy_half_width
        into.time[index] = np.log(found.token_s / run.token_s)
        into.power[index] = np.log(found.power_w / run.power_w)
    for pair in sorted({runs[index].pair for index in np.flatnonzero(chosen)}):
        rows = [index for index in np.flatnonzero(chosen) if runs[index].pair == pair]
        chats = [index for index in rows if runs[index].task == CHAT] or rows
        middle = sorted(chats, key=lambda index: runs[index].batch)[len(chats) // 2]
        point = runs[middle]
        tokens_in = predictor.model.prompts.get(point.task, predictor.model.prompts[CHAT])
        measured = MeasuredPoint(
            batch=point.batch,
            tokens_in=tokens_in,
            tokens_out=point.tokens_out,
            token_s=point.token_s,
            power_w=point.power_w,
            context=tokens_in + point.context_out,
        )
        calibration = fit_setup_calibration(predictor, point.setup, [measured])
        calibrated = predictor.calibrated(point.setup, calibration)
        for index in rows:
            if index != middle:
                found = predict(calibrated, runs[index])
                into.calibrated[index] = np.log(found.energy_per_token_j / runs[index].energy_j)


def empty(count: int) -> Judged:
    """Nothing judged yet."""
    return Judged(*(np.full(count, np.nan) for _ in Judged._fields))


def mape(errors: Floats, chosen: NDArray[np.bool_]) -> float | None:
    """Mean absolute error of the chosen runs that were judged, in percent."""
    values = errors[chosen & np.isfinite(errors)]
    return float(np.mean(abs(np.expm1(values)))) * 100 if len(values) else None


def coverage(judged: Judged, chosen: NDArray[np.bool_]) -> float | None:
    """Share of the chosen runs whose interval holds what was measured, in percent."""
    rows = chosen & np.isfinite(judged.energy)
    return float(np.mean(abs(judged.energy[rows]) <= judged.width[rows])) * 100 if rows.any() else None


def columns(runs: Sequence[Run], names: Sequence[str]) -> Floats:
    """What a baseline may know of runs: what anybody would write in a table, by name."""
    table = {
        "active": [np.log(run.active) for run in runs],
        "total": [np.log(run.total) for run in runs],
        "batch": [np.log(run.batch) for run in runs],
        "count": [np.log(run.setup.count) for run in runs],
        "fp8": [run.setup.format == "fp8" for run in runs],
        "fp4": [run.setup.format == "mxfp4" for run in runs],
        "b200": [run.setup.accelerator == "b200" for run in runs],
        "length": [np.log(run.tokens_out) for run in runs],
        "gpqa": [run.task == "gpqa" for run in runs],
        "moe": [run.setup.shape.is_moe for run in runs],
        "hybrid": [run.setup.shape.is_hybrid for run in runs],
    }
    return np.array([table[name] for name in names], dtype=np.float64).T


PLANE = ("active", "batch", "count", "fp8", "fp4", "length")
EVERYTHING = (*PLANE, "total", "b200", "gpqa", "moe", "hybrid")


def plane(known: Floats, answers: Floats, asked: Floats) -> Floats:
    """Least squares."""
    with_one = np.column_stack([np.ones(len(known)), known])
    found = np.linalg.lstsq(with_one, answers, rcond=None)[0]
    result: Floats = np.column_stack([np.ones(len(asked)), asked]) @ found
    return result


def boosting(known: Floats, answers: Floats, asked: Floats) -> Floats:
    """Gradient boosting of scikit-learn, at settings usual for some hundred rows."""
    from sklearn.ensemble import GradientBoostingRegressor

    trees = GradientBoostingRegressor(
        n_estimators=400, max_depth=3, learning_rate=0.05, subsample=0.8, min_samples_leaf=5, random_state=0
    )
    result: Floats = trees.fit(known, answers).predict(asked)
    return result


def baseline(
    fit: Fit, names: Sequence[str], runs: Sequence[Run], splits: Sequence[tuple[Floats, Floats]]
) -> Floats:
    """Errors of a baseline: logarithms of predicted over measured energy per token."""
    known, answers = columns(runs, names), np.log([run.energy_j for run in runs])
    errors = np.full(len(runs), np.nan)
    for train, test in splits:
        train, test = train.astype(bool), test.astype(bool)
        if train.any() and test.any():
            errors[test] = fit(known[train], answers[train], known[test]) - answers[test]
    return errors


def mfu_law(runs: Sequence[Run]) -> Floats:
    """Errors of the power that follows from utilisation; ``nan`` on accelerators it has no figures for.

    power = idle + (most - idle) x min(1, (utilisation / 0.45)^0.7); for H100 60 and 700 W, 990 TFLOP/s.
    """
    errors = np.full(len(runs), np.nan)
    for index, run in enumerate(runs):
        if run.setup.accelerator == "h100":
            rate = run.batch / run.token_s / run.setup.count
            utilisation = 2.0 * run.active * 1e9 * rate / 990e12
            power = 60.0 + 640.0 * min(1.0, (utilisation / 0.45) ** 0.7)
            errors[index] = np.log(power * run.setup.count / run.power_w)
    return errors


def held_out(study: Study) -> Judged:
    """Judge every judged run by a fit without its pair."""
    found = empty(len(study.runs))
    for number, out in enumerate(folds_of(study, 5)):
        train = study.subset(~out)
        chosen = choose(train)
        print(f"fold {number + 1}: {chosen.choice} {chosen.process}", file=sys.stderr)
        predictor = Predictor(model_of(train, chosen, []))
        judge(predictor, study.runs, out & study.judged, found)
    return found


def microseconds(predictor: Predictor) -> float:
    """Time of a prediction, the batch another each time; the least of 20 repeats, as timeit advises [us]."""
    setup = ServingSetup(shape=shape_of("llama-3.1-8b"), accelerator="h100")
    predictor.predict(setup, batch=8.0, tokens_in=200.0, tokens_out=400.0)
    batch = 8.0

    def once() -> None:
        nonlocal batch
        batch = 8.0 + (batch + 1.0) % 200.0
        predictor.predict(setup, batch=batch, tokens_in=200.0, tokens_out=400.0)

    return min(timeit.repeat(once, number=CALLS // 20, repeat=20)) / (CALLS // 20) * 1e6


def kernels(folder: Path) -> list[dict[str, Any]]:
    """Errors of the shipped kernel laws on a folder of tables, printed; nothing is fitted."""
    import msgspec

    from negajoule.physics.kernels import score_tables

    scores: list[dict[str, Any]] = [msgspec.to_builtins(score) for score in score_tables(folder)]
    for score in scores:
        figures = "  ".join(
            f"{name} {score[name]:.1%}"
            for name in ("time_mape", "time_median", "power_mape", "energy_mape")
            if score.get(name) is not None
        )
        name = f"{score['accelerator']:12} {score['operator']:22} {score['number_format']:10}"
        print(f"  {name} {'fitted' if score['known'] else 'unseen'}  {figures}")
    return scores


def show(title: str, value: float | None, unit: str = "%") -> None:
    """A line of the table."""
    print(f"  {title:58} {'-' if value is None else f'{value:.1f}'} {unit}")


def by_group(runs: Sequence[Run], judged: Judged, chosen: NDArray[np.bool_]) -> None:
    """Errors by kind of model and accelerator."""
    groups: dict[str, list[int]] = {}
    for index in np.flatnonzero(chosen & np.isfinite(judged.energy)):
        shape, setup = runs[index].setup.shape, runs[index].setup
        groups.setdefault(f"{shape.kind}, {setup.format}, {setup.accelerator}", []).append(int(index))
    for name, rows in sorted(groups.items()):
        energy = np.mean(abs(np.expm1(judged.energy[rows]))) * 100
        time, power = (np.mean(abs(np.expm1(part[rows]))) * 100 for part in (judged.time, judged.power))
        print(
            f"    {name:32} {len(rows):4} runs  energy {energy:5.1f}  time {time:5.1f}  power {power:5.1f} %"
        )


def main() -> int:
    """Judge, print, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help="folder or file of runs")
    parser.add_argument("--kernels", type=Path, help="folder of kernel tables")
    options = parser.parse_args()
    data = data_folder(options.data)
    shipped = load_predictor()
    try:
        runs = [run for path in run_files(data) for run in read_runs(path)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    runs = list({run.digest: run for run in runs}.values())
    if not runs:
        print(f"{data} holds no runs with the columns of ML.ENERGY v3", file=sys.stderr)
        return 1
    fitted = set(shipped.model.rows)
    seen = [run for run in runs if run.digest in fitted]
    unseen = [run for run in runs if run.digest not in fitted]
    result: dict[str, Any] = {"rows_seen": len(seen), "rows_unseen": len(unseen)}
    if seen:
        result |= judged_in_folds(seen, data)
    if unseen:
        result |= judged_as_shipped(shipped, unseen, seen, data, alone=not seen)
    result["us_per_prediction"] = round(microseconds(shipped), 1)
    show("one prediction", result["us_per_prediction"], "us")
    if options.kernels:
        print("\nkernels, shipped laws")
        try:
            result["kernels"] = kernels(options.kernels)
        except NegajouleError as error:
            print(error, file=sys.stderr)
            return 1
    print(
        json.dumps(
            {key: round(value, 2) if isinstance(value, float) else value for key, value in result.items()}
        )
    )
    return 0


def judged_in_folds(seen: Sequence[Run], data: Path) -> dict[str, Any]:
    """Figures of runs that the shipped coefficients know: five folds, fitted anew."""
    old = next((path for path in (data / V2, data_folder(None) / V2) if path.is_file()), None)
    study = study_of([*seen, *(read_old_runs(old) if old else ())])
    found = held_out(study)
    chat = np.array([run.task == CHAT and not run.old for run in study.runs])
    splits = [(study.judged & ~out, study.judged & out) for out in folds_of(study, 5)]
    print(f"\n{len(seen)} runs known to the shipped coefficients; folds of whole pairs, fitted anew")
    result = figures(study.runs, found, chat, study.judged, splits)
    by_group(study.runs, found, study.judged)
    return result


def judged_as_shipped(
    shipped: Predictor, unseen: Sequence[Run], seen: Sequence[Run], data: Path, *, alone: bool
) -> dict[str, Any]:
    """Figures of runs that the shipped coefficients don't know: nothing is fitted but the baselines."""
    default = data_folder(None) / V3
    known = list(seen) or (read_runs(default) if default.is_file() else [])
    runs = [*unseen, *(run for run in known if run.task in JUDGED)]
    asked = np.array([index < len(unseen) for index in range(len(runs))])
    judged = asked & np.array([run.task in JUDGED for run in runs])
    chat = asked & np.array([run.task == CHAT for run in runs])
    found = empty(len(runs))
    judge(shipped, runs, judged, found)
    pairs = {run.pair for run, chosen in zip(runs, judged, strict=True) if chosen}
    new = pairs - set(shipped.model.pairs)
    print(f"\n{len(unseen)} runs unknown to the shipped coefficients, {len(new)} of {len(pairs)} pairs new")
    result = figures(runs, found, chat, judged, [(~asked, judged)])
    by_group(runs, found, judged)
    fresh = np.array([run.pair in new for run in runs])
    result["mape_chat_new_pairs"] = mape(found.energy, chat & fresh)
    named = {f"{key}_unseen" if not key.endswith("pairs") else key: value for key, value in result.items()}
    named["mape_chat_unseen"] = named.pop("mape_chat_cv_unseen")
    named["mape_all_unseen"] = named.pop("mape_all_cv_unseen")
    return (result | named | {"mode": "unseen"}) if alone else named


def figures(
    runs: Sequence[Run],
    found: Judged,
    chat: NDArray[np.bool_],
    judged: NDArray[np.bool_],
    splits: Sequence[tuple[Any, Any]],
) -> dict[str, Any]:
    """Errors of ours and of the others on the same runs."""
    params = baseline(plane, ("active",), runs, splits)
    lines = baseline(plane, PLANE, runs, splits)
    trees = baseline(boosting, EVERYTHING, runs, splits)
    law = mfu_law(runs)
    result = {
        "mape_chat_cv": mape(found.energy, chat),
        "median_chat_cv": percent(np.nanmedian(abs(np.expm1(found.energy[chat])))) if chat.any() else None,
        "mape_chat_calibrated": mape(found.calibrated, chat),
        "mape_all_cv": mape(found.energy, judged),
        "mape_all_calibrated": mape(found.calibrated, judged),
        "coverage_90": coverage(found, judged),
        "power_mape": mape(found.power, chat),
        "time_mape": mape(found.time, chat),
        "baseline_params_mape": mape(params, chat),
        "baseline_loglinear_mape": mape(lines, chat),
        "baseline_boosting_mape": mape(trees, chat),
        "baseline_boosting_all_mape": mape(trees, judged),
        "mfu_law_power_mape": mape(law, chat),
    }
    show("energy per output token, chat, mean error", result["mape_chat_cv"])
    show("  median error", result["median_chat_cv"])
    show("  with one measured point of the pair", result["mape_chat_calibrated"])
    show("  chat and reasoning", result["mape_all_cv"])
    show("90 % intervals that hold it, chat and reasoning", result["coverage_90"])
    show("power, chat", result["power_mape"])
    show("active parameters only, chat", result["baseline_params_mape"])
    show("parameters, batch, count, format, length, log-linear, chat", result["baseline_loglinear_mape"])
    show("gradient boosting, chat", result["baseline_boosting_mape"])
    show("power by the law from utilisation, H100, chat", result["mfu_law_power_mape"])
    return result


def percent(share: float) -> float:
    """A share in percent."""
    return float(share) * 100


if __name__ == "__main__":
    sys.exit(main())
