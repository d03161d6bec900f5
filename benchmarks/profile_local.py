"""Does a profile of part of the cells choose the right number format in the others? On the embedded model.

Run ``python benchmarks/profile_local.py``; some eight minutes of one core. CPU time of prefill and decode is
measured at batch 1, 2, 4 and 8 in F16, Q8_0 and Q4_0, in rounds of mixed order, formats of a cell back to
back. The law is fitted to batches 1, 4 and 8 with the shortest and the longest prompt; batch 2, and the
prompt in between at every batch, are left out. The verdict on a cell that was left out, for prefill, decode
and the whole request, is held against what that cell measured.

A verdict that names one format agrees if that format was the cheapest one measured. A verdict of a tie agrees
only if the cheapest one measured is among the tied and the measurement can't tell the chosen one from it
either (90 % interval of the ratio, paired by rounds). Where one format is always the cheapest, answering it
every time agrees as well, so that is printed too, and the agreement of verdicts between each two formats.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import combinations
from math import exp, fsum, log
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from negajoule.profile import Sweep, best_precision, is_tie, load_profile, open_target, run_sweep, summarise
from negajoule.profile.bootstrap import interval, resampled_rounds

if TYPE_CHECKING:
    from negajoule.profile import Profile, Sample

FORMATS = ("F16", "Q8_0", "Q4_0")
BATCHES = (1, 2, 4, 8)
PROMPTS = (32, 96, 192)
PARTS = ("prefill", "decode", "request")


def fitted_on(sample: Sample) -> bool:
    """Whether the law may see a sample."""
    return sample.cell.batch != 2 and sample.cell.prompt_tokens != PROMPTS[1]


def cost(sample: Sample, part: str) -> float:
    """CPU time of a request, or of one phase of it [s]."""
    cell = sample.cell
    prefill = sample.prefill.cpu_s / cell.batch
    decode = sample.decode.cpu_s / sample.decode.tokens * cell.output_tokens
    return {"prefill": prefill, "decode": decode, "request": prefill + decode}[part]


def measured(profile: Profile, shape: tuple[int, int, int], part: str) -> dict[str, dict[int, float]]:
    """Cost by format and round."""
    found: dict[str, dict[int, float]] = {}
    for sample in profile.samples:
        if (sample.cell.batch, sample.cell.prompt_tokens, sample.cell.output_tokens) == shape:
            found.setdefault(sample.cell.format, {})[sample.repeat] = cost(sample, part)
    return found


def really_tied(one: dict[int, float], other: dict[int, float]) -> bool:
    """Whether the measurement can't tell two formats apart."""
    ratios = [
        log(median(one[number] for number in draw) / median(other[number] for number in draw))
        for draw in resampled_rounds(sorted(one))
    ]
    low, high = interval(ratios)
    return low <= 0 <= high


def judge(profile: Profile, formats: tuple[str, ...]) -> list[dict[str, object]]:
    """The verdict between some formats on every cell that was left out, and what it measured."""
    among = tuple(one for one in profile.samples if one.cell.format in formats)
    profile = msgspec.structs.replace(profile, samples=among)
    seen = msgspec.structs.replace(profile, samples=tuple(filter(fitted_on, among)))
    left_out = sorted(
        {
            (one.cell.batch, one.cell.prompt_tokens, one.cell.output_tokens)
            for one in profile.samples
            if not fitted_on(one)
        }
    )
    rows = []
    for shape in left_out:
        for part in PARTS:
            verdict = best_precision(seen, *shape, cost="cpu", part=part)
            values = measured(profile, shape, part)
            middles = {name: median(rounds.values()) for name, rounds in values.items()}
            best = min(middles, key=middles.__getitem__)
            tie = is_tie(verdict)
            agrees = best == verdict.chosen
            if tie:
                named = best in (verdict.chosen, verdict.runner_up)
                rival = verdict.runner_up if best == verdict.chosen else best
                agrees = named and really_tied(values[verdict.chosen], values[rival])
            truth = 1 - middles[verdict.chosen] / middles[verdict.runner_up]
            rows.append(
                {
                    "batch": shape[0],
                    "prompt": shape[1],
                    "part": part,
                    "verdict": f"tie, {verdict.chosen}" if tie else verdict.chosen,
                    "measured": best,
                    "agrees": agrees,
                    "margin": verdict.margin,
                    "margin_measured": truth,
                    "inside": verdict.margin_low <= truth <= verdict.margin_high,
                }
            )
    return rows


def share(rows: list[dict[str, object]], name: str) -> float:
    """Share of rows of which something holds."""
    return round(sum(bool(row[name]) for row in rows) / len(rows), 4)


def gains(profile: Profile, batch: int) -> dict[str, float]:
    """CPU time of a token decoded alone over one decoded in a batch, by format; mean over prompts."""
    rows = {
        (row.cell.format, row.cell.batch, row.cell.prompt_tokens): row.decode_cpu_s
        for row in summarise(profile)
    }
    return {
        name: exp(
            fsum(log(rows[name, 1, prompt].value / rows[name, batch, prompt].value) for prompt in PROMPTS)
            / len(PROMPTS)
        )
        for name in profile.formats
    }


def print_cells(profile: Profile) -> None:
    """CPU time of a token by format, batch and prompt."""
    print(f"{profile.model} on {profile.machine.cpu}, {profile.engine.threads} thread(s), CPU-ms of a token")
    print("format  batch  prompt      prefill            decode")
    for row in summarise(profile):
        texts = [
            f"{1e3 * spread.value:6.2f} ({1e3 * spread.low:.2f}-{1e3 * spread.high:.2f})"
            for spread in (row.prefill_cpu_s, row.decode_cpu_s)
        ]
        cell = row.cell
        print(f"{cell.format:<6}  {cell.batch:>5}  {cell.prompt_tokens:>6}  {texts[0]:>20}  {texts[1]:>20}")


def main() -> None:
    """Measure or read, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", default=",".join(FORMATS), help="Q4_1 is the packaged one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=int, default=24, help="tokens of an answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the profile")
    parser.add_argument("--profile", type=Path, help="judge a profile kept before; measure nothing")
    options = parser.parse_args()
    if options.profile:
        profile = load_profile(options.profile)
    else:
        sweep = Sweep(batches=BATCHES, prompts=PROMPTS, outputs=(options.output,), repeats=options.repeats)
        with open_target(
            "smollm2-135m-instruct", sweep, formats=options.formats.split(","), threads=options.threads
        ) as target:
            profile = run_sweep(target, sweep)
        if options.out:
            profile.save(options.out)
    print_cells(profile)
    rows = judge(profile, profile.formats)
    pairs = [row for pair in combinations(profile.formats, 2) for row in judge(profile, pair)]
    usual = Counter(str(row["measured"]) for row in rows).most_common(1)[0][1]
    print("\nleft out: verdict of the profile, and what was measured")
    for row in rows:
        print(
            f"batch {row['batch']}  prompt {row['prompt']:>3}  {row['part']:<8} {row['verdict']:<10} "
            f"measured {row['measured']:<5} {'agrees' if row['agrees'] else 'DIFFERS'}  margin "
            f"{row['margin']:.0%}, measured {row['margin_measured']:.0%}"
        )
    by_format = gains(profile, 8)
    busy = median(max(one.prefill.others_busy, one.decode.others_busy) for one in profile.samples)
    figures = {
        "decode_gain_batch8": round(exp(fsum(map(log, by_format.values())) / len(by_format)), 3),
        "best_precision_agreement": share(rows, "agrees"),
        "one_answer_for_all_agreement": round(usual / len(rows), 4),
        "pair_agreement": share(pairs, "agrees"),
        "held_out_verdicts": len(rows),
        "ties": sum(str(row["verdict"]).startswith("tie") for row in rows),
        "margin_error_points": round(
            100 * median(abs(float(row["margin"]) - float(row["margin_measured"])) for row in rows), 2
        ),
        "margin_coverage_90": share(rows, "inside"),
        "decode_gain_batch8_by_format": {name: round(value, 3) for name, value in by_format.items()},
        "decode_gain_batch2_by_format": {name: round(value, 3) for name, value in gains(profile, 2).items()},
        "others_busy_threads": round(busy, 2),
    }
    print()
    for name, value in figures.items():
        print(f"{name:<30} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
