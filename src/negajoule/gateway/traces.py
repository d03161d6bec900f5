"""One span a request for OpenTelemetry, if it is installed and told where to send.

Attributes follow the semantic conventions for HTTP servers and for generative AI (development, commit 066d4a7
as in ``instrument.telemetry.mapping``); what they don't know is in our namespace ``negajoule``.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from negajoule._version import __version__
from negajoule.gateway.logs import LOGGER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.gateway.visit import Visit

__all__ = ["Tracer", "find_tracer"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORTERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
)
_OPERATIONS = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
_NANOSECONDS = 1_000_000_000


class Tracer:
    """Records ended requests as spans.

    Args:
        provider: a ``TracerProvider`` of OpenTelemetry.
    """

    def __init__(self, provider: Any) -> None:  # noqa: ANN401 (an optional package's type)
        self._trace = import_module("opentelemetry.trace")
        self._parents = import_module("opentelemetry.trace.propagation.tracecontext")
        self._provider = provider
        self._tracer = provider.get_tracer("negajoule", __version__)

    def record(self, visit: Visit, headers: Mapping[bytes, bytes]) -> None:
        """Record a request that has ended, below the client's span if it sent one."""
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        operation = _OPERATIONS.get(visit.operation, visit.operation)
        start_ns = int(visit.started_s * _NANOSECONDS)
        span = self._tracer.start_span(
            f"{operation} {visit.model}".rstrip(),
            context=self._parents.TraceContextTextMapPropagator().extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            start_time=start_ns,
            attributes={
                name: value for name, value in _attributes(visit, operation).items() if value is not None
            },
        )
        if visit.status >= 500 or visit.error:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(start_ns + int(visit.seconds * _NANOSECONDS))

    def close(self) -> None:
        """Send what waits; may block."""
        self._provider.shutdown()


def _attributes(visit: Visit, operation: str) -> dict[str, str | int | float | None]:
    return {
        "http.request.method": visit.method,
        "http.route": visit.path,
        "http.response.status_code": visit.status,
        "error.type": visit.error or None,
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": visit.model or None,
        "gen_ai.usage.input_tokens": visit.tokens.prompt,
        "gen_ai.usage.output_tokens": visit.tokens.output,
        "gen_ai.usage.cache_read.input_tokens": visit.tokens.cached,
        "negajoule.it_energy": visit.energy_j,
        "negajoule.request.id": visit.request_id or None,
        "negajoule.caller": visit.caller.name or None,
    }


def find_tracer(environment: Mapping[str, str] | None = None) -> Tracer | None:
    """A tracer that sends where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says; without it ``None``, nothing loaded."""
    environment = os.environ if environment is None else environment
    if not any(environment.get(name) for name in _ENDPOINTS):
        return None
    exporter = next((name for name in _EXPORTERS if _is_there(name)), None)
    if exporter is None or not _is_there("opentelemetry.sdk.trace.export"):
        LOGGER.warning("no traces are sent: pip install 'negajoule[otel]'")
        return None
    export = import_module("opentelemetry.sdk.trace.export")
    provider = import_module("opentelemetry.sdk.trace").TracerProvider()
    provider.add_span_processor(export.BatchSpanProcessor(import_module(exporter).OTLPSpanExporter()))
    return Tracer(provider)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
