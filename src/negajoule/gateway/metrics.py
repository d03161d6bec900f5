"""The server's page for Prometheus: the mapping of ``instrument.telemetry`` in a registry of its own.

Clients choose the names of models, and a series is kept for each name for ever. So only models that the
backend lists have series of their own; all others are counted as ``other``.

Some thirty counters sum what requests took. Here it is summed by model, and they hear of it when they are
scraped.
"""

from __future__ import annotations

import threading
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.instrument.telemetry.mapping import Finished
from negajoule.instrument.telemetry.prometheus import PrometheusExporter
from negajoule.ledger import Activity
from negajoule.units import INDICATORS, Footprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from negajoule.ledger import Kind

__all__ = ["OTHER", "Metrics"]

OTHER = "other"
"""What models that the backend doesn't list are counted as."""

_MOST_MODELS = 500

_SUMMED = ("it_energy", "facility_energy", "carbon_location", "embodied", "water_onsite", "water_offsite")
_quantities = attrgetter(*_SUMMED)


class Metrics:
    """The counters of one server.

    Attributes:
        met_stranger: whether a model was counted that wasn't known.
    """

    def __init__(self) -> None:
        self._exporter = PrometheusExporter()
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, Kind], _Sum] = {}
        self._known: frozenset[str] = frozenset()
        self.met_stranger = False

    def know(self, models: Iterable[str]) -> None:
        """Give these models series of their own from now on."""
        self._known = frozenset(sorted(models)[:_MOST_MODELS])
        self.met_stranger = False

    def count(self, activity: Activity) -> None:
        """Count a finished request, or idle time, under a model of that name."""
        if activity.kind == "request" and activity.model not in self._known:
            self.met_stranger = True
            activity = msgspec.structs.replace(activity, model=OTHER)
        self._exporter.observe_event(Finished(activity))
        key = (activity.model, activity.kind)
        with self._lock:
            found = self._sums.get(key)
            if found is None:
                found = self._sums[key] = _Sum()
            found.add(activity)

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Export a gauge that is read when scraped."""
        self._exporter.watch(name, meaning, read)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        with self._lock:
            sums, self._sums = self._sums, {}
            for (model, kind), found in sums.items():
                self._exporter.observe_sum(Finished(found.activity(model, kind)))
        return self._exporter.text()


class _Sum:
    """What requests of one model took together."""

    __slots__ = ("_ends", "_tokens_in", "_tokens_out")

    def __init__(self) -> None:
        self._ends: list[list[float] | None] = [None] * len(_SUMMED)
        self._tokens_in: int | None = None
        self._tokens_out: int | None = None

    def add(self, activity: Activity) -> None:
        """Add one; what isn't known of it is counted elsewhere as unknown."""
        if activity.tokens_in is not None:
            self._tokens_in = (self._tokens_in or 0) + activity.tokens_in
        if activity.tokens_out is not None:
            self._tokens_out = (self._tokens_out or 0) + activity.tokens_out
        ends = self._ends
        for place, quantity in enumerate(_quantities(activity.footprint)):
            if quantity is None:
                continue
            low, value, high = quantity.low, quantity.value, quantity.high
            if low < 0.0:  # counters never fall
                low, value, high = 0.0, max(0.0, value), max(0.0, high)
            mine = ends[place]
            if mine is None:
                ends[place] = [value, low, high]
            else:
                mine[0] += value
                mine[1] += low
                mine[2] += high

    def activity(self, model: str, kind: Kind) -> Activity:
        """All of them as one."""
        quantities: dict[str, Any] = {
            name: None if ends is None else INDICATORS[name](ends[0], min(ends), max(ends))
            for name, ends in zip(_SUMMED, self._ends, strict=True)
        }
        return Activity(
            id="",
            started_s=0.0,
            seconds=0.0,
            kind=kind,
            model=model,
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            footprint=Footprint("facility", **quantities),
        )
