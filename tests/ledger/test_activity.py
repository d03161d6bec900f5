"""The ledger's row refuses what can't have been."""

from __future__ import annotations

import math
import re

import pytest

from negajoule.errors import UnitError
from negajoule.ledger import Activity, new_id
from negajoule.units import Footprint


def activity(**fields) -> Activity:
    defaults = {"id": "a", "started_s": 1.0, "seconds": 1.0, "kind": "run", "footprint": Footprint("node")}
    return Activity(**{**defaults, **fields})


@pytest.mark.parametrize("number", [-1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["started_s", "seconds", "cpu_seconds"])
def test_times_are_finite_and_not_negative(name, number):
    with pytest.raises(UnitError) as caught:
        activity(**{name: number})
    assert caught.value.code == "U103"


@pytest.mark.parametrize("count", [-1, 2**63])
@pytest.mark.parametrize("name", ["tokens_in", "tokens_cached", "tokens_out"])
def test_counts_are_not_negative_and_fit_the_store(name, count):
    with pytest.raises(UnitError) as caught:
        activity(**{name: count})
    assert caught.value.code == "U103"


def test_unknown_differs_from_zero():
    assert activity().tokens_in is None
    assert activity(tokens_in=0).tokens_in == 0


def test_ids_are_unique_and_sort_by_time(monkeypatch):
    nanoseconds = iter(range(10**18, 10**18 + 50 * 10**6, 10**6))
    monkeypatch.setattr("negajoule.ledger.activity.time.time_ns", lambda: next(nanoseconds))
    ids = [new_id("req") for _ in range(50)]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch(r"req-[0-9a-f]{32}", one) for one in ids)


def test_ids_of_one_moment_differ(monkeypatch):
    monkeypatch.setattr("negajoule.ledger.activity.time.time_ns", lambda: 10**18)
    assert len({new_id() for _ in range(1000)}) == 1000
