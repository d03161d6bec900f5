"""The server's page for Prometheus: the mapping of ``instrument.telemetry`` in a registry of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.instrument.telemetry.mapping import Finished
from negajoule.instrument.telemetry.prometheus import PrometheusExporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.ledger import Activity

__all__ = ["Metrics"]


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._exporter = PrometheusExporter()

    def count(self, activity: Activity) -> None:
        """Count a finished request, or idle time, under a model of that name."""
        self._exporter.observe(Finished(activity))

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Export a gauge that is read when scraped."""
        self._exporter.watch(name, meaning, read)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return self._exporter.text()
