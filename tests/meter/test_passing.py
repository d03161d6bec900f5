"""Calls, idle time and what is owed add up to the meter, and calls pay what they take, though read seldom."""

from __future__ import annotations

import random
import threading
from math import fsum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from synthetic import SyntheticMeter, energy_j

from negajoule.meter import PassingSplitter

seconds = st.one_of(st.just(0.0), st.floats(1e-6, 0.05), st.floats(0, 1e4))
joules = st.floats(0, 1e6)


class AnyHistory(RuleBasedStateMachine):
    """Calls begin and end in any order while any time and energy pass."""

    def __init__(self):
        super().__init__()
        self.meter = SyntheticMeter()
        self.splitter = PassingSplitter(self.meter, clock=self.meter.clock)
        self.running: list[int] = []
        self.shares = []
        self.begun = 0

    @rule(passed_s=seconds, energy_j=joules, memory_j=joules)
    def time_passes(self, passed_s, energy_j, memory_j):
        self.meter.spend(passed_s, energy_j, memory_j)

    @rule()
    def begin(self):
        self.begun += 1
        self.running.append(self.begun)
        self.splitter.begin(self.begun)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data):
        request = data.draw(st.sampled_from(self.running))
        self.running.remove(request)
        self.shares.append(self.splitter.end(request))

    @rule(count=st.integers(1, 30), passed_s=st.floats(0, 0.02), power_w=st.floats(0, 500))
    def calls_pass_quickly(self, count, passed_s, power_w):
        for _ in range(count):
            self.begin()
            self.meter.spend(passed_s, power_w * passed_s)
            self.shares.append(self.splitter.end(self.running.pop()))

    @rule()
    def take_idle(self):
        self.shares.append(self.splitter.take_idle())

    @rule()
    def books_balance(self):
        balance = self.splitter.balance()
        assert balance.meter_j == pytest.approx(self.meter.energy_j, rel=1e-9)
        assert balance.residual_relative < 1e-9
        assert balance.idle_j >= -1e-9 * self.meter.energy_j

    @invariant()
    def nobody_gets_less_than_nothing(self):
        assert self.splitter.in_flight == len(self.running)
        for share in self.shares[-1:]:
            assert share.node_seconds >= 0.0
            assert share.cpu_seconds >= 0.0
            for part in share.parts:
                assert 0.0 <= part.energy.low <= part.energy.value <= part.energy.high

    def teardown(self):
        self.shares += [self.splitter.end(request) for request in self.running]
        # Idle time that takes more than all calls together covers whatever was paid too much.
        most = 3 * fsum(map(energy_j, self.shares)) + 1.0
        reads = self.meter.reads
        self.meter.spend(1e6, most, most)
        self.shares.append(self.splitter.take_idle())
        assert self.meter.reads == reads + 1
        parts = [part for share in self.shares for part in share.parts]
        assert fsum(part.energy.value for part in parts) == pytest.approx(self.meter.energy_j, rel=1e-9)
        assert fsum(share.node_seconds for share in self.shares) == pytest.approx(self.meter.time_s)
        assert fsum(share.cpu_seconds for share in self.shares) == pytest.approx(self.meter.cpu_s)
        assert self.splitter.balance().in_flight_j == pytest.approx(0.0, abs=1e-9 * self.meter.energy_j)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@pytest.fixture
def meter():
    return SyntheticMeter()


def splitter_on(meter: SyntheticMeter) -> PassingSplitter:
    return PassingSplitter(meter, clock=meter.clock)


class TestFewCalls:
    def test_a_call_now_and_then_gets_exactly_what_was_taken_while_it_ran(self, meter):
        splitter = splitter_on(meter)
        for number in range(20):
            meter.spend(1.0, 5.0, 1.0)
            splitter.begin(number)
            meter.spend(0.003, 7.0 + number, 0.5)
            share = splitter.end(number)
            assert energy_j(share) == pytest.approx(7.5 + number)
            assert share.node_seconds == pytest.approx(0.003)
            assert share.cpu_seconds == pytest.approx(0.006)
        assert energy_j(splitter.take_idle()) == pytest.approx(120.0)

    def test_its_parts_keep_name_source_grade_basis_and_interval(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        meter.spend(1.0, 10.0, 4.0)
        cpu, memory = splitter.end("a").parts
        assert (cpu.name, cpu.source, cpu.grade, cpu.energy.basis) == ("cpu active", "model", "D", "modelled")
        assert (cpu.energy.low, cpu.energy.value, cpu.energy.high) == (5.0, 10.0, 20.0)
        assert (memory.name, memory.energy.value) == ("memory", 4.0)

    def test_calls_at_once_share_each_moment(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        meter.spend(9.0, 90.0)
        splitter.begin("b")
        meter.spend(2.0, 20.0)
        assert energy_j(splitter.end("b")) == pytest.approx(10.0)
        meter.spend(1.0, 10.0)
        assert energy_j(splitter.end("a")) == pytest.approx(110.0)

    @pytest.mark.parametrize("request_id", ["a", None])
    def test_begun_twice_or_ended_without_a_begin_it_is_refused(self, meter, request_id):
        splitter = splitter_on(meter)
        splitter.begin("a")
        meter.spend(1.0, 10.0)
        with pytest.raises((ValueError, KeyError)):
            splitter.begin("a") if request_id else splitter.end("b")
        assert energy_j(splitter.end("a")) == 10.0


class TestManyCalls:
    def run(self, meter, power_of, *, calls: int = 4000, gap_s: float = 0.0002):
        """Calls one after the other, of random length; idle time draws 3 W, a call what ``power_of`` says."""
        splitter, chance = splitter_on(meter), random.Random(7)
        meter.spend(1.0, 3.0)
        true_j, given_j = [], []
        reads = meter.reads
        for number in range(calls):
            splitter.begin(number)
            length_s = chance.expovariate(500.0)
            true_j.append(power_of(number / calls) * length_s)
            meter.spend(length_s, true_j[-1])
            given_j.append(energy_j(splitter.end(number)))
            meter.spend(gap_s, 3.0 * gap_s)
        return splitter, true_j, given_j, meter.reads - reads

    def test_the_meter_is_read_ten_times_a_second(self, meter):
        started_s = meter.time_s
        *_, reads = self.run(meter, lambda _: 40.0)
        assert reads <= 10 * (meter.time_s - started_s) + 10

    def test_a_steady_load_is_split_as_if_it_were_read_each_time(self, meter):
        splitter, true_j, given_j, _ = self.run(meter, lambda _: 40.0)
        wrong = fsum(abs(given - true) for given, true in zip(given_j, true_j, strict=True))
        assert wrong / fsum(true_j) < 0.01
        assert energy_j(splitter.take_idle()) == pytest.approx(3.0 + 4000 * 0.0002 * 3.0, rel=0.05)

    @pytest.mark.parametrize(
        ("power_of", "moved"),
        [(lambda at: 20.0 + 60.0 * at, 0.04), (lambda at: 80.0 if int(at * 4) % 2 else 20.0, 0.2)],
        ids=["rising", "jumping"],
    )
    def test_what_an_old_rate_missed_is_paid_by_the_next_calls(self, meter, power_of, moved):
        _, true_j, given_j, _ = self.run(meter, power_of)
        assert fsum(given_j) == pytest.approx(fsum(true_j), rel=0.02)
        wrong = fsum(abs(given - true) for given, true in zip(given_j, true_j, strict=True))
        assert wrong / fsum(true_j) < moved


def test_eight_threads_lose_nothing():
    meter = SyntheticMeter()
    lock = threading.Lock()
    splitter = splitter_on(meter)
    shares = []

    def serve(name: int) -> None:
        for number in range(200):
            splitter.begin((name, number))
            with lock:
                meter.spend(0.001, 0.25)
            shares.append(splitter.end((name, number)))

    threads = [threading.Thread(target=serve, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meter.spend(10.0, 100.0)
    assert len(shares) == 1600
    assert fsum(map(energy_j, shares)) + energy_j(splitter.take_idle()) == pytest.approx(500.0, rel=1e-9)
    assert splitter.balance().residual_relative < 1e-9
