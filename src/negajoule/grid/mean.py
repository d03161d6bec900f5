"""The mean intensity of a span, weighted with time or with energy, its interval and its gaps included."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from negajoule.catalog import lookup
from negajoule.grid.signal import J_PER_KWH
from negajoule.units import CarbonIntensity

if TYPE_CHECKING:
    from negajoule.grid.signal import Signal, Slot
    from negajoule.units.series import Series

__all__ = ["STANDS_IN_S", "Coverage", "Mean", "coverage", "mean_over"]

STANDS_IN_S = 2 * 3600.0
"""How long a slot's intensity may stand in for the time after it; over two hours a grid moves by -13 to +15 %
(5-95 %, ``fitting/grid_signal.py``), less than an estimated hour may be off."""


class Mean(NamedTuple):
    """The intensity of a span.

    Attributes:
        intensity: mean with interval [gCO2e/J].
        covered: share of the weight that the signal itself covers [1].
        estimated: share of it that was estimated [1].
    """

    intensity: CarbonIntensity
    covered: float
    estimated: float


class Coverage(NamedTuple):
    """Which share of a span a signal knows.

    Attributes:
        strict: by its own slots [1].
        loose: with slots standing in for the two hours after them [1].
    """

    strict: float
    loose: float


class _Piece(NamedTuple):
    start_s: float
    end_s: float
    slot: Slot | None
    stands_in: bool


def coverage(signal: Signal, start_s: float, end_s: float) -> Coverage:
    """Which share of a span a signal knows.

    Args:
        signal: intensities.
        start_s: beginning of the span [s].
        end_s: its end; the same as the beginning for a moment [s].
    """
    pieces = _pieces(signal.slots, start_s, end_s)
    weights = _weights(pieces, None)
    whole = sum(weights)
    loose = sum(weight for piece, weight in zip(pieces, weights, strict=True) if piece.slot)
    stood_in = sum(weight for piece, weight in zip(pieces, weights, strict=True) if piece.stands_in)
    return Coverage(1.0 if loose == whole and not stood_in else (loose - stood_in) / whole, loose / whole)


def mean_over(
    signal: Signal,
    start_s: float,
    end_s: float,
    *,
    gap: CarbonIntensity | None,
    energy: Series | None = None,
) -> Mean | None:
    """Mean of a signal, sum(w_i x I_i) / sum(w_i), w being seconds, or the joules of an energy series.

    The interval of published hours is ``grid.signal.published`` (how far two publishers of an hour are
    apart), of estimated ones ``grid.signal.estimated``, of expected ones ``grid.signal.forecast``. Where a
    signal counts direct emissions only, the upper end is raised by what the supply of fuel and the making of
    power stations can add (``grid.signal.upstream``).

    Args:
        signal: intensities; none of them need cover the span.
        start_s: beginning of the span [s].
        end_s: its end; the same as the beginning for a moment [s].
        gap: what holds where the signal has a gap [gCO2e/J]; ``None`` leaves the gap out of the mean.
        energy: weights the mean if given: a series of power or an energy counter that covers the span.

    Returns:
        The mean; ``None`` if there's nothing to make one of.

    Raises:
        UnitError: (U104) if the energy series doesn't cover the span.
    """
    pieces = _pieces(signal.slots, start_s, end_s)
    weights = _weights(pieces, energy)
    if gap is None:
        weights = [weight if piece.slot else 0.0 for piece, weight in zip(pieces, weights, strict=True)]
    whole = sum(weights)
    if whole <= 0:
        return None
    value = low = high = covered = estimated = 0.0
    for piece, weight in zip(pieces, weights, strict=True):
        share = weight / whole
        if piece.slot is None:
            if gap is None:
                continue
            intensity = gap
        else:
            guessed = piece.slot.estimated or piece.stands_in
            intensity = _with_interval(signal, piece.slot.g_per_kwh, estimated=guessed)
            covered += share
            estimated += share * guessed
        value += share * intensity.value
        low += share * intensity.low
        high += share * intensity.high
    # Rounding may part the mean of equal numbers from itself.
    mean = CarbonIntensity(value, min(low, value), max(high, value), "modelled")
    return Mean(mean, min(covered, 1.0), min(estimated, 1.0))


def _pieces(slots: tuple[Slot, ...], start_s: float, end_s: float) -> list[_Piece]:
    starts = [slot.start_s for slot in slots]
    if end_s <= start_s:
        return [_at(slots, starts, start_s, start_s)]
    cuts = {start_s, end_s}
    for slot in slots:
        cuts.update(
            at_s for at_s in (slot.start_s, slot.end_s, slot.end_s + STANDS_IN_S) if start_s < at_s < end_s
        )
    edges = sorted(cuts)
    return [_at(slots, starts, left, right) for left, right in pairwise(edges)]


def _at(slots: tuple[Slot, ...], starts: list[float], left_s: float, right_s: float) -> _Piece:
    position = bisect_right(starts, left_s) - 1
    if position < 0 or left_s >= slots[position].end_s + STANDS_IN_S:
        return _Piece(left_s, right_s, None, stands_in=False)
    slot = slots[position]
    return _Piece(left_s, right_s, slot, stands_in=left_s >= slot.end_s)


def _weights(pieces: list[_Piece], energy: Series | None) -> list[float]:
    seconds = [piece.end_s - piece.start_s for piece in pieces]
    if len(pieces) == 1:
        return [1.0]
    if energy is None:
        return seconds
    marks = energy.accumulated([*(piece.start_s for piece in pieces), pieces[-1].end_s])
    joules = [float(after - before) for before, after in pairwise(marks)]
    return joules if sum(joules) > 0 else seconds


def _with_interval(signal: Signal, g_per_kwh: float, *, estimated: bool) -> CarbonIntensity:
    quality = "forecast" if signal.kind == "forecast" else "estimated" if estimated else "published"
    spread = lookup(f"grid.signal.{quality}")
    upstream = lookup("grid.signal.upstream").high if signal.scope == "direct" else 0.0
    return CarbonIntensity(
        g_per_kwh / J_PER_KWH,
        g_per_kwh * spread.low / J_PER_KWH,
        (g_per_kwh * spread.high + upstream) / J_PER_KWH,
        "modelled",
    )
