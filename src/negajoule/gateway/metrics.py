"""The server's page for Prometheus: the mapping of ``instrument.telemetry`` in a registry of its own.

Clients choose the names of models, and a series is kept for each name for ever. So only models that the
backend lists have series of their own; all others are counted as ``other``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.instrument.telemetry.mapping import Finished
from negajoule.instrument.telemetry.prometheus import PrometheusExporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from negajoule.ledger import Activity

__all__ = ["OTHER", "Metrics"]

OTHER = "other"
"""What models that the backend doesn't list are counted as."""

_MOST_MODELS = 500


class Metrics:
    """The counters of one server.

    Attributes:
        met_stranger: whether a model was counted that wasn't known.
    """

    def __init__(self) -> None:
        self._exporter = PrometheusExporter()
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
        self._exporter.observe(Finished(activity))

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Export a gauge that is read when scraped."""
        self._exporter.watch(name, meaning, read)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return self._exporter.text()
