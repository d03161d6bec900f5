from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.route import Budget, OnlineController


@given(
    limit=st.floats(0, 60),
    expected=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    ordered=st.sampled_from(["random", "dear first", "cheap first"]),
    warm=st.booleans(),
)
@settings(max_examples=60)
def test_budgets_hold_in_any_order(limit, expected, seed, ordered, warm):
    rng = np.random.default_rng(seed)
    scores, energy = rng.random((40, 3)), rng.lognormal(0, 1, (40, 3))
    bounds = energy * rng.uniform(1, 3, (40, 3))
    used = np.minimum(energy * rng.lognormal(0, 1, (40, 3)), bounds)
    order = {
        "random": np.arange(40),
        "dear first": np.argsort(-energy.sum(1)),
        "cheap first": np.argsort(energy.sum(1)),
    }
    controller = OnlineController(
        [Budget("J", limit, expected), Budget("g", 0.7 * limit, expected)], solve_every=5
    )
    if warm:
        controller.warm_start(scores, {"J": energy, "g": 0.5 * energy})
    for query in order[ordered].tolist():
        uses = {"J": energy[query], "g": 0.5 * energy[query]}
        most = {"J": bounds[query], "g": 0.5 * bounds[query]}
        fits = controller.allow(most, uses)
        if not fits.any():
            continue
        model = int(np.argmax(np.where(fits, controller.worth(scores[query], uses), -np.inf)))
        held = {name: float(most[name][model]) for name in most}
        assert controller.reserve(held)
        real = {"J": float(used[query, model]), "g": 0.5 * float(used[query, model])}
        controller.settle(held, real, scores[query], uses)
    for budget in controller.budgets.values():
        assert budget.spent <= budget.limit + 1e-9
        assert budget.reserved == pytest.approx(0.0, abs=1e-9)
        assert budget.price >= 0


def test_what_isnt_known_is_booked_at_its_bound():
    controller = OnlineController([Budget("J", 10.0, 4)])
    assert controller.reserve({"J": 3.0})
    controller.settle({"J": 3.0}, {}, np.array([0.5, 0.6]), {"J": np.array([1.0, 2.0])})
    assert controller.budgets["J"].spent == 3.0
    assert not controller.reserve({"J": 7.5})


def test_a_budget_of_nothing_offers_nothing_that_costs():
    controller = OnlineController([Budget("J", 0.0, 10)])
    assert controller.allow({"J": np.array([0.0, 1.0])}).tolist() == [True, False]


def test_the_price_rises_with_overspending_and_falls_with_saving():
    def price_after(used):
        controller = OnlineController([Budget("J", 100.0, 100, price=0.1)], solve_every=0)
        for _ in range(5):
            controller.settle({"J": 0.0}, {"J": used}, np.array([0.0, 1.0]), {"J": np.array([0.5, 2.0])})
        return controller.prices()["J"]

    assert price_after(2.0) > 0.1 > price_after(0.1)


def test_an_order_that_brings_dear_requests_first_isnt_overspending():
    rng = np.random.default_rng(0)
    size = np.sort(rng.lognormal(1, 1, 200))[::-1]
    energy, score = size[:, None] * np.array([1.0, 3.0]), 0.4 + 0.4 * rng.random((200, 2)) * [0, 1]
    limit = 1.5 * energy[:, 0].sum()
    controller = OnlineController([Budget("J", limit, 200)], step=0.0, solve_every=10)
    controller.warm_start(score, {"J": energy})
    start = controller.prices()["J"]
    for query in range(100):
        held = {"J": float(energy[query].max())}
        assert controller.reserve(held)
        model = int(np.argmax(controller.worth(score[query], {"J": energy[query]})))
        controller.settle(held, {"J": float(energy[query, model])}, score[query], {"J": energy[query]})
    assert controller.budgets["J"].spent > 0.6 * limit
    assert controller.prices()["J"] == pytest.approx(start, rel=0.5)


def test_limits_below_nothing_are_refused():
    with pytest.raises(ValueError, match="negative"):
        Budget("J", -1.0, 10)
    with pytest.raises(ValueError, match="negative"):
        Budget("J", float("nan"), 10)
    with pytest.raises(ValueError, match="without budgets"):
        OnlineController([]).allow({})
