"""Several servers of the same models: the least busy answers, unless staying saves more."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.errors import ConfigError
from negajoule.gateway import Fleet
from negajoule.gateway.plan import read_plan
from negajoule.gateway.replicas import Replicas
from negajoule.gateway.routes import Routes
from negajoule.gateway.server import Server
from negajoule.gateway.wire import Call
from negajoule.units import Energy, Footprint

from .asking import chat
from .conftest import gateway, serving
from .test_turnover import Upstream, name_of

JOULES_PER_PROMPT_TOKEN = 0.5


def estimate(model, tokens):
    if model == "unknown" or tokens.prompt is None or tokens.output is None:
        return None
    joules = (tokens.prompt - (tokens.cached or 0)) * JOULES_PER_PROMPT_TOKEN + tokens.output * 2.0
    return Footprint(boundary="facility", it_energy=Energy(joules, joules, joules, "modelled", "node"))


def servers(count=3, **more):
    table = {
        "name": "r",
        "url": "http://h1",
        "replicas": [f"http://h{n}" for n in range(2, count + 1)],
        **more,
    }
    return [Server(plan, estimate=estimate) for plan in read_plan([table], "a test")]


def call_of(first, turns=1, model="m", size=0):
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": first}]
    messages += [{"role": "user", "content": f"turn {n} {'x' * size}"} for n in range(1, turns)]
    return Call("chat", model, False, False, json.dumps({"model": model, "messages": messages}).encode())


class _Loads:
    """How busy each replica is, as a test says."""

    def __init__(self, servers):
        self.routes = Routes(servers)
        self.loads = Counter()
        self.now_s = 0.0
        self.replicas = Replicas(lambda server: self.loads[server.plan.name], clock=lambda: self.now_s)

    def first(self, call):
        return self.order(call)[0]

    def order(self, call):
        return [route.server.plan.name for route in self.replicas.order(call, self.routes.find(call))]


def test_every_replica_is_in_the_order_once_and_the_least_busy_is_first():
    world = _Loads(servers())
    world.loads.update({"r": 2, "r#2": 0, "r#3": 1})
    assert world.order(call_of("hello")) == ["r#2", "r#3", "r"]


def test_a_conversation_stays_while_that_saves_more_than_the_imbalance_costs():
    world = _Loads(servers(imbalance_j=20.0))
    prompt = call_of("hello", 2, size=400)
    saved_j = len(prompt.raw) // 4 * JOULES_PER_PROMPT_TOKEN
    home = world.first(prompt)
    staying = int(saved_j // 20)
    world.loads[home] = staying
    assert world.first(call_of("hello", 2, size=400)) == home
    assert world.replicas.stayed == 1
    world.loads[home] = staying + 1
    moved = world.first(call_of("hello", 2, size=400))
    assert moved != home
    assert world.replicas.moved == 1
    world.loads[home] = 0
    world.loads[moved] = 1
    assert world.first(call_of("hello", 3)) == moved, "the beginning is kept there now"


def test_what_isnt_known_or_is_old_is_no_reason_to_wait():
    world = _Loads(servers())
    for model, later_s in (("unknown", 0.0), ("m", 700.0)):
        home = world.first(call_of("hello", model=model, size=4000))
        world.loads[home] = 1
        world.now_s += later_s
        assert world.first(call_of("hello", 2, model=model, size=4000)) != home
        world.loads.clear()


@given(st.text(max_size=20))
def test_workers_that_share_nothing_agree(first):
    one, other = _Loads(servers(5)), _Loads(servers(5))
    assert one.order(call_of(first)) == other.order(call_of(first))


def test_new_conversations_spread_and_the_table_stays_bounded(monkeypatch):
    monkeypatch.setattr("negajoule.gateway.replicas._REMEMBERED", 50)
    world = _Loads(servers())
    spread = Counter(world.first(call_of(f"question {n}")) for n in range(300))
    assert min(spread.values()) > 60
    assert len(world.replicas) == 50


def test_a_replica_that_rests_is_not_the_first():
    made = servers(2)
    world = _Loads(made)
    home = world.first(call_of("hello"))
    failing = next(server for server in made if server.plan.name == home)
    for _ in range(5):
        failing.breaker.failed(0.0)
    assert world.order(call_of("hello"))[1] == home


def test_fallbacks_come_after_all_replicas():
    tables = [
        {"name": "r", "url": "http://h1", "replicas": ["http://h2"], "fallback": ["spare"]},
        {"name": "spare", "url": "http://h3"},
    ]
    world = _Loads([Server(plan, estimate=estimate) for plan in read_plan(tables, "a test")])
    assert world.order(call_of("hello"))[2] == "spare"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replicas": "http://h2"}, "must be a list of texts"),
        ({"replicas": ["http://h1"]}, "must hold other addresses than url"),
        ({"replicas": ["nowhere"]}, "must be an address"),
        ({"imbalance_j": -1}, "imbalance_j must be an amount"),
        ({"replicas": ["http://h2"], "metered_by": "nvml:0"}, "can't be given with metered_by"),
    ],
)
def test_wrong_tables_are_refused(change, message):
    with pytest.raises(ConfigError) as caught:
        read_plan([{"name": "r", "url": "http://h1", **change}], "a test")
    assert message in caught.value.message


def test_calls_that_run_at_once_reach_all_replicas(fresh_home):
    with serving(Upstream("a").app()) as a, serving(Upstream("b").app()) as b:
        (one, two) = read_plan([{"name": "r", "url": a, "replicas": [b]}], "a test")

        def make(splitter, accounts):
            return Fleet([Server(plan, estimate=estimate) for plan in (one, two)], splitter, accounts)

        with gateway(make) as running, ThreadPoolExecutor(8) as pool:
            streams = list(pool.map(lambda _: chat(running.url, stream=True).body, range(8)))
            assert name_of(chat(running.url)) in ("a", "b")
    reached = Counter("a" if b'"content":"a"' in body else "b" for body in streams)
    assert set(reached) == {"a", "b"}
