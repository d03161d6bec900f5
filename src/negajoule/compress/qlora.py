"""A study of fine-tuning: all weights, adapters, and adapters on 4-bit weights, each before and after.

Each way has three processes: what is measured before, the training, what is measured after. For 4-bit
weights a fourth one first proves that gradients are those of the widened weights; without that no energy
is spent.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog import lookup
from negajoule.compress.adapters import AdapterJob, AdapterReport, Adapting, run_adapter_job
from negajoule.compress.article import ArticleRow
from negajoule.compress.paired import Interval, median_interval
from negajoule.compress.passages import Passages, tokens_of
from negajoule.compress.workshop import Workshop
from negajoule.errors import CompressError
from negajoule.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WAYS", "Tuned", "TuningPlan", "TuningResult", "qlora_rows", "study_tuning"]

WAYS: tuple[Adapting, ...] = (
    Adapting(way="full"),
    Adapting(way="lora"),
    Adapting(way="fp4"),
    Adapting(way="fp4", compute="bfloat16"),
)
"""What is compared unless something else is asked for; the first is the baseline."""

SAME = 1e-5
"""Relative gap of gradients up to which they count as the same [1]."""
SAME_16 = 5e-2
"""The same where computation has 16 bits [1]."""


class TuningPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is studied.

    Attributes:
        source: a GGUF file.
        passages: calibration texts are trained on, test texts judge.
        ways: to compare, the baseline first.
        steps: of training.
        length: of a text in training and judging, in tokens; shorter ones are left out of training.
        threads: of each process.
    """

    source: Path
    passages: Passages
    ways: tuple[Adapting, ...] = WAYS
    steps: int = 6
    length: int = 96
    threads: int = 1


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """One way.

    Attributes:
        way: full, lora, fp4 or nf4.
        compute: type of computation.
        weight_bytes: memory of the weights [B].
        memory_ratio: the baseline's weights over these [1].
        trained: how many numbers are trained.
        step_cpu_s: CPU time of a step, median without the first [s].
        step_energy_j: energy of a step, mean [J].
        step_ratio: the baseline's CPU time of a step over this one's [1].
        energy_ratio: the baseline's energy of training over this one's, one run each [1].
        losses: of each step, before it.
        before: perplexity before [1].
        after: perplexity after [1].
        gradient_gap: relative gap to the gradients of widened weights; ``None`` where nothing is in 4 bits.
        peak_bytes: the most memory that training held [B].
    """

    way: str
    compute: str
    weight_bytes: int
    memory_ratio: float
    trained: int
    step_cpu_s: float
    step_energy_j: float
    step_ratio: Interval
    energy_ratio: float
    losses: tuple[float, ...]
    before: float
    after: float
    gradient_gap: float | None
    peak_bytes: int


class TuningResult(msgspec.Struct, frozen=True, kw_only=True):
    """A study's result.

    Attributes:
        model: the file.
        data: the texts' name.
        texts: trained on.
        judged: texts that judge.
        rows: the baseline first.
    """

    schema: str = "negajoule.compress-tuning/1"
    model: str
    data: str
    texts: int
    judged: int
    rows: tuple[Tuned, ...]

    def row(self, way: str, compute: str = "float32") -> Tuned:
        """The row of a way."""
        return next(row for row in self.rows if (row.way, row.compute) == (way, compute))


class _Kept(msgspec.Struct, frozen=True):
    """What was finished, and for which job."""

    job: str
    report: AdapterReport


def study_tuning(plan: TuningPlan, folder: Path, say: Callable[[str], None] = lambda _: None) -> TuningResult:
    """Run the study; what is finished in the folder isn't done again.

    Raises:
        CompressError: (K104) if gradients of 4-bit weights aren't those of the widened weights.
        ExtraMissingError: (X101) without a library.
    """
    workshop = Workshop(folder)
    whole = tokens_of(plan.source, plan.passages.calibration, plan.length)
    texts = tuple(tuple(ids) for ids in whole if len(ids) == plan.length)
    judged = tuple(tuple(ids) for ids in tokens_of(plan.source, plan.passages.test, plan.length))
    rows: list[Tuned] = []
    base: AdapterReport | None = None
    for way in plan.ways:
        how = msgspec.structs.replace(way, steps=plan.steps)
        name = f"{how.way}-{how.compute}"
        file = str(folder / f"{name}.safetensors")
        common = {"source": str(plan.source), "adapting": how, "threads": plan.threads}
        gap = None
        if how.way in ("fp4", "nf4"):
            say(f"{name}: gradients")
            job = AdapterJob(do="gradients", texts=texts[:1], **common)  # type: ignore[arg-type]
            gap = _done(job, workshop, f"{name}-gradients").gradient_gap
            if gap is None or not gap <= (SAME if how.compute == "float32" else SAME_16):
                raise CompressError(f"gradients of {name} are off by {gap}", code="K104")
        say(f"{name}: before")
        before = _done(AdapterJob(do="judge", texts=judged, **common), workshop, f"{name}-before")  # type: ignore[arg-type]
        say(f"{name}: {plan.steps} steps")
        train = _done(
            AdapterJob(do="train", texts=texts, adapters=file, **common),  # type: ignore[arg-type]
            workshop,
            f"{name}-train",
        )
        say(f"{name}: after")
        after = _done(
            AdapterJob(do="judge", texts=judged, adapters=file, **common),  # type: ignore[arg-type]
            workshop,
            f"{name}-after",
        )
        base = base or train
        rows.append(_row(how, base, train, before, after, gap))
    return TuningResult(
        model=plan.source.name,
        data=plan.passages.name,
        texts=len(texts),
        judged=len(judged),
        rows=tuple(rows),
    )


def qlora_rows(result: TuningResult) -> list[ArticleRow]:
    """The article's second table: what it says of QLoRA with FP4, beside what fine-tuning takes here."""
    row = result.row("fp4")
    differing = (
        "published: an unknown model and task on a GPU, energy and time of 20,000 samples; here: "
        f"fine-tuning of {result.model} on a processor, all weights in 32 bits against QLoRA with FP4, "
    )
    found = []
    for what, key, measured, unit in (
        ("carbon of the full model over QLoRA FP4's", "carbon_ratio", Interval(row.energy_ratio), "energy"),
        ("time of the full model over QLoRA FP4's", "time_ratio", row.step_ratio, "CPU time of a step"),
    ):
        fact = lookup(f"article.qlora.{key}")
        found.append(
            ArticleRow(
                what=what,
                unit="1",
                published=Interval(fact.value, fact.low, fact.high),
                measured=measured,
                source=fact.source,
                remark=f"{differing}{unit}; weights take {row.memory_ratio:.1f} times less memory",
            )
        )
    return found


def _done(job: AdapterJob, workshop: Workshop, name: str) -> AdapterReport:
    """What came of a job, done now or kept from before."""
    asked = fingerprint(msgspec.json.encode(job))
    file = workshop.folder / f"{name}.json"
    if file.exists():
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
        if kept.job == asked:
            return kept.report
    report = run_adapter_job(job, workshop.folder / "logs" / f"{name}.log")
    if report.window is not None:
        workshop.spend(f"compress/tuning/{name}", "training", report.started_s, report.window)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(_Kept(asked, report)))
    fresh.replace(file)
    return report


def _row(
    how: Adapting,
    base: AdapterReport,
    train: AdapterReport,
    before: AdapterReport,
    after: AdapterReport,
    gap: float | None,
) -> Tuned:
    assert train.window is not None, "training is metered"
    assert base.window is not None, "the baseline's too"
    steps = len(train.losses)
    # The first step warms up.
    pairs = list(zip(base.step_cpu_s, train.step_cpu_s, strict=True))[1:] or [(1.0, 1.0)]
    return Tuned(
        way=how.way,
        compute=how.compute,
        weight_bytes=train.weight_bytes,
        memory_ratio=base.weight_bytes / train.weight_bytes,
        trained=train.trained,
        step_cpu_s=median(train.step_cpu_s[1:] or train.step_cpu_s),
        step_energy_j=train.window.energy.value / steps,
        step_ratio=median_interval([one / other for one, other in pairs]),
        energy_ratio=base.window.energy.value / train.window.energy.value,
        losses=train.losses,
        before=before.perplexity,
        after=after.perplexity,
        gradient_gap=gap,
        peak_bytes=train.peak_bytes,
    )
