"""The page of counters says the same whether requests are counted one by one or summed first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.gateway import Metrics
from negajoule.gateway.metrics import _SUMMED
from negajoule.instrument.telemetry.mapping import METRICS, Finished
from negajoule.instrument.telemetry.prometheus import PrometheusExporter
from strategies import activities


def values_of(text: bytes) -> dict[str, float]:
    lines = [
        line for line in text.decode().splitlines() if line and line[0] != "#" and "_created" not in line
    ]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@settings(max_examples=40, deadline=None)
@given(st.lists(activities(), max_size=8), st.integers(0, 8))
def test_sums_by_model_are_the_sums_of_the_requests(finished, scraped_after):
    metrics, one_by_one = Metrics(), PrometheusExporter()
    metrics.know(one.model for one in finished)
    for number, activity in enumerate(finished):
        if number == scraped_after:
            metrics.text()
        metrics.count(activity)
        one_by_one.observe(Finished(activity))
    assert values_of(metrics.text()) == pytest.approx(values_of(one_by_one.text()), rel=1e-9)


def test_every_indicator_that_is_exported_is_summed():
    named = {
        metric.name.split(".")[1] for metric in METRICS if not metric.of_events and metric.unit in "J g L"
    }
    assert named == {"it_energy", "facility_energy", "carbon", "embodied", "water"}
    assert len(_SUMMED) == len(named) + 1  # water is of two places
