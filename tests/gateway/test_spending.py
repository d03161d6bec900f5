"""Budgets at a real server: nothing is spent beyond them, whoever asks at once, hangs up or is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from negajoule.engine import FakeEngine
from negajoule.gateway import BudgetedBackend, Degrading, EngineBackend, Rates, UpstreamBackend, standing_page
from negajoule.ledger.accounts import SqliteStore, Teller, Terms, workers_folder
from negajoule.units import Carbon, Energy, Footprint, Part, Water

from .asking import ask, chat, raw
from .conftest import gateway, serving

JOULES_PER_TOKEN = 1.0


def priced(model, tokens):
    """An estimate that a test can reckon with: one joule a token, ten for the model called dear."""
    if tokens.prompt is None or tokens.output is None or model == "unheard":
        return None
    each = 10.0 if model == "dear" else JOULES_PER_TOKEN
    joules = (tokens.prompt + tokens.output) * each
    energy = Energy(joules, joules, joules, "modelled", "node")

    def exactly(kind, value):
        return kind(value, value, value, "modelled", "facility")

    return Footprint(
        boundary="facility",
        it_energy=energy,
        carbon_location=exactly(Carbon, joules / 1000),
        water_onsite=exactly(Water, 0.0),
        water_offsite=exactly(Water, joules / 1e6),
        parts=(Part("upstream", energy, "a test", "D"),),
    )


class Upstream:
    """A scripted server: it answers with as many tokens as asked for, or does what its model's name says."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.pause_s = 0.0

    async def chat(self, request):
        body = await request.json()
        self.bodies.append(body)
        usage = {"prompt_tokens": 10, "completion_tokens": body["max_tokens"]}
        message = {"role": "assistant", "content": "word " * body["max_tokens"]}
        if body["model"] == "picky":
            return JSONResponse({"error": {"message": "no"}}, status_code=422)
        if body["model"] == "broken":
            return JSONResponse({"error": {"message": "oh"}}, status_code=500)
        if not body.get("stream"):
            await asyncio.sleep(self.pause_s)
            return JSONResponse({"choices": [{"index": 0, "message": message}], "usage": usage})

        async def pieces():
            for _ in range(50):
                chunk = {"choices": [{"index": 0, "delta": {"content": "word"}}]}
                yield f"data: {json.dumps(chunk)}\n\n"
                await asyncio.sleep(self.pause_s)
                if body["model"] == "cut":
                    return
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])])


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
def store(fresh_home):
    with contextlib.closing(SqliteStore()) as opened:
        yield opened


@contextlib.contextmanager
def budgeted(store, url=None, *, degrading=None, engine=None, **teller):
    """Our gateway with budgets before an upstream, or before the labelled fake engine."""

    def make(splitter, accounts):
        inner = (
            EngineBackend(engine or FakeEngine(), splitter, accounts)
            if url is None
            else UpstreamBackend(url, splitter, accounts, estimate=priced)
        )
        rates = Rates(None if url is None else priced)
        clerk = Teller(store, workers_folder(), **teller)
        return BudgetedBackend(inner, accounts, clerk, rates, degrading or Degrading())

    with gateway(make, more_pages=[standing_page(store)]) as running:
        yield running


def limit(store, amount, *, scope="global", name="", indicator="J"):
    return store.create(Terms.checked(scope, name, indicator, "total"), amount)


def usage(store, account):
    (found,) = store.usage(account_id=account.id)
    return found


def in_joules(units):
    return units / 1e6


def test_a_call_is_charged_what_it_took_and_the_rest_comes_back(store, upstream):
    account = limit(store, 100_000)
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        answer = chat(running.url, model="big", max_tokens=20)
        assert answer.status == 200
        assert "x-negajoule-degraded" not in answer.headers
        joules = answer.json["footprint"]["it_energy"]["value"]
        assert joules >= 30
    end = usage(store, account)
    assert in_joules(end.spent) == pytest.approx(joules, abs=2e-6)
    assert (end.requests, end.held, end.presumed, end.overrun) == (1, 0, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_many_clients_at_once_never_spend_more_than_there_is(store, upstream, stream):
    account = limit(store, 2_000)
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        with ThreadPoolExecutor(16) as pool:
            answers = list(
                pool.map(lambda _: chat(running.url, model="big", max_tokens=50, stream=stream), range(60))
            )
        assert {answer.status for answer in answers} == {200, 429}
    end = usage(store, account)
    assert 0 < in_joules(end.spent) <= 2_000
    assert end.overrun == 0
    assert end.requests == len(upstream.bodies)
    assert sum(body["max_tokens"] + 10 for body in upstream.bodies) <= in_joules(end.spent)


def test_two_servers_on_one_store_never_spend_more_than_there_is(store, upstream):
    account = limit(store, 3_000)
    with (
        serving(upstream.app()) as url,
        contextlib.closing(SqliteStore()) as second,
        budgeted(store, url) as one,
        budgeted(second, url) as other,
        ThreadPoolExecutor(12) as pool,
    ):
        urls = [one.url, other.url] * 40
        answers = list(pool.map(lambda at: chat(at, model="big", max_tokens=50), urls))
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 429}
    end = usage(store, account)
    assert in_joules(end.spent) <= 3_000
    assert (end.overrun, end.held, end.presumed) == (0, 0, 0)
    assert end.requests == statuses.count(200)


def test_a_refusal_names_the_budget_what_is_spent_and_when_it_resets(store, upstream):
    store.create(Terms.checked("global", "", "J", "day"), 100)
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        answer = chat(running.url, model="big", max_tokens=5000)
    assert answer.status == 429
    error = answer.json["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "R108", "max_tokens")
    assert "100 J" in error["message"]
    assert upstream.bodies == []


def test_a_used_up_budget_says_when_to_come_back(store, upstream):
    account = store.create(Terms.checked("global", "", "J", "day"), 1_000)
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        for _ in range(30):
            answer = chat(running.url, model="big", max_tokens=100)
            if answer.status == 429:
                break
        assert answer.status == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 86_400
        message = answer.json["error"]["message"]
        assert f"budget {account.id}" in message
        assert "spent" in message
        assert "resets at" in message


def test_an_answer_is_made_shorter_before_a_call_is_refused(store, upstream):
    account = limit(store, 1_000)
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        answer = chat(running.url, model="big", max_tokens=3_000)
    assert answer.status == 200
    asked = upstream.bodies[0]["max_tokens"]
    assert 16 <= asked < 1_000
    assert answer.headers["x-negajoule-degraded"] == f"max_tokens={asked}"
    assert in_joules(usage(store, account).spent) <= 1_000


def test_the_cheaper_model_comes_before_the_shorter_answer(store, upstream):
    limit(store, 2_000)
    degrading = Degrading(cheaper_models=("big",))
    with serving(upstream.app()) as url, budgeted(store, url, degrading=degrading) as running:
        answer = chat(running.url, model="dear", max_tokens=100)
    assert answer.status == 200
    assert upstream.bodies[0]["model"] == "big"
    assert answer.headers["x-negajoule-degraded"] == "model=big"


def test_a_call_without_a_limit_gets_one_and_is_told(store, upstream):
    limit(store, 100_000)
    with serving(upstream.app()) as url, budgeted(store, url, degrading=Degrading(77)) as running:
        answer = chat(running.url, model="big", max_tokens=None)
    assert upstream.bodies[0]["max_tokens"] == 77
    assert answer.headers["x-negajoule-max-tokens"] == "77"


def test_a_stream_that_breaks_is_charged_at_its_bound(store, upstream):
    account = limit(store, 100_000)
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        answer = chat(running.url, model="cut", max_tokens=20, stream=True)
        assert b"[DONE]" not in answer.body
    end = usage(store, account)
    assert in_joules(end.spent) > 128  # prompt's bytes and the template's tokens, nobody said it was less
    assert (end.requests, end.held) == (1, 0)


def test_a_client_that_hangs_up_is_charged(store, upstream):
    account = limit(store, 100_000)
    upstream.pause_s = 0.05
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        body = json.dumps(
            {"model": "big", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        ).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
        with raw(running.url) as connection:
            connection.sendall(head % len(body) + body)
            connection.recv(100)
        until = time.monotonic() + 5
        while running.splitter.in_flight and time.monotonic() < until:
            time.sleep(0.01)
        assert not running.splitter.in_flight
    end = usage(store, account)
    assert end.spent > 0
    assert (end.requests, end.held) == (1, 0)


def test_what_an_upstream_refuses_costs_nothing_and_what_breaks_costs_the_bound(store, upstream):
    account = limit(store, 100_000)
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        assert chat(running.url, model="picky").status == 422
        assert ask(running.url, "/v1/budgets").json["data"][0]["requests"] == 0
        assert chat(running.url, model="broken").status == 500
    end = usage(store, account)
    assert end.requests == 1
    assert in_joules(end.spent) > 128


def test_what_cannot_be_bounded_is_refused(store, upstream):
    limit(store, 100_000)
    picture = [{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        seen = chat(running.url, model="big", messages=[{"role": "user", "content": picture}])
        unheard = chat(running.url, model="unheard")
    assert (seen.status, seen.code) == (400, "R109")
    assert (unheard.status, unheard.code) == (400, "R109")
    assert upstream.bodies == []


def test_a_restart_keeps_the_account(store, upstream):
    account = limit(store, 100_000)
    spent = []
    with serving(upstream.app()) as url:
        for _ in range(2):
            with budgeted(store, url) as running:
                assert chat(running.url, model="big", max_tokens=20).status == 200
            spent.append(usage(store, account).spent)
    assert spent[1] > spent[0] > 0
    assert usage(store, account).requests == 2


def test_only_what_concerns_a_call_counts_it(store, upstream):
    mine = limit(store, 100_000, scope="model", name="big")
    other = limit(store, 100_000, scope="model", name="dear")
    with serving(upstream.app()) as url, budgeted(store, url) as running:
        assert chat(running.url, model="big").status == 200
        standing = ask(running.url, "/v1/budgets").json
        metrics = ask(running.url, "/metrics").body.decode()
    assert standing["schema"] == "negajoule.budgets/1"
    assert {one["budget"]["id"] for one in standing["data"]} == {mine.id, other.id}
    assert usage(store, mine).requests == 1
    assert usage(store, other).requests == 0
    assert "negajoule_budget_open 0.0" in metrics


def test_the_first_call_of_an_engine_shows_what_a_token_takes(store):
    account = limit(store, 10_000)
    with budgeted(store) as running, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: chat(running.url, max_tokens=8), range(24)))
        assert {answer.status for answer in answers} == {200}
    end = usage(store, account)
    joules = sum(answer.json["footprint"]["it_energy"]["value"] for answer in answers)
    assert in_joules(end.spent) == pytest.approx(joules, abs=1e-4)
    assert (end.requests, end.held) == (24, 0)


def test_calls_that_fail_on_the_engine_leave_nothing_held(store):
    account = limit(store, 10_000)
    engine = FakeEngine(failure=RuntimeError("smoke"), fail_after_tokens=2)
    with budgeted(store, engine=engine) as running:
        assert [chat(running.url).status for _ in range(3)] == [500] * 3
        assert chat(running.url, model="nobody").status == 404
    end = usage(store, account)
    assert end.requests == 3
    assert end.held == 0
