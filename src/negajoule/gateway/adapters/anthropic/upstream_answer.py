"""An Anthropic answer, plain or streamed, as OpenAI's.

Format: Anthropic API reference, "Create a Message", and its guide "Streaming messages". Unknown kinds of
blocks, deltas and events are passed over, as that guide asks; they are what Anthropic's servers did
themselves.

What a Claude model thought comes as ``reasoning_content``, and with its signatures as ``thinking_blocks``
(the name that LiteLLM's documentation gave them): a client that sends those back with the message keeps tool
use with thinking going.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import EngineError
from negajoule.gateway.adapters.anthropic.upstream_request import JSON_TOOL
from negajoule.gateway.adapters.errors import error_in_stream
from negajoule.gateway.adapters.frame import Frame, choice_of, tool_call
from negajoule.gateway.adapters.reading import malformed, said, shaped
from negajoule.gateway.adapters.usage import Usage, count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OpenAIChunks", "openai_answer"]

_DIALECT = "Anthropic"
_FINISHED = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Begun(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    usage: Any = None


class _Ending(msgspec.Struct):
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | None = None


class _Content(msgspec.Struct):
    content: list[dict[str, Any]]


class _Start(msgspec.Struct):
    index: int
    content_block: dict[str, Any]


class _Delta(msgspec.Struct):
    index: int
    delta: dict[str, Any]


class _Stop(msgspec.Struct):
    index: int


def openai_answer(answer: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Put a plain answer into OpenAI's words.

    Args:
        answer: Anthropic's, decoded.
        frame: id, time and model to use where Anthropic gives none.

    Raises:
        EngineError: E104 if it isn't Anthropic's, E103 if it's an error.
    """
    if answer.get("type") == "error":
        raise error_in_stream(answer) or malformed(_DIALECT, "an error without reason")
    begun = shaped(answer, _Begun, _DIALECT)
    ending = shaped(answer, _Ending, _DIALECT)
    texts: list[str] = []
    thought: list[str] = []
    thinking: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in shaped(answer, _Content, _DIALECT).content:
        kind = block.get("type")
        if kind == "text":
            texts.append(said(block, "text", _DIALECT))
        elif kind in ("thinking", "redacted_thinking"):
            thought.append(said(block, "thinking", _DIALECT))
            thinking.append(block)
        elif kind == "tool_use":
            written = msgspec.json.encode(block.get("input") or {}).decode()
            if block.get("name") == JSON_TOOL:
                texts.append(written)
            else:
                calls.append(tool_call(said(block, "id", _DIALECT), said(block, "name", _DIALECT), written))
    told: dict[str, Any] = {"content": "".join(texts) if texts else None}
    if any(thought):
        told["reasoning_content"] = "".join(thought)
    if thinking:
        told["thinking_blocks"] = thinking
    if calls:
        told["tool_calls"] = calls
    told |= _refused(ending)
    named = frame.named(begun.id, begun.model)
    return named.answer([choice_of(told, **_finish(ending, bool(calls)))], _usage({}, begun.usage))


class OpenAIChunks:
    """Turns Anthropic's events into OpenAI's chunks; an ``UpstreamStream``.

    Args:
        frame: id, time and model to use where Anthropic gives none.
    """

    def __init__(self, frame: Frame) -> None:
        self.ended = False
        self.usage = Usage()
        self._frame = frame
        self._begun = False
        self._counts: dict[str, Any] = {}
        self._ending = _Ending()
        self._blocks: dict[int, dict[str, Any]] = {}
        self._calls: dict[int, int] = {}
        self._written: set[int] = set()

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take an event; return the chunks it makes. See ``UpstreamStream``."""
        kind = said(event, "type", _DIALECT)
        if not kind:
            raise malformed(_DIALECT, "an event without type")
        if kind == "error":
            raise error_in_stream(event) or malformed(_DIALECT, "an error without reason")
        if self.ended or kind not in _EVENTS:
            return []
        if not self._begun and kind != "message_start":
            raise malformed(_DIALECT, f"{kind!r} before 'message_start'")
        return _EVENTS[kind](self, event)

    def finish(self) -> list[dict[str, Any]]:
        """The stream was closed. See ``UpstreamStream``."""
        if not self.ended:
            raise EngineError("the upstream broke off before the end of its answer", code="E103")
        return []

    def _message_start(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        message = shaped(event.get("message"), _Begun, _DIALECT)
        self._begun = True
        self._frame = self._frame.named(message.id, message.model)
        # The output counted here is only what has come before the first event: the end tells the rest.
        self._count(message.usage, without="output_tokens")
        return [self._frame.chunk({"role": "assistant", "content": None})]

    def _block_start(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        start = shaped(event, _Start, _DIALECT)
        block = self._blocks[start.index] = dict(start.content_block)
        kind = block.get("type")
        if kind == "text":
            return [self._frame.chunk({"content": said(block, "text", _DIALECT)})]
        if kind == "thinking" and block.get("thinking"):
            return [self._frame.chunk({"reasoning_content": said(block, "thinking", _DIALECT)})]
        if kind == "tool_use" and block.get("name") != JSON_TOOL:
            index = self._calls[start.index] = len(self._calls)
            call = tool_call(said(block, "id", _DIALECT), said(block, "name", _DIALECT), "")
            return [self._frame.chunk({"tool_calls": [{"index": index, **call}]})]
        return []

    def _block_delta(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        part = shaped(event, _Delta, _DIALECT)
        block = self._blocks.get(part.index)
        if block is None:
            raise malformed(_DIALECT, f"a delta for block {part.index}, which hasn't started")
        kind = part.delta.get("type")
        if kind == "text_delta":
            return [self._frame.chunk({"content": said(part.delta, "text", _DIALECT)})]
        if kind == "thinking_delta":
            written = said(part.delta, "thinking", _DIALECT)
            block["thinking"] = said(block, "thinking", _DIALECT) + written
            return [self._frame.chunk({"reasoning_content": written})] if written else []
        if kind == "signature_delta":
            block["signature"] = said(part.delta, "signature", _DIALECT)
        elif kind == "input_json_delta":
            written = said(part.delta, "partial_json", _DIALECT)
            return self._arguments(part.index, block, written) if written else []
        return []

    def _block_stop(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        index = shaped(event, _Stop, _DIALECT).index
        block = self._blocks.get(index, {})
        kind = block.get("type")
        if kind == "tool_use" and index not in self._written:
            whole = msgspec.json.encode(block.get("input") or {}).decode()
            return self._arguments(index, block, whole)
        if kind in ("thinking", "redacted_thinking"):
            return [self._frame.chunk({"thinking_blocks": [block]})]
        return []

    def _arguments(self, index: int, block: dict[str, Any], written: str) -> list[dict[str, Any]]:
        if block.get("type") != "tool_use":
            return []  # what a server's own tool was given
        self._written.add(index)
        if block.get("name") == JSON_TOOL:
            return [self._frame.chunk({"content": written})]
        call = {"index": self._calls[index], "function": {"arguments": written}}
        return [self._frame.chunk({"tool_calls": [call]})]

    def _message_delta(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        self._ending = shaped(event.get("delta") or {}, _Ending, _DIALECT)
        self._count(event.get("usage"))
        return []

    def _message_stop(self, _: Mapping[str, Any]) -> list[dict[str, Any]]:
        self.ended = True
        last = self._frame.chunk(_refused(self._ending), **_finish(self._ending, bool(self._calls)))
        return [last, *self._frame.usage_chunk(self.usage)]

    def _count(self, usage: object, *, without: str = "") -> None:
        if isinstance(usage, dict):
            self.usage = _usage(
                self._counts, {name: count for name, count in usage.items() if name != without}
            )


_EVENTS = {
    "message_start": OpenAIChunks._message_start,
    "content_block_start": OpenAIChunks._block_start,
    "content_block_delta": OpenAIChunks._block_delta,
    "content_block_stop": OpenAIChunks._block_stop,
    "message_delta": OpenAIChunks._message_delta,
    "message_stop": OpenAIChunks._message_stop,
}


def _finish(ending: _Ending, called: bool) -> dict[str, Any]:
    reason = ending.stop_reason
    finished = None if reason is None else _FINISHED.get(reason, "stop")
    if finished == "tool_calls" and not called:
        finished = "stop"  # it called the tool whose input is the answer
    told: dict[str, Any] = {"finish_reason": finished}
    if reason is not None and reason not in ("end_turn", "max_tokens", "tool_use"):
        told["native_finish_reason"] = reason
    if ending.stop_sequence is not None:
        told["stop_reason"] = ending.stop_sequence  # as vLLM tells it
    return told


def _refused(ending: _Ending) -> dict[str, Any]:
    explanation = (ending.stop_details or {}).get("explanation")
    return {"refusal": explanation} if isinstance(explanation, str) else {}


def _usage(counts: dict[str, Any], usage: object) -> Usage:
    """Merge counts, which are cumulative, over those seen before.

    Anthropic counts cached tokens apart from ``input_tokens``; the prompt is the sum of the three.
    """
    if isinstance(usage, dict):
        counts.update((name, count) for name, count in usage.items() if count is not None)
    fresh = count_of(counts.get("input_tokens"))
    cached = count_of(counts.get("cache_read_input_tokens"))
    written = count_of(counts.get("cache_creation_input_tokens"))
    details = counts.get("output_tokens_details")
    return Usage(
        prompt=None if fresh is None else fresh + (cached or 0) + (written or 0),
        completion=count_of(counts.get("output_tokens")),
        cached=cached,
        cache_written=written,
        reasoning=count_of(details.get("thinking_tokens")) if isinstance(details, dict) else None,
    )
