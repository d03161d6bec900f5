"""How clients speak: from a request in their dialect to a call, and from its answer back into it.

OpenAI's own calls pass as bytes. Others are put into the words of chat completions and back, event by event.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import parse_qs

import msgspec

from negajoule.errors import RequestError
from negajoule.gateway.adapters import (
    anthropic,
    anthropic_error,
    decode_event,
    gemini,
    gemini_error,
    in_encoding,
    named_event,
    parse_embeddings,
    responses,
    unnamed_event,
)
from negajoule.gateway.sse import EventCutter, data_of, event
from negajoule.gateway.wire import Call, error_body, parse_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from negajoule.errors import NegajouleError
    from negajoule.gateway.adapters import ClientStream, EmbeddingsCall, Translated
    from negajoule.gateway.wire import Task

__all__ = ["CALLS", "OPENAI", "Surface", "Talk", "find_surface"]

_END_MARK = b"[DONE]"
_FIELD_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_MOST_NAMED = 16


class Talk(Protocol):
    """One request's way from its client's dialect and back."""

    def read(self, raw: bytes) -> Call:
        """The call that a body asks for.

        Raises:
            RequestError: R101, R102, R106 if it can't be understood.
        """
        ...

    @property
    def lost(self) -> str:
        """Fields of the request whose meaning was lost on the way, for a header; empty if none."""
        ...

    def whole(self, answer: dict[str, Any]) -> bytes:
        """The answer's body.

        Raises:
            EngineError: (E104) if it can't be put into the dialect.
        """
        ...

    def events(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The answer's events.

        Raises:
            EngineError: (E104) if they can't be put into the dialect.
        """
        ...

    def error(self, error: NegajouleError) -> bytes:
        """An error's body."""
        ...

    def broken(self, error: NegajouleError) -> bytes:
        """The event that ends a stream which has begun."""
        ...


class _OpenAI:
    """OpenAI's own calls: nothing is translated."""

    lost = ""

    def __init__(self, task: Task = "chat") -> None:
        self._task = task

    def read(self, raw: bytes) -> Call:
        return parse_call(self._task, raw)

    def whole(self, answer: dict[str, Any]) -> bytes:
        return msgspec.json.encode(answer)

    def events(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return pieces

    def error(self, error: NegajouleError) -> bytes:
        return error_body(error)

    def broken(self, error: NegajouleError) -> bytes:
        return event(error_body(error))


class _Embeddings(_OpenAI):
    """OpenAI's embeddings: the vectors are encoded as the client asked, whatever the upstream knows."""

    _asked: EmbeddingsCall

    def read(self, raw: bytes) -> Call:
        self._asked = parse_embeddings(raw)
        return Call(task="embedding", model=self._asked.model, stream=False, include_usage=False, raw=raw)

    def whole(self, answer: dict[str, Any]) -> bytes:
        return msgspec.json.encode(in_encoding(answer, self._asked.encoding))


class _Foreign:
    """A dialect that is put into the words of chat completions."""

    encode: Callable[[Mapping[str, Any]], bytes]

    def __init__(self) -> None:
        self.lost = ""
        self._stream: ClientStream | None = None

    def read(self, raw: bytes) -> Call:
        try:
            body = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise RequestError(f"the body isn't valid JSON: {error}", code="R101") from None
        except RecursionError:
            raise RequestError("the body is nested too deeply", code="R101") from None
        if not isinstance(body, dict):
            raise RequestError("the body must be a JSON object", code="R101")
        translated = self._request(body)
        named = [name for name in translated.lost if _FIELD_NAME.fullmatch(name)]
        self.lost = ", ".join(named[:_MOST_NAMED])
        return self._call(msgspec.json.encode(translated.body), raw)

    def whole(self, answer: dict[str, Any]) -> bytes:
        return msgspec.json.encode(self._answer(answer))

    async def events(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._stream = stream = self._begin()
        encode = type(self).encode
        cutter = EventCutter()
        async for piece in pieces:
            ready = bytearray()
            for raw in cutter.feed(piece):
                data = data_of(raw)
                if data is None:
                    continue
                ended = data.strip() == _END_MARK
                for made in stream.finish() if ended else stream.feed(decode_event(data)):
                    ready += encode(made)
            if ready:
                yield bytes(ready)

    def error(self, error: NegajouleError) -> bytes:
        return error_body(error)

    def broken(self, error: NegajouleError) -> bytes:
        stream = self._stream or self._begin()
        return b"".join(map(type(self).encode, stream.fail(error)))

    def _call(self, translated: bytes, raw: bytes) -> Call:
        return parse_call("chat", translated)

    def _request(self, body: dict[str, Any]) -> Translated:
        raise NotImplementedError

    def _answer(self, answer: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def _begin(self) -> ClientStream:
        raise NotImplementedError


class _Responses(_Foreign):
    """OpenAI's Responses API; a server that speaks it too gets the body as it came."""

    encode = staticmethod(named_event)
    _asked: dict[str, Any]

    def _call(self, translated: bytes, raw: bytes) -> Call:
        return msgspec.structs.replace(parse_call("chat", translated), native=raw)

    def _request(self, body: dict[str, Any]) -> Translated:
        self._asked = body
        return responses.openai_request(body)

    def _answer(self, answer: dict[str, Any]) -> dict[str, Any]:
        if answer.get("object") == "response":
            self.lost = ""  # nothing was translated
            return answer
        return responses.client_answer(answer, self._asked)

    async def events(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for made in super().events(pieces):
            if isinstance(self._stream, responses.EitherEvents) and self._stream.native:
                self.lost = ""
            yield made

    def _begin(self) -> ClientStream:
        return responses.EitherEvents(self._asked)


class _Anthropic(_Foreign):
    """Anthropic's Messages."""

    encode = staticmethod(named_event)

    def error(self, error: NegajouleError) -> bytes:
        return msgspec.json.encode(anthropic_error(error))

    def _request(self, body: dict[str, Any]) -> Translated:
        return anthropic.openai_request(body)

    def _answer(self, answer: dict[str, Any]) -> dict[str, Any]:
        return anthropic.client_answer(answer)

    def _begin(self) -> ClientStream:
        return anthropic.ClientEvents()


class _CountTokens(_Anthropic):
    """Anthropic's count of a prompt's tokens: nothing is generated, and nothing is translated."""

    def read(self, raw: bytes) -> Call:
        counted = super().read(raw)
        return msgspec.structs.replace(counted, task="count", stream=False, raw=raw)

    def _request(self, body: dict[str, Any]) -> Translated:
        return super()._request({"max_tokens": 1, **body})

    def whole(self, answer: dict[str, Any]) -> bytes:
        return msgspec.json.encode(answer)


class _Gemini(_Foreign):
    """Gemini's generateContent: the model and whether to stream stand in the path."""

    encode = staticmethod(unnamed_event)

    def __init__(self, target: str, query: bytes) -> None:
        super().__init__()
        self._target = target
        self._query = query

    def error(self, error: NegajouleError) -> bytes:
        return msgspec.json.encode(gemini_error(error))

    def _request(self, body: dict[str, Any]) -> Translated:
        target = gemini.target_of(self._target)
        if target.stream and parse_qs(self._query.decode("ascii", "replace")).get("alt") != ["sse"]:
            raise RequestError(
                "streams are sent as server-sent events only", param="alt", fix="add ?alt=sse to the address"
            )
        return gemini.openai_request(body, target)

    def _answer(self, answer: dict[str, Any]) -> dict[str, Any]:
        return gemini.client_answer(answer)

    def _begin(self) -> ClientStream:
        return gemini.ClientEvents()


class Surface(NamedTuple):
    """One way to ask a model.

    Attributes:
        path: the path's template, for logs.
        task: what it is counted as.
        need: the scope that a key needs.
        talk: makes one request's way.
        key_header: where this dialect's clients put their key.
    """

    path: str
    task: Task
    need: str
    talk: Callable[[], Talk]
    key_header: bytes = b"authorization"

    def authorised(self, headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """The headers with the key where the door looks for it."""
        key = headers.get(self.key_header)
        if key is None or b"authorization" in headers:
            return headers
        return {**headers, b"authorization": b"Bearer " + key}


OPENAI: Talk = _OpenAI()
_COMPLETION: Talk = _OpenAI("completion")

CALLS: dict[str, Surface] = {
    surface.path: surface
    for surface in (
        Surface("/v1/chat/completions", "chat", "chat", lambda: OPENAI),
        Surface("/v1/completions", "completion", "completions", lambda: _COMPLETION),
        Surface("/v1/embeddings", "embedding", "embeddings", _Embeddings),
        Surface("/v1/responses", "chat", "chat", _Responses),
        Surface("/v1/messages", "chat", "chat", _Anthropic, b"x-api-key"),
        Surface("/v1/messages/count_tokens", "count", "chat", _CountTokens, b"x-api-key"),
    )
}
"""Calls to a model whose path is always the same."""

_GEMINI_PATH = re.compile(r"/(v1|v1beta|v1alpha)/models/([^:]+:(\w+))")
_GEMINI_METHODS = ("generateContent", "streamGenerateContent")


def find_surface(path: str, query: bytes) -> Surface | None:
    """The way to ask a model that a path is; ``None`` if it's none.

    Args:
        path: the path of a ``POST``.
        query: what follows it.
    """
    surface = CALLS.get(path)
    if surface is not None:
        return surface
    found = _GEMINI_PATH.fullmatch(path)
    if found is None:
        return None
    version, target, method = found.groups()
    named = method if method in _GEMINI_METHODS else "other"
    template = f"/{version}/models/{{model}}:{named}"
    return Surface(template, "chat", "chat", lambda: _Gemini(target, query), b"x-goog-api-key")
