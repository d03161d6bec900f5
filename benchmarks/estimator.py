"""How far the estimate for hosted models is off on models it hasn't seen, beside EcoLogits.

    python benchmarks/estimator.py [--data DIR_OR_FILE] [--venvs DIR]

With a folder: every base model of the measured runs (ML.ENERGY v3) is judged by a fit, a choice of settings
and an interval made without it; all versions of a model that share a layout leave together. With a file of
runs of the same columns: the shipped coefficients are judged on it as they are, through ``estimate``; nothing
is fitted. EcoLogits is pinned, installed in its own environment, and judged on the same runs in the same
session: its formula for the accelerators' energy, with its own batch and accelerator count and with the true
ones.

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import timeit
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting import hosted_llm as fitting

from negajoule.errors import NegajouleError
from negajoule.physics.hosted import HostedEstimate, estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ECOLOGITS = "ecologits==0.11.3"
TEXT = ("lm-arena-chat", "gpqa", "sourcegraph-fim")
CALLS = 2000

PEER = """
import json, sys, timeit
from ecologits.impacts.llm import compute_llm_impacts, gpu_energy, gpu_required_count, model_required_memory
from ecologits.impacts import llm
from ecologits.tracers.utils import llm_impacts

def plain(asset):
    return getattr(asset, "__wrapped__", asset)

def joules(active, total, tokens, batch, count):
    if count is None:
        memory = plain(model_required_memory)(total, llm.MODEL_QUANTIZATION_BITS)
        count = plain(gpu_required_count)(memory, llm.GPU_MEMORY)
    fitted = (llm.GPU_ENERGY_ALPHA, llm.GPU_ENERGY_BETA, llm.GPU_ENERGY_GAMMA)
    one = plain(gpu_energy)(active, tokens, batch, *fitted)
    return one * count * 3.6e6

runs = json.load(sys.stdin)
own = [joules(r["active"], r["total"], r["tokens_out"], llm.BATCH_SIZE, None) for r in runs]
true = [joules(r["active"], r["total"], r["tokens_out"], r["batch"], r["accelerators"]) for r in runs]
call = lambda: llm_impacts("openai", "gpt-4o", 300, 10.0)
call()
us = min(timeit.repeat(call, number=200, repeat=5)) / 200 * 1e6
print(json.dumps({"own": own, "true": true, "us": us}))
"""


def accuracy(predicted: Floats, measured: Floats) -> tuple[float, float]:
    """Median fold error, and share within a factor of two."""
    folds = np.exp(abs(np.log(predicted) - np.log(measured)))
    return float(np.median(folds)), float(np.mean(folds <= 2))


def left_out(data: Path) -> tuple[list[fitting.Run], dict[str, Floats], dict[str, object]]:
    """Judge every base model by a fit without it: predictions and interval ends of the judged runs."""
    runs = fitting.read_runs(data / fitting.V3) + fitting.read_old_runs(data / fitting.V2)
    study = fitting.study_of(runs)
    result = fitting.nested(study)
    judged = study.judged
    measured = np.exp(study.listed.log_energy[judged])
    ours = measured * np.exp(result.residuals["energy"][judged])
    by_size = measured * np.exp(result.residuals["unlisted energy"][judged])
    widths, size_widths = result.widths[judged], result.unlisted_widths[judged]
    groups = study.groups[judged]
    print(f"{len(measured)} runs of {len(set(groups))} base models, each left out of its own fit\n")
    print(f"{'base model left out':24} {'runs':>5} {'median fold':>12} {'within 2x':>10}")
    for group in sorted(set(groups.tolist())):
        mine = groups == group
        fold, within = accuracy(ours[mine], measured[mine])
        print(f"{group:24} {mine.sum():5d} {fold:12.3f} {within:10.3f}")
    columns = {
        "measured": measured,
        "ours": ours,
        "low": ours * np.exp(-widths),
        "high": ours * np.exp(widths),
        "size only": by_size,
        "size only low": by_size * np.exp(-size_widths),
        "size only high": by_size * np.exp(size_widths),
    }
    fold, within = accuracy(by_size, measured)
    seconds = float(np.median(np.exp(abs(result.residuals["time"][judged]))))
    extra: dict[str, object] = {
        "method": "leave whole base models out, nested",
        "base_models": len(set(groups.tolist())),
        "time_fold_error_median": seconds,
        "size_only_fold_error_median": fold,
        "size_only_within_2x": within,
        "size_only_coverage_90": covered(by_size, size_widths, measured),
    }
    return [run for run, seen in zip(runs, judged, strict=True) if seen], columns, extra


def covered(predicted: Floats, widths: Floats, measured: Floats) -> float:
    """Share of the measurements inside the intervals."""
    return float(np.mean(abs(np.log(predicted / measured)) <= widths))


def shipped(path: Path) -> tuple[list[fitting.Run], dict[str, Floats], dict[str, object]]:
    """Judge the shipped coefficients on a file of runs."""
    runs, estimates, refused = [], [], 0
    for run in fitting.read_runs(path):
        try:
            estimates.append(shipped_estimate(run))
            runs.append(run)
        except NegajouleError as error:
            refused += 1
            print(f"no estimate for {run.model} on {run.accelerator}: {error.message}")
    if not runs:
        raise ValueError(f"{path}: no run that can be estimated")
    columns = {
        "measured": np.array([run.energy_j for run in runs]),
        "ours": np.array([one.energy.value for one in estimates]),
        "low": np.array([one.energy.low for one in estimates]),
        "high": np.array([one.energy.high for one in estimates]),
    }
    known = sum(one.known for one in estimates)
    print(f"{len(runs)} runs, the shipped coefficients as they are; {known} with known layout and hardware")
    by_model = sorted({run.model for run in runs})
    print(f"\n{'model':48} {'runs':>5} {'median fold':>12} {'within 2x':>10}")
    for model in by_model:
        mine = np.array([run.model == model for run in runs])
        fold, within = accuracy(columns["ours"][mine], columns["measured"][mine])
        print(f"{model:48} {mine.sum():5d} {fold:12.3f} {within:10.3f}")
    return runs, columns, {"method": "shipped coefficients", "known": known, "refused": refused}


def shipped_estimate(run: fitting.Run) -> HostedEstimate:
    """The estimate for a run, told what its columns tell."""
    architecture = run.architecture.lower()
    kind = "hybrid" if "hybrid" in architecture else "moe" if run.active < run.total else "dense"
    return estimate(
        run.model,
        None,
        run.tokens_out,
        task=run.task if run.task in fitting.TASKS else "chat",
        batch=run.batch,
        accelerator=run.accelerator,
        accelerators=int(run.accelerators),
        precision=run.precision,
        replicas=int(run.replicas),
        active_parameters_b=run.active,
        total_parameters_b=run.total,
        kind=kind,
    )


def microseconds(call: Callable[[], object]) -> float:
    """Time of one call, the least of several repeats."""
    call()
    return min(timeit.repeat(call, number=CALLS, repeat=7)) / CALLS * 1e6


def ecologits(runs: Sequence[fitting.Run], venvs: Path) -> dict[str, list[float] | float]:
    """EcoLogits' energies of the same runs, from its own environment."""
    python = venvs / "ecologits" / "bin" / "python"
    if not python.exists():
        venv.create(python.parents[1], with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ECOLOGITS]
        subprocess.run(install, check=True, stdout=sys.stderr)
    asked = [
        {name: getattr(run, name) for name in ("active", "total", "tokens_out", "batch", "accelerators")}
        for run in runs
    ]
    answer = subprocess.run(
        [str(python), "-c", PEER], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    result: dict[str, list[float] | float] = json.loads(answer.stdout)
    return result


def main() -> None:
    """Judge, print, and end with the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help="folder of the measurements, or a file of unseen runs")
    default = Path(tempfile.gettempdir()) / f"negajoule-venvs-{os.getuid()}"
    parser.add_argument("--venvs", type=Path, default=default, help="where peers' environments are kept")
    options = parser.parse_args()
    data = fitting.data_folder(options.data)
    try:
        runs, columns, extra = shipped(data) if data.is_file() else left_out(data)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    measured, ours = columns["measured"], columns["ours"]
    inside = (columns["low"] <= measured) & (measured <= columns["high"])
    peer = ecologits(runs, options.venvs)

    rows = {
        "negajoule": accuracy(ours, measured),
        "EcoLogits, its own batch and count": accuracy(np.array(peer["own"]), measured),
        "EcoLogits, true batch and count": accuracy(np.array(peer["true"]), measured),
    }
    text = np.array([run.task in TEXT for run in runs])
    print(f"\n{'':36} {'median fold':>12} {'within 2x':>10}")
    for name, (fold, within) in rows.items():
        print(f"{name:36} {fold:12.3f} {within:10.3f}")
    text_fold, text_within = accuracy(ours[text], measured[text]) if text.any() else (None, None)
    told = microseconds(lambda: shipped_estimate(runs[0]))
    untold = microseconds(lambda: estimate("gpt-4o", 1200, 300))
    print(f"\n90 % interval holds {inside.mean():.3f} of the runs")
    print(
        f"a call: {told:.1f} us ({untold:.1f} us for a closed model of which nothing is known); "
        f"EcoLogits {peer['us']:.0f} us"
    )
    names = ("", "ecologits_", "ecologits_true_batch_")
    figures = {
        f"{prefix}{key}": value
        for prefix, pair in zip(names, rows.values(), strict=True)
        for key, value in zip(("fold_error_median", "within_2x"), pair, strict=True)
    }
    result = {
        **figures,
        "coverage_90": float(inside.mean()),
        "us_per_call": told,
        "us_per_call_nothing_known": untold,
        "ecologits_us_per_call": peer["us"],
        "text_fold_error_median": text_fold,
        "text_within_2x": text_within,
        "runs": len(runs),
        "ecologits": ECOLOGITS,
        **extra,
    }
    print(json.dumps({key: fitting.rounded(value) for key, value in result.items()}))


if __name__ == "__main__":
    main()
