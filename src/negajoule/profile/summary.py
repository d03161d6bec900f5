"""Cells of a profile summed up: medians over rounds, with bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.profile.bootstrap import median_interval
from negajoule.profile.cell import Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.profile.cell import PhaseSample, Sample
    from negajoule.profile.profile import Profile

__all__ = ["CellSummary", "Spread", "summarise"]


class Spread(msgspec.Struct, frozen=True):
    """A median and its 90 % interval over rounds."""

    value: float
    low: float
    high: float


class CellSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell took.

    Attributes:
        cell: which.
        rounds: how often it was measured.
        ttft_s: time to first token [s].
        itl_s: time between tokens of an answer [s].
        prefill_token_s: machine time of a prompt token [s].
        decode_token_s: machine time of a token produced, the batch shared [s].
        prefill_cpu_s: CPU time of a prompt token; ``None`` if unknown [s].
        decode_cpu_s: CPU time of a token produced; ``None`` if unknown [s].
        prefill_j: energy of a prompt token; ``None`` if unknown [J].
        decode_j: energy of a token produced; ``None`` if unknown [J].
        others_busy: threads that others kept busy meanwhile, median.
    """

    cell: Cell
    rounds: int
    ttft_s: Spread
    itl_s: Spread
    prefill_token_s: Spread
    decode_token_s: Spread
    prefill_cpu_s: Spread | None
    decode_cpu_s: Spread | None
    prefill_j: Spread | None
    decode_j: Spread | None
    others_busy: float


def summarise(profile: Profile) -> list[CellSummary]:
    """All cells, in order of format, batch and lengths.

    Intervals of energy are those of the rounds; what the coefficients of a modelled energy add is in
    ``Profile.energy``.
    """
    by_cell: dict[Cell, list[Sample]] = {}
    for sample in profile.samples:
        by_cell.setdefault(sample.cell, []).append(sample)
    order = {name: place for place, name in enumerate(profile.formats)}
    cells = sorted(by_cell, key=lambda cell: (order[cell.format], cell))
    return [_summary(cell, by_cell[cell]) for cell in cells]


def _summary(cell: Cell, samples: Sequence[Sample]) -> CellSummary:
    busy = _spread(samples, lambda one: max(one.prefill.others_busy, one.decode.others_busy))
    return CellSummary(
        cell=cell,
        rounds=len(samples),
        ttft_s=_spread(samples, lambda one: one.ttft_s),
        itl_s=_spread(samples, lambda one: one.itl_s),
        prefill_token_s=_spread(samples, lambda one: one.prefill.seconds / one.prefill.tokens),
        decode_token_s=_spread(samples, lambda one: one.decode.seconds / one.decode.tokens),
        prefill_cpu_s=_known([(one.repeat, one.prefill) for one in samples], lambda phase: phase.cpu_s),
        decode_cpu_s=_known([(one.repeat, one.decode) for one in samples], lambda phase: phase.cpu_s),
        prefill_j=_known([(one.repeat, one.prefill) for one in samples], _joules),
        decode_j=_known([(one.repeat, one.decode) for one in samples], _joules),
        others_busy=busy.value,
    )


def _spread(samples: Sequence[Sample], value: Callable[[Sample], float]) -> Spread:
    return Spread(*median_interval({one.repeat: value(one) for one in samples}))


def _known(
    phases: Sequence[tuple[int, PhaseSample]], cost: Callable[[PhaseSample], float | None]
) -> Spread | None:
    """Cost of a token, if every round has it."""
    found = {number: (cost(phase), phase.tokens) for number, phase in phases}
    values = {number: value / tokens for number, (value, tokens) in found.items() if value is not None}
    return Spread(*median_interval(values)) if len(values) == len(found) else None


def _joules(phase: PhaseSample) -> float | None:
    return None if phase.energy_j is None else phase.energy_j[0]
