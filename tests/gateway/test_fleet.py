"""Several servers behind ours: dialects, tries, fallbacks and breakers; every call is booked once."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from negajoule.gateway import Accounts, Fleet, Metrics, Tokens
from negajoule.gateway.caller import CALLER, Caller
from negajoule.gateway.plan import read_plan
from negajoule.gateway.retry import Retry
from negajoule.gateway.server import Server
from negajoule.gateway.wire import parse_call
from negajoule.instrument import find_here
from negajoule.ledger import Ledger, LedgerWriter
from negajoule.meter import Meter, PassingSplitter
from negajoule.units import Energy, Footprint

from .adapters.front import Front
from .conftest import passing_gateway as gateway
from .conftest import serving

ASK = {"model": "big", "messages": [{"role": "user", "content": "hello"}]}
PLAIN = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "big",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
FAST = Retry(tries=3, first_s=0.01, bound_s=0.02)


def chunk(content: str, **more) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "x", "choices": [choice], **more}).encode() + b"\n\n"


WHOLE = [chunk("y"), chunk("es", usage=PLAIN["usage"]), b"data: [DONE]\n\n"]


class Scripted:
    """An upstream that goes through a script of answers, then gives good ones."""

    def __init__(self, *script) -> None:
        self.script = list(script)
        self.bodies: list[dict] = []
        self.headers: list[dict] = []

    async def chat(self, request):
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        if not self.bodies[-1].get("stream"):
            return JSONResponse(PLAIN)

        async def pieces():
            for piece in answer if isinstance(answer, list) else WHOLE:
                yield piece

        return StreamingResponse(pieces(), media_type="text/event-stream")

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])])


def refused(status: int, **headers: str) -> Response:
    return JSONResponse({"error": {"message": "no"}}, status, headers)


def fleet(*tables: dict, retry: Retry = FAST, silence_s: float = 10.0):
    plans = read_plan(list(tables), "test")
    return lambda splitter, accounts: Fleet(
        [
            Server(plan, estimate=lambda model, tokens: None, key="secret", silence_s=silence_s)
            for plan in plans
        ],
        splitter,
        accounts,
        retry=retry,
    )


def post(url: str, path: str = "/v1/chat/completions", **changes) -> str:
    body = json.dumps({**ASK, **changes}).encode()
    request = Request(url + path, body, {"openai-beta": "o", "anthropic-beta": "a", "cookie": "c"})
    with urlopen(request, timeout=20) as response:
        return response.read().decode()


def failing(url: str, **changes) -> tuple[int, dict, str | None]:
    with pytest.raises(HTTPError) as caught:
        post(url, **changes)
    with caught.value as error:
        return error.code, json.load(error)["error"], error.headers["retry-after"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault", [refused(503), refused(429), refused(500), refused(429, **{"retry-after": "0"})]
)
def test_a_passing_fault_is_gone_round_and_noted(fresh_home, fault, stream):
    upstream = Scripted(fault, fault)
    with serving(upstream.app()) as url, gateway(fleet({"name": "a", "url": url})) as running:
        assert "es" in post(running.url, stream=stream)
        rows = running.ledger.latest(5)
        assert running.splitter.in_flight == 0
    assert len(upstream.bodies) == 3
    assert [(row.status, row.tokens_out) for row in rows] == [("ok", 2)]
    assert len([note for note in rows[0].footprint.notes if "a try at a failed" in note]) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 501])
def test_what_wont_pass_isnt_tried_again(fresh_home, status):
    first, second = Scripted(refused(status)), Scripted()
    with serving(first.app()) as one, serving(second.app()) as two:
        tables = {"name": "a", "url": one, "fallback": ["b"]}, {"name": "b", "url": two}
        with gateway(fleet(*tables)) as running:
            assert failing(running.url)[0] == status
    assert (len(first.bodies), len(second.bodies)) == (1, 0)


def test_a_fallback_answers_under_its_own_model(fresh_home):
    first, second = Scripted(*[refused(503)] * 3), Scripted()
    with serving(first.app()) as one, serving(second.app()) as two:
        tables = (
            {"name": "a", "url": one, "models": ["big"], "fallback": ["b"]},
            {"name": "b", "url": two, "models": {"big": "other"}},
        )
        with gateway(fleet(*tables)) as running:
            answer = json.loads(post(running.url))
            (row,) = running.ledger.latest(5)
            assert failing(running.url, model="unknown")[1]["code"] == "R103"
            with urlopen(f"{running.url}/v1/models") as response:
                assert [model["id"] for model in json.load(response)["data"]] == ["big"]
    assert (len(first.bodies), second.bodies[0]["model"]) == (3, "other")
    assert (row.model, row.status) == ("other", "ok")
    assert any("'big' was asked for" in note for note in answer["footprint"]["notes"])


def test_a_stream_that_dies_after_its_first_byte_isnt_tried_again(fresh_home):
    first, second = Scripted([chunk("y")]), Scripted()
    with serving(first.app()) as one, serving(second.app()) as two:
        tables = {"name": "a", "url": one, "fallback": ["b"]}, {"name": "b", "url": two}
        with gateway(fleet(*tables)) as running:
            text = post(running.url, stream=True)
            (row,) = running.ledger.latest(5)
    assert '"E103"' in text
    assert "[DONE]" not in text
    assert (len(first.bodies), len(second.bodies), row.status) == (1, 0, "failed")


def test_a_stream_that_dies_before_its_first_byte_is_tried_again(fresh_home):
    upstream = Scripted([])
    with serving(upstream.app()) as url, gateway(fleet({"name": "a", "url": url})) as running:
        assert "[DONE]" in post(running.url, stream=True)
    assert len(upstream.bodies) == 2


def test_a_slow_server_isnt_asked_twice_but_another_is(fresh_home):
    first, second = Scripted(3.0), Scripted()
    with serving(first.app()) as one, serving(second.app()) as two:
        tables = {"name": "a", "url": one, "fallback": ["b"]}, {"name": "b", "url": two}
        with gateway(fleet(*tables, silence_s=0.3)) as running:
            assert json.loads(post(running.url))["choices"]
    assert (len(first.bodies), len(second.bodies)) == (1, 1)


def test_a_server_that_asks_for_too_much_time_is_told_of_at_once(fresh_home):
    upstream = Scripted(refused(429, **{"retry-after": "77"}))
    with serving(upstream.app()) as url, gateway(fleet({"name": "a", "url": url})) as running:
        status, _, after = failing(running.url)
    assert (status, after, len(upstream.bodies)) == (429, "77", 1)


def test_an_open_breaker_answers_at_once_and_closes_after_a_good_trial(fresh_home):
    upstream = Scripted(*[refused(503)] * 5)
    with (
        serving(upstream.app()) as url,
        gateway(fleet({"name": "a", "url": url}, retry=Retry(tries=1))) as running,
    ):
        for _ in range(5):
            assert failing(running.url)[0] == 503
        status, error, after = failing(running.url)
        assert (status, "left alone" in error["message"], len(upstream.bodies)) == (503, True, 5)
        assert after in ("1", "2")
        time.sleep(2.1)
        assert json.loads(post(running.url))["choices"]
        assert [row.status for row in running.ledger.latest(9)].count("ok") == 1


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
@pytest.mark.parametrize("stream", [False, True])
def test_upstreams_of_other_dialects_answer_openais_clients(fresh_home, provider, stream):
    front = Front()
    with serving(front.app()) as url:
        base = f"{url}/v1beta" if provider == "gemini" else url
        table = {"name": "x", "url": base, "provider": provider, "models": {"big": "fake"}}
        with gateway(fleet(table)) as running:
            text = post(running.url, stream=stream, max_tokens=20)
            (row,) = running.ledger.latest(5)
    assert "fake:" in text.replace(" ", "") or "fake" in text
    assert ("[DONE]" in text) is stream
    assert '"footprint"' in text
    assert (row.model, row.status) == ("fake", "ok")
    assert row.tokens_in is not None
    assert row.tokens_in > 0
    assert row.tokens_out is not None
    assert row.tokens_out > 0


def test_only_headers_that_the_upstream_understands_go_on(fresh_home):
    upstream = Scripted()
    with serving(upstream.app()) as url, gateway(fleet({"name": "a", "url": url})) as running:
        post(running.url)
    (headers,) = upstream.headers
    assert (headers["openai-beta"], headers["authorization"]) == ("o", "Bearer secret")
    assert not {"anthropic-beta", "cookie"} & set(headers)


def test_nothing_more_is_tried_for_a_client_that_has_gone(fresh_home):
    upstream = Scripted(refused(503, **{"retry-after": "1"}))
    with serving(upstream.app()) as url, gateway(fleet({"name": "a", "url": url})) as running:
        body = json.dumps(ASK).encode()
        with pytest.raises(TimeoutError):
            urlopen(Request(f"{running.url}/v1/chat/completions", body), timeout=0.4)
        time.sleep(1.5)
        (row,) = running.ledger.latest(5)
        assert (row.status, running.splitter.in_flight) == ("cancelled", 0)
    assert len(upstream.bodies) == 1


def test_the_dearest_estimate_counts_every_server_that_may_answer(fresh_home):
    tables = (
        {"name": "a", "url": "http://127.0.0.1:9", "fallback": ["b"]},
        {"name": "b", "url": "http://127.0.0.1:9"},
    )
    asked: list[str] = []

    def cost(energy_j: float | None):
        def estimate(model, tokens):
            asked.append(model)
            energy = None if energy_j is None else Energy(energy_j, energy_j, energy_j, "modelled", "node")
            return Footprint(boundary="facility", it_energy=energy)

        return estimate

    for joules, expected in (((1.0, 5.0), 5.0), ((5.0, 1.0), 5.0), ((5.0, None), None)):
        servers = [
            Server(plan, estimate=cost(energy_j))
            for plan, energy_j in zip(read_plan(list(tables), "test"), joules, strict=True)
        ]
        found = Fleet(servers, None, None).dearest("m", Tokens(1, 0, 1))
        assert (found and found.it_energy.value) == expected
    assert asked == ["m"] * 6


def test_what_a_stopping_server_books_is_booked_for_who_asked(fresh_home):
    with Ledger() as ledger:
        writer = LedgerWriter(ledger)
        accounts = Accounts(find_here(), writer, Metrics())
        (plan,) = read_plan([{"name": "a", "url": "http://127.0.0.1:9"}], "test")
        server = Server(plan, estimate=lambda *_: None)
        backend = Fleet([server], PassingSplitter(Meter.for_process()), accounts)

        async def ask(name: str) -> None:
            CALLER.set(Caller(name=name, team="red"))
            await backend.open(parse_call("chat", json.dumps(ASK).encode()))

        async def stop() -> None:
            await asyncio.gather(*(asyncio.create_task(ask(name)) for name in ("ann", "ben")))
            await backend.close()

        asyncio.run(stop())
        writer.close()
        assert sorted((row.caller, row.team, row.status) for row in ledger.latest(9)) == [
            ("ann", "red", "cancelled"),
            ("ben", "red", "cancelled"),
        ]
