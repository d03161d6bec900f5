from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from negajoule.engine.endpoint import EndpointEngine
from negajoule.errors import ConfigError, EngineError


def chunk(text, finish=None):
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    }


USAGE = {"prompt_tokens": 12, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 4}}
ANSWER = [chunk("one"), chunk(" two"), chunk(" three"), {"choices": [], "usage": USAGE}]


class FakeServer:
    """A server that streams what it was told to; it says "fake" in its name, and holds no model."""

    def __init__(self):
        self.models = ["fake"]
        self.events = ANSWER
        self.ending = "data: [DONE]\n\n"
        self.status = 200
        self.refuses: tuple[str, ...] = ()
        self.bodies = []
        self.keys = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *ignored):
                pass

            def do_GET(self):
                outer.keys.append(self.headers["Authorization"])
                self.answer(200, json.dumps({"data": [{"id": name} for name in outer.models]}))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append({"path": self.path, **body})
                unknown = [name for name in outer.refuses if name in body]
                if unknown:
                    self.answer(400, json.dumps({"error": {"message": f"unknown field {unknown[0]}"}}))
                elif outer.status != 200:
                    self.answer(outer.status, json.dumps({"error": {"message": "the fake refuses"}}))
                else:
                    text = "".join(f"data: {json.dumps(event)}\n\n" for event in outer.events)
                    self.answer(200, text + outer.ending)

            def answer(self, status, text):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server():
    fake = FakeServer()
    yield fake
    fake.close()


BODY = {"messages": [{"role": "user", "content": "count"}], "max_tokens": 3, "ignore_eos": True}


def run(engine, body=BODY, task="chat"):
    chunks, progress = [], []
    result = engine.run(
        task, body, lambda one: bool(chunks.append(one)), lambda one: bool(progress.append(one))
    )
    return result, chunks, progress


def test_counts_are_the_servers_and_progress_is_a_chunk(server):
    engine = EndpointEngine(server.url + "/v1/")
    result, chunks, progress = run(engine)
    assert (engine.models[0].id, engine.url, engine.is_local) == ("fake", server.url + "/v1", True)
    counts = result.timings
    assert (counts.prompt_tokens, counts.cached_tokens, counts.output_tokens) == (8, 4, 6)
    assert [(one.kind, one.tokens) for one in progress] == [("decode", 1)] * 3
    assert len(chunks) == 4
    sent = server.bodies[0]
    assert (sent["path"], sent["model"], sent["stream"]) == ("/v1/chat/completions", "fake", True)
    assert sent["stream_options"] == {"include_usage": True}


def test_fields_that_a_server_refuses_are_left_out_from_then_on(server):
    server.refuses = ("ignore_eos",)
    engine = EndpointEngine(server.url)
    run(engine)
    run(engine)
    assert [("ignore_eos" in body) for body in server.bodies] == [True, False, False]


def test_completions_go_to_their_own_path(server):
    server.events = [{"choices": [{"index": 0, "text": "a"}]}, {"choices": [], "usage": USAGE}]
    result, _, progress = run(EndpointEngine(server.url), {"prompt": [1, 2]}, "completion")
    assert server.bodies[0]["path"] == "/v1/completions"
    assert len(progress) == 1
    assert not result.cancelled


def test_without_usage_nothing_is_counted(server):
    server.events = ANSWER[:-1]
    with pytest.raises(EngineError, match="returns no usage") as caught:
        run(EndpointEngine(server.url))
    assert caught.value.code == "E104"
    assert "include_usage" in caught.value.tried


def test_cancelling_ends_the_request(server):
    engine = EndpointEngine(server.url)
    result = engine.run("chat", BODY, lambda one: True)
    assert result.cancelled


@pytest.mark.parametrize(
    ("events", "code", "words"),
    [
        ([{"error": {"message": "out of memory"}}], "E102", "out of memory"),
        (["no object"], "E104", "something else"),
        ([chunk("a"), {"choices": [], "usage": {"prompt_tokens": "many"}}], "E104", "else than counts"),
    ],
)
def test_streams_that_go_wrong_are_named(server, events, code, words):
    server.events = events
    with pytest.raises(EngineError, match=words) as caught:
        run(EndpointEngine(server.url))
    assert caught.value.code == code


def test_a_refusal_says_what_the_server_said(server):
    engine = EndpointEngine(server.url)
    server.status = 401
    with pytest.raises(EngineError, match="answered 401: the fake refuses") as caught:
        run(engine)
    assert (caught.value.status, "--key-variable" in caught.value.fix) == (401, True)


def test_a_model_must_be_named_where_there_are_several(server):
    server.models = ["fake-a", "fake-b"]
    with pytest.raises(ConfigError, match="serves 2 models") as caught:
        EndpointEngine(server.url)
    assert "fake-a, fake-b" in caught.value.fix
    assert EndpointEngine(server.url, model="fake-b").models[0].id == "fake-b"


def test_a_key_travels_to_this_machine_or_over_https_only(server):
    EndpointEngine(server.url, key="secret")
    assert server.keys == ["Bearer secret"]
    with pytest.raises(ConfigError, match="in the open"):
        EndpointEngine("http://example.org/v1", key="secret", model="a")
    assert not EndpointEngine("https://example.org", key="secret", model="a").is_local


@pytest.mark.parametrize("url", ["ftp://a/v1", "http://", "http://a:notaport/v1", "localhost:8000"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="no address"):
        EndpointEngine(url)


def test_a_server_that_is_gone_is_named(server):
    engine = EndpointEngine(server.url)
    server.close()
    with pytest.raises(EngineError, match="can't be reached") as caught:
        run(engine)
    assert caught.value.code == "E103"
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        run(engine)
    server.close = lambda: None
