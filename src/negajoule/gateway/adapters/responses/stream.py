"""Streamed chat chunks as the events of a response.

Format: OpenAI API reference, "Streaming events" of the Responses API: ``response.created`` and
``response.in_progress``; for every item ``response.output_item.added``, its parts and deltas, and
``response.output_item.done``; then ``response.completed``, ``.incomplete`` or ``.failed``. Every event
carries the next ``sequence_number``; there is no ``[DONE]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.gateway.adapters.frame import CallDelta, call_deltas, thought_in
from negajoule.gateway.adapters.reading import malformed, said, shaped
from negajoule.gateway.adapters.responses.answer import (
    Item,
    function_call_item,
    message_item,
    output_text,
    reasoning_item,
    response,
)
from negajoule.gateway.adapters.usage import Usage
from negajoule.gateway.wire import status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.errors import NegajouleError

__all__ = ["ClientEvents"]

_DIALECT = "OpenAI"
_TOO_MANY = 429


class _Delta(msgspec.Struct):
    index: int = 0
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Delta]
    id: str = ""
    created: int | None = None
    model: str = ""
    usage: Any = None


class _Writing(msgspec.Struct):
    """An item that still grows: reasoning, or one part of a message, or a call's arguments.

    Attributes:
        kind: ``reasoning_text``, ``output_text``, ``refusal`` or ``function_call``.
        place: its place in the output.
        call_id: of a call.
        name: of a call.
        written: what has come of it.
    """

    kind: str
    place: int
    call_id: str = ""
    name: str = ""
    written: list[str] = []

    def item(self, id: str, *, done: bool) -> Item:
        """The item as far as it has come: empty while it is being written, as the events tell the rest."""
        whole = "".join(self.written) if done else ""
        status = "completed" if done else "in_progress"
        if self.kind == "reasoning_text":
            return reasoning_item(id, self.place, whole, status=status)
        if self.kind == "function_call":
            return function_call_item(id, self.place, self.call_id, self.name, whole, status=status)
        return message_item(id, self.place, [self.part(whole)] if done else [], status=status)

    def part(self, written: str) -> Item:
        """The part of a message or of reasoning."""
        if self.kind == "output_text":
            return output_text(written)
        return {"type": self.kind, "refusal" if self.kind == "refusal" else "text": written}


class ClientEvents:
    """Turns chat chunks into a response's events; a ``ClientStream``.

    Args:
        request: the client's request of the Responses API, whose settings the response repeats.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request
        self._head: _Chunk | None = None
        self._number = 0
        self._places = 0
        self._done: dict[int, Item] = {}
        self._open: _Writing | None = None
        self._calls: dict[int, _Writing] = {}
        self._usage = Usage()
        self._finish_reason: str | None = None
        self._footprint: object = None

    def feed(self, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a chunk; return the events it makes. See ``ClientStream``."""
        whole = shaped(chunk, _Chunk, _DIALECT)
        events = [] if self._head else self._start(whole)
        if whole.usage is not None:
            self._usage = Usage.of(whole.usage)
        self._footprint = chunk.get("footprint", self._footprint)
        for choice in whole.choices:
            if choice.index == 0:
                events += self._choice(choice)
        return events

    def finish(self) -> list[dict[str, Any]]:
        """The answer is whole. See ``ClientStream``."""
        if self._head is None:
            raise malformed(_DIALECT, "it ended before it began")
        events = self._close()
        for call in self._calls.values():
            events += self._end(call)
        whole = self._response(usage=self._usage, footprint=self._footprint)
        return [*events, self._event(f"response.{whole['status']}", response=whole)]

    def fail(self, error: NegajouleError) -> list[dict[str, Any]]:
        """The answer broke off. See ``ClientStream``."""
        message = f"{error.message}; {error.fix}" if error.fix else error.message
        if self._head is None:
            return [self._event("error", code=error.code, message=message, param=None)]
        code = "rate_limit_exceeded" if status_of(error) == _TOO_MANY else "server_error"
        failed = self._response(status="failed", error={"code": code, "message": f"{message} [{error.code}]"})
        return [self._event("response.failed", response=failed)]

    def _start(self, chunk: _Chunk) -> list[dict[str, Any]]:
        self._head = chunk
        begun = self._response(status="in_progress")
        return [
            self._event("response.created", response=begun),
            self._event("response.in_progress", response=begun),
        ]

    def _choice(self, choice: _Delta) -> list[dict[str, Any]]:
        delta = choice.delta or {}
        events: list[dict[str, Any]] = []
        for kind, written in (
            ("reasoning_text", thought_in(delta)),
            ("output_text", said(delta, "content", _DIALECT)),
            ("refusal", said(delta, "refusal", _DIALECT)),
        ):
            if written:
                events += self._write(kind, written)
        for call in call_deltas(delta):
            events += self._call(call)
        self._finish_reason = choice.finish_reason or self._finish_reason
        return events

    def _write(self, kind: str, written: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        writing = self._open
        if writing is None or writing.kind != kind:
            events = self._close()
            writing = self._open = _Writing(kind, self._next_place())
            events += [
                self._added(writing),
                self._on(writing, "response.content_part.added", part=writing.part("")),
            ]
        writing.written.append(written)
        return [*events, self._on(writing, f"response.{kind}.delta", delta=written, **_logprobs(kind))]

    def _call(self, call: CallDelta) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        writing = self._calls.get(call.index)
        if writing is None:
            events = self._close()
            writing = _Writing("function_call", self._next_place(), call.id or "", call.name)
            self._calls[call.index] = writing
            events.append(self._added(writing))
        if call.arguments:
            writing.written.append(call.arguments)
            events.append(
                self._event(
                    "response.function_call_arguments.delta",
                    item_id=self._id_of(writing),
                    output_index=writing.place,
                    delta=call.arguments,
                )
            )
        return events

    def _close(self) -> list[dict[str, Any]]:
        """End the text that is being written, if one is."""
        writing, self._open = self._open, None
        if writing is None:
            return []
        whole = "".join(writing.written)
        told = {"refusal": whole} if writing.kind == "refusal" else {"text": whole, **_logprobs(writing.kind)}
        return [
            self._on(writing, f"response.{writing.kind}.done", **told),
            self._on(writing, "response.content_part.done", part=writing.part(whole)),
            *self._end(writing),
        ]

    def _end(self, writing: _Writing) -> list[dict[str, Any]]:
        item = self._done[writing.place] = writing.item(self._id, done=True)
        events = []
        if writing.kind == "function_call":
            told = {"item_id": item["id"], "name": writing.name, "arguments": item["arguments"]}
            events.append(
                self._event("response.function_call_arguments.done", output_index=writing.place, **told)
            )
        return [*events, self._event("response.output_item.done", output_index=writing.place, item=item)]

    def _added(self, writing: _Writing) -> dict[str, Any]:
        item = writing.item(self._id, done=False)
        return self._event("response.output_item.added", output_index=writing.place, item=item)

    def _on(self, writing: _Writing, kind: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON value)
        """An event about the one part of an item."""
        where = {"item_id": self._id_of(writing), "output_index": writing.place, "content_index": 0}
        return self._event(kind, **where, **more)

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON value)
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **more}

    def _next_place(self) -> int:
        self._places += 1
        return self._places - 1

    def _id_of(self, writing: _Writing) -> str:
        id: str = writing.item(self._id, done=False)["id"]
        return id

    @property
    def _id(self) -> str:
        return self._head.id if self._head else ""

    def _response(self, **more: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON value)
        assert self._head is not None
        return response(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            request=self._request,
            output=[self._done[place] for place in sorted(self._done)],
            finish_reason=self._finish_reason,
            **more,
        )


def _logprobs(kind: str) -> dict[str, Any]:
    return {"logprobs": []} if kind == "output_text" else {}
