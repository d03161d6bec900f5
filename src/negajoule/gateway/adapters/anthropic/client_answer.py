"""An OpenAI answer, plain or streamed, as Anthropic's clients expect it.

Format: Anthropic API reference, "Create a Message", and its guide "Streaming messages": ``message_start``,
for each block ``content_block_start``, deltas and ``content_block_stop``, then ``message_delta`` and
``message_stop``. A count that nobody told is ``null``. The field ``footprint`` passes, in a stream in
``message_delta``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.gateway.adapters.errors import anthropic_error
from negajoule.gateway.adapters.frame import CallDelta, call_deltas, thought_in
from negajoule.gateway.adapters.reading import arguments_of, malformed, said, shaped
from negajoule.gateway.adapters.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.errors import NegajouleError

__all__ = ["ClientEvents", "client_answer"]

_DIALECT = "OpenAI"
_STOPPED = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class _Choice(msgspec.Struct):
    message: dict[str, Any]
    finish_reason: str | None = None
    stop_reason: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    id: str = ""
    model: str = ""
    usage: Any = None


class _Delta(msgspec.Struct):
    index: int = 0
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None
    stop_reason: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Delta]
    id: str = ""
    model: str = ""
    usage: Any = None


def client_answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Put a plain answer into Anthropic's words; of several choices the first.

    Raises:
        EngineError: E104 if it isn't OpenAI's.
    """
    whole = shaped(answer, _Answer, _DIALECT)
    if not whole.choices:
        raise malformed(_DIALECT, "it holds no choice")
    choice = whole.choices[0]
    message = choice.message
    content: list[dict[str, Any]] = []
    signed = message.get("thinking_blocks")
    thought = thought_in(message)
    if isinstance(signed, list) and signed:
        content += signed
    elif thought:
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    written = said(message, "content", _DIALECT)
    if written:
        content.append({"type": "text", "text": written})
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise malformed(_DIALECT, "a tool call without function")
        content.append(
            {
                "type": "tool_use",
                "id": said(call, "id", _DIALECT),
                "name": said(function, "name", _DIALECT),
                "input": arguments_of(function.get("arguments")),
            }
        )
    return {
        "id": whole.id,
        "type": "message",
        "role": "assistant",
        "model": whole.model,
        "content": content,
        **_stopped(choice.finish_reason, choice.stop_reason, said(message, "refusal", _DIALECT)),
        "usage": _usage(Usage.of(whole.usage)),
        **({"footprint": answer["footprint"]} if "footprint" in answer else {}),
    }


class ClientEvents:
    """Turns OpenAI's chunks into Anthropic's events; a ``ClientStream``.

    Calls of tools stay open until the end, so that servers may mix the arguments of several.
    """

    def __init__(self) -> None:
        self._begun = False
        self._blocks = 0
        self._open: tuple[str, int] | None = None
        self._calls: dict[int, int] = {}
        self._usage: Any = None
        self._ending = _Delta()
        self._refusal = ""
        self._footprint: dict[str, Any] = {}

    def feed(self, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a chunk; return the events it makes. See ``ClientStream``."""
        whole = shaped(chunk, _Chunk, _DIALECT)
        events = [] if self._begun else [self._start(whole)]
        if whole.usage is not None:
            self._usage = whole.usage
        if "footprint" in chunk:
            self._footprint = {"footprint": chunk["footprint"]}
        for choice in whole.choices:
            if choice.index == 0:
                events += self._choice(choice)
        return events

    def finish(self) -> list[dict[str, Any]]:
        """The answer is whole. See ``ClientStream``."""
        if not self._begun:
            raise malformed(_DIALECT, "it ended before it began")
        return [
            *self._close(),
            *map(_block_stop, self._calls.values()),
            {
                "type": "message_delta",
                "delta": _stopped(self._ending.finish_reason, self._ending.stop_reason, self._refusal),
                "usage": _usage(Usage.of(self._usage)),
                **self._footprint,
            },
            {"type": "message_stop"},
        ]

    def fail(self, error: NegajouleError) -> list[dict[str, Any]]:
        """The answer broke off. See ``ClientStream``."""
        return [anthropic_error(error)]

    def _start(self, chunk: _Chunk) -> dict[str, Any]:
        self._begun = True
        return {
            "type": "message_start",
            "message": {
                "id": chunk.id,
                "type": "message",
                "role": "assistant",
                "model": chunk.model,
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": _usage(Usage()),
            },
        }

    def _choice(self, choice: _Delta) -> list[dict[str, Any]]:
        delta = choice.delta or {}
        events: list[dict[str, Any]] = []
        thought = thought_in(delta)
        if thought:
            events += self._piece("thinking", "thinking_delta", thought)
        for block in delta.get("thinking_blocks") or ():
            events += self._signed(block)
        self._refusal += said(delta, "refusal", _DIALECT)
        written = said(delta, "content", _DIALECT)
        if written:
            events += self._piece("text", "text_delta", written)
        for call in call_deltas(delta):
            events += self._call(call)
        if choice.finish_reason is not None:
            self._ending = choice
        return events

    def _piece(self, kind: str, delta: str, written: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if self._open is None or self._open[0] != kind:
            empty = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
            events = [*self._close(), self._begin(empty)]
            self._open = (kind, self._blocks - 1)
        assert self._open is not None
        return [*events, _delta(self._open[1], {"type": delta, kind: written})]

    def _signed(self, block: object) -> list[dict[str, Any]]:
        """A whole block of thinking: the signature of the one that's open, or one that wasn't shown."""
        if not isinstance(block, dict):
            raise malformed(_DIALECT, "a thinking block that is no object")
        if block.get("type") != "thinking":
            return [*self._close(), self._begin(block), _block_stop(self._blocks - 1)]
        events: list[dict[str, Any]] = []
        if self._open is None or self._open[0] != "thinking":
            events = [*self._close(), self._begin({"type": "thinking", "thinking": "", "signature": ""})]
            self._open = ("thinking", self._blocks - 1)
        signature = {"type": "signature_delta", "signature": said(block, "signature", _DIALECT)}
        return [*events, _delta(self._open[1], signature), *self._close()]

    def _call(self, call: CallDelta) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if call.index not in self._calls:
            block = {"type": "tool_use", "id": call.id or "", "name": call.name, "input": {}}
            events = [*self._close(), self._begin(block)]
            self._calls[call.index] = self._blocks - 1
        if call.arguments:
            delta = {"type": "input_json_delta", "partial_json": call.arguments}
            events.append(_delta(self._calls[call.index], delta))
        return events

    def _begin(self, block: dict[str, Any]) -> dict[str, Any]:
        self._blocks += 1
        return {"type": "content_block_start", "index": self._blocks - 1, "content_block": block}

    def _close(self) -> list[dict[str, Any]]:
        if self._open is None:
            return []
        index = self._open[1]
        self._open = None
        return [_block_stop(index)]


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _block_stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def _stopped(finish_reason: str | None, stop_reason: object, refusal: str) -> dict[str, Any]:
    reason = None if finish_reason is None else _STOPPED.get(finish_reason, "end_turn")
    if refusal:
        details = {"type": "refusal", "category": None, "explanation": refusal}
        return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    if reason == "end_turn" and isinstance(stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_reason}
    return {"stop_reason": reason, "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, Any]:
    """Anthropic counts what came from or went into the cache apart from the rest of the prompt."""
    fresh = usage.prompt
    if fresh is not None:
        fresh = max(0, fresh - (usage.cached or 0) - (usage.cache_written or 0))
    counts: dict[str, Any] = {"input_tokens": fresh, "output_tokens": usage.completion}
    if usage.cached is not None:
        counts["cache_read_input_tokens"] = usage.cached
    if usage.cache_written is not None:
        counts["cache_creation_input_tokens"] = usage.cache_written
    if usage.reasoning is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts
