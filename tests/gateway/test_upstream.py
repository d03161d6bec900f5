"""Another server behind ours: bytes pass, usage is counted, faults are said, every call is booked once."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from negajoule.gateway import UpstreamBackend
from negajoule.gateway.sse import EventCutter
from negajoule.gateway.upstream import _parted
from negajoule.units import Carbon, Energy, Footprint, Part

from .conftest import passing_gateway as gateway
from .conftest import serving

CHAT = {"model": "big", "messages": [{"role": "user", "content": "héllo"}], "tools": [], "seed": 3}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
PLAIN = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "big",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "né"}, "finish_reason": "stop"}],
    "usage": USAGE,
    "system_fingerprint": "kept",
}


def chunk(content: str | None = None, *, finish: str | None = None, choices: bool = True, usage=None) -> str:
    delta = {} if content is None else {"content": content}
    body = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "big",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}] if choices else [],
    }
    if usage:
        body["usage"] = usage
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


STREAM = [": ping\n\n", chunk("n"), chunk("é"), chunk(finish="stop"), chunk(choices=False, usage=USAGE)]


class Upstream:
    """A server whose answers the test writes; it keeps what it was sent."""

    def __init__(self) -> None:
        self.plain: Response | None = None
        self.stream: list[bytes] = [piece.encode() for piece in [*STREAM, "data: [DONE]\n\n"]]
        self.pause_s = 0.0
        self.bodies: list[dict] = []
        self.headers: list[dict] = []

    async def chat(self, request):
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        if self.plain is not None:
            return self.plain
        if not self.bodies[-1].get("stream"):
            return JSONResponse(PLAIN)

        async def pieces():
            for piece in self.stream:
                await asyncio.sleep(self.pause_s)
                yield piece

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def models(self, _):
        return JSONResponse({"object": "list", "data": [{"id": "big", "object": "model"}]})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models),
            ]
        )


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
def served(upstream, fresh_home):
    with serving(upstream.app()) as url, gateway(backend_for(url)) as running:
        yield running


def backend_for(url: str, **options):
    options.setdefault("estimate", lambda model, tokens: None)
    return lambda splitter, accounts: UpstreamBackend(url, splitter, accounts, key="secret", **options)


def post(url: str, **changes):
    body = json.dumps({**CHAT, **changes}).encode()
    with urlopen(Request(f"{url}/v1/chat/completions", body), timeout=20) as response:
        return response.read().decode()


def events(text: str) -> list:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line and not line.startswith(":")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_plain_answer_passes_with_fields_we_dont_know(served, upstream):
    answer = json.loads(post(served.url, unknown={"deep": [1]}))
    footprint = answer.pop("footprint")
    assert answer == PLAIN
    assert upstream.bodies == [{**CHAT, "unknown": {"deep": [1]}}]
    assert upstream.headers[0]["authorization"] == "Bearer secret"
    row = served.ledger.latest(1)[0]
    assert (row.id, row.tokens_in, row.tokens_out) == (footprint["request_id"], 5, 2)


def test_an_energy_that_cant_be_known_is_null_and_not_zero(served):
    footprint = json.loads(post(served.url))["footprint"]
    assert footprint["it_energy"] is None
    assert footprint["carbon_location"] is None
    assert any("isn't known" in note for note in footprint["notes"])
    assert served.ledger.totals()[0].indicators["it_energy"].missing == 1
    assert served.ledger.latest(1)[0].footprint.parts[0].energy.value >= 0


def test_an_estimate_is_added_to_this_machines_share(upstream, fresh_home):
    theirs = Footprint(
        boundary="facility",
        it_energy=Energy(100.0, 50.0, 200.0, "modelled", "node"),
        embodied=Carbon(1.0, 0.5, 2.0, "assumed", "life cycle"),
        parts=(Part("model", Energy(100.0, 50.0, 200.0, "modelled", "node"), "estimate", "D"),),
    )
    asked = []

    def estimate(model, tokens):
        asked.append((model, tokens))
        return theirs

    with (
        serving(upstream.app()) as url,
        gateway(backend_for(url, estimate=estimate)) as running,
    ):
        footprint = json.loads(post(running.url))["footprint"]
    assert footprint["it_energy"]["value"] > 100.0
    assert asked == [("big", (5, None, 2))]


def test_usage_is_forced_on_counted_and_stripped_when_nobody_asked(served, upstream):
    got = events(post(served.url, stream=True))
    assert upstream.bodies[0]["stream_options"] == {"include_usage": True}
    assert [event["choices"][0]["delta"].get("content") for event in got[:-1]] == ["n", "é", None]
    assert all("usage" not in event for event in got[:-1])
    assert "footprint" in got[-2]
    assert got[-1] == "[DONE]"
    row = served.ledger.latest(1)[0]
    assert (row.tokens_in, row.tokens_out, row.status) == (5, 2, "ok")


def test_events_pass_byte_for_byte_comments_too(served, upstream):
    odd = b'data:  {"choices":[ {"delta":{"content":"x"}} ], "future":1}\n\n'
    upstream.stream = [b": ping\n\n", b"event: hint\n" + odd, *upstream.stream]
    text = post(served.url, stream=True)
    assert text.startswith(": ping\n\nevent: hint\n" + odd.decode())


def test_usage_passes_when_the_client_asked_for_it(served):
    got = events(post(served.url, stream=True, stream_options={"include_usage": True}))
    assert got[-2]["usage"] == USAGE
    assert "footprint" in got[-2]
    assert len(got) == 5


@pytest.mark.parametrize("where", ["finish", "every"])
def test_usage_is_counted_wherever_it_stands(served, upstream, where):
    last = chunk(finish="stop", usage=USAGE)
    first = chunk("n", usage={**USAGE, "completion_tokens": 1}) if where == "every" else chunk("n")
    upstream.stream = [first.encode(), last.encode(), b"data: [DONE]\n\n"]
    got = events(post(served.url, stream=True))
    assert len(got) == 3
    assert served.ledger.latest(1)[0].tokens_out == 2


def test_events_split_anywhere_even_within_a_character_arrive_whole(served, upstream):
    whole = b"".join(upstream.stream)
    upstream.stream = [whole[i : i + 1] for i in range(len(whole))]
    got = events(post(served.url, stream=True))
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in got[:-1]) == "né"


@pytest.mark.parametrize("bad", [{"completion_tokens": -5}, {"completion_tokens": "many"}, {}, None, [1]])
def test_usage_that_cant_be_true_is_unknown(served, upstream, bad):
    upstream.plain = JSONResponse({**PLAIN, "usage": bad})
    json.loads(post(served.url))
    assert served.ledger.latest(1)[0].tokens_out is None


def test_a_cut_stream_ends_with_an_error_event_and_no_end_mark(served, upstream):
    upstream.stream = upstream.stream[:3]
    got = events(post(served.url, stream=True))
    assert got[-1]["error"]["code"] == "E103"
    assert "[DONE]" not in got
    assert served.ledger.latest(1)[0].status == "failed"


def test_the_official_client_raises_on_a_cut_stream(served, upstream):
    upstream.stream = upstream.stream[:3]
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as api:
        stream = api.chat.completions.create(model="big", messages=CHAT["messages"], stream=True)
        with pytest.raises(openai.APIError):
            list(stream)


@pytest.mark.parametrize(
    ("answer", "stream", "status", "code", "text"),
    [
        # In a stream, a body that holds no event is a cut stream, tested above.
        (Response("<html>oops</html>"), False, 502, "E104", "isn't JSON"),
        (Response("[]"), False, 502, "E104", "isn't a JSON object"),
        *(
            (answer, stream, status, "E103", text)
            for stream in (True, False)
            for answer, status, text in (
                (JSONResponse({"error": {"message": "too fast"}}, 429), 429, "too fast"),
                (JSONResponse({"error": "plain"}, 400), 400, "plain"),
                (Response("gone", 503), 503, "gone"),
                (Response("", 500), 500, "no reason given"),
            )
        ),
    ],
)
def test_a_refusal_or_nonsense_is_passed_on_as_an_error(served, upstream, answer, stream, status, code, text):
    upstream.plain = answer
    with pytest.raises(HTTPError) as caught:
        post(served.url, stream=stream)
    with caught.value as error:
        assert error.code == status
        body = json.load(error)["error"]
    assert body["code"] == code
    assert text in body["message"]
    row = served.ledger.latest(1)[0]
    assert row.status == "failed"
    assert served.splitter.in_flight == 0


def test_an_upstream_that_isnt_there_is_said_with_the_next_step(fresh_home):
    with gateway(backend_for("http://127.0.0.1:9")) as running:
        with pytest.raises(HTTPError) as caught:
            post(running.url)
        with caught.value as error:
            assert error.code == 502
            message = json.load(error)["error"]["message"]
            assert "check that the server runs" in message
            assert "127.0.0.1" not in message
        with pytest.raises(HTTPError) as caught:
            urlopen(f"{running.url}/v1/models")
        with caught.value as error:
            assert b"127.0.0.1" not in error.read()
        row = running.ledger.latest(1)[0]
        assert row.status == "failed"
        assert not any("127.0.0.1" in note for note in row.footprint.notes)


def test_a_silent_upstream_times_out(upstream, fresh_home):
    upstream.pause_s = 5.0
    with (
        serving(upstream.app()) as url,
        gateway(backend_for(url, silence_s=0.2)) as running,
    ):
        with pytest.raises(HTTPError) as caught:
            post(running.url, stream=True)
        with caught.value as error:
            assert error.code == 504
        assert running.ledger.latest(1)[0].status == "failed"


def test_models_are_the_upstreams(served):
    with urlopen(f"{served.url}/v1/models") as response:
        assert json.load(response)["data"] == [{"id": "big", "object": "model"}]


EVENTS = st.lists(
    st.sampled_from(
        [
            b"data: {}\n\n",
            b"data: a\ndata: b\n\n",
            b": ping\n\n",
            b"data: x\r\n\r\n",
            b"data: y\r\r",
            b"\n\n",
            b'data: {"usage": null}\n\n',
            b'data: {"usage": {"prompt_tokens": 1}}\n\n',
            b'data: {"choices": [{"finish_reason": "stop"}]}\n\n',
            b"data: [DONE]\n\n",
        ]
    ),
    max_size=12,
)


@given(EVENTS, st.lists(st.integers(0, 300), max_size=8))
def test_what_passes_unseen_is_whole_events_and_nothing_that_matters(events, cuts):
    whole = b"".join(events)
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    cutter, found = EventCutter(), []
    for start, end in itertools.pairwise(places):
        piece = whole[start:end]
        passing, rest = _parted(piece) if cutter.is_empty else (b"", piece)
        assert passing + rest == piece
        assert not re.search(rb'\[DONE\]|"usage": {|"finish_reason": "', passing)
        found += [one for one in passing.split(b"\n\n") if one]
        found += cutter.feed(rest)
    assert found == EventCutter().feed(whole)
