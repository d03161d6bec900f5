"""A small server on the adapters, for tests: the fake engine or a scripted answer behind three dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from negajoule.engine import Assembly, FakeEngine
from negajoule.errors import NegajouleError
from negajoule.gateway.adapters import (
    anthropic,
    anthropic_error,
    gemini,
    gemini_error,
    named_event,
    responses,
    unnamed_event,
)
from negajoule.gateway.wire import error_body, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

    from negajoule.gateway.adapters import ClientStream

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 2},
}
CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"at":"Zürich"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
]


class Front:
    """Answers in three dialects; keeps the OpenAI requests it made of what came.

    Attributes:
        asked: chat requests, in order.
        breaks: if set, every answer breaks off after its first chunks.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.breaks: NegajouleError | None = None
        self._engine = FakeEngine()

    def chunks(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The chat answer: calls if tools were offered and not yet answered, else the fake engine's words."""
        self.asked.append(body)
        head = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 5, "model": body["model"]}

        def chunk(delta: dict, finish: str | None = None) -> dict[str, Any]:
            return {
                **head,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}],
            }

        if body.get("tools") and body["messages"][-1]["role"] != "tool":
            yield chunk({"role": "assistant", "content": None})
            yield chunk({"reasoning_content": "Which one? "})
            yield chunk({"content": "Let me look."})
            for index, call in enumerate(CALLS):
                start = {**call, "function": {**call["function"], "arguments": ""}}
                yield chunk({"tool_calls": [{"index": index, **start}]})
                for piece in call["function"]["arguments"]:
                    yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            yield chunk({}, "tool_calls")
            yield {**head, "choices": [], "usage": USAGE}
        else:
            made: list[dict[str, Any]] = []
            plain = [
                {"role": message["role"], "content": str(message.get("content"))}
                for message in body["messages"]
            ]
            cap = body.get("max_completion_tokens")
            asked = {"messages": plain, **({"max_tokens": cap} if cap else {})}
            result = self._engine.run("chat", asked, lambda chunk: bool(made.append(chunk)))
            yield from made[:3] if self.breaks else made
            yield {**made[-1], "choices": [], "usage": result.usage, "footprint": {"it_energy": None}}
        if self.breaks:
            raise self.breaks

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The same, whole."""
        assembly = Assembly()
        for chunk in self.chunks(body):
            assembly.add(chunk)
        return assembly.answer()

    async def messages(self, request: Request) -> Response:
        try:
            body = anthropic.openai_request(msgspec.json.decode(await request.body())).body
            if body.get("stream"):
                return self._stream(body, anthropic.ClientEvents(), named_event)
            return _json(anthropic.client_answer(self.answer(body)))
        except NegajouleError as error:
            return _json(anthropic_error(error), status_of(error))

    async def generate(self, request: Request) -> Response:
        try:
            target = gemini.target_of(request.path_params["target"])
            body = gemini.openai_request(msgspec.json.decode(await request.body()), target).body
            if target.stream:
                return self._stream(body, gemini.ClientEvents(), unnamed_event)
            return _json(gemini.client_answer(self.answer(body)))
        except NegajouleError as error:
            return _json(gemini_error(error), status_of(error))

    async def respond(self, request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await request.body())
            body = responses.openai_request(asked).body
            if body.get("stream"):
                return self._stream(body, responses.ClientEvents(asked), named_event)
            return _json(responses.client_answer(self.answer(body), asked))
        except NegajouleError as error:
            return Response(error_body(error), status_of(error), media_type="application/json")

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/v1/messages", self.messages, methods=["POST"]),
                # google-genai asks under v1 from version 3 on, under v1beta before.
                Route("/{version:str}/models/{target:path}", self.generate, methods=["POST"]),
                Route("/v1/responses", self.respond, methods=["POST"]),
            ]
        )

    def _stream(
        self, body: dict[str, Any], client: ClientStream, encode: Callable[[dict], bytes]
    ) -> StreamingResponse:
        def events() -> Iterator[bytes]:
            try:
                for chunk in self.chunks(body):
                    yield from map(encode, client.feed(chunk))
                yield from map(encode, client.finish())
            except NegajouleError as error:
                yield from map(encode, client.fail(error))

        return StreamingResponse(events(), media_type="text/event-stream")


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
