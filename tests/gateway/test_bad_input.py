"""What must not come and does: a sound error or a sound stream, and an account that stays right."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from negajoule.gateway import BudgetedBackend, Degrading, Limits, Rates, UpstreamBackend
from negajoule.ledger.accounts import SqliteStore, Teller, Terms, workers_folder

from .asking import ask, chat, raw, rest_of
from .conftest import gateway, serving
from .test_spending import priced, usage

PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/m:generateContent",
]
DEEP = b"[" * 10_000 + b"]" * 10_000
BODIES = {
    "empty": b"",
    "not JSON": b"model=big",
    "half": b'{"model": "m", "messages": [',
    "invalid UTF-8": b'{"model": "m\xff\xfe", "messages": [], "input": "a", "prompt": "a"}',
    "invalid UTF-8 in a field nobody checks": b'{"model":"m","prompt":"a","input":"a","x":"\xc3\x28",'
    b'"messages":[{"role":"user","content":"a"}]}',
    "nested 10,000 deep": DEEP,
    "nested 10,000 deep in a field": b'{"model":"m","input":"a","prompt":"a","messages":[{"role":"user",'
    b'"content":"a"}],"x":' + DEEP + b"}",
    "a list": b"[1, 2]",
    "null": b"null",
    "two documents": b'{"model":"m"} {"model":"m"}',
    "NaN": b'{"model":"m","temperature":NaN,"messages":[],"input":"a","prompt":"a"}',
    "NUL bytes": b"\x00" * 64,
}


class Upstream:
    """A scripted server that answers each request with the bytes a test wrote, split as it says."""

    def __init__(self):
        self.plain: Response | None = None
        self.pieces: list[bytes] = []
        self.asked = 0

    async def answer(self, request):
        await request.body()
        self.asked += 1
        if self.plain is not None:
            return self.plain

        async def pieces():
            for piece in self.pieces:
                yield piece
                await asyncio.sleep(0.001)

        return StreamingResponse(pieces(), media_type="text/event-stream")

    def app(self):
        paths = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
        return Starlette(routes=[Route(path, self.answer, methods=["POST"]) for path in paths])


class World:
    """Our gateway with a budget before that server."""

    def __init__(self, running, store, account, upstream):
        self.running, self.url, self.upstream = running, running.url, upstream
        self._store, self._account = store, account
        self.end = (0, 0.0)

    def close(self):
        """Look at the books once the server has closed them."""
        found = usage(self._store, self._account)
        assert found.held == 0
        self.end = (found.requests, found.spent / 1e6)

    def check_idle(self):
        assert self.running.splitter.in_flight == 0
        assert ask(self.url, "/healthz").json["status"] == "ok"


@contextlib.contextmanager
def world_of(upstream):
    with contextlib.closing(SqliteStore()) as store, serving(upstream.app()) as behind:
        account = store.create(Terms.checked("global", "", "J", "total"), 1e9)

        def make(splitter, accounts):
            inner = UpstreamBackend(behind, splitter, accounts, estimate=priced)
            teller = Teller(store, workers_folder())
            return BudgetedBackend(inner, accounts, teller, Rates(priced), Degrading())

        with gateway(make, limits=Limits(max_body_bytes=1_000_000)) as running:
            world = World(running, store, account, upstream)
            yield world
        world.close()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    """One server for all that it must refuse."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NEGAJOULE_HOME", str(tmp_path_factory.mktemp("home")))
    with world_of(Upstream()) as world:
        yield world
    assert world.end == (0, 0.0), "what was refused cost nothing"
    assert world.upstream.asked == 0
    patch.undo()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_cant_be_understood_is_refused(refusing, path, body):
    answer = ask(refusing.url, path, body=body, method="POST")
    assert answer.status == 400
    error = answer.json["error"]
    assert error["message"]
    if not path.startswith("/v1beta") and path != "/v1/messages":
        assert error["type"] == "invalid_request_error"
        assert error["code"] in ("R101", "R102")
    refusing.check_idle()


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 2\r\ncontent-length: 3",
        b"content-length: 2\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"authorization: Bearer a\r\nauthorization: Bearer b\r\ncontent-length: 2",
        b"host: elsewhere\r\ncontent-length: 2",
        b"content-length: -1",
        b"content-length: 0x2",
    ],
)
def test_headers_that_contradict_each_other_are_refused(refusing, head):
    with raw(refusing.url) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n{}"
        )
        connection.shutdown(1)
        status = rest_of(connection).split(b" ", 2)[1]
    assert status == b"400"
    refusing.check_idle()


@pytest.mark.parametrize("path", PATHS)
def test_a_chunked_body_of_no_end_is_cut_off(refusing, path):
    piece = b"10000\r\n" + b"[" * 65_536 + b"\r\n"
    with raw(refusing.url) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nhost: localhost\r\n".encode())
        connection.sendall(b"transfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(piece)
        answer = rest_of(connection)
    assert not answer or answer.split(b" ", 2)[1] == b"413"
    refusing.check_idle()


def chunk(text=None, **more):
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    return b"data: " + json.dumps({"choices": choices, **more}, ensure_ascii=False).encode() + b"\n\n"


USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
DONE = b"data: [DONE]\n\n"
BOUND_J = 128  # what nobody told is charged with the prompt's bytes and a template's tokens at least


def is_told(spent, joules):
    """Whether so much was charged, and this machine's own share, which is small beside it."""
    return joules <= spent < joules + 10


def streamed(world, **changes):
    answer = chat(world.url, model="m", stream=True, **changes)
    assert answer.status == 200
    events = [event.removeprefix(b"data: ") for event in answer.body.split(b"\n\n") if event]
    return events[-1] == b"[DONE]", events


def text_of(events):
    found = [json.loads(event) for event in events if event != b"[DONE]"]
    return "".join(c["delta"].get("content", "") for one in found for c in one.get("choices", ()))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_stream_split_within_characters_and_lines_arrives_whole(fresh_home, size):
    upstream = Upstream()
    whole = chunk("né — ") + chunk("日本語") + chunk("🙂") + chunk(usage=USAGE) + DONE
    upstream.pieces = [whole[n : n + size] for n in range(0, len(whole), size)]
    with world_of(upstream) as world:
        done, events = streamed(world)
        world.check_idle()
    assert (done, text_of(events)) == (True, "né — 日本語🙂")
    assert world.end[0] == 1
    assert is_told(world.end[1], 15)


@pytest.mark.parametrize(
    ("usages", "joules"),
    [
        ([USAGE, USAGE], 15),
        ([{"prompt_tokens": 10, "completion_tokens": 1}, USAGE], 15),
        ([USAGE, {"prompt_tokens": 1, "completion_tokens": 1}], 15),
        ([USAGE, {}], 15),
        ([USAGE, {"prompt_tokens": -4, "completion_tokens": -4}], 15),
        ([{"prompt_tokens": -10, "completion_tokens": 5}], None),
        ([{"prompt_tokens": 10, "completion_tokens": "5"}], None),
        ([{"prompt_tokens": 10, "completion_tokens": 2**80}], None),
        ([{}], None),
        ([None], None),
        ([], None),
    ],
)
def test_usage_in_a_stream_that_is_missing_impossible_or_told_twice(fresh_home, usages, joules):
    upstream = Upstream()
    upstream.pieces = [chunk("hi"), *(chunk(usage=one) for one in usages), DONE]
    with world_of(upstream) as world:
        done, events = streamed(world)
        world.check_idle()
    assert (done, text_of(events)) == (True, "hi")
    requests, spent = world.end
    assert requests == 1
    assert is_told(spent, joules) if joules is not None else spent > BOUND_J


@pytest.mark.parametrize(
    ("told_usage", "joules"),
    [
        (USAGE, 15),
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 10}, None),
        ([1, 2], None),
        ("much", None),
        (None, None),
    ],
)
def test_usage_of_a_plain_answer_that_is_missing_or_impossible(fresh_home, told_usage, joules):
    upstream = Upstream()
    body = {"choices": [{"index": 0, "message": {"content": "hi"}}], "usage": told_usage}
    upstream.plain = Response(json.dumps(body))
    with world_of(upstream) as world:
        answer = chat(world.url, model="m")
        world.check_idle()
    assert (answer.status, answer.json["choices"][0]["message"]["content"]) == (200, "hi")
    requests, spent = world.end
    assert requests == 1
    assert is_told(spent, joules) if joules is not None else spent > BOUND_J


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>oops</html>", b"[]", b'"text"', b"null", DEEP, b'{"choices": [', b'{"choices": "\xff"}'],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
def test_a_plain_answer_that_is_no_answer_is_an_error_of_the_upstream(fresh_home, path, body):
    upstream = Upstream()
    upstream.plain = Response(body)
    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}], "prompt": "a", "input": "a"}
    with world_of(upstream) as world:
        answer = ask(world.url, path, body=asked)
        world.check_idle()
    assert (answer.status, answer.code) == (502, "E104")
    assert answer.json["error"]["type"] == "server_error"
    requests, spent = world.end
    assert requests == 1
    assert spent > BOUND_J, "the upstream worked, nobody told how much"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"<html>oops</html>"],
        [b'{"choices": []}'],
        [chunk("hi")],
        [chunk("hi"), b'data: {"choices": [{"finish_reason": "stop", "us'],
        [chunk("hi"), b'data: {"usage": {broken\n\n', DONE],
        [chunk("hi"), b'data: {"usage": {"x": ' + DEEP + b"}}\n\n", DONE],
        [chunk("hi"), b"data: " + b"x" * (17 * 1024 * 1024) + b"\n\n", DONE],
    ],
    ids=["html", "json", "cut", "cut in an event", "broken usage", "deep usage", "17 MB event"],
)
def test_a_stream_that_is_no_stream_ends_with_an_error_and_no_end_mark(fresh_home, pieces):
    upstream = Upstream()
    upstream.pieces = pieces
    with world_of(upstream) as world:
        answer = chat(world.url, model="m", stream=True)
        world.check_idle()
    assert b"[DONE]" not in answer.body
    last = answer.body.rstrip().rpartition(b"data: ")[2]
    assert json.loads(last)["error"]["code"] in ("E103", "E104")
    requests, spent = world.end
    assert requests == 1
    assert spent > BOUND_J


def test_an_event_of_ten_megabytes_passes_whole(fresh_home):
    upstream = Upstream()
    text = "x" * 10_000_000
    whole = chunk(text) + chunk(usage=USAGE) + DONE
    upstream.pieces = [whole[n : n + 300_000] for n in range(0, len(whole), 300_000)]
    with world_of(upstream) as world:
        done, events = streamed(world)
    assert (done, text_of(events)) == (True, text)
    assert world.end[0] == 1
    assert 15 <= world.end[1] < BOUND_J
