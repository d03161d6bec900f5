"""The mapping as OpenTelemetry metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule._version import __version__
from negajoule.extras import require
from negajoule.instrument.telemetry.mapping import DEVICE_METRICS, METRICS, Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.instrument.telemetry.devices import DeviceReader

__all__ = ["OpenTelemetryExporter"]

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"


class OpenTelemetryExporter:
    """Counts finished work with a meter of OpenTelemetry.

    Args:
        provider: a ``MeterProvider``; ``None`` for the one that the program has set globally.
        devices: devices to export as well.

    Raises:
        ExtraMissingError: (X101) if ``opentelemetry-api`` isn't installed.
    """

    def __init__(self, provider: Any = None, *, devices: DeviceReader | None = None) -> None:  # noqa: ANN401
        api = require("opentelemetry.metrics", extra="otel", purpose="export to OpenTelemetry")
        meter = api.get_meter("negajoule", __version__, meter_provider=provider, schema_url=_SCHEMA)
        self._rows: list[tuple[Any, Callable[..., Any], tuple[str, ...]]] = []
        for metric in METRICS:
            keys = tuple(attribute.key for attribute in metric.attributes)
            if metric.kind == "counter":
                take = meter.create_counter(metric.name, unit=metric.unit, description=metric.meaning).add
            else:
                take = meter.create_histogram(
                    metric.name,
                    unit=metric.unit,
                    description=metric.meaning,
                    explicit_bucket_boundaries_advisory=metric.buckets,
                ).record
            self._rows.append((metric.read, take, keys))
        if devices is not None:
            _export_devices(api, meter, devices)

    def observe(self, finished: Finished) -> None:
        """Count a finished piece of work; dimensions that are empty are left out."""
        for read, take, keys in self._rows:
            for value, values in read(finished):
                take(value, {key: text for key, text in zip(keys, values, strict=True) if text})


def _export_devices(api: Any, meter: Any, devices: DeviceReader) -> None:  # noqa: ANN401
    for metric in DEVICE_METRICS:
        make = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge

        def observe(_: object, name: str = metric.name) -> Iterator[Any]:
            for sample in devices.samples():
                if sample.metric == name:
                    yield api.Observation(sample.value, {"hw.id": sample.hw_id, "hw.type": sample.hw_type})

        make(metric.name, callbacks=[observe], unit=metric.unit, description=metric.meaning)
