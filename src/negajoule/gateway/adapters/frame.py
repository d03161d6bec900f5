"""The frame of an OpenAI answer: plain, or cut into chunks.

Format: OpenAI API reference, "The chat completion object" and "The chat completion chunk object". Two fields
are conventions of other servers: ``reasoning_content`` (DeepSeek, llama.cpp; ``reasoning`` in newer vLLM)
for what a model thought, and ``native_finish_reason`` (OpenRouter) for a reason that OpenAI has no word for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.gateway.adapters.reading import said, shaped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.gateway.adapters.usage import Usage

__all__ = ["CallDelta", "Frame", "call_deltas", "choice_of", "thought_in", "tool_call"]


class Frame(msgspec.Struct, frozen=True):
    """What every chunk of one answer repeats.

    Attributes:
        id: the answer's id: the upstream's, or the request's where it gave none.
        created: when the answer began [s since 1970].
        model: who answers: the name the upstream gave, or the one that was asked for.
    """

    id: str
    created: int
    model: str

    def named(self, id: str | None, model: str | None) -> Frame:
        """The same frame with the upstream's own names, where it gave any."""
        return Frame(id or self.id, self.created, model or self.model)

    def chunk(self, delta: dict[str, Any], *, index: int = 0, **choice: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON value)
        """One chunk with one choice; further fields of the choice by name."""
        whole = {"index": index, "delta": delta, "finish_reason": None, "logprobs": None, **choice}
        return {**self._head("chat.completion.chunk"), "choices": [whole]}

    def usage_chunk(self, usage: Usage) -> list[dict[str, Any]]:
        """The chunk without choices that tells the usage, as ``include_usage`` asks; none if uncounted."""
        counted = usage.to_openai()
        if counted is None:
            return []
        return [{**self._head("chat.completion.chunk"), "choices": [], "usage": counted}]

    def answer(self, choices: list[dict[str, Any]], usage: Usage) -> dict[str, Any]:
        """The plain answer; without ``usage`` if nobody counted."""
        answer = {**self._head("chat.completion"), "choices": choices}
        counted = usage.to_openai()
        if counted is not None:
            answer["usage"] = counted
        return answer

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class CallDelta(msgspec.Struct):
    """What a chunk adds to one call of a function.

    Attributes:
        index: which of the answer's calls.
        id: the call's id, in its first delta.
        function: name and arguments, or pieces of them.
        extra_content: what a provider needs back with the call.
    """

    index: int
    id: str | None = None
    function: dict[str, Any] = {}
    extra_content: Any = None

    @property
    def name(self) -> str:
        """The function's name, in the first delta; else empty."""
        return said(self.function, "name", "OpenAI")

    @property
    def arguments(self) -> str:
        """The next piece of the arguments."""
        return said(self.function, "arguments", "OpenAI")


class _CallDeltas(msgspec.Struct):
    tool_calls: list[CallDelta] | None = None


def call_deltas(delta: Mapping[str, Any]) -> list[CallDelta]:
    """What a delta adds to calls of functions.

    Raises:
        EngineError: E104 if it's malformed.
    """
    return shaped(delta, _CallDeltas, "OpenAI").tool_calls or []


def choice_of(
    message: dict[str, Any],
    finish_reason: str | None,
    *,
    index: int = 0,
    **more: Any,  # noqa: ANN401 (any JSON value)
) -> dict[str, Any]:
    """One choice of a plain answer."""
    return {
        "index": index,
        "message": {"role": "assistant", **message},
        "finish_reason": finish_reason,
        "logprobs": None,
        **more,
    }


def tool_call(id: str, name: str, arguments: str) -> dict[str, Any]:
    """One call of a function."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def thought_in(message: Mapping[str, Any]) -> str:
    """What a message or delta tells of the model's thoughts; empty if nothing.

    Raises:
        EngineError: E104 if it's no text.
    """
    return said(message, "reasoning_content", "OpenAI") or said(message, "reasoning", "OpenAI")
