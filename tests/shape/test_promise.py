"""Promises: read, checked, and never called kept when somebody wasn't served."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import ConfigError
from negajoule.shape import Promise, parse_promise
from negajoule.simulate import Service, simulate
from shape.conftest import poisson


@pytest.mark.parametrize(
    ("text", "promise"),
    [
        ("p95<=10s", Promise(limit_s=10.0)),
        ("p95 <= 10", Promise(limit_s=10.0)),
        ("ttft-p99<=500ms", Promise(limit_s=0.5, quantile=0.99, measure="ttft")),
        ("latency-p50<2min", Promise(limit_s=120.0, quantile=0.5)),
        ("e2e-p99.9<=30s", Promise(limit_s=30.0, quantile=0.999)),
        ("batch:p99<=24h", Promise(limit_s=86400.0, quantile=0.99, kind="batch")),
    ],
)
def test_promises_are_read(text, promise):
    read = parse_promise(text)
    assert read.limit_s == pytest.approx(promise.limit_s)
    assert read.quantile == pytest.approx(promise.quantile)
    assert (read.measure, read.kind) == (promise.measure, promise.kind)


@pytest.mark.parametrize("text", ["", "soon", "p95", "95<=10", "p0<=10s", "p100<=10s", "p95<=0s", "p95<=-3s"])
def test_what_cannot_be_promised_is_refused(text):
    with pytest.raises(ConfigError):
        parse_promise(text)


@given(limit_s=st.floats(0.5, 60.0), quantile=st.floats(0.01, 0.99))
@settings(max_examples=30, deadline=None)
def test_kept_means_that_few_enough_are_late(fleet_outcome, limit_s, quantile):
    promise = Promise(limit_s=limit_s, quantile=quantile)
    kept = promise.check(fleet_outcome)
    late = float((promise.times(fleet_outcome) > limit_s).mean())
    assert kept.late_share == late
    if kept.kept:
        assert late <= 1.0 - quantile + 1e-12
    if kept.surely:
        assert kept.kept
    assert kept.late_share_high >= late


@pytest.fixture(scope="module")
def fleet_outcome():
    from negajoule.simulate import Fleet
    from shape.conftest import step_table

    return simulate(poisson(2.0, 400, seed=3), Fleet(table=step_table()))


def test_who_gives_up_is_late(fleet):
    outcome = simulate(poisson(2.0, 100, seed=3), fleet, Service(timeout_s=0.5))
    kept = Promise(limit_s=1000.0).check(outcome)
    assert not outcome.served.all()
    assert kept.late_share == pytest.approx(1.0 - outcome.served.mean())
    assert kept.reached_s == np.inf


def test_a_class_that_is_not_there_is_named(fleet):
    outcome = simulate(poisson(2.0, 50, seed=3), fleet)
    with pytest.raises(ConfigError, match="chat"):
        Promise(limit_s=1.0, kind="chat").check(outcome)
