"""From answers and rounds to lines: what each artefact costs, saves and loses, and what may be said of it."""

from __future__ import annotations

from statistics import median, quantiles
from typing import TYPE_CHECKING

import msgspec

from negajoule.compress.artefact import read_artefact, size_bytes
from negajoule.compress.paired import (
    Interval,
    discordant,
    mcnemar,
    median_interval,
    points_lost,
    quality,
)
from negajoule.compress.plan import BASELINE, TWIN
from negajoule.compress.result import Line, Result
from negajoule.errors import CompressError
from negajoule.meter import read_host
from negajoule.units import Energy, total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from negajoule.compress.artefact import Artefact
    from negajoule.compress.passes import Pass
    from negajoule.compress.plan import Made, Plan
    from negajoule.compress.texts import LabelledTexts, Part
    from negajoule.compress.workshop import Round

__all__ = ["comparable", "judge"]

SIGNIFICANT = 0.05
BUSY = 1.3
"""Seconds for each CPU-second of one thread above which others had the processor."""

_Rows = dict[str, list[list[float]]]


def comparable(first: Artefact, second: Artefact, *, engines_may_differ: bool = False) -> None:
    """Refuse to hold artefacts against each other that aren't of the same work.

    Args:
        first: what the one is.
        second: what the other is.
        engines_may_differ: the change of engine is known and told apart.

    Raises:
        CompressError: (K107) for other texts, another length or, unless asked for, another engine.
    """
    engines = first.engine.partition(" ")[0], second.engine.partition(" ")[0]
    for what, differs in (
        ("texts", first.data != second.data),
        ("length", first.max_length != second.max_length),
        ("labels", set(first.labels) != set(second.labels)),
        ("engine", not engines_may_differ and engines[0] != engines[1]),
    ):
        if differs:
            raise CompressError(
                f"the two artefacts can't be compared: another {what}",
                code="K107",
                fix="study them together, so that both get the same texts, length and engine",
            )


def judge(
    plan: Plan,
    texts: LabelledTexts,
    made: Sequence[Made],
    answers: Mapping[Part, _Rows],
    rounds: Sequence[Round],
    peaks: Mapping[str, int],
    failed: Mapping[str, str],
) -> Result:
    """Put a study's findings together.

    Args:
        plan: what was studied.
        texts: on what.
        made: the artefacts, the baseline first.
        answers: for each part, each artefact's answers.
        rounds: whole rounds.
        peaks: memory of each process [B].
        failed: recipes that came to nothing.

    Raises:
        CompressError: (K107) if artefacts can't be compared.
    """
    about = {one.name: read_artefact(one.folder) for one in made}
    has_twin = TWIN in about
    for one in made[1:]:
        # Engines are told apart by the twin's row; a shape without a twin says so among its claims.
        comparable(about[BASELINE], about[one.name], engines_may_differ=True)
    parts: tuple[Part, ...] = ("validation", "test")
    right = {
        part: {one.name: _right(texts, part, about[one.name], answers[part][one.name]) for one in made}
        for part in parts
    }
    lines = []
    for one in made:
        passes = [found.seen[one.name].measured for found in rounds]
        seconds = sorted(second for found in rounds for second in found.seen[one.name].latency.seconds)
        kind = about[one.name].kind
        crossed = about[one.name].engine.partition(" ")[0] != about[BASELINE].engine.partition(" ")[0]
        twin = TWIN if crossed and has_twin and kind == "onnx" else None
        saving = _saving(rounds, one.name, BASELINE, _energy)
        pair = discordant(right["test"][BASELINE], right["test"][one.name])
        on_validation = discordant(right["validation"][BASELINE], right["validation"][one.name])
        making = one.costs if one.name != BASELINE else ()
        made_j = total(cost.window.energy for cost in making) or Energy.exact(0.0, "assumed", "node")
        energy = _of_thousand(passes)
        cpu_by_phase = {
            phase: sum(found.phases_s.get(phase, 0.0) for found in passes) for phase in passes[0].phases_s
        }
        whole_s = sum(cpu_by_phase.values()) or 1.0
        base_j = median(_energy(found.seen[BASELINE].measured) for found in rounds)
        lines.append(
            Line(
                name=one.name,
                recipe=one.recipe,
                folder=str(one.folder),
                engine=about[one.name].engine,
                precision=about[one.name].precision,
                parameters=about[one.name].parameters,
                size_bytes=size_bytes(one.folder),
                peak_bytes=peaks[one.name],
                quality=quality(
                    texts.test.labels,
                    _answered(texts, about[one.name], answers["test"][one.name]),
                    len(texts.labels),
                ),
                validation=sum(right["validation"][one.name]) / len(texts.validation),
                lost=points_lost(pair),
                lost_on_validation=points_lost(on_validation),
                p_value=mcnemar(pair),
                energy=energy,
                cpu_s=1000 * median(found.cpu_s for found in passes),
                phases_j={phase: energy.value * spent_s / whole_s for phase, spent_s in cpu_by_phase.items()},
                latency_s=(median(seconds), quantiles(seconds, n=20)[-1]),
                saving=saving,
                cpu_saving=_saving(rounds, one.name, BASELINE, _cpu),
                engine_saving=_saving(rounds, TWIN, BASELINE, _energy) if twin else None,
                rest_saving=_saving(rounds, one.name, TWIN, _energy) if twin else None,
                made_j=made_j,
                made_s=sum(cost.window.cpu_s for cost in making),
                break_even=_break_even(made_j.value, base_j, saving) if one.name != BASELINE else None,
                dominated_by="",
                claims=(),
            )
        )
    finished = [
        msgspec.structs.replace(line, dominated_by=_dominator(line, lines), claims=_claims(line))
        for line in lines
    ]
    return Result(
        model=plan.model,
        data=texts.name,
        fingerprint=texts.fingerprint,
        test_texts=len(texts.test),
        measured_texts=rounds[0].seen[BASELINE].measured.texts,
        rounds=len(rounds),
        batch=plan.batch,
        max_length=plan.max_length,
        threads=plan.threads,
        machine=read_host().cpu,
        lines=tuple(finished),
        failed=dict(failed),
        notes=(*texts.notes, *_notes(rounds, plan.threads)),
    )


def _answered(texts: LabelledTexts, about: Artefact, rows: Sequence[Sequence[float]]) -> list[int]:
    """Numbers of the answered labels, in the order of the texts' labels."""
    number = {label: index for index, label in enumerate(texts.labels)}
    known = [number.get(label) for label in about.labels]
    found = []
    for row in rows:
        # A model may know labels that the texts don't have; such an answer is wrong, whichever it is.
        best = known[max(range(len(row)), key=row.__getitem__)]
        found.append(-1 if best is None else best)
    return found


def _right(texts: LabelledTexts, part: Part, about: Artefact, rows: Sequence[Sequence[float]]) -> list[bool]:
    answers = _answered(texts, about, rows)
    return [one == other for one, other in zip(texts.part(part).labels, answers, strict=True)]


def _energy(found: Pass) -> float:
    return found.energy_j


def _cpu(found: Pass) -> float:
    return found.cpu_s


def _saving(rounds: Sequence[Round], after: str, before: str, measure: Callable[[Pass], float]) -> Interval:
    """Share saved, each round against itself."""
    return median_interval(
        [1 - measure(found.seen[after].measured) / measure(found.seen[before].measured) for found in rounds]
    )


def _of_thousand(passes: Sequence[Pass]) -> Energy:
    """Energy of 1,000 texts, with the bounds of the meter [J]."""
    middle = sorted(passes, key=_energy)[len(passes) // 2]
    return middle.window.energy * (1000 / middle.texts)


def _break_even(made_j: float, base_j: float, saving: Interval) -> Interval | None:
    """Texts until the energy of making it is saved again; the meter's scale cancels."""
    if saving.low is None or saving.high is None or saving.low <= 0:
        return None
    value, low, high = (made_j / (base_j * share) for share in (saving.value, saving.high, saving.low))
    return Interval(value, low, high)


def _dominator(line: Line, lines: Sequence[Line]) -> str:
    def beats(other: Line) -> bool:
        mine = line.energy.value, -line.quality.accuracy.value
        theirs = other.energy.value, -other.quality.accuracy.value
        return other is not line and theirs[0] <= mine[0] and theirs[1] <= mine[1] and theirs != mine

    better = [other for other in lines if beats(other)]
    return min(better, key=lambda other: other.energy.value).name if better else ""


def _claims(line: Line) -> tuple[str, ...]:
    """Sentences that the intervals allow."""
    if line.name == BASELINE:
        return ()
    saving, lost = line.saving, line.lost
    said = []
    if saving.low is None or saving.high is None:
        said.append("too few rounds to claim a saving")
    elif saving.low > 0:
        said.append(f"{saving.value:.1%} less energy ({saving.low:.1%} to {saving.high:.1%})")
    elif saving.high < 0:
        said.append(f"{-saving.value:.1%} more energy ({-saving.high:.1%} to {-saving.low:.1%})")
    else:
        said.append("no difference in energy beyond noise")
    assert lost.low is not None, "the bootstrap always gives bounds"
    assert lost.high is not None, "both of them"
    if line.p_value < SIGNIFICANT:
        verb = "loses" if lost.value > 0 else "gains"
        low, high = sorted((abs(lost.low), abs(lost.high)))
        said.append(f"{verb} {abs(lost.value):.1f} points of accuracy ({low:.1f} to {high:.1f})")
    else:
        said.append(
            "no difference in accuracy seen; "
            f"a loss of up to {max(0.0, lost.high):.1f} points can't be excluded"
        )
    if line.engine_saving is None and line.recipe and not line.engine.startswith("torch"):
        said.append("engine and model change together: this shape doesn't run in the baseline's engine")
    return tuple(said)


def _notes(rounds: Sequence[Round], threads: int) -> list[str]:
    passes = [seen.measured for found in rounds for seen in found.seen.values()]
    notes = list(dict.fromkeys(note for found in passes[:1] for note in found.window.notes))
    bases = {found.window.energy.basis for found in passes}
    if bases != {"measured"}:
        notes.append(
            f"energies are {', '.join(sorted(bases))}: their scale is uncertain, but the same before and "
            "after, so that shares saved and break-even counts don't depend on it; CPU time is measured"
        )
    waited = median(
        found.window.seconds * threads / found.window.cpu_s for found in passes if found.window.cpu_s > 0
    )
    if waited > BUSY:
        notes.append(
            f"the machine was busy: {waited:.1f} s passed for each CPU-second, "
            "and the energy of waiting is counted"
        )
    return notes
