"""How a call is put to an upstream in its own dialect, and how its answer is read.

An OpenAI-compatible server gets the bytes that came, and its bytes go on as they are; others are translated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import EngineError, RequestError
from negajoule.gateway.adapters import anthropic, decode_event, gemini, responses, unnamed_event
from negajoule.gateway.server import decoded
from negajoule.gateway.sse import DONE, EventCutter, data_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from negajoule.gateway.adapters import Frame, Provider, UpstreamStream
    from negajoule.gateway.wire import Call

__all__ = ["answer_of", "as_openai", "request_of", "stream_of"]


def request_of(call: Call, provider: Provider, model: str) -> tuple[str, bytes]:
    """The path and the body that put a call to an upstream; usage is asked for in any case.

    Args:
        call: the call.
        provider: the kind of upstream.
        model: the upstream's name of the model.

    Raises:
        RequestError: (R102) if the dialect can't say it, (R103) if the upstream has nothing of the kind.
    """
    if call.task == "count":
        return "/messages/count_tokens", msgspec.json.encode({**call.body(), "model": model})
    if provider.dialect == "responses":
        return provider.chat_path(model, stream=call.stream), _native(call, model)
    if provider.dialect != "openai":
        return _translated(call, provider, model)
    path = {"chat": provider.chat, "completion": "/completions", "embedding": provider.embeddings}[call.task]
    if path is None:
        raise _missing(call)
    wants_usage = call.stream and not call.include_usage
    if model == call.model and not wants_usage:
        return path, call.raw
    body = call.body()
    body["model"] = model
    if wants_usage:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return path, msgspec.json.encode(body)


def answer_of(data: bytes, provider: Provider, frame: Frame) -> dict[str, Any]:
    """A plain answer in OpenAI's words.

    Raises:
        EngineError: (E104) if it isn't one, (E103) if it tells of an error.
    """
    answer = decoded(data)
    if not isinstance(answer, dict):
        raise EngineError("the upstream's answer isn't a JSON object", code="E104")
    if provider.dialect == "anthropic":
        return anthropic.openai_answer(answer, frame)
    if provider.dialect == "gemini":
        return gemini.openai_answer(answer, frame)
    return answer


def stream_of(provider: Provider, frame: Frame) -> UpstreamStream | None:
    """What translates a stream; ``None`` where it passes as it is."""
    if provider.dialect == "anthropic":
        return anthropic.OpenAIChunks(frame)
    if provider.dialect == "responses":
        return responses.NativeEvents()
    return gemini.OpenAIChunks(frame) if provider.dialect == "gemini" else None


async def as_openai(pieces: AsyncIterator[bytes], stream: UpstreamStream) -> AsyncIterator[bytes]:
    """A translated stream as OpenAI sends it, end mark included.

    Raises:
        EngineError: (E103) if it was cut or tells of an error, (E104) if it's malformed.
    """
    cutter = EventCutter()
    async for piece in pieces:
        ready = bytearray()
        for raw in cutter.feed(piece):
            data = data_of(raw)
            if data is not None:
                for chunk in stream.feed(decode_event(data)):
                    ready += unnamed_event(chunk)
        if ready:
            yield bytes(ready)
    yield b"".join(map(unnamed_event, stream.finish())) + DONE


def _native(call: Call, model: str) -> bytes:
    """The body as it came, with the model and the limit that the call has by now."""
    body: dict[str, Any] = msgspec.json.decode(call.native)
    chat = call.body()
    limit = chat.get("max_completion_tokens") or chat.get("max_tokens")
    limited = {} if limit is None else {"max_output_tokens": limit}
    return msgspec.json.encode({**body, **limited, "model": model})


def _translated(call: Call, provider: Provider, model: str) -> tuple[str, bytes]:
    if call.task != "chat":
        raise _missing(call)
    body = {**call.body(), "model": model}
    asked = (
        anthropic.upstream_request(body) if provider.dialect == "anthropic" else gemini.upstream_request(body)
    )
    return provider.chat_path(model, stream=call.stream), msgspec.json.encode(asked.body)


def _missing(call: Call) -> RequestError:
    kind = {"embedding": "embeddings", "completion": "plain completions"}.get(call.task, "chat")
    return RequestError(
        f"the server of the model {call.model!r} has no {kind}",
        code="R103",
        status=404,
        param="model",
        fix="GET /v1/models lists other models",
    )
