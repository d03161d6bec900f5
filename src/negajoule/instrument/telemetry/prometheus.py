"""The mapping as Prometheus metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.extras import require
from negajoule.instrument.telemetry.mapping import DEVICE_METRICS, METRICS, Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.instrument.telemetry.devices import DeviceReader

__all__ = ["PrometheusExporter"]


class PrometheusExporter:
    """Counts finished work in a registry of ``prometheus_client``.

    Args:
        registry: where the metrics are registered, e.g. ``prometheus_client.REGISTRY`` to have them on the
            page your program serves already; ``None`` for one of its own.
        devices: devices to export as well.

    Raises:
        ExtraMissingError: (X101) if ``prometheus_client`` isn't installed.
    """

    def __init__(self, registry: Any = None, *, devices: DeviceReader | None = None) -> None:  # noqa: ANN401
        self._client = require("prometheus_client", extra="serve", purpose="export to Prometheus")
        self.registry = self._client.CollectorRegistry() if registry is None else registry
        self._events: list[tuple[Any, _Takers]] = []
        self._sums: list[tuple[Any, _Takers]] = []
        for metric in METRICS:
            labels = [attribute.label for attribute in metric.attributes]
            kind, options = self._client.Counter, {}
            if metric.kind == "histogram":
                kind, options = self._client.Histogram, {"buckets": metric.buckets}
            made = kind(metric.prometheus, metric.meaning, labels, registry=self.registry, **options)
            rows = self._events if metric.of_events else self._sums
            rows.append((metric.read, _Takers(made, "inc" if metric.kind == "counter" else "observe")))
        if devices is not None:
            self.registry.register(_Devices(devices))

    def observe(self, finished: Finished) -> None:
        """Count a finished piece of work."""
        self.observe_event(finished)
        self.observe_sum(finished)

    def observe_event(self, finished: Finished) -> None:
        """Count only that it happened; ``observe_sum`` must hear of what it took."""
        _take(self._events, finished)

    def observe_sum(self, finished: Finished) -> None:
        """Count only what was taken, which may be the sum of several pieces of one model."""
        _take(self._sums, finished)

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Export a gauge that is read when scraped."""
        self._client.Gauge(name, meaning, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return self._client.generate_latest(self.registry)  # type: ignore[no-any-return]


def _take(rows: list[tuple[Any, _Takers]], finished: Finished) -> None:
    for read, takers in rows:
        for value, labels in read(finished):
            takers[labels](value)


class _Takers(dict[tuple[str, ...], "Callable[[float], None]"]):
    """A metric's method for each combination of labels, looked up once."""

    def __init__(self, metric: Any, method: str) -> None:  # noqa: ANN401
        super().__init__()
        self._metric, self._method = metric, method

    def __missing__(self, labels: tuple[str, ...]) -> Callable[[float], None]:
        child = self._metric.labels(*labels) if labels else self._metric
        take: Callable[[float], None] = getattr(child, self._method)
        self[labels] = take
        return take


class _Devices:
    """A collector that reads the devices when it is scraped."""

    def __init__(self, reader: DeviceReader) -> None:
        self._reader = reader
        self._core = require("prometheus_client.core", extra="serve", purpose="export to Prometheus")

    def collect(self) -> Iterator[Any]:
        """Metric families with one sample for each device."""
        samples = list(self._reader.samples())
        for metric in DEVICE_METRICS:
            family = (
                self._core.CounterMetricFamily if metric.kind == "counter" else self._core.GaugeMetricFamily
            )
            filled = family(metric.prometheus, metric.meaning, labels=["hw_id", "hw_type"])
            for sample in samples:
                if sample.metric == metric.name:
                    filled.add_metric([sample.hw_id, sample.hw_type], sample.value)
            yield filled
