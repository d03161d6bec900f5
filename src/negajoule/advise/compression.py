"""Which way to make a model smaller comes first, what it saves and loses, and from which volume on it pays.

On a processor it rests on rows that were measured (``compression_measured.csv``, and one's own studies,
which come first); on an accelerator on the law of eager kernels. Nothing is said of models further than a
factor from those measured. A technique is advised only if its whole interval saves, its loss stays within the
allowance, and the volume repays what making it takes.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from negajoule.advise.eager import eager_ratio
from negajoule.advise.quality import quality_of
from negajoule.errors import ConfigError
from negajoule.units import Decision

__all__ = ["CompressionAdvice", "CompressionOption", "MeasuredCompression", "Task", "advise_compression"]

Task = Literal["classify", "generate", "fine-tune"]
PROCESSOR = "cpu"
OUTSIDE = 2.0
"""The factor beyond measured sizes at which nothing is said."""

_FILE = Path(__file__).with_name("compression_measured.csv")
_UNCHANGED = "leave it as it is"
_EAGER = {"nf4": "4-bit weights (NF4), eager kernels", "int8": "8-bit weights (LLM.int8), eager kernels"}
_AT_ONCE = 1.0


class MeasuredCompression(msgspec.Struct, frozen=True, kw_only=True):
    """One measured technique.

    Attributes:
        technique: in words.
        recipe: for ``negajoule compress``; empty if it isn't one.
        task: what the model did.
        parameters_million: of the model before [1e6].
        saving: share of CPU time or energy saved [1].
        saving_low: lower end of it.
        saving_high: upper end.
        loss: accuracy lost [points] or perplexity added [%]; ``None`` if it wasn't measured.
        loss_low: lower end of it.
        loss_high: upper end.
        loss_unit: which of the two.
        base_cpu_s: CPU time of one item before [s].
        made_cpu_s: CPU time of making it [s].
        item: a text, token or step.
        note: on what, and how.
        own: whether it is of one's own studies.
    """

    technique: str
    recipe: str
    task: Task
    parameters_million: float
    saving: float
    saving_low: float | None
    saving_high: float | None
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    loss_unit: str
    base_cpu_s: float
    made_cpu_s: float
    item: str
    note: str
    own: bool = False


class CompressionOption(msgspec.Struct, frozen=True, kw_only=True):
    """One technique for this model and volume.

    Attributes:
        technique: in words.
        recipe: for ``negajoule compress``; empty if it isn't one.
        saving: share saved [1], with its interval; ``None`` if nothing is known.
        saving_low: lower end.
        saving_high: upper end.
        loss: what it loses, in words.
        loss_high: the most it may lose, in the unit of the words; ``None`` if unknown.
        break_even: items after which making it has paid for itself; ``None`` if it never does or isn't known.
        item: what is counted.
        verdict: first, possible, too lossy, too few, costs, unproved or unknown.
        evidence: what it rests on.
    """

    technique: str
    recipe: str
    saving: float | None
    saving_low: float | None
    saving_high: float | None
    loss: str
    loss_high: float | None
    break_even: float | None
    item: str
    verdict: str
    evidence: str


class CompressionAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do first, and what was weighed.

    Attributes:
        decision: the choice; its margin is the share saved.
        options: all techniques, the best first.
        when_not: when the choice would be wrong.
    """

    decision: Decision
    options: tuple[CompressionOption, ...]
    when_not: tuple[str, ...]


def advise_compression(
    parameters_million: float,
    task: Task,
    *,
    accelerator: str = PROCESSOR,
    batch: float = 1.0,
    volume: float | None = None,
    allowed_loss: float = 1.0,
    own: tuple[MeasuredCompression, ...] = (),
) -> CompressionAdvice:
    """Tell which technique comes first.

    Args:
        parameters_million: of the model [1e6].
        task: what it does.
        accelerator: ``cpu``, or a board's name.
        batch: requests at once.
        volume: texts, tokens or steps over its life; ``None`` if it isn't known.
        allowed_loss: points of accuracy, or per cent of perplexity, that may be lost.
        own: rows of one's own studies.

    Raises:
        ConfigError: (C101) for numbers out of range, (C113) if nothing was measured near such a model.
    """
    if not parameters_million > 0 or not batch > 0 or (volume is not None and not volume > 0):
        raise ConfigError("parameters, batch and volume must be above 0")
    if accelerator.lower() == PROCESSOR:
        options = _on_processor(parameters_million, task, volume, allowed_loss, own)
    else:
        options = _on_board(parameters_million, task, accelerator, batch)
    ranked = sorted(options, key=lambda option: (option.verdict != "possible", -(option.saving_low or -9.0)))
    best = ranked[0] if ranked and ranked[0].verdict == "possible" else None
    if best is not None:
        ranked[0] = msgspec.structs.replace(best, verdict="first")
    return CompressionAdvice(
        decision=_decision(best, ranked),
        options=tuple(ranked),
        when_not=_when_not(best, accelerator, volume),
    )


@cache
def _shipped() -> tuple[MeasuredCompression, ...]:
    with _FILE.open(encoding="utf-8", newline="") as lines:
        rows = [{key: value or None for key, value in row.items()} for row in csv.DictReader(lines)]
    for row in rows:
        for text in ("recipe", "loss_unit"):
            row[text] = row[text] or ""
    return tuple(msgspec.convert(row, MeasuredCompression, strict=False) for row in rows)


def _on_processor(
    parameters_million: float,
    task: Task,
    volume: float | None,
    allowed_loss: float,
    own: tuple[MeasuredCompression, ...],
) -> list[CompressionOption]:
    mine = {row.recipe for row in own if row.task == task and _near(row, parameters_million)}
    rows = [
        row
        for row in (*own, *_shipped())
        if row.task == task and _near(row, parameters_million) and (row.own or row.recipe not in mine)
    ]
    if not rows:
        sizes = sorted({row.parameters_million for row in (*own, *_shipped()) if row.task == task})
        known = ", ".join(f"{size:g}" for size in sizes)
        raise ConfigError(
            f"for {task} on a processor, models of {known} million parameters were measured, "
            f"none near {parameters_million:g}",
            code="C113",
            fix="measure it: negajoule compress MODEL --data FILE --recipe ...; advice then rests on it",
        )
    return [_option(row, volume, allowed_loss) for row in rows]


def _near(row: MeasuredCompression, parameters_million: float) -> bool:
    return 1 / OUTSIDE <= parameters_million / row.parameters_million <= OUTSIDE


def _option(row: MeasuredCompression, volume: float | None, allowed_loss: float) -> CompressionOption:
    loss = "not measured"
    if row.loss is not None:
        loss = f"{row.loss:+.1f} {row.loss_unit}"
        if row.loss_low is not None and row.loss_high is not None:
            loss += f" ({row.loss_low:+.1f} to {row.loss_high:+.1f})"
    break_even = None
    if row.saving_low is not None and row.saving_low > 0:
        # The cautious end: so many items repay it even if it saves the least.
        break_even = row.made_cpu_s / (row.base_cpu_s * row.saving_low)
    return CompressionOption(
        technique=row.technique,
        recipe=row.recipe,
        saving=row.saving,
        saving_low=row.saving_low,
        saving_high=row.saving_high,
        loss=loss,
        loss_high=row.loss_high,
        break_even=break_even,
        item=row.item,
        verdict=_verdict(row, break_even, volume, allowed_loss),
        evidence=f"{'your study' if row.own else 'measured'}: {row.note}",
    )


def _verdict(
    row: MeasuredCompression, break_even: float | None, volume: float | None, allowed_loss: float
) -> str:
    if row.saving_high is not None and row.saving_high < 0:
        return "costs"
    if row.saving_low is None or row.saving_low <= 0 or break_even is None:
        return "unproved"
    # Fine-tuning in another way ends in another model; what it loses shows only after it.
    if row.task != "fine-tune" and (row.loss is None or row.loss > allowed_loss):
        return "too lossy"
    if volume is not None and volume < break_even:
        return "too few"
    return "possible"


def _on_board(
    parameters_million: float, task: Task, accelerator: str, batch: float
) -> list[CompressionOption]:
    if task != "generate":
        raise ConfigError(
            f"nothing was measured of {task} on {accelerator}",
            code="C113",
            fix="measure it: negajoule compress MODEL --data FILE --recipe ...",
        )
    options = []
    for name, words in _EAGER.items():
        if batch != _AT_ONCE:
            options.append(
                _unknown(words, name, f"measured at one request at a time; nothing is known of {batch:g}")
            )
            continue
        try:
            ratio, evidence = eager_ratio(name, accelerator, parameters_million / 1e3)
        except ConfigError as error:
            if error.code != "C113":
                raise
            options.append(_unknown(words, name, error.message))
            continue
        low, high = 1 - ratio.high, 1 - ratio.low
        verdict = "possible" if low > 0 else "costs" if high < 0 else "unproved"
        options.append(
            CompressionOption(
                technique=words,
                recipe="",
                saving=1 - ratio.value,
                saving_low=low,
                saving_high=high,
                loss=quality_of(name),
                loss_high=None,
                break_even=None,
                item="token",
                verdict=verdict,
                evidence=evidence,
            )
        )
    return options


def _unknown(technique: str, name: str, why: str) -> CompressionOption:
    return CompressionOption(
        technique=technique,
        recipe="",
        saving=None,
        saving_low=None,
        saving_high=None,
        loss=quality_of(name),
        loss_high=None,
        break_even=None,
        item="token",
        verdict="unknown",
        evidence=why,
    )


def _decision(best: CompressionOption | None, ranked: list[CompressionOption]) -> Decision:
    if best is None:
        return Decision(
            chosen=_UNCHANGED,
            runner_up=ranked[0].technique if ranked else None,
            reason="no technique is proved to save within what may be lost: "
            + "; ".join(f"{option.technique}: {option.verdict}" for option in ranked),
        )
    others = [option.technique for option in ranked[1:] if option.verdict == "possible"]
    paid = ""
    if best.break_even:
        paid = f", and has paid for itself after {best.break_even:,.0f} {best.item}s"
    return Decision(
        chosen=best.technique,
        runner_up=others[0] if others else _UNCHANGED,
        margin=best.saving,
        margin_low=best.saving_low,
        margin_high=best.saving_high,
        reason=f"it saves {best.saving:.0%} ({best.saving_low:.0%} to {best.saving_high:.0%}), "
        f"loses {best.loss or 'an unknown amount'}{paid}",
    )


def _when_not(best: CompressionOption | None, accelerator: str, volume: float | None) -> tuple[str, ...]:
    said = []
    if best is not None and best.break_even and volume is None:
        said.append(f"not below {best.break_even:,.0f} {best.item}s: making it wouldn't pay")
    if accelerator.lower() == PROCESSOR:
        said.append("not unmeasured: losses depend on the task; try it on your texts with negajoule compress")
        said.append(
            "not torchao in eager mode: it took up to 25 % more CPU time than 32 bits; "
            "nor zeroed single weights, which dense kernels multiply all the same"
        )
    else:
        said.append(
            "not 8 or 4 bits in eager kernels for small models: widening the weights costs more than reading "
            "them saves; engines with fused kernels differ: negajoule advise precision"
        )
    return tuple(said)
