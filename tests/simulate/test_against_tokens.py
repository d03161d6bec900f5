"""The simulator against a loop that makes every token for itself, and against itself compiled."""

from __future__ import annotations

import numpy as np
import pytest

from negajoule.simulate import compiled, simulate
from serving_cases import check_case, make_case

TOLERANCE = 1e-9


@pytest.mark.parametrize("start", range(0, 160, 40))
def test_schedules_latencies_and_energies_are_those_of_the_loop(start):
    wrong = {}
    for seed in range(start, start + 40):
        off, _ = check_case(seed, compiled=False)
        if not off < TOLERANCE:
            wrong[seed] = off
    assert wrong == {}


def test_the_cases_reach_what_they_are_for():
    """A judge that never sees pre-emption, sleep or hand-over judges nothing."""
    fates, phases, preempted, modes, hours = set(), set(), 0, set(), 1
    for seed in range(160):
        trace, fleet, services, _, carbon = make_case(seed)
        outcome = simulate(trace, fleet, services, carbon_g_per_kwh=carbon, compiled=False)
        fates |= {name for name, number in outcome.fates.items() if number}
        phases |= {name for name, joules in outcome.energy_j.items() if joules}
        preempted += int(outcome.preempted.sum())
        modes.add((fleet.batching, fleet.prefill_replicas > 0))
        hours = max(hours, len(outcome.energy_by_hour_j))
    assert fates == {"served", "refused", "timed_out", "too_long", "starved"}
    assert phases == {"prefill", "decode", "idle", "sleep", "wake", "transfer"}
    assert preempted > 10
    assert len(modes) == 5
    assert hours > 1


class _Everything:
    """A list of all names: nothing is inlined, and compiling takes seconds and not many."""

    def __contains__(self, name):
        return True


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.slow  # compiles the core: 5 s
def test_compiled_it_does_the_same_to_the_last_bit(home, monkeypatch):
    pytest.importorskip("numba", reason="numba isn't installed: pip install 'negajoule[simulate]'")
    monkeypatch.setenv("NEGAJOULE_HOME", str(home))
    monkeypatch.setattr(compiled, "_SELDOM", _Everything())
    compiled.compiled_run.cache_clear()
    for seed in range(60):
        trace, fleet, services, _, carbon = make_case(seed)
        one, other = (
            simulate(trace, fleet, services, carbon_g_per_kwh=carbon, compiled=fast) for fast in (True, False)
        )
        for name in ("release_s", "first_s", "end_s", "fate", "place", "energy_by_hour_j", "busy_s", "steps"):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), (seed, name)
    compiled.compiled_run.cache_clear()
    assert any((home / "compiled").rglob("*.nbi")), "nothing was kept"


def test_where_nothing_can_be_kept_a_temporary_folder_is_taken(tmp_path, monkeypatch):
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    monkeypatch.setenv("NEGAJOULE_HOME", str(occupied))
    assert compiled._folder().is_dir()


def test_small_traces_are_not_worth_compiling(monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda name: object())
    assert not compiled.worth_compiling(1000)
    assert compiled.worth_compiling(10_000_000)
    compiled._folder()
    assert compiled.worth_compiling(1000), "compiled code is there already"
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    assert not compiled.worth_compiling(10_000_000)
