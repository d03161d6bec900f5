"""Shares and idle time add up to the meter whatever comes and goes, and each request gets what it used."""

from __future__ import annotations

import threading
from math import fsum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from synthetic import SyntheticEngine, SyntheticMeter, energy_j

from negajoule.meter import RequestSplitter

seconds = st.floats(0, 1e4)
joules = st.floats(0, 1e6)


def splitter_on(meter: SyntheticMeter, **options) -> RequestSplitter:
    return RequestSplitter(meter, clock=meter.clock, **{"spacing_s": 0.0, **options})


@pytest.fixture
def meter():
    return SyntheticMeter()


class AnyHistory(RuleBasedStateMachine):
    """Requests begin, work, hang and end in any order while any time and energy pass."""

    def __init__(self):
        super().__init__()
        self.meter = SyntheticMeter()
        self.splitter = splitter_on(self.meter, spacing_s=0.05, attention_tokens=1000.0)
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
    @rule(data=st.data(), tokens=st.integers(1, 5000), kind=st.sampled_from(("prefill", "decode")))
    def work(self, data, tokens, kind):
        self.splitter.work(data.draw(st.sampled_from(self.running)), tokens, kind)

    @rule(tokens=st.integers(1, 50))
    def work_for_nobody(self, tokens):
        self.splitter.work("long gone", tokens, "decode")

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data):
        request = data.draw(st.sampled_from(self.running))
        self.running.remove(request)
        self.shares.append(self.splitter.end(request))

    @rule()
    def take_idle(self):
        self.shares.append(self.splitter.take_idle())

    @invariant()
    def books_balance(self):
        assert self.splitter.in_flight == len(self.running)
        balance = self.splitter.balance()
        assert balance.meter_j == pytest.approx(self.meter.energy_j, rel=1e-9)
        assert balance.residual_relative < 1e-9
        assert balance.in_flight_j >= -1e-9 * self.meter.energy_j
        assert balance.idle_j >= 0.0

    def teardown(self):
        self.shares += [self.splitter.end(request) for request in self.running]
        self.shares.append(self.splitter.take_idle())
        parts = [part for share in self.shares for part in share.parts]
        assert all(part.energy.low >= 0.0 and part.energy.boundary == "node" for part in parts)
        assert all(share.node_seconds >= 0.0 and share.cpu_seconds >= 0.0 for share in self.shares)
        whole = self.meter.energy_j
        assert fsum(part.energy.value for part in parts) == pytest.approx(whole, rel=1e-9)
        assert fsum(part.energy.low for part in parts) == pytest.approx(whole / 2, rel=1e-9)
        assert fsum(part.energy.high for part in parts) == pytest.approx(whole * 2, rel=1e-9)
        assert fsum(share.node_seconds for share in self.shares) == pytest.approx(self.meter.time_s)
        assert fsum(share.cpu_seconds for share in self.shares) == pytest.approx(self.meter.cpu_s)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TestOneRequest:
    @pytest.mark.parametrize("tokens", [0, 1, 50])
    def test_alone_it_gets_everything_from_its_begin_to_its_end(self, meter, tokens):
        splitter = splitter_on(meter)
        meter.spend(1.0, 7.0)
        splitter.begin("a")
        for _ in range(tokens):
            meter.spend(0.02, 0.5, 0.1)
            splitter.work("a", 1, "decode")
        meter.spend(3.0, 11.0, 2.0)
        share = splitter.end("a")
        assert energy_j(share) == pytest.approx(0.6 * tokens + 13.0)
        assert share.node_seconds == pytest.approx(0.02 * tokens + 3.0)
        assert share.cpu_seconds == pytest.approx(2 * share.node_seconds)
        assert energy_j(splitter.take_idle()) == pytest.approx(7.0)

    def test_its_parts_keep_name_source_grade_basis_and_interval(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        meter.spend(1.0, 10.0, 4.0)
        cpu, memory = splitter.end("a").parts
        assert (cpu.name, cpu.source, cpu.grade, cpu.energy.basis) == ("cpu active", "model", "D", "modelled")
        assert (cpu.energy.low, cpu.energy.value, cpu.energy.high) == (5.0, 10.0, 20.0)
        assert (memory.name, memory.energy.value) == ("memory", 4.0)

    def test_begun_twice_it_is_refused_and_counted_once(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        meter.spend(1.0, 10.0)
        with pytest.raises(ValueError, match="runs already"):
            splitter.begin("a")
        assert energy_j(splitter.end("a")) == 10.0

    def test_its_id_can_be_used_again_once_it_has_ended(self, meter):
        splitter = splitter_on(meter)
        for expected in (1.0, 2.0):
            splitter.begin("a")
            meter.spend(1.0, expected)
            assert energy_j(splitter.end("a")) == expected

    def test_ended_without_a_begin_it_is_refused_and_disturbs_nobody(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        meter.spend(1.0, 10.0)
        with pytest.raises(KeyError):
            splitter.end("b")
        meter.spend(1.0, 10.0)
        assert energy_j(splitter.end("a")) == 20.0


class TestTogether:
    def test_equal_requests_get_equal_shares(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        splitter.begin("b")
        for _ in range(20):
            meter.spend(0.02, 3.0)
            splitter.work("a", 1, "decode")
            splitter.work("b", 1, "decode")
        first, second = splitter.end("a"), splitter.end("b")
        assert energy_j(first) == pytest.approx(energy_j(second)) == pytest.approx(30.0)
        assert first.node_seconds == pytest.approx(second.node_seconds)

    @pytest.mark.parametrize("order", [("prompt", "decoding"), ("decoding", "prompt")])
    def test_a_step_is_split_by_the_tokens_in_it(self, meter, order):
        splitter = splitter_on(meter)
        splitter.begin("decoding")
        splitter.begin("prompt")
        meter.spend(1.0, 202.0)
        for request in order:
            tokens, kind = (100, "prefill") if request == "prompt" else (1, "decode")
            splitter.work(request, tokens, kind)
        shares = {request: energy_j(splitter.end(request)) for request in ("prompt", "decoding")}
        assert shares["prompt"] == pytest.approx(100 * shares["decoding"]) == pytest.approx(200.0)

    def test_who_ends_before_the_others_have_reported_takes_only_its_fraction(self, meter):
        splitter = splitter_on(meter)
        for request in "abc":
            splitter.begin(request)
        for _ in range(2):
            meter.spend(1.0, 30.0)
            for request in "abc":
                splitter.work(request, 1, "decode")
        meter.spend(1.0, 30.0)
        splitter.work("a", 1, "decode")
        first = energy_j(splitter.end("a"))
        for request in "bc":
            splitter.work(request, 1, "decode")
        assert first == pytest.approx(30.0)
        assert [energy_j(splitter.end(request)) for request in "bc"] == pytest.approx([30.0, 30.0])

    def test_a_newcomer_pays_for_nothing_before_its_own_step(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("old")
        for _ in range(3):
            meter.spend(1.0, 10.0)
            splitter.work("old", 1, "decode")
        meter.spend(0.5, 5.0)
        splitter.begin("new")
        meter.spend(0.5, 5.0)
        splitter.work("old", 1, "decode")
        meter.spend(1.0, 10.0)
        splitter.work("new", 9, "prefill")
        splitter.work("old", 1, "decode")
        assert energy_j(splitter.end("new")) == pytest.approx(9.0)
        assert energy_j(splitter.end("old")) == pytest.approx(41.0)

    def test_a_longer_context_weighs_more_with_the_attention_term(self, meter):
        splitter = splitter_on(meter, attention_tokens=1000.0)
        prompts = {"long": 2000, "short": 10}
        for request in prompts:
            splitter.begin(request)
        meter.spend(1.0, 0.0)
        for request, tokens in prompts.items():
            splitter.work(request, tokens, "prefill")
            splitter.work(request, 1, "decode")
        meter.spend(1.0, 1000.0)
        for request in prompts:
            splitter.work(request, 1, "decode")
        long, short = (energy_j(splitter.end(request)) for request in prompts)
        assert long / short == pytest.approx((1 + 2001.5 / 1000) / (1 + 11.5 / 1000))

    def test_without_tokens_time_goes_to_those_present(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        meter.spend(9.0, 90.0)
        splitter.begin("b")
        meter.spend(2.0, 20.0)
        assert energy_j(splitter.end("b")) == pytest.approx(10.0)
        meter.spend(1.0, 10.0)
        assert energy_j(splitter.end("a")) == pytest.approx(110.0)

    def test_requests_of_no_duration_share_what_there_is(self, meter):
        splitter = splitter_on(meter)
        splitter.begin("a")
        splitter.begin("b")
        meter.spend(0.0, 8.0)
        assert energy_j(splitter.end("a")) == energy_j(splitter.end("b")) == 4.0


class TestIdle:
    def test_it_is_taken_once_and_holds_only_time_without_requests(self, meter):
        splitter = splitter_on(meter)
        meter.spend(1.0, 1.0)
        splitter.begin("a")
        meter.spend(1.0, 10.0)
        assert energy_j(splitter.take_idle()) == 1.0
        splitter.end("a")
        meter.spend(2.0, 100.0)
        idle = splitter.take_idle()
        assert (energy_j(idle), idle.node_seconds) == (100.0, 2.0)
        assert energy_j(splitter.take_idle()) == 0.0


class TestReadings:
    def test_the_meter_is_read_no_more_often_than_spaced(self, meter):
        splitter = splitter_on(meter, spacing_s=0.05)
        splitter.begin("a")
        before = meter.reads
        for _ in range(1000):
            meter.spend(0.001, 0.1)
            splitter.work("a", 1, "decode")
        assert 18 <= meter.reads - before <= 20

    def test_looking_at_the_books_changes_no_share(self):
        def look(splitter: RequestSplitter) -> float:
            splitter.balance()
            return energy_j(splitter.take_idle())

        quiet, watched = SyntheticEngine(5), SyntheticEngine(5)
        quiet.run()
        watched.run(look)
        assert watched.shares_j == pytest.approx(quiet.shares_j, rel=1e-9)
        assert watched.idle_j == pytest.approx(quiet.idle_j)


class TestAgainstTheTruth:
    @pytest.mark.parametrize("seed", range(5))
    def test_an_engine_whose_requests_come_and_go_amid_its_steps_is_split_rightly(self, seed):
        engine = SyntheticEngine(seed)
        engine.run()
        assert engine.moved < 0.01
        whole = engine.meter.energy_j
        assert fsum(engine.shares_j.values()) + engine.idle_j == pytest.approx(whole, rel=1e-9)

    @pytest.mark.parametrize("options", [{"late_s": 0.02}, {"spacing_s": 0.0}, {"spacing_s": 0.3}])
    def test_late_reports_and_wide_windows_move_little(self, options):
        engine = SyntheticEngine(3, **options)
        engine.run()
        assert engine.moved < 0.02


def test_eight_threads_lose_nothing():
    meter = SyntheticMeter()
    lock = threading.Lock()
    splitter = splitter_on(meter)
    shares = []

    def serve(name: int) -> None:
        for number in range(40):
            request = (name, number)
            splitter.begin(request)
            for _ in range(5):
                with lock:
                    meter.spend(0.001, 0.25)
                splitter.work(request, 3, "decode")
            shares.append(splitter.end(request))

    threads = [threading.Thread(target=serve, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shares) == 320
    assert all(energy_j(share) >= 0.0 for share in shares)
    assert fsum(map(energy_j, shares)) + energy_j(splitter.take_idle()) == pytest.approx(400.0, rel=1e-9)
    assert splitter.balance().residual_relative < 1e-9
