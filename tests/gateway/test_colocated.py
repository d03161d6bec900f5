"""Joules of a co-located server split by its batch; instrument and metrics are labelled fakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from negajoule.errors import ConfigError
from negajoule.gateway import Fleet
from negajoule.gateway.accounts import Tokens
from negajoule.gateway.colocated import Batch, Colocated, VllmMetrics, domains_of, meter_for
from negajoule.gateway.plan import read_plan
from negajoule.gateway.server import Server
from negajoule.instrument import find_here
from negajoule.meter import Gap, Reading

from .asking import chat
from .conftest import gateway, serving
from .test_spending import priced


class FakeProbe:
    """A labelled fake of an instrument with two boards, driven by a test."""

    heartbeat_s = None

    def __init__(self, name="fake"):
        self.name = name
        self.energy_j = 0.0
        self.gap = None
        self.gone = self.closed = False

    def read(self):
        energy = None if self.gone else self.energy_j
        board = Reading("gpu 0", energy, None, "fake counter", "A", "gpu", energy, energy, self.gap)
        return (board, Reading("gpu 1", 5.0, None, "fake counter", "A", "gpu"))

    def close(self):
        self.closed = True


class FakeMetrics:
    """A labelled fake of a server's page of metrics."""

    def __init__(self):
        self.batch = Batch(0.0, 0.0, 0.0)
        self.error = None

    def read(self):
        if self.error is not None:
            raise self.error
        return self.batch


class World:
    """Instrument, batch and clock, moved on together."""

    def __init__(self):
        self.probe, self.metrics, self.now_s = FakeProbe(), FakeMetrics(), 0.0
        self.meter = Colocated(
            "vllm", self.probe, ["gpu 0"], self.metrics, find_here(), period_s=1.0, clock=lambda: self.now_s
        )
        self.meter.sample()

    def step(self, joules, *, running, prompt=0, generated=0, seconds=1.0):
        self.metrics.batch = self.metrics.batch._replace(running=running)
        if self.now_s == 0.0:
            self.meter._samples[-1] = self.meter._samples[-1]._replace(batch=self.metrics.batch)
        self.now_s += seconds
        self.probe.energy_j += joules
        before = self.metrics.batch
        self.metrics.batch = Batch(
            running, before.prompt_tokens + prompt, before.generated_tokens + generated
        )
        self.meter.sample()


@pytest.fixture
def world(fresh_home):
    return World()


def test_alone_a_call_takes_all_there_was(world):
    for _ in range(3):
        world.step(100.0, running=1, prompt=0, generated=10)
    part = world.meter.share(0.0, 3.0, Tokens(0, 0, 30))
    assert (part.energy.value, part.energy.low, part.energy.high) == pytest.approx((300.0, 300.0, 300.0))
    assert part.energy.basis == "inferred"
    assert part.source == "fake gpu 0, split by batch"


def test_in_a_batch_it_takes_its_tokens_share_and_both_splits_are_the_interval(world):
    world.step(100.0, running=4, prompt=300, generated=0)
    for _ in range(3):
        world.step(100.0, running=4, generated=100)
    part = world.meter.share(0.0, 4.0, Tokens(200, 100, 100))
    assert part.energy.value == pytest.approx(400 * 200 / 600)
    assert part.energy.low == pytest.approx(400 / 4)
    assert part.energy.high == pytest.approx(part.energy.value)


def test_the_time_between_two_samples_counts_by_its_part(world):
    world.step(100.0, running=2)
    world.step(200.0, running=2)
    part = world.meter.share(0.5, 1.25, Tokens())
    assert part.energy.value == pytest.approx((0.5 * 100 + 0.25 * 200) / 2)


@given(
    st.lists(st.tuples(st.floats(0, 1e3), st.integers(1, 64), st.integers(1, 500)), min_size=1, max_size=20)
)
def test_calls_that_share_all_the_time_share_all_the_joules(steps):
    world = World()
    running = steps[0][1]
    for joules, _, tokens in steps:
        world.step(joules, running=running, generated=tokens * running)
    total = sum(joules for joules, _, _ in steps)
    own = sum(tokens for _, _, tokens in steps)
    part = world.meter.share(0.0, world.now_s, Tokens(0, 0, own))
    assert part.energy.value * running == pytest.approx(total, abs=1e-6)
    assert part.energy.low <= part.energy.value <= part.energy.high


def _metrics_fail(world):
    world.metrics.error = OSError("refused")


def _probe_gone(world):
    world.probe.gone = True


def _probe_gap(world):
    world.probe.gap = Gap("failed read", "gpu 0", 1.0, 2.0, "the driver said no")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_metrics_fail, "the server's metrics can't be read: refused"),
        (_probe_gone, "the instrument gives no energy"),
        (_probe_gap, "the driver said no"),
    ],
)
def test_a_gap_falls_back_to_the_estimate_and_is_recorded(world, break_it, words):
    world.step(100.0, running=1, generated=10)
    break_it(world)
    world.step(100.0, running=1, generated=10)
    estimate = priced("m", Tokens(5, 0, 5))
    cost = world.meter.cost(0.0, Tokens(5, 0, 5), estimate)
    assert cost.it_energy == estimate.it_energy
    assert words in cost.notes[0]
    assert cost.notes[0].startswith("not metered, so estimated")
    assert world.meter.gaps == 1
    assert world.meter.cost(0.0, Tokens(), None) is None


@pytest.mark.parametrize(
    ("begun_s", "ended_s", "words"),
    [(-1.0, 2.0, "before the first sample"), (2.0, 2.5, "over before the next"), (0.0, 60.0, "in time")],
)
def test_what_wasnt_sampled_isnt_told(world, begun_s, ended_s, words):
    world.step(1.0, running=1)
    world.step(1.0, running=1)
    assert words in world.meter.share(begun_s, ended_s, Tokens())


def test_a_server_started_anew_makes_a_gap(world):
    world.step(1.0, running=1, generated=10)
    world.metrics.batch = Batch(1.0, 0.0, 0.0)
    world.step(1.0, running=1, generated=1)
    assert "started anew" in world.meter.share(0.0, 2.0, Tokens())


PAGE = """# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+03
vllm:generation_tokens_total{engine="0",model_name="m"} 700.0
vllm:prompt_tokens_created{engine="0"} 1.7e+09
"""


def test_vllms_page_is_read():
    assert VllmMetrics.parse(PAGE) == Batch(5.0, 1500.0, 700.0)


@pytest.mark.parametrize(
    "text", ["", "vllm:num_requests_running 1\n", "<html>", PAGE.replace("700.0", "NaN?")]
)
def test_another_page_is_said_not_to_be_one(text):
    with pytest.raises(ValueError, match="isn't there"):
        VllmMetrics.parse(text)


def test_an_instrument_is_found_by_name_and_device():
    probes = [FakeProbe("rapl"), FakeProbe("nvml")]
    assert domains_of("nvml:0,1", probes) == (probes[1], ["gpu 0", "gpu 1"])
    with pytest.raises(ConfigError, match="nvml here has gpu 0, gpu 1"):
        domains_of("nvml:7", probes)
    with pytest.raises(ConfigError, match="no such instrument"):
        domains_of("amdsmi:0", probes)


def test_calls_through_the_gateway_are_metered(fresh_home):
    """End to end: a fake instrument draws 50 W, two thirds of the batch's tokens are others'."""
    import time

    begun_s = time.monotonic()

    class Clocked(FakeProbe):
        """A labelled fake that draws 50 W."""

        def read(self):
            self.energy_j = (time.monotonic() - begun_s) * 50.0
            return super().read()

    counted = Batch(3.0, 0.0, 0.0)

    async def answer(request):
        import asyncio

        nonlocal counted
        await asyncio.sleep(0.6)
        counted = counted._replace(prompt_tokens=counted.prompt_tokens + 30, generated_tokens=60.0)
        await asyncio.sleep(0.6)
        usage = {"prompt_tokens": 10, "completion_tokens": 20}
        return JSONResponse({"choices": [{"index": 0, "message": {"content": "x"}}], "usage": usage})

    async def metrics(request):
        lines = zip(VllmMetrics._NAMES, counted, strict=True)
        return PlainTextResponse("".join(f"{name} {value}\n" for name, value in lines))

    app = Starlette(
        routes=[Route("/v1/chat/completions", answer, methods=["POST"]), Route("/metrics", metrics)]
    )
    probe = Clocked()
    spare = FakeProbe("other")
    with serving(app) as url:
        (plan,) = read_plan([{"name": "vllm", "url": url, "metered_by": "fake:0"}], "a test")

        def make(splitter, accounts):
            meter = meter_for(plan, accounts.here, [spare, probe])
            return Fleet([Server(plan, estimate=priced, metered=meter)], splitter, accounts)

        with gateway(make) as running:
            time.sleep(0.3)
            footprint = chat(running.url).json["footprint"]
            row = running.ledger.get(footprint["request_id"])
        assert (probe.closed, spare.closed) == (True, True)
    (part,) = [part for part in row.footprint.parts if part.name == "vllm accelerators"]
    # Some 1.2 s and up to two sample periods of 50 W, a third of it.
    assert 15 < part.energy.value < 35
    assert footprint["it_energy"]["basis"] in ("inferred", "modelled")
    assert any("split by the server's batch" in note for note in footprint["notes"])
    assert footprint["carbon_location"]["value"] > 0


def test_an_accounting_that_crashes_breaks_no_call(fresh_home):
    from .test_turnover import Upstream

    def crash(model, tokens):
        raise ZeroDivisionError

    with serving(Upstream("a").app()) as url:
        (plan,) = read_plan([{"name": "s", "url": url}], "a test")
        with gateway(
            lambda splitter, accounts: Fleet([Server(plan, estimate=crash)], splitter, accounts)
        ) as run:
            answer = chat(run.url)
    assert (answer.status, answer.json["footprint"]["it_energy"]) == (200, None)
