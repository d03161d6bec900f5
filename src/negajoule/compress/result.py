"""What a study found: a line for each artefact, with nothing said that noise could have said."""

from __future__ import annotations

import msgspec

from negajoule.compress.paired import Interval, Quality
from negajoule.units import Energy

__all__ = ["Line", "Result"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One artefact.

    Attributes:
        name: of the recipe, or baseline, or engine.
        recipe: its steps.
        folder: of the artefact.
        engine: that runs it, with version.
        precision: of its weights.
        parameters: number of weights; ``None`` if unknown.
        size_bytes: on disk [B].
        peak_bytes: the most memory that its process held [B].
        quality: on the test part.
        validation: accuracy on the validation part [1].
        lost: accuracy lost against the baseline on the same test texts [points].
        lost_on_validation: the same on the validation part [points].
        p_value: McNemar's, that both are equally often right.
        energy: of 1,000 texts [J].
        cpu_s: CPU time of 1,000 texts, median of the rounds [s].
        phases_j: energy of 1,000 texts by phase, split by CPU time [J].
        latency_s: median and 95th percentile of single texts [s].
        saving: share of the baseline's energy that is saved, median of the rounds [1].
        cpu_saving: the same of CPU time [1].
        engine_saving: what the change of engine alone saves [1]; ``None`` without such a change.
        rest_saving: what the recipe saves against the baseline in the new engine [1]; ``None`` likewise.
        made_j: energy of making it out of the baseline [J].
        made_s: CPU time of making it [s].
        break_even: texts after which making it has paid for itself; ``None`` if it never does.
        dominated_by: an artefact that is at least as right for less energy; empty if there is none.
        claims: what may be said of it.
    """

    name: str
    recipe: str
    folder: str
    engine: str
    precision: str
    parameters: int | None
    size_bytes: int
    peak_bytes: int
    quality: Quality
    validation: float
    lost: Interval
    lost_on_validation: Interval
    p_value: float
    energy: Energy
    cpu_s: float
    phases_j: dict[str, float]
    latency_s: tuple[float, float]
    saving: Interval
    cpu_saving: Interval
    engine_saving: Interval | None
    rest_saving: Interval | None
    made_j: Energy
    made_s: float
    break_even: Interval | None
    dominated_by: str
    claims: tuple[str, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A study's result.

    Attributes:
        model: that was compressed.
        data: the texts' name.
        fingerprint: of the texts.
        test_texts: how many the quality was read on.
        measured_texts: how many a round measured.
        rounds: how many rounds.
        batch: texts at once.
        max_length: tokens after which texts were cut.
        threads: of each process.
        machine: its processor.
        lines: the baseline first.
        failed: recipes that came to nothing, and why.
        notes: what readers must know.
    """

    schema: str = "negajoule.compress/1"
    model: str
    data: str
    fingerprint: str
    test_texts: int
    measured_texts: int
    rounds: int
    batch: int
    max_length: int
    threads: int
    machine: str
    lines: tuple[Line, ...]
    failed: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    def line(self, name: str) -> Line:
        """The line of a recipe."""
        return next(line for line in self.lines if line.name == name)

    def best(self, points: float = 1.0) -> Line | None:
        """The recipe that saves most among those that lose little on the *validation* part.

        What it loses there, and a standard error more, must stay within the allowance: the test part chooses
        nothing. ``None`` if no recipe stays within it.

        Args:
            points: accuracy that may be lost [points].
        """
        allowed = [
            line
            for line in self.lines
            if line.recipe and line.saving.value > 0 and _cautious(line.lost_on_validation) <= points
        ]
        return max(allowed, key=lambda line: line.saving.value, default=None)


def _cautious(lost: Interval) -> float:
    """A loss and its standard error [points]."""
    return lost.value if lost.high is None else lost.value + (lost.high - lost.value) / 1.96
