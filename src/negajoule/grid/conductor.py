"""The conductor: which intensity counts for a place and a span, who told it, and who failed.

Order: what the user states, the configured sources in their order, the catalogue's yearly mean. There's no
network call unless a source is configured that needs one. Nothing that a source does ends the program that is
measured: it's recorded, and the next source is used. If all fail, the catalogue's interval is widened to the
hours of a year, because a year's mean then stands in for an hour.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from negajoule.catalog import first_of, lookup, zones
from negajoule.config import home
from negajoule.errors import GridError, NegajouleError
from negajoule.grid.age import age_note
from negajoule.grid.cache import HourCache, Kept
from negajoule.grid.circuit import Circuit
from negajoule.grid.fetch import fetch_url
from negajoule.grid.mean import STANDS_IN_S, coverage, mean_over
from negajoule.grid.resolved import Attempt, Resolved
from negajoule.grid.signal import J_PER_KWH, utc_text
from negajoule.grid.sources import configured_sources
from negajoule.units import CarbonIntensity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from negajoule.catalog import Fact
    from negajoule.config import Settings
    from negajoule.grid.fetch import Fetch
    from negajoule.grid.signal import Signal
    from negajoule.grid.sources import Configured
    from negajoule.units.series import Series

__all__ = ["Grid", "resolve"]

_WORLD = "world"
_LEFT_ALONE = ("C106", "G103", "X101")
"""Failures that only the user can mend: asking again costs nothing, so they open no circuit."""


class _Told(NamedTuple):
    signal: Signal
    how: str


class Grid:
    """The grid's signals as the settings want them, with cache and circuits in the data folder.

    Args:
        settings: resolved settings.
        environment: where keys are read.
        fetch: how URLs are asked.
        clock: UTC seconds since 1970 [s].

    Raises:
        ConfigError: (C101) for a source or region that can't be.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str] | None = None,
        fetch: Fetch = fetch_url,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._stated: float | None = settings["carbon_intensity"]
        market: float | None = settings["market_intensity"]
        self._market = None if market is None else CarbonIntensity.exact(market / J_PER_KWH, "assumed")
        self._sources = configured_sources(
            settings, environment=os.environ if environment is None else environment, fetch=fetch, clock=clock
        )
        self._cache = HourCache(home() / "grid" / "hours")
        self._circuit = Circuit(home() / "grid" / "circuits")

    def resolve(
        self,
        zone: str | None,
        start_s: float,
        end_s: float,
        *,
        energy: Series | None = None,
        may_ask: bool = True,
    ) -> Resolved:
        """The location-based intensity of a place over a span.

        Args:
            zone: the place; ``None`` if it isn't known.
            start_s: beginning, UTC seconds since 1970 [s].
            end_s: end; the same as the beginning for a moment [s].
            energy: weights the mean with energy instead of time if given; must cover the span.
            may_ask: whether the network may be asked; else what is kept must do.

        Raises:
            CatalogError: (F101) if there's no such place.
            UnitError: (U104) if the energy series doesn't cover the span.
        """
        place = None if zone is None else zones.canonical(zone)
        if self._stated is not None:
            stated = CarbonIntensity.exact(self._stated / J_PER_KWH, "assumed")
            return Resolved(
                zone=place or _WORLD,
                start_s=start_s,
                end_s=end_s,
                intensity=stated,
                market=self._market,
                origin="user",
                key="user",
            )
        fact = first_of(["grid.carbon.unknown"] if place is None else zones.keys_of("grid.carbon", place))
        attempts: list[Attempt] = []
        marginal: float | None = None
        for source in self._sources:
            try:
                told = self._ask(source, place, start_s, end_s, may_ask=may_ask)
            except NegajouleError as error:
                attempts.append(Attempt(source.name, False, _in_short(error), error.code))
                continue
            if told.signal.kind == "marginal":
                attempts.append(Attempt(source.name, True, "marginal, so shown apart and in no total"))
                mean = mean_over(told.signal, start_s, end_s, gap=None, energy=energy)
                marginal = mean.intensity.value * J_PER_KWH if mean else None
                continue
            attempts.append(Attempt(source.name, True, told.how))
            return self._live(
                told.signal, fact, start_s, end_s, energy=energy, attempts=attempts, marginal=marginal
            )
        return self._catalogue(place, fact, start_s, end_s, attempts=attempts, marginal=marginal)

    def _ask(
        self, source: Configured, place: str | None, start_s: float, end_s: float, *, may_ask: bool
    ) -> _Told:
        """A signal that touches the span, kept or fresh.

        Raises:
            NegajouleError: if there is none.
        """
        if place is None:
            raise GridError("the place isn't known", code="G103", fix="set NEGAJOULE_ZONE")
        if source.cache_name is None:
            return _Told(self._fresh(source, place, start_s, end_s), "read")
        now_s = self._clock()
        kept = self._cache.get(source.cache_name, place, start_s - STANDS_IN_S, end_s, now_s)
        if kept is not None and (not may_ask or _will_do(kept, start_s, end_s, now_s)):
            return _Told(kept.signal, "kept from before")
        if not may_ask:
            raise GridError("not asked yet")
        state = self._circuit.opened(source.name, now_s)
        if state is not None:
            until = utc_text(state.open_until_s)
            reason = f"left alone until {until}, failures in a row: {state.failures}; {state.reason}"
            if kept is None:
                raise GridError(reason)
            return _Told(kept.signal, f"kept from before; {reason}")
        try:
            fresh = self._fresh(source, place, start_s, end_s)
        except NegajouleError as error:
            if error.code not in _LEFT_ALONE:
                retry_after_s = error.retry_after_s if isinstance(error, GridError) else None
                self._circuit.failed(source.name, now_s, error.message, retry_after_s)
            if kept is None or coverage(kept.signal, start_s, end_s).loose == 0.0:
                raise
            return _Told(kept.signal, f"kept from before; {_in_short(error)}")
        self._circuit.succeeded(source.name)
        self._cache.put(source.cache_name, fresh)
        return _Told(fresh, "asked")

    def _fresh(self, source: Configured, place: str, start_s: float, end_s: float) -> Signal:
        signal = source.make().intensity(place, start_s, end_s)
        if coverage(signal, start_s, end_s).loose == 0.0:
            newest = (
                f"its newest hour ends {utc_text(signal.slots[-1].end_s)}" if signal.slots else "no hours"
            )
            raise GridError(
                f"{source.name} knows nothing of {utc_text(start_s)} to {utc_text(end_s)}: {newest}",
                code="G102",
            )
        return signal

    def _live(
        self,
        signal: Signal,
        fact: Fact,
        start_s: float,
        end_s: float,
        *,
        energy: Series | None,
        attempts: list[Attempt],
        marginal: float | None,
    ) -> Resolved:
        mean = mean_over(signal, start_s, end_s, gap=_of_an_hour(fact), energy=energy)
        assert mean is not None, "with a figure for gaps there's always a mean"
        words = [f"carbon intensity of {signal.zone} by {signal.source}, {_hours(start_s, end_s)}"]
        if signal.kind == "forecast":
            words.append("a forecast")
        if signal.scope == "direct":
            words.append("direct emissions, without fuel supply and power stations")
        if mean.estimated >= 0.005:
            words.append(f"{mean.estimated:.0%} of it estimated")
        if mean.covered < 0.995:
            words.append(f"{mean.covered:.0%} of the time known, else {fact.key} of {fact.year}")
        return Resolved(
            zone=signal.zone,
            start_s=start_s,
            end_s=end_s,
            intensity=mean.intensity,
            market=self._market,
            origin=signal.source,
            key=f"grid_source.{signal.source}.{signal.zone}",
            kind=signal.kind,
            scope=signal.scope,
            year=time.gmtime(start_s).tm_year,
            covered=mean.covered,
            estimated=mean.estimated,
            attempts=tuple(attempts),
            marginal_g_per_kwh=marginal,
            notes=(*_failures(attempts), ", ".join(words)),
        )

    def _catalogue(
        self,
        place: str | None,
        fact: Fact,
        start_s: float,
        end_s: float,
        *,
        attempts: list[Attempt],
        marginal: float | None,
    ) -> Resolved:
        quantity = fact.quantity()
        assert isinstance(quantity, CarbonIntensity)
        notes = list(_failures(attempts))
        if self._sources:
            quantity = _of_an_hour(fact)
            notes.append(
                f"carbon intensity is the yearly mean {fact.key}, its interval widened to the hours of a year"
            )
        notes += [note for note in (age_note(fact.year, end_s),) if note]
        return Resolved(
            zone=place or _WORLD,
            start_s=start_s,
            end_s=end_s,
            intensity=quantity,
            market=self._market,
            origin="catalogue",
            key=fact.key,
            scope="life cycle",
            year=fact.year,
            attempts=tuple(attempts),
            marginal_g_per_kwh=marginal,
            notes=tuple(notes),
        )


def resolve(
    settings: Settings, zone: str | None, start_s: float, end_s: float, *, energy: Series | None = None
) -> Resolved:
    """``Grid.resolve`` for one question.

    Args:
        settings: resolved settings.
        zone: the place; ``None`` if it isn't known.
        start_s: beginning, UTC seconds since 1970 [s].
        end_s: end; the same as the beginning for a moment [s].
        energy: weights the mean with energy instead of time if given; must cover the span.

    Raises:
        ConfigError: (C101) for a source or region that can't be.
        CatalogError: (F101) if there's no such place.
        UnitError: (U104) if the energy series doesn't cover the span.
    """
    return Grid(settings).resolve(zone, start_s, end_s, energy=energy)


def _will_do(kept: Kept, start_s: float, end_s: float, now_s: float) -> bool:
    """Whether asking again would give nothing new, or was just done."""
    share = coverage(kept.signal, start_s, end_s)
    return (kept.settled and share.strict == 1.0) or (kept.is_recent(now_s) and share.loose == 1.0)


def _of_an_hour(fact: Fact) -> CarbonIntensity:
    """A yearly mean that stands in for an hour: its interval times the spread of hours in a year."""
    spread = lookup("grid.signal.hour_in_year")
    value, low, high = fact.si_interval()
    return CarbonIntensity(value, low * spread.low, high * spread.high, "assumed")


def _failures(attempts: list[Attempt]) -> tuple[str, ...]:
    """Remarks without times and addresses, so that those of many requests are alike."""
    return tuple(
        f"grid source {one.source} gave nothing ({one.code})" for one in attempts if not one.answered
    )


def _hours(start_s: float, end_s: float) -> str:
    """The span in whole hours, so that notes of many requests are alike."""
    return f"{utc_text(start_s // 3600 * 3600)} to {utc_text(end_s // 3600 * 3600 + 3600)}"


def _in_short(error: NegajouleError) -> str:
    return error.message + (f"; {error.fix}" if error.fix else "")
