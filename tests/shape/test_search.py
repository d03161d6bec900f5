"""The search: promises are kept where nothing was tuned, and "at once" wins where timing can't help."""

import itertools
import math
import tomllib

import msgspec
import numpy as np
import pytest

from negajoule.errors import ConfigError
from negajoule.shape import AtOnce, CleanerHours, Plan, Promise, frontier, gain_by_part, shape, variants
from negajoule.shape.live import read_rules, rules_of, write_rules
from negajoule.simulate import Fleet, Trace
from shape.conftest import poisson, step_table


def plain(shaped: "object") -> Plan:
    return msgspec.structs.replace(shaped.plan, policies=(AtOnce(),) * len(shaped.plan.policies))


def test_patience_saves_energy_on_days_not_seen(fleet):
    promise = Promise(limit_s=20.0)
    shaped = shape(poisson(1.0, 3000, seed=1), fleet, [promise])
    fresh = poisson(1.0, 3000, seed=2)
    outcome = shaped.plan.run(fresh)
    assert promise.check(outcome).late_share < 0.06
    assert outcome.request_j < plain(shaped).run(fresh).request_j / 1.2
    assert shaped.gain_low <= shaped.gain <= shaped.gain_high
    assert shaped.decision.runner_up is not None
    assert shaped.decision.margin is not None


def test_more_patience_never_costs_more(fleet):
    trace = poisson(1.0, 1500, seed=1)
    gains = [shape(trace, fleet, [Promise(limit_s=limit)]).gain for limit in (8.0, 20.0, 60.0)]
    assert gains == sorted(gains)
    assert gains[0] >= 1.0


def test_a_limit_that_nobody_keeps_leaves_all_at_once(fleet):
    shaped = shape(poisson(1.0, 800, seed=1), fleet, [Promise(limit_s=0.05)])
    assert str(shaped.plan) == "at once"
    assert shaped.gain == 1.0
    assert any("isn't kept even when nobody is held" in note for note in shaped.notes)
    assert any("timing cannot help" in note for note in shaped.notes)


def test_overload_ends_and_is_told(fleet):
    small = msgspec.structs.replace(fleet, max_batch=2)
    shaped = shape(poisson(20.0, 600, seed=1), small, [Promise(limit_s=10.0)])
    assert str(shaped.plan) == "at once"
    assert any("overloaded" in note for note in shaped.notes)


def test_each_class_keeps_its_own_promise(fleet):
    random = np.random.default_rng(0)
    trace = poisson(1.0, 2000, seed=5)
    kinds = random.integers(0, 2, len(trace))
    two = Trace(
        trace.arrival_s, trace.prompt_tokens, trace.answer_tokens, kind=kinds, classes=("chat", "batch")
    )
    promises = [Promise(limit_s=6.0, kind="chat"), Promise(limit_s=120.0, kind="batch")]
    shaped = shape(two, fleet, promises)
    assert all(kept.kept for kept in shaped.kept)
    assert shaped.gain > 1.0
    hold = shaped.plan.run(two).hold_s
    assert hold[kinds == 1].mean() > hold[kinds == 0].mean()


def test_carbon_is_made_small_where_it_is_asked_for(fleet):
    trace = poisson(0.5, 2000, seed=5)
    intensity = [400.0, 100.0, 400.0]
    shaped = shape(trace, fleet, [Promise(limit_s=30.0)], objective="carbon", carbon_g_per_kwh=intensity)
    assert shaped.cost < shaped.at_once


def test_work_that_may_wait_goes_to_cleaner_hours(fleet):
    trace = poisson(0.02, 400, seed=6)  # five hours and a half
    intensity = [400.0, 100.0] * 8
    promise = Promise(limit_s=4000.0)
    shaped = shape(trace, fleet, [promise], objective="carbon", carbon_g_per_kwh=intensity)
    assert isinstance(shaped.plan.policies[0], CleanerHours)
    assert shaped.unit == "gCO2e"
    by_energy = shape(trace, fleet, [promise])
    assert not isinstance(by_energy.plan.policies[0], CleanerHours)


def test_a_price_that_never_changes_asks_for_the_least_energy(fleet):
    trace = poisson(0.5, 300, seed=5)
    by_energy = shape(trace, fleet, [Promise(limit_s=30.0)])
    by_money = shape(
        trace, fleet, [Promise(limit_s=30.0)], objective="money", price_per_kwh=[0.25] * 40, currency="CHF"
    )
    assert by_money.plan == by_energy.plan
    assert by_money.unit == "CHF"
    assert by_money.cost == pytest.approx(by_energy.cost / 3.6e6 * 0.25)


def test_the_rules_for_a_server_say_what_was_chosen(fleet):
    trace = poisson(0.5, 400, seed=5)
    promise = Promise(limit_s=60.0)
    shaped = shape(trace, fleet, [promise])
    (rule,) = rules_of(shaped, [promise], trace.classes)
    assert (rule.kind, rule.model, rule.promise) == ("*", "*", promise)
    assert rule.predicted_s == shaped.kept[0].reached_s
    (read,) = read_rules(tomllib.loads(write_rules([rule]))["shape"])
    assert read.policy.wait_s == pytest.approx(rule.policy.wait_s, rel=1e-5)
    nobody = shape(trace, fleet, [Promise(limit_s=0.01)])
    assert rules_of(nobody, [Promise(limit_s=0.01)], trace.classes) == ()


def test_sleep_and_few_replicas_are_tried_when_allowed():
    fleet = Fleet(table=step_table(), replicas=3)
    assert len(variants(fleet)) == 1
    assert len(variants(fleet, ("sleep", "consolidate"))) > 4
    trace = poisson(0.2, 1000, seed=8)
    promise = [Promise(limit_s=40.0)]
    without, with_levers = (
        shape(trace, fleet, promise, levers=levers) for levers in ((), ("sleep", "consolidate"))
    )
    assert with_levers.cost < without.cost


def test_the_frontier_falls(fleet):
    points = frontier(poisson(1.0, 500, seed=1), fleet, Promise(limit_s=20.0))
    assert len(points) > 3
    assert all(
        a.reached_s <= b.reached_s and a.request_j > b.request_j for a, b in itertools.pairwise(points)
    )


def test_parts_lead_from_the_loop_to_the_plan(fleet):
    trace = poisson(1.0, 800, seed=1)
    shaped = shape(trace, fleet, [Promise(limit_s=30.0)], levers=("sleep",))
    parts = gain_by_part(trace, fleet, shaped.plan)
    assert [part.name for part in parts][:3] == [
        "naive loop, one at a time", "an engine, one at a time", "concurrency, at once",
    ]  # fmt: skip
    assert math.prod(part.factor for part in parts) == pytest.approx(parts[0].request_j / parts[-1].request_j)
    assert parts[-1].request_j == pytest.approx(shaped.plan.run(trace).request_j)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"promises": []}, "held for ever"),
        ({"objective": "joy"}, "joy"),
        ({"objective": "carbon"}, "carbon"),
        ({"objective": "money"}, "price"),
        ({"levers": ["magic"]}, "magic"),
        ({"levers": ["clocks"]}, "lower clocks"),
        ({"trace": poisson(1.0, 50, seed=1)}, "too few"),
    ],
)
def test_what_cannot_be_searched_is_refused(fleet, arguments, said):
    asked = {"trace": poisson(1.0, 300, seed=1), "promises": [Promise(limit_s=10.0)], **arguments}
    trace, promises = asked.pop("trace"), asked.pop("promises")
    with pytest.raises(ConfigError, match=said):
        shape(trace, fleet, promises, **asked)
