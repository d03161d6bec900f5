"""Tests and the rest add up to the session, whatever the workers claim."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.instrument.session_split import CaseRow, merged, split_session
from negajoule.units import Energy, Part

NAMES = ("cpu active", "machine idle", "memory", "gpu 0", "rest of the machine")
joules = st.floats(0, 1e6, allow_subnormal=False)


@st.composite
def energies(draw):
    low, value, high = sorted(draw(st.tuples(joules, joules, joules)))
    return value, low, high


@st.composite
def rows(draw):
    names = draw(st.lists(st.sampled_from([*NAMES, "unheard of"]), unique=True))
    parts = [(name, *draw(energies())) for name in names]
    return CaseRow(draw(st.sampled_from("abcdef")), draw(joules), draw(joules), parts)


@st.composite
def sessions(draw):
    found = draw(st.lists(st.sampled_from(NAMES), max_size=6))
    return [
        Part(name, Energy(*draw(energies()), "modelled", "node"), f"source {n}", "D")
        for n, name in enumerate(found)
    ]


@given(st.lists(rows(), max_size=12), sessions(), st.integers(1, 8))
def test_tests_and_the_rest_are_the_session(rows, session, workers):
    costs, outside = split_session(merged(rows), session, workers)
    whole = sum(part.energy.value for part in session)
    inside = sum(cost.energy.value for cost in costs)
    assert inside + outside.value == pytest.approx(whole, rel=1e-9, abs=1e-6)
    assert all(cost.energy.low <= cost.energy.value <= cost.energy.high for cost in costs)
    assert costs == sorted(costs, key=lambda cost: (-cost.energy.value, cost.name))
    assert len({cost.name for cost in costs}) == len(costs)


@given(st.lists(rows(), max_size=12))
def test_merging_twice_changes_nothing_and_loses_nothing(rows):
    once = merged(rows)
    assert merged(once) == once
    assert sum(row.seconds for row in once) == pytest.approx(sum(row.seconds for row in rows))
    assert sum(len(row.parts) for row in once) == sum(len(row.parts) for row in rows)


def test_idle_power_that_every_worker_claims_is_shared_by_them():
    session = [Part("machine idle", Energy(10.0, 8.0, 12.0, "modelled", "node"), "x", "D")]
    rows = [CaseRow(name, 1.0, 0.0, [("machine idle", 10.0, 8.0, 12.0)]) for name in "ab"]
    costs, outside = split_session(rows, session, 2)
    assert [cost.energy.value for cost in costs] == [5.0, 5.0]
    assert outside.value == 0.0


def test_a_session_without_energy_or_tests():
    assert split_session([], [], 0)[1].value == 0.0
