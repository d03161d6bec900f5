"""Policies of release: nobody is held for ever, and the core's rule does as the object says."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import ConfigError
from negajoule.shape import AtOnce, CleanerHours, ControlLimit, Deadline, Gated, JoinBusy, TokenBucket
from negajoule.simulate import Fleet, Service, View, simulate
from shape.conftest import poisson, step_table

POLICIES = [
    AtOnce(),
    JoinBusy(wait_s=6.0),
    JoinBusy(wait_s=6.0, running=8, count=12),
    Gated(wait_s=5.0),
    ControlLimit(count=9, wait_s=8.0),
    Deadline(within_s=20.0, service_s=8.0, running=3),
    CleanerHours(intensity_g_per_kwh=200.0, wait_s=30.0),
    TokenBucket(rate_per_s=3.0),
    TokenBucket(rate_per_s=3.0, burst=4),
]

views = st.builds(
    View,
    now_s=st.floats(0, 1e6),
    held=st.integers(1, 500),
    oldest_s=st.floats(0, 1e6),
    running=st.integers(0, 500),
    awake=st.just(1),
    carbon_g_per_kwh=st.one_of(st.just(math.nan), st.floats(0, 1000)),
    carbon_until_s=st.just(math.inf),
)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@given(view=views)
@settings(max_examples=40)
def test_who_stays_is_asked_for_again(policy, view):
    view = View(
        view.now_s,
        view.held,
        min(view.oldest_s, view.now_s),
        view.running,
        1,
        view.carbon_g_per_kwh,
        math.inf,
    )
    count, again_s = copy.deepcopy(policy).decide(view)
    assert 0 <= count <= view.held
    if count < view.held:
        assert again_s > view.now_s
        # Only a gate may wait for something other than the clock: for its batch to drain.
        assert math.isfinite(again_s) or (isinstance(policy, Gated) and view.running > 0)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_object_and_the_rule_do_the_same(policy, fleet):
    class Plain:
        """The same policy, hiding that the core knows its rule."""

        def __init__(self):
            self.inner = copy.deepcopy(policy)

        def decide(self, view):
            return self.inner.decide(view)

    trace = poisson(2.0, 300, seed=4)
    coded = simulate(trace, fleet, Service(policy=policy), carbon_g_per_kwh=[300.0] * 3)
    asked = simulate(trace, fleet, Service(policy=Plain()), carbon_g_per_kwh=[300.0] * 3)
    np.testing.assert_allclose(coded.end_s, asked.end_s, rtol=1e-12)
    assert coded.total_j == pytest.approx(asked.total_j, rel=1e-12)
    assert coded.served.all()


def test_a_wait_is_kept_even_when_nobody_else_comes(fleet):
    outcome = simulate(poisson(2.0, 1, seed=1), fleet, Service(policy=JoinBusy(wait_s=5.0)))
    assert outcome.hold_s[0] == pytest.approx(5.0)


def test_joining_needs_enough_company():
    policy = JoinBusy(wait_s=10.0, running=4)
    assert policy.decide(View(1.0, 2, 0.5, 3, 1, math.nan, math.inf)) == (0, 10.5)
    assert policy.decide(View(1.0, 2, 0.5, 4, 1, math.nan, math.inf)) == (2, math.inf)


def test_pacing_keeps_its_rate():
    trace = poisson(5.0, 200, seed=2)
    outcome = simulate(trace, Fleet(table=step_table()), Service(policy=TokenBucket(rate_per_s=2.0)))
    assert np.diff(np.sort(outcome.release_s)).min() >= 0.5 - 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda: JoinBusy(wait_s=math.inf),
        lambda: JoinBusy(wait_s=-1.0),
        lambda: JoinBusy(wait_s=math.nan),
        lambda: JoinBusy(wait_s=1.0, running=0),
        lambda: Gated(wait_s=1.0, count=0),
        lambda: ControlLimit(count=1, wait_s=math.inf),
        lambda: Deadline(within_s=5.0, service_s=6.0),
        lambda: Deadline(within_s=math.inf, service_s=6.0),
        lambda: CleanerHours(intensity_g_per_kwh=-1.0, wait_s=5.0),
        lambda: TokenBucket(rate_per_s=0.0),
        lambda: TokenBucket(rate_per_s=math.nan),
        lambda: TokenBucket(rate_per_s=1.0, burst=0),
    ],
)
def test_a_policy_that_would_starve_is_refused(make):
    with pytest.raises(ConfigError):
        make()
