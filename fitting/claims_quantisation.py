"""Check claims about quantisation against measurements: 6 times less, 10 times faster, INT8 always saves.

    python fitting/claims_quantisation.py --data DIR

Reads ML.ENERGY v3 (energy of models that were run in bfloat16 and in 8 bits on as many accelerators) and
NVIDIA's measured times between tokens; the rows of bitsandbytes ship with the package. Prints what the errors
in ``catalog/data/advise.csv`` rest on, too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
from collections import defaultdict
from math import exp, log
from pathlib import Path
from statistics import median, quantiles

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting.serving_energy import CHOICES, V2, V3, missed_by, study_of
from fitting.serving_fit import coefficients_of, fit
from fitting.serving_residuals import PROCESSES, residuals_of
from fitting.serving_runs import read_old_runs, read_runs

from negajoule.advise import advise_precision, eager_law, eager_rows
from negajoule.errors import NegajouleError
from negajoule.physics.serving import Predictor, ServingSetup, load_predictor, shape_of

SEED = {"carbon": (0.0095, 0.0016), "time": (0.016, 0.0059)}
"""The row behind the claims: kgCO2e of 20,000 samples, seconds of one; 16 bits, then QLoRA with FP4."""

LLAMACPP = {"energy": (4980.0, 1899.0), "speed": (54.7, 155.9)}
"""Llama-3.1-8B on an RTX 4090, llama.cpp, F16 then Q4_0: mJ and tokens/s in decode (quant-energy)."""

PAIRS = (
    ("Qwen/Qwen3-VL-235B-A22B-Instruct", "B200", 4),
    ("Qwen/Qwen3-VL-235B-A22B-Instruct", "H100", 8),
)
LEFT_OUT = "Qwen3-VL-235B"  # the models judged
FAMILY = "235B"  # and all that share their layout
SHAPE = "qwen3-235b-a22b"
PROMPT = 1000.0  # tokens, pictures included; the ratio hardly depends on it


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a gzipped CSV file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def ratio(one: dict[str, str], other: dict[str, str], column: str) -> float:
    """A column of one row over that of another."""
    return float(one[column]) / float(other[column])


def without(data: Path, words: str) -> Predictor:
    """The predictor, fitted to the runs of all other models than those with these words in their name."""
    study = study_of(read_runs(data / V3) + read_old_runs(data / V2))
    kept = study.subset(np.array([words not in pair for pair in study.pairs]))
    theta = fit(kept.columns, CHOICES[0])
    return Predictor(
        msgspec.structs.replace(
            load_predictor().model,
            coefficients=coefficients_of(theta)._asdict(),
            residuals=residuals_of(
                kept.runs, missed_by(theta, kept.columns), kept.columns.weight, PROCESSES[0]
            ),
        )
    )


def eight_bits(data: Path, predictor: Predictor) -> list[dict[str, float | str]]:
    """Measured and predicted ratios of 8-bit runs to those in bfloat16, same model, task and accelerators."""
    table: dict[tuple[str, str, int, str, int], dict[str, str]] = {}
    for row in rows_of(data / "serving" / "mlenergy_v3_llm.csv.gz"):
        batch = int(row["max_num_seqs"])
        table[row["model_id"], row["gpu_model"], int(row["num_gpus"]), row["task"], batch] = row
    found: list[dict[str, float | str]] = []
    for model, gpu, count in PAIRS:
        for (name, on, number, task, batch), plain in sorted(table.items()):
            other = table.get((f"{model}-FP8", gpu, count, task, batch))
            if (name, on, number) != (model, gpu, count) or other is None:
                continue
            predicted = []
            for row, kind in ((plain, "bfloat16"), (other, "fp8")):
                shape = msgspec.structs.replace(shape_of(SHAPE), block_scales=kind == "fp8")
                setup = ServingSetup(
                    shape=shape, accelerator=gpu, count=count, weight_format=kind,
                    expert_parallel=int(row["expert_parallel"]),
                )  # fmt: skip
                predicted.append(
                    predictor.predict(
                        setup, batch=float(row["avg_batch_size"]), tokens_in=PROMPT,
                        tokens_out=float(row["avg_output_len"]),
                    )
                )  # fmt: skip
            before, after = predicted
            found.append(
                {
                    "gpu": gpu, "task": task, "batch": batch,
                    "energy": ratio(other, plain, "energy_per_token_joules"),
                    "time": ratio(other, plain, "median_itl_ms"),
                    "energy_predicted": after.energy_per_token_j / before.energy_per_token_j,
                    "time_predicted": after.step_s / before.step_s,
                }
            )  # fmt: skip
    return found


def four_bits(data: Path) -> dict[str, list[float]]:
    """Ratios of NVIDIA's times between tokens, pairs alike in all but the format; and errors of ours."""
    groups: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(data / "serving" / "nv_aic_silicon_ttft_tpot.csv.gz"):
        if row["mode"] != "agg" or not row["silicon_tpot_ms"]:
            continue
        model = row["model_path"].lower().split("/")[-1]
        for ending in ("-fp8", "-nvfp4", "-fp4", "-bf16"):
            model = model.replace(ending, "")
        same = (
            "system",
            "isl",
            "osl",
            "batch_size",
            "tp_size",
            "attention_dp_size",
            "moe_ep_size",
            "backend",
        )
        groups[(model, *(row[name] for name in same))][row["precision"]].append(float(row["silicon_tpot_ms"]))
    found: dict[str, list[float]] = defaultdict(list)
    for key, times in groups.items():
        for wide, narrow in (("bf16", "fp8"), ("bf16", "fp4"), ("fp8", "fp4")):
            if wide in times and narrow in times:
                found_ratio = median(times[narrow]) / median(times[wide])
                found[f"{narrow}/{wide}"].append(found_ratio)
                if (wide, narrow) == ("fp8", "fp4") and key[0].startswith("llama-3.1-70b"):
                    ours = predicted_four(key)
                    if ours is not None:
                        found["error"].append(log(found_ratio / ours))
    return found


def predicted_four(key: tuple[str, ...]) -> float | None:
    """Our ratio of nvfp4 to fp8 of times between tokens for a row of NVIDIA's; None if we refuse."""
    _, system, prompt, output, batch, tensor, *_ = key
    try:
        setup = ServingSetup(
            shape=shape_of("llama-3.1-70b"), accelerator=system.partition("_")[0], count=int(float(tensor))
        )
        advice = advise_precision(setup, float(batch), float(prompt), float(output))
    except NegajouleError:
        return None
    times = {one.format: one.time for one in advice.effects}
    four, eight = times.get("nvfp4"), times.get("fp8")
    return four.value / eight.value if four and eight else None


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")))
    data = parser.parse_args().data
    seed = {name: wide / narrow for name, (wide, narrow) in SEED.items()}
    print(
        f"the claim's own row: {seed['carbon']:.2f} times less CO2, {seed['time']:.2f} times faster, not 10"
    )

    rows = eager_rows()
    figures: dict[str, float] = {"seed_carbon_ratio": seed["carbon"], "seed_time_ratio": seed["time"]}
    for method in ("nf4", "int8", "fp8-torchao"):
        ratios = [row.ratio for row in rows if row.method == method]
        costs = sum(ratio > 1 for ratio in ratios)
        name = method.replace("-", "_")
        figures |= {f"{name}_rows": len(ratios), f"{name}_cost_more": costs, f"{name}_least": min(ratios)}
        print(
            f"{method}, eager, batch 1: {costs} of {len(ratios)} pairs cost more energy than FP16; "
            f"{min(ratios):.2f} to {max(ratios):.2f} times"
        )
    for session in eager_law("nf4").sessions:
        own = [r for r in rows if (r.accelerator, r.session, r.method) == (*session, "nf4")]
        saving = [row.parameters for row in own if row.ratio < 1]
        least = f"saves from {min(saving):g} billion" if saving else "never saves"
        print(
            f"  nf4 on {session[0]} ({session[1]}): {least}, "
            f"measured {own[0].parameters:g} to {own[-1].parameters:g}"
        )

    energy, speed = (LLAMACPP[name] for name in ("energy", "speed"))
    figures |= {"llamacpp_energy_ratio": energy[0] / energy[1], "llamacpp_speed_ratio": speed[1] / speed[0]}
    print(
        f"llama.cpp Q4_0, fused kernels, RTX 4090: {energy[0] / energy[1]:.2f} times less energy, "
        f"{speed[1] / speed[0]:.2f} times faster"
    )

    cells = eight_bits(data, without(data, LEFT_OUT))
    print(
        "FP8 with block scales beside bfloat16, vLLM, Qwen3-VL-235B, as many accelerators: "
        f"measured (predicted, {LEFT_OUT} left out of the fit)"
    )
    for cell in cells:
        print(
            f"  {cell['gpu']} {cell['task']:10s} batch {cell['batch']:4d}: energy {cell['energy']:.2f} "
            f"({cell['energy_predicted']:.2f}), time {cell['time']:.2f} ({cell['time_predicted']:.2f})"
        )
    small = [float(cell["energy"]) for cell in cells if int(cell["batch"]) <= 16]
    figures |= {
        "fp8_cells": len(cells),
        "fp8_energy_median_batch_16_and_less": median(small),
        "fp8_energy_least": min(float(cell["energy"]) for cell in cells),
        "fp8_cost_more": sum(float(cell["energy"]) > 1 for cell in cells),
    }
    families = eight_bits(data, without(data, FAMILY))
    for words, ending, judged in ((LEFT_OUT, "", cells), (FAMILY, "_family", families)):
        for what in ("energy", "time"):
            errors = [abs(log(float(cell[what]) / float(cell[f"{what}_predicted"]))) for cell in judged]
            wide = figures[f"fp8_error_{what}_90{ending}"] = quantiles(errors, n=10)[-1]
            print(f"  90 % of errors of the ratio of {what}, {words} left out: below {wide:.2f} (logarithm)")

    for name, ratios in sorted(four_bits(data).items()):
        if name == "error":
            wide = quantiles([abs(error) for error in ratios], n=10)[-1]
            figures |= {"nvfp4_error_time_90": wide, "nvfp4_error_time_bias": median(ratios)}
            print(
                f"  ours of nvfp4 to fp8, Llama-3.1-70B, {len(ratios)} pairs: measured / predicted "
                f"{exp(median(ratios)):.2f} in the median, 90 % of errors below {wide:.2f} (logarithm)"
            )
        else:
            figures[f"tpot_{name.replace('/', '_')}_least"] = min(ratios)
            print(
                f"NVIDIA, time between tokens {name}: median {median(ratios):.2f}, {min(ratios):.2f} to "
                f"{max(ratios):.2f} in {len(ratios)} pairs"
            )
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
