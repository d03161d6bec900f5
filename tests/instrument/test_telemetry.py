"""The mapping, and that what is exported adds up to what was done."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.instrument.telemetry import (
    DEVICE_METRICS,
    METRICS,
    DeviceReader,
    Finished,
    OpenTelemetryExporter,
    PrometheusExporter,
)
from negajoule.ledger import Activity
from negajoule.meter import Reading
from negajoule.units import Carbon, Energy, Footprint, Water

prometheus_client = pytest.importorskip("prometheus_client")
sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason="make test installs it")
export = pytest.importorskip("opentelemetry.sdk.metrics.export")

COUNTS = st.none() | st.integers(0, 100_000)


@st.composite
def quantities(draw, kind, boundary):
    """A quantity of any size, or none."""
    if draw(st.booleans()):
        return None
    low, value, high = sorted(draw(st.tuples(*[st.floats(0, 1e9, allow_subnormal=False)] * 3)))
    return kind(value, low, high, "modelled", boundary)


@st.composite
def pieces(draw):
    """A finished piece of work of any sort."""
    kind = draw(st.sampled_from(["request", "request", "request", "idle", "window"]))
    footprint = Footprint(
        boundary="facility",
        it_energy=draw(quantities(Energy, "node")),
        facility_energy=draw(quantities(Energy, "facility")),
        carbon_location=draw(quantities(Carbon, "facility")),
        water_onsite=draw(quantities(Water, "facility")),
        water_offsite=draw(quantities(Water, "facility")),
        embodied=draw(quantities(Carbon, "life cycle")),
    )
    activity = Activity(
        id=draw(st.uuids()).hex,
        started_s=0.0,
        seconds=draw(st.floats(0, 1000)),
        kind=kind,
        status=draw(st.sampled_from(["ok", "failed", "cancelled"])),
        model=draw(st.sampled_from(["a", 'b"\\\n', ""])) if kind == "request" else "",
        tokens_in=draw(COUNTS),
        tokens_cached=draw(COUNTS),
        tokens_out=draw(COUNTS),
        footprint=footprint,
    )
    followed = kind == "request" and draw(st.booleans())
    return Finished(
        activity,
        operation="chat" if followed else "",
        provider="openai" if followed else "",
        tokens_reasoning=draw(COUNTS),
        error=draw(st.sampled_from(["", "APITimeoutError"])),
    )


def through_prometheus(finished) -> dict[str, float]:
    """Sums by metric, as a scrape reads them."""
    from prometheus_client.parser import text_string_to_metric_families

    exporter = PrometheusExporter()
    for piece in finished:
        exporter.observe(piece)
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(exporter.text().decode()):
        for sample in family.samples:
            if sample.name.endswith(("_total", "_sum", "_count")):
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def through_opentelemetry(finished) -> dict[str, float]:
    """Sums by metric, as an OpenTelemetry reader collects them."""
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    exporter = OpenTelemetryExporter(provider)
    for piece in finished:
        exporter.observe(piece)
    sums: dict[str, float] = {}
    data = reader.get_metrics_data()
    for metric in (
        metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ):
        for point in metric.data.data_points:
            if hasattr(point, "count"):
                sums[f"{metric.name} count"] = sums.get(f"{metric.name} count", 0.0) + point.count
            else:
                assert metric.data.is_monotonic
            value = point.sum if hasattr(point, "sum") else point.value
            sums[metric.name] = sums.get(metric.name, 0.0) + value
    provider.shutdown()
    return sums


@pytest.mark.slow
@given(st.lists(pieces(), max_size=12))
def test_the_sum_of_what_is_exported_is_the_sum_of_the_requests(finished):
    scraped, collected = through_prometheus(finished), through_opentelemetry(finished)
    for field, prometheus, name in (
        ("it_energy", "negajoule_it_energy{}_joules_total", "negajoule.it_energy"),
        ("facility_energy", "negajoule_facility_energy{}_joules_total", "negajoule.facility_energy"),
        ("carbon_location", "negajoule_carbon{}_grams_total", "negajoule.carbon"),
        ("embodied", "negajoule_embodied{}_grams_total", "negajoule.embodied"),
    ):
        for end, mark, ending in (("value", "", ""), ("low", "_low", ".low"), ("high", "_high", ".high")):
            known = [getattr(piece.activity.footprint, field) for piece in finished]
            true = math.fsum(getattr(quantity, end) for quantity in known if quantity is not None)
            assert scraped.get(prometheus.format(mark), 0.0) == pytest.approx(true, rel=1e-9, abs=1e-12)
            assert collected.get(name + ending, 0.0) == pytest.approx(true, rel=1e-9, abs=1e-12)
    water = math.fsum(
        quantity.value
        for piece in finished
        for quantity in (piece.activity.footprint.water_onsite, piece.activity.footprint.water_offsite)
        if quantity is not None
    )
    assert scraped.get("negajoule_water_litres_total", 0.0) == pytest.approx(water, rel=1e-9, abs=1e-12)
    assert collected.get("negajoule.water", 0.0) == pytest.approx(water, rel=1e-9, abs=1e-12)
    requests = [piece for piece in finished if piece.activity.kind == "request"]
    assert scraped.get("negajoule_requests_total", 0.0) == len(requests)
    assert collected.get("negajoule.requests", 0.0) == len(requests)
    unknown = sum(piece.activity.footprint.it_energy is None for piece in requests)
    assert scraped.get("negajoule_unknown_energy_requests_total", 0.0) == unknown
    assert scraped["negajoule_request_energy_joules_count"] == len(requests) - unknown
    tokens = sum(piece.activity.tokens_out or 0 for piece in requests if piece.operation)
    assert scraped.get("gen_ai_client_inference_usage_output_tokens_total", 0.0) == tokens
    assert collected.get("gen_ai.client.inference.usage.output_tokens", 0.0) == tokens


@pytest.mark.slow
@given(st.lists(pieces(), max_size=6), st.lists(pieces(), max_size=6))
def test_counters_never_fall(first, later):
    exporter = PrometheusExporter()

    def values():
        lines = (line for line in exporter.text().decode().splitlines() if "_total" in line)
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    for piece in first:
        exporter.observe(piece)
    before = values()
    for piece in later:
        exporter.observe(piece)
    after = values()
    assert all(float(after[name]) >= float(value) for name, value in before.items())


def piece(**more) -> Finished:
    energy = Energy(5.0, 4.0, 7.0, "modelled", "node")
    fields = {"kind": "request", "model": "gpt-4o-2024-08-06", "tokens_in": 10, "tokens_out": 3, **more}
    activity = Activity(
        id="a", started_s=0.0, seconds=1.5, footprint=Footprint("facility", it_energy=energy), **fields
    )
    return Finished(activity, operation="chat", provider="openai", request_model="gpt-4o")


def test_requests_have_the_attributes_of_the_conventions():
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    OpenTelemetryExporter(provider).observe(piece())
    scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
    by_name = {metric.name: metric for metric in scope.metrics}
    client = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
    }
    (tokens,) = by_name["gen_ai.client.inference.usage.input_tokens"].data.data_points
    assert dict(tokens.attributes) == {**client, "gen_ai.token.modality": "unknown"}
    assert tokens.value == 10
    duration = by_name["gen_ai.client.operation.duration"]
    assert (duration.unit, dict(duration.data.data_points[0].attributes)) == ("s", client)
    energy = by_name["negajoule.it_energy"]
    assert (energy.unit, energy.data.is_monotonic) == ("J", True)
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    provider.shutdown()


def test_names_agree_with_opentelemetrys_own_package():
    hardware = pytest.importorskip("opentelemetry.semconv._incubating.metrics.hw_metrics")
    names = {hardware.HW_ENERGY, hardware.HW_POWER, hardware.HW_HOST_ENERGY, hardware.HW_HOST_POWER}
    assert {metric.name for metric in DEVICE_METRICS} == names


def test_names_and_labels_are_well_formed_and_unique():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len({metric.prometheus for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_.]*", metric.name)
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.prometheus)
        assert not metric.prometheus.endswith("_total")
        assert bool(metric.buckets) == (metric.kind == "histogram")


def test_what_is_not_known_is_not_exported_as_zero():
    exporter = PrometheusExporter()
    activity = Activity(
        id="a", started_s=0.0, seconds=1.0, kind="request", model="m", footprint=Footprint("facility")
    )
    exporter.observe(Finished(activity))
    text = exporter.text().decode()
    assert 'negajoule_unknown_energy_requests_total{model="m"} 1.0' in text
    assert 'negajoule_it_energy_joules_total{model="m"}' not in text
    assert "negajoule_tokens_total{" not in text


def test_a_program_can_have_them_on_its_own_page():
    registry = prometheus_client.CollectorRegistry()
    PrometheusExporter(registry).observe(piece())
    assert b"negajoule_it_energy_joules_total" in prometheus_client.generate_latest(registry)


class FakeProbe:
    """A probe with the surface of the real ones, whose counters grow by 10 J with each reading."""

    name = "fake"

    def __init__(self, heartbeat_s: float | None = None) -> None:
        self.heartbeat_s = heartbeat_s
        self.reads = 0
        self.closed = False

    def read(self) -> tuple[Reading, ...]:
        self.reads += 1
        joules = 10.0 * self.reads
        return (
            Reading("package-0", joules, 12.5, "fake", "A", "cpu"),
            Reading("gpu 0", joules, None, "fake", "A", "gpu"),
            Reading("chassis", joules, 300.0, "fake", "A", "platform"),
            Reading("psys", joules, None, "fake", "A", "check"),
            Reading("dram-0", None, None, "fake", "E", "memory"),
        )

    def close(self) -> None:
        self.closed = True


def test_devices_for_prometheus():
    reader = DeviceReader([FakeProbe()])
    text = PrometheusExporter(devices=reader).text().decode()
    lines = {line for line in text.splitlines() if line.startswith("hw_")}
    assert {re.sub(r" [\d.]+$", "", line) for line in lines} == {
        'hw_energy_joules_total{hw_id="fake package-0",hw_type="cpu"}',
        'hw_energy_joules_total{hw_id="fake gpu 0",hw_type="gpu"}',
        'hw_power_watts{hw_id="fake package-0",hw_type="cpu"}',
        'hw_host_energy_joules_total{hw_id="fake chassis",hw_type="enclosure"}',
        'hw_host_power_watts{hw_id="fake chassis",hw_type="enclosure"}',
    }


def test_devices_for_opentelemetry():
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    devices = DeviceReader([FakeProbe()])
    OpenTelemetryExporter(provider, devices=devices)
    scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
    found = {
        (metric.name, point.attributes["hw.id"], point.attributes["hw.type"])
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert found == {
        ("hw.energy", "fake package-0", "cpu"),
        ("hw.energy", "fake gpu 0", "gpu"),
        ("hw.power", "fake package-0", "cpu"),
        ("hw.host.energy", "fake chassis", "enclosure"),
        ("hw.host.power", "fake chassis", "enclosure"),
    }
    provider.shutdown()


def test_a_probe_that_would_wrap_is_read_between_scrapes_until_the_end():
    probe = FakeProbe(heartbeat_s=0.01)
    reader = DeviceReader([probe])
    reads = probe.reads
    deadline = 500
    while probe.reads < reads + 3 and deadline:
        import time

        time.sleep(0.01)
        deadline -= 1
    assert probe.reads >= reads + 3
    reader.close()
    assert probe.closed
    assert list(reader.samples()) == []
