"""The promise under everything that can happen: spent <= limit, and whatever was used is charged."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from budget_world import LEASE_S, Clock, World
from negajoule.ledger.accounts import MemoryStore, SqliteStore
from negajoule.ledger.accounts.windows import WINDOWS

NAMES = ("a", "b")
INDICATORS = ("J", "gCO2e")
limits = st.sampled_from([1000.0, 300.0, 100.0, 40.0, 7.0, 0.0])
bounds = st.fixed_dictionaries({name: st.sampled_from([5.0, 1.0, 12.0, 0.0]) for name in INDICATORS})
which = st.integers(0, 1000)
jumps = st.sampled_from([-40 * 86_400.0, -7200.0, -60.0, 60.0, LEASE_S * 2, 3600.0, 86_400.0, 31 * 86_400.0])


class Histories(RuleBasedStateMachine):
    """Workers come, go and die over the store in memory."""

    def make_store(self):
        return MemoryStore(self.clock.wall)

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="nj-"))
        self.clock = Clock()
        self.world = World(self.make_store(), self.clock, self.folder / "workers")

    def teardown(self):
        try:
            for worker in list(self.world.workers):
                self.world.end(worker)
            last = self.world.start()
            self.world.tend(last)
            self.world.end(last)
            assert self.world.faults(ended=True) == []
        finally:
            self.world.store.close()
            shutil.rmtree(self.folder)

    def worker(self, number):
        return self.world.workers[number % len(self.world.workers)]

    @initialize(limit=limits, window=st.sampled_from(WINDOWS))
    def begin(self, limit, window):
        self.world.open("global", "", "J", window, limit)
        self.world.open("key", "a", "gCO2e", "day", 100.0)
        self.world.start()
        self.world.start()

    @rule(
        scope=st.sampled_from(("key", "team", "model")),
        name=st.sampled_from(NAMES),
        indicator=st.sampled_from(INDICATORS),
        window=st.sampled_from(WINDOWS),
        limit=limits,
    )
    def open(self, scope, name, indicator, window, limit):
        self.world.open(scope, name, indicator, window, limit)

    @rule(number=which, limit=limits)
    def change_a_limit(self, number, limit):
        open_ = [account for account in self.world.accounts.values() if not account.closed]
        if open_:
            self.world.limit(open_[number % len(open_)], limit)

    @rule(number=which)
    def close(self, number):
        open_ = [account for account in self.world.accounts.values() if not account.closed]
        if len(open_) > 1:
            self.world.close(open_[number % len(open_)])

    @precondition(lambda self: len(self.world.workers) < 4)
    @rule(journal=st.sampled_from([True, True, False]))
    def start(self, journal):
        self.world.start(journal=journal)

    @precondition(lambda self: self.world.workers)
    @rule(
        number=which,
        key=st.sampled_from(NAMES),
        team=st.sampled_from(NAMES),
        model=st.sampled_from(NAMES),
        burst=st.lists(st.tuples(bounds, st.sampled_from((1.0, 0.3, 0.0))), min_size=2, max_size=6),
    )
    def reserve(self, number, key, team, model, burst):
        names = {"key": key, "team": team, "model": model}
        for one, share in burst:
            self.world.reserve(self.worker(number), names, one, share)

    @precondition(lambda self: self.world.workers)
    @rule(number=which, request=which, told=st.booleans(), times=st.integers(1, 3))
    def settle(self, number, request, told, times):
        self.world.settle(self.worker(number), request, told=told, times=times)

    @precondition(lambda self: self.world.workers)
    @rule(number=which, request=which)
    def release(self, number, request):
        self.world.release(self.worker(number), request)

    @precondition(lambda self: self.world.workers)
    @rule(number=which, before=st.booleans())
    def break_the_line(self, number, before):
        store = self.worker(number).store
        store.fail_before, store.fail_after = before, not before

    @precondition(lambda self: self.world.workers)
    @rule(number=which)
    def tend(self, number):
        self.world.tend(self.worker(number))

    @precondition(lambda self: self.world.workers)
    @rule(lose_disk=st.sampled_from([False, False, True]))
    def kill_the_busiest(self, lose_disk):
        busiest = max(self.world.workers, key=lambda worker: len(worker.running))
        self.world.kill(busiest, lose_disk=lose_disk)

    @precondition(lambda self: self.world.workers)
    @rule(number=which)
    def end(self, number):
        self.world.end(self.worker(number))

    @rule(jump_s=jumps)
    def the_clock_jumps(self, jump_s):
        self.clock.skew_s += jump_s

    @rule(passed_s=st.sampled_from([0.2, 1.0, LEASE_S, 3600.0, 86_400.0]))
    def time_passes(self, passed_s):
        self.clock.passed_s += passed_s

    @invariant()
    def the_promise_holds(self):
        assert self.world.faults() == []
        assert self.world.lost == 0


class Twins:
    """A durable store beside the one in memory: every answer must be the same."""

    def __init__(self, real, pure):
        self.real, self.pure, self.identity = real, pure, real.identity

    def __getattr__(self, name):
        def both(*arguments, **options):
            answer = getattr(self.real, name)(*arguments, **options)
            assert getattr(self.pure, name)(*arguments, **options) == answer
            return answer

        return both


class SqliteHistories(Histories):
    """The same over a file, beside the store in memory."""

    def make_store(self):
        real = SqliteStore(self.folder / "accounts.sqlite", clock=self.clock.wall)
        return Twins(real, MemoryStore(self.clock.wall))

    def teardown(self):
        try:
            assert self.world.store.real.check() == []
        finally:
            super().teardown()


_SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck))

TestHistories = Histories.TestCase
TestHistories.settings = settings(_SETTINGS, max_examples=60, stateful_step_count=40)

TestSqliteHistories = pytest.mark.slow(SqliteHistories.TestCase)
TestSqliteHistories.settings = settings(_SETTINGS, max_examples=60, stateful_step_count=40)
