"""The choice of a clock or power limit: least energy among settings that keep limits of latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.advise.slower import CurvePoint
from negajoule.catalog import Fact, lookup, search
from negajoule.errors import CatalogError, ConfigError
from negajoule.units import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ClockAdvice", "Limits", "advise_clocks", "highest_clock_hz", "published_savings"]

_PUBLISHED = "advise.clock.published"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What must be kept; None for no limit.

    Attributes:
        time_s: of a request or command [s].
        token_s: from token to token [s].
        prefill_s: to the first token, without a queue [s].
    """

    time_s: float | None = None
    token_s: float | None = None
    prefill_s: float | None = None

    def broken(self, point: CurvePoint) -> str:
        """The first limit that a point breaks, in words; empty if it keeps all.

        A limit on a time that isn't known counts as broken.
        """
        for name in ("time_s", "token_s", "prefill_s"):
            limit, reached = getattr(self, name), getattr(point, name)
            if limit is not None and (reached is None or reached > limit):
                return f"{name} {'unknown' if reached is None else f'{reached:.3g} s'}, limit {limit:.3g} s"
        return ""


class ClockAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """The curve and its chosen point.

    Attributes:
        decision: the setting; the margin is of energy, beside no limit.
        chosen: its point.
        points: the curve, lowest setting first.
        basis: ``measured`` or ``modelled``.
        published: what others measured, by catalogue row.
        notes: what else a reader must know.
    """

    decision: Decision
    chosen: CurvePoint
    points: tuple[CurvePoint, ...]
    basis: str
    published: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()


def advise_clocks(
    points: Sequence[CurvePoint],
    limits: Limits | None = None,
    *,
    basis: str = "measured",
    accelerator: str | None = None,
) -> ClockAdvice:
    """Choose the setting of least energy that keeps the limits; none is changed unless that surely saves.

    Args:
        points: a curve, the highest setting being that of now.
        limits: of latency.
        basis: ``measured`` or ``modelled``.
        accelerator: whose published savings to cite.

    Raises:
        ConfigError: (C101) if the curve has no two settings or even the highest setting breaks a limit.
    """
    limits = limits or Limits()
    curve = tuple(sorted(points, key=lambda point: point.setting))
    if len(curve) < 2:
        raise ConfigError("a choice needs a curve of at least two settings", fix="measure at more settings")
    full = curve[-1]
    broken = limits.broken(full)
    if broken:
        raise ConfigError(f"without any limit on the clock it takes too long: {broken}", fix="a longer limit")
    allowed = [point for point in curve if not limits.broken(point)]
    best = min(allowed, key=lambda point: point.energy_j)
    low, high = _ratio(best, full)
    surely = best is not full and high < 1.0
    chosen = best if surely else full
    notes = []
    if basis == "modelled":
        notes.append(
            f"no curve of {accelerator or 'this accelerator'} was measured: a model with wide ranges "
            "stands in; measure with --measure -- COMMAND, then --curve FILE"
        )
        notes.append(
            "by published savings the fixed share of power is 36 to 80 %; the interval holds all of it"
        )
    if all(point.energy_j == full.energy_j for point in curve):
        notes.append("no setting changes anything: the limit never acts")
    if chosen is full and best is not full:
        notes.append(
            f"{_name(best)} may take {best.energy_j / full.energy_j:.2f} times the energy, inside noise"
        )
    return ClockAdvice(
        decision=Decision(
            chosen=_name(chosen),
            runner_up=_name(full) if surely else _name(best) if best is not full else None,
            margin=1.0 - best.energy_j / full.energy_j if surely else None,
            margin_low=1.0 - high if surely else None,
            margin_high=1.0 - low if surely else None,
            reason=_reason(chosen, full, low, high, surely=surely),
        ),
        chosen=chosen,
        points=curve,
        basis=basis,
        published=published_savings(accelerator) if accelerator else (),
        notes=tuple(notes),
    )


def _ratio(one: CurvePoint, full: CurvePoint) -> tuple[float, float]:
    """Energy over that of now, its interval: paired where it's known, else of both intervals."""
    if one.ratio_low is not None and one.ratio_high is not None:
        return one.ratio_low, one.ratio_high
    return one.low_j / full.high_j, one.high_j / full.low_j


def _name(point: CurvePoint) -> str:
    if point.unit == "share":
        return f"clock {point.setting:.0%}"
    return f"{'power limit' if point.unit == 'W' else 'clock'} {point.setting:.0f} {point.unit}"


def _reason(chosen: CurvePoint, full: CurvePoint, low: float, high: float, *, surely: bool) -> str:
    if not surely:
        return "leave the clocks alone: no lower setting within the limits surely saves"
    slower = chosen.time_s / full.time_s - 1.0
    return (
        f"{_name(chosen)} takes {1 - chosen.energy_j / full.energy_j:.0%} less energy "
        f"({1 - high:.0%} to {1 - low:.0%}) and {slower:.1%} more time"
    )


def published_savings(accelerator: str) -> tuple[Fact, ...]:
    """What others measured, rows of this accelerator first."""
    rows = [fact for fact in search(_PUBLISHED) if fact.key.startswith(_PUBLISHED)]
    own = accelerator.lower().partition("-")[0]
    return tuple(
        sorted(rows, key=lambda fact: (not fact.key.removeprefix(f"{_PUBLISHED}.").startswith(own), fact.key))
    )


def highest_clock_hz(accelerator: str) -> float | None:
    """The highest clock of its processors; None if it isn't known [Hz]."""
    try:
        return lookup(f"advise.clock.highest.{accelerator.lower()}").si_interval()[0]
    except CatalogError:
        return None
