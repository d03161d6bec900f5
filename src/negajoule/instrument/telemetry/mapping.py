"""The mapping: what of finished work is exported, under which names, for Prometheus and OpenTelemetry.

Energy, carbon and water are monotonic counters, so that totals can be rebuilt from scrapes and the sum of
what is exported is the sum of the requests. Every counter of a footprint has two companions that sum the
lower and the upper ends. What isn't known isn't exported as 0: it is counted in
``negajoule.unknown_energy.requests``.

Names that conventions define are theirs; the others are in the namespace ``negajoule``:

- ``hw.*``: OpenTelemetry semantic conventions 1.44.0, hardware (status: development). The energy of a whole
  machine must go under ``hw.host.*``, so that sums over ``hw.energy`` don't count it twice.
- ``gen_ai.*``: OpenTelemetry semantic conventions for generative AI, kept in a repository of their own
  (status: development, commit 066d4a7). They replaced the histogram ``gen_ai.client.token.usage`` by a
  counter for each sort of token. They record 0 where no usage was told; here nothing is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from negajoule.ledger import Activity
    from negajoule.units import Quantity

    Sample = tuple[float, tuple[str, ...]]

__all__ = ["DEVICE_METRICS", "METRICS", "Attribute", "DeviceMetric", "Exporter", "Finished", "Metric"]

Kind = Literal["counter", "histogram"]


class Finished(NamedTuple):
    """A finished piece of work, with what telemetry wants to know beyond the ledger's row.

    Attributes:
        activity: the row.
        operation: ``gen_ai.operation.name``; empty if it was no request of a client.
        provider: ``gen_ai.provider.name``.
        request_model: the model that was asked for.
        tokens_reasoning: hidden reasoning among the output, ``None`` if unknown.
        error: class of the error it ended with; empty if it ended well.
    """

    activity: Activity
    operation: str = ""
    provider: str = ""
    request_model: str = ""
    tokens_reasoning: int | None = None
    error: str = ""


class Exporter(Protocol):
    """Takes finished work; must be safe to call from any thread."""

    def observe(self, finished: Finished) -> None:
        """Count it."""
        ...


class Attribute(NamedTuple):
    """A dimension: its key in OpenTelemetry and its label in Prometheus."""

    key: str
    label: str


class Metric(NamedTuple):
    """One metric.

    Attributes:
        name: in OpenTelemetry.
        prometheus: in Prometheus, without ``_total``.
        kind: counter or histogram.
        unit: in UCUM, as OpenTelemetry wants it.
        meaning: one line for people.
        attributes: its dimensions.
        read: samples of a finished piece of work, each with one value for every dimension.
        buckets: upper ends of a histogram's buckets.
    """

    name: str
    prometheus: str
    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[Attribute, ...]
    read: Callable[[Finished], Iterable[Sample]]
    buckets: tuple[float, ...] = ()

    @property
    def of_events(self) -> bool:
        """Whether each piece of work must be counted by itself; of the others, sums may be."""
        return self.kind == "histogram" or self.unit == "{request}"


class DeviceMetric(NamedTuple):
    """A metric of a device, read when it is asked for; its dimensions are ``hw.id`` and ``hw.type``."""

    name: str
    prometheus: str
    kind: Literal["counter", "gauge"]
    unit: str
    meaning: str


_MODEL = Attribute("gen_ai.response.model", "model")
_STATUS = Attribute("negajoule.status", "status")
_WHERE = Attribute("negajoule.water.place", "where")
_DIRECTION = Attribute("negajoule.token.direction", "direction")
_OPERATION = Attribute("gen_ai.operation.name", "operation")
_PROVIDER = Attribute("gen_ai.provider.name", "provider")
_ASKED = Attribute("gen_ai.request.model", "request_model")
_MODALITY = Attribute("gen_ai.token.modality", "modality")
_ERROR = Attribute("error.type", "error")
_CLIENT = (_OPERATION, _PROVIDER, _ASKED, _MODEL)

_JOULES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The buckets that the conventions advise for ``gen_ai.client.operation.duration``."""


def _group(finished: Finished) -> str:
    """The model, or the sort of work where there was none."""
    return finished.activity.model or finished.activity.kind


def _requests(finished: Finished) -> Iterable[Sample]:
    if finished.activity.kind == "request":
        yield 1.0, (_group(finished), finished.activity.status)


def _unknown(finished: Finished) -> Iterable[Sample]:
    if finished.activity.kind == "request" and finished.activity.footprint.it_energy is None:
        yield 1.0, (_group(finished),)


def _tokens(finished: Finished) -> Iterable[Sample]:
    activity = finished.activity
    for direction, count in (("in", activity.tokens_in), ("out", activity.tokens_out)):
        if count is not None:
            yield float(count), (_group(finished), direction)


def _indicator(name: str, end: str, *more: str) -> Callable[[Finished], Iterable[Sample]]:
    def read(finished: Finished) -> Iterable[Sample]:
        quantity: Quantity | None = getattr(finished.activity.footprint, name)
        if quantity is not None:
            yield max(0.0, getattr(quantity, end)), (_group(finished), *more)

    return read


def _water(end: str) -> Callable[[Finished], Iterable[Sample]]:
    on_site, off_site = _indicator("water_onsite", end, "onsite"), _indicator("water_offsite", end, "offsite")

    def read(finished: Finished) -> Iterable[Sample]:
        yield from on_site(finished)
        yield from off_site(finished)

    return read


def _joules_of_a_request(finished: Finished) -> Iterable[Sample]:
    activity = finished.activity
    if activity.kind == "request" and activity.footprint.it_energy is not None:
        yield max(0.0, activity.footprint.it_energy.value), ()


def _client(finished: Finished, *more: str) -> tuple[str, ...]:
    model = finished.activity.model
    return (finished.operation, finished.provider, finished.request_model or model, model, *more)


def _client_tokens(count_of: Callable[[Finished], int | None]) -> Callable[[Finished], Iterable[Sample]]:
    def read(finished: Finished) -> Iterable[Sample]:
        count = count_of(finished)
        if finished.operation and count is not None:
            yield float(count), _client(finished, "unknown")

    return read


def _duration(finished: Finished) -> Iterable[Sample]:
    if finished.operation:
        yield finished.activity.seconds, _client(finished, finished.error)


def _of_footprint() -> Iterable[Metric]:
    """Counters of the indicators: the value and both ends of its interval."""
    for end in ("value", "low", "high"):
        ending, mark = ("", "") if end == "value" else (f".{end}", f"_{end}")
        bound = {"value": "", "low": ", lower end", "high": ", upper end"}[end]
        for indicator, name, unit_name, unit, meaning in (
            ("it_energy", "it_energy", "joules", "J", "Energy of the IT equipment"),
            (
                "facility_energy",
                "facility_energy",
                "joules",
                "J",
                "With cooling and power conversion",
            ),
            (
                "carbon_location",
                "carbon",
                "grams",
                "g",
                "Operational CO2e by the grid's mix",
            ),
            ("embodied", "embodied", "grams", "g", "Share of making the hardware, CO2e"),
        ):
            yield Metric(
                f"negajoule.{name}{ending}",
                f"negajoule_{name}{mark}_{unit_name}",
                "counter",
                unit,
                meaning + bound,
                (_MODEL,),
                _indicator(indicator, end),
            )
        yield Metric(
            f"negajoule.water{ending}",
            f"negajoule_water{mark}_litres",
            "counter",
            "L",
            f"Water consumed{bound}",
            (_MODEL, _WHERE),
            _water(end),
        )


def _of_clients() -> Iterable[Metric]:
    """Counters of the conventions for generative AI."""
    sorts: tuple[tuple[str, str, Callable[[Finished], int | None]], ...] = (
        ("input_tokens", "Prompt tokens, cached ones included", lambda f: f.activity.tokens_in),
        ("output_tokens", "Generated tokens, reasoning included", lambda f: f.activity.tokens_out),
        ("cache_read.input_tokens", "Prompt tokens out of a cache", lambda f: f.activity.tokens_cached),
        ("reasoning.output_tokens", "Hidden reasoning among the output", lambda f: f.tokens_reasoning),
    )
    for sort, meaning, count_of in sorts:
        name = f"gen_ai.client.inference.usage.{sort}"
        yield Metric(
            name,
            name.replace(".", "_"),
            "counter",
            "{token}",
            meaning,
            (*_CLIENT, _MODALITY),
            _client_tokens(count_of),
        )


METRICS: tuple[Metric, ...] = (
    Metric(
        "negajoule.requests",
        "negajoule_requests",
        "counter",
        "{request}",
        "Requests",
        (_MODEL, _STATUS),
        _requests,
    ),
    Metric(
        "negajoule.tokens",
        "negajoule_tokens",
        "counter",
        "{token}",
        "Tokens",
        (_MODEL, _DIRECTION),
        _tokens,
    ),
    *_of_footprint(),
    Metric(
        "negajoule.unknown_energy.requests",
        "negajoule_unknown_energy_requests",
        "counter",
        "{request}",
        "Requests whose energy isn't known: missing from the sums, not zero",
        (_MODEL,),
        _unknown,
    ),
    Metric(
        "negajoule.request.energy",
        "negajoule_request_energy_joules",
        "histogram",
        "J",
        "IT energy of a request",
        (),
        _joules_of_a_request,
        _JOULES,
    ),
    *_of_clients(),
    Metric(
        "gen_ai.client.operation.duration",
        "gen_ai_client_operation_duration_seconds",
        "histogram",
        "s",
        "Duration of a request as its client saw it",
        (*_CLIENT, _ERROR),
        _duration,
        _SECONDS,
    ),
)
"""Everything that is exported of finished work."""

DEVICE_METRICS: tuple[DeviceMetric, ...] = (
    DeviceMetric("hw.energy", "hw_energy_joules", "counter", "J", "Energy consumed by the component"),
    DeviceMetric("hw.power", "hw_power_watts", "gauge", "W", "Power consumed by the component now"),
    DeviceMetric(
        "hw.host.energy", "hw_host_energy_joules", "counter", "J", "Energy consumed by the whole machine"
    ),
    DeviceMetric("hw.host.power", "hw_host_power_watts", "gauge", "W", "Power of the whole machine now"),
)
"""Everything that is exported of devices."""
