"""Calls that pass untranslated: the Responses API, counts of tokens; and Gemini's lists."""

from __future__ import annotations

import contextlib
import json

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from negajoule.gateway import BudgetedBackend, Degrading, Door, Fleet, KeyFile, KeyRing, Rates
from negajoule.gateway.plan import read_plan
from negajoule.gateway.server import Server
from negajoule.ledger.accounts import Teller, workers_folder

from .asking import ask
from .conftest import gateway, serving
from .test_spending import limit, priced, store, usage  # noqa: F401 (a fixture)

USAGE = {"input_tokens": 30, "output_tokens": 12, "input_tokens_details": {"cached_tokens": 10}}
WHOLE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "output": [{"type": "reasoning", "encrypted_content": "opaque"}],
    "usage": USAGE,
    "odd": [1],
}
BODY = {
    "model": "m",
    "input": "hello",
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "max_output_tokens": 50,
}


class Upstream:
    """A scripted server that speaks the Responses API and counts tokens."""

    def __init__(self):
        self.bodies: list[tuple[str, dict]] = []
        self.cut = False

    async def answer(self, request):
        body = await request.json()
        self.bodies.append((request.url.path, body))
        if not body.get("stream"):
            return JSONResponse(WHOLE)

        async def pieces():
            for event in (
                {"type": "response.created", "response": {**WHOLE, "status": "in_progress", "usage": None}},
                {"type": "response.output_text.delta", "delta": "né"},
                *(() if self.cut else ({"type": "response.completed", "response": WHOLE},)),
            ):
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def count(self, request):
        self.bodies.append((request.url.path, await request.json()))
        return JSONResponse({"input_tokens": 14})

    def app(self):
        return Starlette(
            routes=[
                Route("/v1/responses", self.answer, methods=["POST"]),
                Route("/v1/messages/count_tokens", self.count, methods=["POST"]),
            ]
        )


@contextlib.contextmanager
def native(upstream, store=None, *, door=None, **more):  # noqa: F811
    """Our gateway before a server that takes calls as they are."""
    with serving(upstream.app()) as url:
        table = {"name": "s", "url": url, "models": {"m": "theirs", "other": "other"}, "context_tokens": 9000}
        (plan,) = read_plan([{**table, "native": ["responses", "count_tokens"], **more}], "a test")

        def make(splitter, accounts):
            fleet = Fleet([Server(plan, estimate=priced)], splitter, accounts)
            if store is None:
                return fleet
            teller = Teller(store, workers_folder())
            return BudgetedBackend(fleet, accounts, teller, Rates(priced), Degrading())

        with gateway(make, **({} if door is None else {"door": door})) as running:
            yield running


def test_a_response_passes_as_it_is_and_is_counted(store):  # noqa: F811
    account, upstream = limit(store, 1e6), Upstream()
    with native(upstream, store) as running:
        answer = ask(running.url, "/v1/responses", body=BODY)
        row = running.ledger.latest(1)[0]
    assert answer.status == 200
    ((path, body),) = upstream.bodies
    assert (path, body) == ("/v1/responses", {**BODY, "model": "theirs"})
    assert {name: value for name, value in answer.json.items() if name != "footprint"} == WHOLE
    assert answer.json["footprint"]["it_energy"]["value"] > 42
    assert "x-negajoule-lost" not in answer.headers
    assert (row.tokens_in, row.tokens_cached, row.tokens_out) == (30, 10, 12)
    assert usage(store, account).spent / 1e6 == pytest.approx(42, abs=1)


def test_a_streamed_response_passes_event_by_event(fresh_home):
    upstream = Upstream()
    with native(upstream) as running:
        answer = ask(running.url, "/v1/responses", body={**BODY, "stream": True})
        row = running.ledger.latest(1)[0]
    events = [part.split("\n") for part in answer.body.decode().split("\n\n") if part]
    assert [lines[0] for lines in events] == [
        "event: response.created",
        "event: response.output_text.delta",
        "event: response.completed",
    ]
    last = json.loads(events[-1][1].removeprefix("data: "))
    assert last["response"] == WHOLE
    assert last["footprint"]["it_energy"]["value"] > 42
    assert (row.tokens_in, row.tokens_out) == (30, 12)
    assert "x-negajoule-lost" not in answer.headers


def test_a_streamed_response_that_breaks_off_ends_with_an_error(fresh_home):
    upstream = Upstream()
    upstream.cut = True
    with native(upstream) as running:
        answer = ask(running.url, "/v1/responses", body={**BODY, "stream": True})
        row = running.ledger.latest(1)[0]
    last = answer.body.decode().strip().rpartition("data: ")[2]
    assert json.loads(last)["type"] in ("error", "response.failed")
    assert row.status == "failed"


def test_a_budgets_limit_reaches_the_body_as_it_came(store):  # noqa: F811
    limit(store, 1e6)
    upstream = Upstream()
    with native(upstream, store) as running:
        asked = {name: value for name, value in BODY.items() if name != "max_output_tokens"}
        assert ask(running.url, "/v1/responses", body=asked).status == 200
    assert upstream.bodies[0][1]["max_output_tokens"] == 1024


def test_a_server_that_doesnt_speak_it_gets_a_translation(fresh_home):
    upstream = Upstream()
    with native(upstream, native=[]) as running:
        answer = ask(running.url, "/v1/responses", body=BODY)
    assert answer.status == 404, "the scripted server has no chat completions"


COUNT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "system": "be short"}


def test_tokens_are_counted_where_the_model_is_and_cost_no_budget(store):  # noqa: F811
    account, upstream = limit(store, 0.0), Upstream()
    with native(upstream, store) as running:
        answer = ask(running.url, "/v1/messages/count_tokens", body=COUNT)
    assert (answer.status, answer.json["input_tokens"]) == (200, 14)
    assert upstream.bodies == [("/v1/messages/count_tokens", {**COUNT, "model": "theirs"})]
    assert usage(store, account).charged == 0


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (COUNT, {"native": ["responses"]}, 404),
        ({**COUNT, "messages": []}, {}, 400),
        ({"model": "m"}, {}, 400),
    ],
)
def test_a_count_that_cant_be_had_is_an_error_in_anthropics_shape(fresh_home, body, more, status):
    upstream = Upstream()
    with native(upstream, **more) as running:
        answer = ask(running.url, "/v1/messages/count_tokens", body=body)
    assert (answer.status, answer.json["type"]) == (status, "error")
    assert upstream.bodies == []


def test_the_embedded_engine_counts_no_tokens(served):
    answer = ask(served.url, "/v1/messages/count_tokens", body={**COUNT, "model": "fake"})
    assert (answer.status, answer.json["type"]) == (404, "error")


def test_models_are_listed_as_gemini_lists_them(fresh_home):
    secret = KeyFile().create("a", models=["m"])[1]
    with native(Upstream(), door=Door(KeyRing(KeyFile()))) as running:
        listed = ask(running.url, "/v1beta/models", x_goog_api_key=secret)
        one = ask(running.url, "/v1beta/models/m", x_goog_api_key=secret)
        absent = ask(running.url, "/v1beta/models/other", x_goog_api_key=secret)
        nobody = ask(running.url, "/v1beta/models")
        anthropic = ask(running.url, "/v1/models", x_api_key=secret)
    assert [model["name"] for model in listed.json["models"]] == ["models/m"]
    assert one.json["inputTokenLimit"] == 9000
    assert "generateContent" in one.json["supportedGenerationMethods"]
    assert (absent.status, nobody.status, anthropic.status) == (404, 401, 200)
