"""What a simulation says of a fleet: figures that can be worked out by hand, limits, and misuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import ConfigError
from negajoule.simulate import (
    Batching,
    Fate,
    Fleet,
    Routing,
    Rule,
    RuleCode,
    Service,
    Trace,
    capped,
    fixed,
    poisson,
    simulate,
)
from negajoule.simulate.traffic_made import FixedLengths
from serving_cases import Asked, Coded, make_case, table

ALONE = Trace([5.0], [100], [11])


def run(trace, *, services=None, carbon=None, costs=None, **settings_):
    return simulate(
        trace, Fleet(table=costs or table(), **settings_), services, carbon_g_per_kwh=carbon, compiled=False
    )


def test_one_request_costs_what_its_steps_cost():
    costs = table()
    outcome = run(ALONE)
    prompt_s = costs.prefill_token_s * 100 + costs.prefill_context_s * 100**2 + costs.prefill_step_s
    decode_s = sum(costs.decode_s[1] + costs.decode_context_s[1] * (101 + step) for step in range(10))
    decode_j = sum(costs.decode_j[1] + costs.decode_context_j[1] * (101 + step) for step in range(10))
    assert outcome.ttft_s[0] == pytest.approx(prompt_s, rel=1e-12)
    assert outcome.latency_s[0] == pytest.approx(prompt_s + decode_s, rel=1e-12)
    assert outcome.inter_token_s[0] == pytest.approx(decode_s / 10, rel=1e-12)
    assert outcome.energy_j["decode"] == pytest.approx(decode_j, rel=1e-12)
    assert outcome.energy_j["idle"] == pytest.approx(5.0 * costs.idle_w, rel=1e-12)
    assert outcome.verdicts() == ()


def test_kept_tokens_of_a_prompt_are_computed_only_without_the_cache():
    trace = Trace([0.0, 1.0], [100, 100], [1, 1], kept_tokens=[0, 99])
    assert run(trace).prefilled_tokens.sum() == 200
    assert run(trace, prefix_cache=True).prefilled_tokens.sum() == 101


def test_what_sleeps_draws_less_and_answers_later():
    trace = Trace([0.0, 1000.0], [10, 10], [5, 5])
    awake, sleepy = run(trace), run(trace, sleep_after_s=60.0)
    assert sleepy.total_j < awake.total_j
    assert sleepy.woken.tolist() == [1]
    assert sleepy.ttft_s[1] == pytest.approx(awake.ttft_s[1] + table().wake_s)
    assert sleepy.energy_j["wake"] == table().wake_j
    assert sleepy.energy_j["sleep"] == pytest.approx(table().sleep_w * 940.0, rel=1e-3)


def test_consolidation_lets_the_others_sleep():
    trace = poisson(300, 5.0, FixedLengths(20, 20), seed=1)
    spread, few = (
        run(trace, replicas=3, routing=routing, sleep_after_s=1.0, fill=6)
        for routing in (Routing.LEAST_LOADED, Routing.FEWEST)
    )
    assert few.energy_j["sleep"] > spread.energy_j["sleep"]
    assert few.total_j < spread.total_j
    assert np.bincount(few.place, minlength=3)[0] > 290


def test_separate_prefill_hands_over_and_waits_for_the_transfer():
    outcome = run(ALONE, prefill_replicas=1, transfer_token_s=0.01, transfer_token_j=0.5)
    gap_s = outcome.end_s[0] - outcome.first_s[0]
    together_s = run(ALONE).end_s[0] - run(ALONE).first_s[0]
    assert gap_s == pytest.approx(together_s + 1.0, rel=1e-9)
    assert outcome.energy_j["transfer"] == pytest.approx(50.0)


def test_a_lower_clock_is_taken_while_it_is_fast_enough():
    saving = table(pace=1.5, decode_j=tuple(0.7 * joules for joules in table().decode_j))
    relaxed, hurried = (
        run(ALONE, slower=(saving,), inter_token_limit_s=limit_s) for limit_s in (0.05, 0.005)
    )
    assert relaxed.energy_j["decode"] == pytest.approx(0.7 * hurried.energy_j["decode"], rel=1e-2)
    assert relaxed.inter_token_s[0] > hurried.inter_token_s[0]
    assert hurried.latency_s[0] == run(ALONE).latency_s[0]


def test_a_power_cap_stretches_steps_and_no_step_exceeds_it():
    outcome = run(ALONE, power_cap_w=200.0)
    busy_w = (outcome.energy_j["prefill"] + outcome.energy_j["decode"]) / outcome.busy_s.sum()
    assert busy_w <= 200.0 + 1e-6
    assert outcome.latency_s[0] > run(ALONE).latency_s[0]
    with pytest.raises(ConfigError, match="idle"):
        capped(table(), 100.0)


def test_a_static_batch_pays_for_its_longest_member():
    trace = Trace([0.0, 0.0], [10, 100], [5, 50])
    static, chunked = (run(trace, batching=mode) for mode in (Batching.STATIC, Batching.CHUNKED))
    assert static.end_s[0] == static.end_s[1]
    assert chunked.end_s[0] < chunked.end_s[1]
    assert static.prefilled_tokens.sum() == 200
    assert static.total_j > chunked.total_j


def test_hours_have_their_own_intensity():
    trace = fixed(3, 3600.0, FixedLengths(10, 10))
    outcome = run(trace, carbon=[100.0, 200.0, 300.0])
    by_hour = outcome.energy_by_hour_j.sum(axis=1)
    expected = by_hour @ [100.0, 200.0, 300.0] / 3.6e6
    assert outcome.carbon_g == pytest.approx(expected, rel=1e-12)
    assert run(trace, carbon=[100.0, 200.0]).carbon_g is None, "the third hour isn't known"
    assert run(trace).carbon_g is None


def test_deferral_moves_work_to_the_clean_hour():
    trace = Trace([10.0], [10], [10])
    rule = Rule(RuleCode.CARBON, (150.0, 86_400.0))
    outcome = run(trace, services=Service(policy=Coded(rule)), carbon=[400.0, 300.0, 100.0])
    assert outcome.release_s[0] == 7200.0


def test_hosts_draw_all_the_time():
    outcome = run(ALONE, replicas=2, host_w=50.0)
    assert outcome.energy_j["host"] == pytest.approx(100.0 * outcome.end_time_s)


# Verdicts


def test_overload_ends_and_is_said():
    trace = poisson(3000, 40.0, FixedLengths(200, 60))
    outcome = run(trace)
    assert outcome.fates["served"] == 3000
    assert outcome.overloaded
    assert any(said.startswith("overloaded") for said in outcome.verdicts())
    assert not run(poisson(3000, 2.0, FixedLengths(200, 60))).overloaded
    assert not run(fixed(3000, 0.0, FixedLengths(20, 6))).overloaded, "one burst is no rate"


def test_who_is_refused_or_gives_up_is_counted_with_the_reason():
    trace = poisson(500, 40.0, FixedLengths(200, 60))
    outcome = run(trace, most_open=20, services=Service(timeout_s=2.0))
    fates = outcome.fates
    assert sum(fates.values()) == 500
    assert fates["refused"] > 0
    assert any("refused" in said for said in outcome.verdicts())
    assert np.isnan(outcome.latency_s[outcome.fate == Fate.REFUSED]).all()
    late = run(trace, services=Service(timeout_s=2.0))
    assert late.fates["timed_out"] > 0
    assert np.nanmax(late.latency_s) <= 2.0


def test_what_exceeds_the_context_never_starts():
    trace = Trace([0.0, 1.0], [10, 900], [5, 200])
    outcome = run(trace, context_tokens=1000)
    assert outcome.fates["too_long"] == 1
    assert any("don't fit" in said for said in outcome.verdicts())
    assert run(trace, costs=table(kv_tokens=1098)).fates["too_long"] == 1
    assert run(trace, costs=table(kv_tokens=1099)).fates["too_long"] == 0
    nobody = run(Trace([0.0], [900], [200]), context_tokens=1000)
    assert nobody.request_j is None
    assert "nobody was served" in nobody.verdicts()[-1]


class Miser:
    """Lets nobody go."""

    def decide(self, view):
        return 0, math.inf


@pytest.mark.parametrize("policy", [Miser(), Coded(Rule(RuleCode.HOLD, (9.0, math.inf, math.inf, 0.0)))])
def test_a_policy_that_starves_is_found_out(policy):
    outcome = run(Trace([0.0, 1.0], [5, 5], [5, 5]), services=Service(policy=policy))
    assert outcome.fates["starved"] == 2
    assert any(said.startswith("starved") for said in outcome.verdicts())


# Policies


class Answers:
    def __init__(self, answer):
        self.answer = answer

    def decide(self, view):
        return self.answer


@pytest.mark.parametrize(
    "answer", [(0, 0.0), (0, math.nan), (-1, 99.0), (7, 99.0), None, (1,), ("one", 2.0), (0, -math.inf)]
)
def test_an_answer_that_cannot_be_carried_out_is_refused(answer):
    with pytest.raises(ConfigError, match="policy of class 'all' gave"):
        run(ALONE, services=Service(policy=Answers(answer)))


def test_what_a_policy_sees():
    seen = []

    class Watcher:
        def decide(self, view):
            seen.append(view)
            return (view.held, math.inf) if view.held == 2 else (0, view.now_s + 1.0)

    trace = Trace([10.0, 11.5], [5, 5], [5, 5])
    run(trace, services=Service(policy=Watcher()), replicas=2, sleep_after_s=5.0, carbon=[120.0])
    # The policy is copied, its closure isn't.
    assert [view.now_s for view in seen] == [10.0, 11.0, 11.5]
    assert [view.held for view in seen] == [1, 1, 2]
    assert {view.oldest_s for view in seen} == {10.0}
    assert {view.awake for view in seen} == {0}
    assert {view.carbon_g_per_kwh for view in seen} == {120.0}
    assert {view.carbon_until_s for view in seen} == {3600.0}


def test_a_policy_is_copied():
    class Counter:
        calls = 0

        def __init__(self):
            self.calls = 0

        def decide(self, view):
            self.calls += 1
            return view.held, math.inf

    policy = Counter()
    run(ALONE, services=Service(policy=policy))
    assert policy.calls == 0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_the_core_asks_an_object_as_it_asks_a_rule(seed):
    trace, fleet, services, rules, carbon = make_case(seed)
    pairs, at_once = [], Rule(RuleCode.HOLD, (1.0, 0.0, 0.0, 0.0))
    for kind in (Asked, Coded):
        own = [
            Service(policy=kind(rule or at_once), timeout_s=service.timeout_s)
            for rule, service in zip(rules, services, strict=True)
        ]
        pairs.append(simulate(trace, fleet, own, carbon_g_per_kwh=carbon, compiled=False))
    np.testing.assert_allclose(pairs[0].end_s, pairs[1].end_s, rtol=1e-9)
    assert pairs[0].fate.tolist() == pairs[1].fate.tolist()


# Invariants


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_time_runs_forward_and_energy_adds_up(seed):
    trace, fleet, services, _, carbon = make_case(seed)
    outcome = simulate(trace, fleet, services, carbon_g_per_kwh=carbon, compiled=False)
    served = outcome.served
    assert (outcome.release_s[served] >= trace.arrival_s[served]).all()
    assert (outcome.first_s[served] > outcome.release_s[served]).all()
    assert (outcome.end_s[served] >= outcome.first_s[served]).all()
    assert sum(outcome.fates.values()) == len(trace)
    assert outcome.total_j == pytest.approx(sum(outcome.energy_j.values()), rel=1e-12)
    assert (outcome.busy_s <= outcome.end_time_s * (1 + 1e-12)).all()
    assert (outcome.energy_by_hour_j >= -1e-9).all()


def test_progress_is_told_and_changes_nothing():
    trace = poisson(500, 5.0, FixedLengths(20, 10))
    told = []
    fleet = Fleet(table=table())
    watched = simulate(trace, fleet, compiled=False, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (500, 500)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert np.array_equal(watched.end_s, simulate(trace, fleet, compiled=False).end_s)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"replicas": 0}, "replicas"),
        ({"max_batch": 9}, "costs end at 8"),
        ({"max_batch": 0}, "holds nobody"),
        ({"step_tokens": 8}, "no room for prompts"),
        ({"keep_free": 1.0}, "share"),
        ({"most_open": 0}, "most_open"),
        ({"sleep_after_s": -1.0}, "sleep_after_s"),
        ({"power_cap_w": 0.0}, "power_cap_w"),
        ({"prefill_replicas": 1, "batching": Batching.ORCA}, "chunked"),
        ({"slower": (table(4),)}, "lower clock"),
        ({"host_w": math.nan}, "host_w"),
        ({"slower": (table(decode_s=(0.0,) * 9),)}, "takes no time"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        Fleet(table=table(), **wrong)


def test_services_must_fit_the_classes():
    with pytest.raises(ConfigError, match="2 services for 1 classes"):
        run(ALONE, services=[Service(), Service()])
    with pytest.raises(ConfigError, match="serves nobody"):
        Service(timeout_s=0.0)
    with pytest.raises(ConfigError, match="none below 0"):
        run(ALONE, carbon=[-1.0])
