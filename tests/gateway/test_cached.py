"""Answers out of the cache: the same answer, its own cost, and what it avoided told apart."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from negajoule.gateway import BudgetedBackend, Degrading, Door, KeyFile, KeyRing, Rates, UpstreamBackend
from negajoule.gateway.accounts import Tokens
from negajoule.gateway.cache import AnswerCache, CachePlan, Stored, keeps
from negajoule.gateway.cached import CachedBackend
from negajoule.gateway.caller import ANYBODY, Caller
from negajoule.gateway.wire import Call
from negajoule.ledger.accounts import SqliteStore, Teller, Terms, workers_folder

from .asking import ask, chat
from .conftest import gateway, serving
from .test_spending import priced

DETERMINISTIC = CachePlan("deterministic")


class Upstream:
    """A scripted server that counts what it is asked and never says the same twice."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.finish = "stop"
        self.cut = False

    async def chat(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        text = f"answer {len(self.bodies)}"
        usage = {"prompt_tokens": 30, "completion_tokens": 10}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"content": text}, "finish_reason": self.finish}
            return JSONResponse({"id": "c1", "choices": [choice], "usage": usage, "odd": 1})

        async def pieces():
            for word in text.split():
                yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n"
            if self.cut:
                return
            ended = {"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]}
            yield f"data: {json.dumps(ended)}\n\n"
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def embed(self, request):
        self.bodies.append(await request.json())
        data = [{"object": "embedding", "index": 0, "embedding": [float(len(self.bodies)), 0.5]}]
        return JSONResponse({"object": "list", "data": data, "usage": {"prompt_tokens": 3}})

    def app(self):
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/embeddings", self.embed, methods=["POST"]),
            ]
        )


@pytest.fixture
def upstream():
    return Upstream()


@contextlib.contextmanager
def cached(upstream, plan=DETERMINISTIC, *, store=None, clock=None, degrading=None, **options):
    """Our gateway with a cache before budgets before a scripted upstream."""
    cache = AnswerCache(plan) if clock is None else AnswerCache(plan, clock=clock)
    degrading = degrading or Degrading()

    def make(splitter, accounts):
        backend = UpstreamBackend(behind, splitter, accounts, estimate=priced)
        if store is not None:
            teller = Teller(store, workers_folder())
            backend = BudgetedBackend(backend, accounts, teller, Rates(priced), degrading)
        return CachedBackend(backend, cache, splitter, accounts, ("small",))

    with serving(upstream.app()) as behind, gateway(make, **options) as running:
        yield running


def text_of(answer):
    return answer.json["choices"][0]["message"]["content"]


def test_the_same_question_is_answered_from_memory_at_its_own_cost(fresh_home, upstream):
    with cached(upstream) as running:
        first = chat(running.url, temperature=0)
        again = chat(running.url, temperature=0)
        row = running.ledger.get(again.json["footprint"]["request_id"])
        avoided = running.ledger.avoided()
        totals = running.ledger.totals()[0]
        metrics = ask(running.url, "/metrics").body.decode()
    assert len(upstream.bodies) == 1
    assert (first.headers["x-negajoule-cache"], text_of(first)) == ("miss", "answer 1")
    assert again.headers["x-negajoule-cache"].startswith("hit; age=")
    assert {**again.json, "footprint": 0} == {**first.json, "footprint": 0}
    took, spared = first.json["footprint"]["it_energy"], again.json["footprint"]["cache"]
    assert took["value"] > 40
    assert again.json["footprint"]["it_energy"]["value"] < 5
    assert again.json["footprint"]["it_energy"]["value"] > 0
    assert spared["avoided_it_energy"]["value"] == pytest.approx(took["value"])
    # A second time the prompt might have come out of the server's own cache: a quarter was generated.
    assert spared["avoided_it_energy"]["low"] == pytest.approx(took["low"] / 4)
    assert float(again.headers["x-negajoule-avoided-j"]) == pytest.approx(took["value"], rel=1e-5)
    assert (row.tokens_in, row.tokens_cached, row.tokens_out) == (30, 30, 0)
    assert row.avoided.value == pytest.approx(took["value"])
    assert (avoided.known, avoided.value) == (1, pytest.approx(took["value"]))
    used = took["value"] + again.json["footprint"]["it_energy"]["value"]
    assert totals.indicators["it_energy"].value < used + took["value"] / 2, "avoided joules are in no sum"
    assert "negajoule_cache_hits 1.0" in metrics
    assert "negajoule_cache_avoided_joules 4" in metrics


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_is_replayed_as_a_stream(fresh_home, upstream, include_usage):
    options = {"temperature": 0, "stream": True, "stream_options": {"include_usage": include_usage}}
    with cached(upstream) as running:
        first = chat(running.url, **options)
        again = chat(running.url, **options)
    assert len(upstream.bodies) == 1
    assert again.headers["content-type"].startswith("text/event-stream")
    lines = [answer.body.split(b"\n\n") for answer in (first, again)]
    assert lines[0][:-3] == lines[1][:-3]
    assert lines[1][-2:] == [b"data: [DONE]", b""]
    lasts = [json.loads(one[-3].removeprefix(b"data: ")) for one in lines]
    assert lasts[1]["footprint"]["cache"]["hit"] is True
    assert {**lasts[0], "footprint": 0} == {**lasts[1], "footprint": 0}
    assert ("usage" in lasts[1]) == include_usage


def test_a_stream_that_broke_off_is_not_kept(fresh_home, upstream):
    upstream.cut = True
    with cached(upstream) as running:
        for _ in range(2):
            assert b"[DONE]" not in chat(running.url, temperature=0, stream=True).body
    assert len(upstream.bodies) == 2


def test_embeddings_are_kept(fresh_home, upstream):
    with cached(upstream) as running:
        bodies = [
            ask(running.url, "/v1/embeddings", body={"model": "e", "input": "word"}).json for _ in range(2)
        ]
    assert len(upstream.bodies) == 1
    assert bodies[0]["data"] == bodies[1]["data"]


@pytest.mark.parametrize(
    ("changes", "header", "asked"),
    [
        ({}, "", 2),
        ({"temperature": 0.7}, "", 2),
        ({"temperature": 0.7}, "on", 1),
        ({"temperature": 0}, "off", 2),
        ({"temperature": 0, "tools": [{"type": "web_search"}]}, "", 2),
        (
            {
                "temperature": 0,
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]}
                ],
            },
            "",
            2,
        ),
    ],
)
def test_what_may_be_kept(fresh_home, upstream, changes, header, asked):
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **changes}
    headers = {"x_negajoule_cache": header} if header else {}
    with cached(upstream) as running:
        for _ in range(2):
            assert ask(running.url, "/v1/chat/completions", body=body, **headers).status == 200
    assert len(upstream.bodies) == asked
    assert not any("x-negajoule-cache" in headers for headers in upstream.headers)


def test_what_differs_in_anything_is_another_question(fresh_home, upstream):
    with cached(upstream) as running:
        for changes in ({}, {"seed": 1}, {"max_tokens": 9}, {"model": "other"}, {"user": "a"}):
            chat(running.url, temperature=0, **changes)
    assert len(upstream.bodies) == 5


def keys_of(teams):
    file = KeyFile()
    secrets = {name: file.create(name, team=team)[1] for name, team in teams.items()}
    return Door(KeyRing(KeyFile())), secrets


@pytest.mark.parametrize(("scope", "asked"), [("key", 4), ("team", 3), ("all", 1)])
def test_answers_are_shared_as_configured_and_no_further(fresh_home, upstream, scope, asked):
    door, secrets = keys_of({"a": "one", "b": "one", "c": "", "d": ""})
    with cached(upstream, CachePlan("deterministic", scope), door=door) as running:
        for secret in secrets.values():
            assert chat(running.url, key=secret, temperature=0).status == 200
    assert len(upstream.bodies) == asked


def test_an_answer_grows_old(fresh_home, upstream):
    now = [0.0]
    with cached(upstream, clock=lambda: now[0]) as running:
        chat(running.url, temperature=0)
        now[0] += DETERMINISTIC.lifetime_s
        chat(running.url, temperature=0)
    assert len(upstream.bodies) == 2


def test_an_empty_budget_is_answered_from_the_cache_before_it_refuses(fresh_home, upstream):
    now = [0.0]
    with contextlib.closing(SqliteStore()) as store:
        account = store.create(Terms.checked("global", "", "J", "total"), 1000)
        with cached(upstream, store=store, clock=lambda: now[0]) as running:
            assert chat(running.url, temperature=0, seed=500).status == 200
            assert chat(running.url, temperature=0, model="small", seed=700).status == 200
            store.update(account.id, 0)
            now[0] += DETERMINISTIC.lifetime_s
            running_down = [chat(running.url, temperature=0, seed=n).status for n in range(100, 130)]
            old = chat(running.url, temperature=0, seed=500)
            cheaper = chat(running.url, temperature=0, seed=700)
            other = chat(running.url, temperature=0, seed=800)
    assert 429 in running_down
    assert (old.status, old.headers["x-negajoule-degraded"], text_of(old)) == (200, "cache", "answer 1")
    assert (cheaper.status, text_of(cheaper)) == (200, "answer 2")
    assert (other.status, other.code) == (429, "R108")


def test_an_answer_that_a_budget_made_shorter_is_not_kept(fresh_home, upstream):
    upstream.finish = "length"
    with contextlib.closing(SqliteStore()) as store:
        store.create(Terms.checked("global", "", "J", "total"), 1e6)
        with cached(upstream, store=store) as running:
            for _ in range(2):
                assert chat(running.url, temperature=0, max_tokens=None).status == 200
                assert chat(running.url, temperature=0, max_tokens=None, stream=True).status == 200
    assert len(upstream.bodies) == 4


def call_of(**body):
    raw = json.dumps({"model": "m", "messages": [], "temperature": 0, **body}).encode()
    return Call("chat", "m", False, False, raw)


def stored(size, made_s=0.0):
    return Stored("m", Tokens(), None, None, b"x" * size, made_s)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40_000)), max_size=60))
def test_the_bounds_hold_whatever_comes(puts):
    plan = CachePlan("all", entries=7, size_bytes=100_000)
    cache = AnswerCache(plan)
    for key, size in puts:
        cache.put(bytes([key]), stored(size))
        assert len(cache) <= plan.entries
        assert cache.size_bytes <= plan.size_bytes
        assert cache.size_bytes == sum(answer.size_bytes for answer in cache._found.values())


def test_the_least_lately_used_goes_first():
    cache = AnswerCache(CachePlan("all", entries=2), clock=lambda: 0.0)
    cache.put(b"a", stored(1))
    cache.put(b"b", stored(1))
    assert cache.get(b"a")
    cache.put(b"c", stored(1))
    assert (cache.get(b"b"), len(cache)) == (None, 2)


def test_what_is_too_old_even_for_the_last_resort_leaves_memory():
    now = [0.0]
    cache = AnswerCache(CachePlan("all", lifetime_s=10.0), clock=lambda: now[0])
    cache.put(b"a", stored(1))
    now[0] = 300.0
    assert cache.get(b"a", last_resort=True) is None
    cache.put(b"b", stored(1, 300.0))
    assert len(cache) == 1


def test_the_order_of_fields_makes_no_other_question():
    cache = AnswerCache(DETERMINISTIC)
    one = Call("chat", "m", False, False, b'{"model":"m","messages":[],"temperature":0}')
    other = Call("chat", "m", False, False, b'{"temperature": 0, "messages": [], "model": "m"}')
    assert cache.key_of(one, ANYBODY) == cache.key_of(other, ANYBODY)
    assert cache.key_of(one, ANYBODY) != cache.key_of(one, Caller("a"))


def test_nothing_is_kept_when_it_is_off():
    assert not keeps(CachePlan(), call_of())
    assert keeps(DETERMINISTIC, call_of())
