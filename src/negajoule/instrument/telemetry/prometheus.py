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
        self._rows: list[tuple[Any, Callable[..., Any]]] = []
        for metric in METRICS:
            labels = [attribute.label for attribute in metric.attributes]
            if metric.kind == "counter":
                made = self._client.Counter(metric.prometheus, metric.meaning, labels, registry=self.registry)
                self._rows.append((metric.read, _adder(made, bool(labels))))
            else:
                made = self._client.Histogram(
                    metric.prometheus,
                    metric.meaning,
                    labels,
                    registry=self.registry,
                    buckets=metric.buckets,
                )
                self._rows.append((metric.read, _observer(made, bool(labels))))
        if devices is not None:
            self.registry.register(_Devices(devices))

    def observe(self, finished: Finished) -> None:
        """Count a finished piece of work."""
        for read, take in self._rows:
            for value, labels in read(finished):
                take(value, labels)

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Export a gauge that is read when scraped."""
        self._client.Gauge(name, meaning, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return self._client.generate_latest(self.registry)  # type: ignore[no-any-return]


def _adder(counter: Any, labelled: bool) -> Callable[[float, tuple[str, ...]], None]:  # noqa: ANN401
    def add(value: float, labels: tuple[str, ...]) -> None:
        (counter.labels(*labels) if labelled else counter).inc(value)

    return add


def _observer(histogram: Any, labelled: bool) -> Callable[[float, tuple[str, ...]], None]:  # noqa: ANN401
    def observe(value: float, labels: tuple[str, ...]) -> None:
        (histogram.labels(*labels) if labelled else histogram).observe(value)

    return observe


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
