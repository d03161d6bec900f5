"""Clients of other dialects, the official ones, against the gateway: answers, streams, errors, accounts."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from negajoule.errors import RequestError
from negajoule.gateway import Door, UpstreamBackend
from negajoule.gateway.dialects import CALLS, find_surface
from negajoule.gateway.keyring import KeyRing
from negajoule.gateway.keys import KeyFile

from .asking import ask
from .conftest import gateway, serving

HELLO = "hello there"
ASK_CLAUDE = {"model": "fake", "max_tokens": 20, "messages": [{"role": "user", "content": HELLO}]}


def claude(url: str, key: str = "none") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)


def google(url: str, key: str = "none") -> genai.Client:
    return genai.Client(api_key=key, vertexai=False, http_options=genai_types.HttpOptions(base_url=url))


def gpt(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_anthropics_client_gets_an_answer_and_its_footprint(served):
    with claude(served.url) as client:
        plain = client.messages.create(**ASK_CLAUDE)
        with client.messages.stream(**ASK_CLAUDE) as stream:
            text = "".join(stream.text_stream)
            whole = stream.get_final_message()
    assert plain.content[0].text == text == whole.content[0].text
    assert text.startswith("fake:")
    rows = served.ledger.latest(2)
    assert {row.id for row in rows} >= {plain.footprint["request_id"]}
    for row in rows:
        assert (row.status, row.tokens_in, row.tokens_out) == (
            "ok",
            plain.usage.input_tokens,
            plain.usage.output_tokens,
        )


def test_googles_client_gets_an_answer_and_its_footprint(served):
    with google(served.url) as client:
        plain = client.models.generate_content(model="fake", contents=HELLO)
        chunks = list(client.models.generate_content_stream(model="fake", contents=HELLO))
    assert plain.text.startswith("fake:")
    assert "".join(chunk.text or "" for chunk in chunks) == plain.text
    assert [row.tokens_out for row in served.ledger.latest(2)] == [
        plain.usage_metadata.candidates_token_count,
        chunks[-1].usage_metadata.candidates_token_count,
    ]


def test_responses_get_an_answer_and_its_footprint(served):
    asked = {"model": "fake", "input": HELLO, "max_output_tokens": 20}
    with gpt(served.url) as client:
        plain = client.responses.create(**asked)
        with client.responses.stream(**asked) as stream:
            whole = stream.until_done().get_final_response()
    assert plain.output_text == whole.output_text
    assert plain.output_text.startswith("fake:")
    assert plain.footprint["request_id"] != whole.footprint["request_id"]
    assert {row.id for row in served.ledger.latest(2)} == {
        plain.footprint["request_id"],
        whole.footprint["request_id"],
    }


def test_errors_come_in_the_clients_dialect(served):
    with claude(served.url) as client, pytest.raises(anthropic.NotFoundError, match="isn't served here"):
        client.messages.create(**{**ASK_CLAUDE, "model": "none"})
    with (
        google(served.url) as client,
        pytest.raises(genai_errors.ClientError, match="isn't served") as caught,
    ):
        client.models.generate_content(model="none", contents=HELLO)
    assert caught.value.status == "NOT_FOUND"
    with gpt(served.url) as client, pytest.raises(openai.NotFoundError, match="isn't served here"):
        client.responses.create(model="none", input=HELLO)
    assert served.splitter.in_flight == 0


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1beta/models/fake:generateContent"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 10_000, b"{}", b'{"model":3}', b'{"contents":[3]}']
)
def test_a_bad_body_is_a_bad_request(served, path, body):
    answer = ask(served.url, path, body=body)
    assert answer.status == 400
    assert answer.json["error"]["message"]


def test_an_unknown_method_and_a_stream_without_events_are_refused(served):
    body = {"contents": [{"parts": [{"text": HELLO}]}]}
    unknown = ask(served.url, "/v1beta/models/fake:sing", body=body)
    assert (unknown.status, unknown.json["error"]["status"]) == (404, "NOT_FOUND")
    deaf = ask(served.url, "/v1beta/models/fake:streamGenerateContent", body=body)
    assert (deaf.status, "alt=sse" in deaf.json["error"]["message"]) == (400, True)


def test_what_couldnt_be_passed_on_is_said(served):
    answer = ask(served.url, "/v1/messages", body={**ASK_CLAUDE, "novelty": 1, "bad\r\nname": 2})
    assert (answer.status, answer.headers["x-negajoule-lost"]) == (200, "novelty")


def test_each_dialect_brings_its_key_its_own_way(tmp_path, fresh_home):
    from negajoule.engine import FakeEngine
    from negajoule.gateway import EngineBackend

    keys = KeyFile(tmp_path / "keys.json")
    _, secret = keys.create("ann", scopes=["chat"])
    ring = KeyRing(keys)
    with gateway(
        lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts), door=Door(ring)
    ) as running:
        with claude(running.url, secret) as client:
            assert client.messages.create(**ASK_CLAUDE).content
        with google(running.url, secret) as client:
            assert client.models.generate_content(model="fake", contents=HELLO).text
        with claude(running.url) as client, pytest.raises(anthropic.AuthenticationError):
            client.messages.create(**ASK_CLAUDE)
        assert ask(running.url, "/v1/embeddings", body={}, key=secret).status == 403
        assert [row.caller for row in running.ledger.latest(2)] == ["ann", "ann"]


def test_the_embedded_engine_says_that_it_makes_no_embeddings(served):
    with (
        gpt(served.url) as client,
        pytest.raises(openai.NotFoundError, match="makes no embeddings") as caught,
    ):
        client.embeddings.create(model="fake", input="a")
    assert caught.value.code == "R103"


class Scripted:
    """An upstream with embeddings, and streams as the test writes them."""

    def __init__(self) -> None:
        self.stream = b""
        self.asked: list[dict] = []

    async def embeddings(self, request):
        self.asked.append(await request.json())
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return JSONResponse({"object": "list", "data": vectors, "model": "vec", "usage": usage})

    async def chat(self, request):
        async def pieces():
            yield self.stream

        return StreamingResponse(pieces(), media_type="text/event-stream")

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )


@pytest.fixture
def scripted():
    return Scripted()


@pytest.fixture
def behind(scripted, fresh_home):
    def backend(splitter, accounts):
        return UpstreamBackend(url, splitter, accounts, estimate=lambda model, tokens: None)

    with serving(scripted.app()) as url, gateway(backend) as running:
        yield running


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embeddings_pass_in_the_encoding_that_was_asked_for(behind, scripted, encoding):
    options = {} if encoding is None else {"encoding_format": encoding}
    with gpt(behind.url) as client:
        answer = client.embeddings.create(model="vec", input=["one"], **options)
    vector = answer.data[0].embedding
    assert len(vector) == (12 if encoding == "base64" else 2)
    assert encoding == "base64" or vector == [0.5, -2.0]
    row = behind.ledger.latest(1)[0]
    assert (row.id, row.model) == (answer.footprint["request_id"], "vec")
    assert (row.tokens_in, row.tokens_out) == (3, 0)


def test_a_stream_that_cant_be_translated_ends_with_an_error_and_is_booked(behind, scripted):
    begun = {"id": "x", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    scripted.stream = f"data: {json.dumps(begun)}\n\ndata: nonsense\n\n".encode()
    with claude(behind.url) as client, pytest.raises(anthropic.APIStatusError, match="JSON"):
        list(client.messages.create(**ASK_CLAUDE, stream=True))
    assert behind.splitter.in_flight == 0
    assert behind.ledger.latest(1)[0].status in ("cancelled", "failed")


def test_every_surface_is_found_by_its_path_only():
    for path, surface in CALLS.items():
        assert find_surface(path, b"") is surface
        assert find_surface(f"{path}/", b"") is None
    found = find_surface("/v1beta/models/a/b:generateContent", b"")
    assert found is not None
    assert found.path == "/v1beta/models/{model}:generateContent"
    with pytest.raises(RequestError):
        find_surface("/v1beta/models/a:x", b"").talk().read(b"{}")
    assert find_surface("/v1beta/models/a", b"") is None
