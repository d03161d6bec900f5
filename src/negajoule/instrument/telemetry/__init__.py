"""Telemetry out: finished work and devices, for Prometheus and OpenTelemetry.

- ``mapping``: every metric with its names, unit and dimensions, in one table
- ``prometheus``: the table as Prometheus metrics
- ``opentelemetry``: the table as OpenTelemetry metrics
- ``devices``: what counters say of this machine's devices
"""

from negajoule.instrument.telemetry.devices import DeviceReader, DeviceSample
from negajoule.instrument.telemetry.mapping import DEVICE_METRICS, METRICS, Exporter, Finished
from negajoule.instrument.telemetry.opentelemetry import OpenTelemetryExporter
from negajoule.instrument.telemetry.prometheus import PrometheusExporter

__all__ = [
    "DEVICE_METRICS",
    "METRICS",
    "DeviceReader",
    "DeviceSample",
    "Exporter",
    "Finished",
    "OpenTelemetryExporter",
    "PrometheusExporter",
]
