from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from negajoule.route import assignment as module
from negajoule.route.assignment import assign, choose
from negajoule.route.pearl import exact_assignment


@st.composite
def problems(draw):
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    grid = st.integers(0, 12)
    value = draw(arrays(float, shape, elements=grid)) / 4
    cost = draw(arrays(float, shape, elements=grid)) / 2
    return value, cost, draw(st.integers(0, 40)) / 2


def best_of_all(value, cost, budget):
    rows = np.arange(len(value))
    sums = [
        value[rows, list(choice)].sum()
        for choice in product(range(value.shape[1]), repeat=len(value))
        if cost[rows, list(choice)].sum() <= budget
    ]
    return max(sums) if sums else None


@given(problems())
@settings(max_examples=60)
def test_at_most_one_query_from_the_optimum(problem):
    value, cost, budget = problem
    answer = assign(value, cost, budget)
    best = best_of_all(value, cost, budget)
    rows = np.arange(len(value))
    assert answer.value == pytest.approx(value[rows, answer.choice].sum())
    assert answer.cost == pytest.approx(cost[rows, answer.choice].sum())
    if best is None:
        assert not answer.feasible
        assert answer.cost == pytest.approx(cost.min(axis=1).sum())
        return
    assert answer.feasible
    assert answer.cost <= budget + 1e-9
    assert answer.value <= best + 1e-9 <= answer.bound + 2e-9
    assert best - answer.value <= np.ptp(value, axis=1).max() + 1e-9


@given(problems())
@settings(max_examples=25)
def test_more_budget_is_never_worth_less_at_the_bound(problem):
    value, cost, budget = problem
    first, second = assign(value, cost, budget), assign(value, cost, budget + 1.0)
    if first.feasible:
        assert second.bound >= first.bound - 1e-9


def test_many_queries_take_the_bracketed_path(monkeypatch):
    rng = np.random.default_rng(0)
    value, cost = rng.random((3000, 5)), rng.lognormal(0, 1, (3000, 5))
    budget = 1.3 * cost.min(axis=1).sum()
    whole = assign(value, cost, budget)
    monkeypatch.setattr(module, "FEW", 100)
    monkeypatch.setattr(module, "SAMPLE", 64)
    monkeypatch.setattr(module, "CHUNK", 512)
    bracketed = assign(value, cost, budget)
    assert bracketed.cost <= budget
    assert bracketed.value == pytest.approx(whole.value, abs=1e-6)


def test_agrees_with_the_integer_programme():
    rng = np.random.default_rng(1)
    value, cost = rng.random((40, 4)), rng.lognormal(0, 1, (40, 4))
    budget = 1.5 * cost.min(axis=1).sum()
    choice, best = exact_assignment(value, cost, budget)
    assert cost[np.arange(40), choice].sum() <= budget + 1e-6
    answer = assign(value, cost, budget)
    assert 0 <= best - answer.value <= 1.0
    with pytest.raises(ValueError, match="no assignment"):
        exact_assignment(value, cost, 0.5 * cost.min(axis=1).sum())


def test_what_isnt_available_is_never_taken():
    value = np.array([[1.0, np.nan, 0.2], [np.nan, np.nan, np.nan], [0.3, 0.9, 0.1]])
    cost = np.array([[np.nan, 1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 5.0, 2.0]])
    answer = assign(value, cost, 100.0)
    assert answer.choice.tolist() == [2, -1, 1]
    assert choose(value, cost, 10.0).tolist() == [2, -1, 0]
    assert choose(value, cost, np.inf).tolist() == [2, -1, 0]


def test_constant_scores_take_the_cheapest():
    cost = np.array([[3.0, 1.0, 2.0]] * 4)
    assert assign(np.full((4, 3), 0.5), cost, 100.0).choice.tolist() == [1, 1, 1, 1]


def test_no_budget_takes_the_cheapest_and_says_so():
    answer = assign(np.ones((2, 2)), np.ones((2, 2)), 0.0)
    assert not answer.feasible
    assert answer.price == np.inf


def test_malformed_tables_are_refused():
    with pytest.raises(ValueError, match="equal tables"):
        assign(np.ones((2, 2)), np.ones((2, 3)), 1.0)
    with pytest.raises(ValueError, match="negative"):
        assign(np.ones((2, 2)), -np.ones((2, 2)), 1.0)
