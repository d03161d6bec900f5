"""An OpenAI answer, plain or streamed, as Gemini's clients expect it.

Format: Gemini API reference, "Generating content" (``GenerateContentResponse``). A stream is a row of such
answers as events; calls of functions come whole, in the last one. The field ``footprint`` passes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.gateway.adapters.errors import gemini_error
from negajoule.gateway.adapters.frame import call_deltas, thought_in
from negajoule.gateway.adapters.gemini.names import BLOCKED, FAILED, signature_in
from negajoule.gateway.adapters.reading import arguments_of, malformed, said, shaped
from negajoule.gateway.adapters.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.errors import NegajouleError

__all__ = ["ClientEvents", "client_answer"]

_DIALECT = "OpenAI"
_FINISHED = {"length": "MAX_TOKENS", "content_filter": "SAFETY", "error": "OTHER"}
_NATIVE = BLOCKED | FAILED


class _Choice(msgspec.Struct):
    index: int = 0
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None
    native_finish_reason: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    id: str | None = None
    model: str | None = None
    usage: Any = None


def client_answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Put a plain answer into Gemini's words.

    Raises:
        EngineError: E104 if it isn't OpenAI's.
    """
    whole = shaped(answer, _Answer, _DIALECT)
    candidates = []
    for choice in whole.choices:
        message = choice.message
        if message is None:
            raise malformed(_DIALECT, "a choice without message")
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise malformed(_DIALECT, "'tool_calls' is no list")
        refusal = said(message, "refusal", _DIALECT)
        candidates.append(_candidate(choice, [*_texts(message), *map(_function_call, calls)], refusal))
    return _response(whole, candidates, Usage.of(whole.usage), _footprint(answer))


class ClientEvents:
    """Turns OpenAI's chunks into Gemini's streamed answers; a ``ClientStream``."""

    def __init__(self) -> None:
        self._head: _Answer | None = None
        self._usage: Any = None
        self._last: dict[int, _Choice] = {}
        self._calls: dict[int, dict[int, dict[str, Any]]] = {}
        self._refusals: defaultdict[int, str] = defaultdict(str)
        self._footprint: dict[str, Any] = {}

    def feed(self, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a chunk; return the events it makes. See ``ClientStream``."""
        whole = shaped(chunk, _Answer, _DIALECT)
        self._head = self._head or whole
        if whole.usage is not None:
            self._usage = whole.usage
        self._footprint = _footprint(chunk) or self._footprint
        candidates = []
        for choice in whole.choices:
            delta = choice.delta or {}
            self._collect(choice.index, delta)
            self._refusals[choice.index] += said(delta, "refusal", _DIALECT)
            parts = _texts(delta)
            if parts:
                candidates.append(_candidate(_Choice(choice.index), parts))
            if choice.finish_reason is not None or choice.index not in self._last:
                self._last[choice.index] = choice
        return [_response(self._head, candidates, Usage(), {})] if candidates else []

    def finish(self) -> list[dict[str, Any]]:
        """The answer is whole. See ``ClientStream``."""
        if self._head is None:
            raise malformed(_DIALECT, "it ended before it began")
        candidates = []
        for index, choice in self._last.items():
            calls = self._calls.get(index, {})
            parts = [_function_call(calls[place]) for place in sorted(calls)]
            candidates.append(_candidate(choice, parts, self._refusals.get(index, "")))
        return [_response(self._head, candidates, Usage.of(self._usage), self._footprint)]

    def fail(self, error: NegajouleError) -> list[dict[str, Any]]:
        """The answer broke off. See ``ClientStream``."""
        return [gemini_error(error)]

    def _collect(self, index: int, delta: dict[str, Any]) -> None:
        for call in call_deltas(delta):
            whole = self._calls.setdefault(index, {}).setdefault(
                call.index, {"id": None, "function": {"name": "", "arguments": ""}}
            )
            whole["id"] = call.id or whole["id"]
            whole["function"]["name"] = call.name or whole["function"]["name"]
            whole["function"]["arguments"] += call.arguments
            whole["extra_content"] = call.extra_content or whole.get("extra_content")


def _texts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    thought = thought_in(message)
    written = said(message, "content", _DIALECT)
    parts: list[dict[str, Any]] = [{"text": thought, "thought": True}] if thought else []
    return [*parts, {"text": written}] if written else parts


def _function_call(call: object) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise malformed(_DIALECT, "a tool call without function")
    part: dict[str, Any] = {
        "functionCall": {
            "id": said(call, "id", _DIALECT),
            "name": said(function, "name", _DIALECT),
            "args": arguments_of(function.get("arguments")),
        }
    }
    signature = signature_in(call)
    return part if signature is None else {**part, "thoughtSignature": signature}


def _candidate(choice: _Choice, parts: list[dict[str, Any]], refusal: str = "") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": choice.index}
    if choice.finish_reason is not None:
        native = choice.native_finish_reason
        finished = "SAFETY" if refusal else _FINISHED.get(choice.finish_reason, "STOP")
        candidate["finishReason"] = native if isinstance(native, str) and native in _NATIVE else finished
    if refusal:
        candidate["finishMessage"] = refusal
    return candidate


def _response(
    head: _Answer, candidates: list[dict[str, Any]], usage: Usage, footprint: dict[str, Any]
) -> dict[str, Any]:
    response: dict[str, Any] = {"candidates": candidates, "modelVersion": head.model, "responseId": head.id}
    counts = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": _without(usage.completion, usage.reasoning),
        "thoughtsTokenCount": usage.reasoning,
        "cachedContentTokenCount": usage.cached,
        "totalTokenCount": usage.total,
    }
    if usage.known:
        response["usageMetadata"] = {name: count for name, count in counts.items() if count is not None}
    return response | footprint


def _without(completion: int | None, reasoning: int | None) -> int | None:
    return None if completion is None else max(0, completion - (reasoning or 0))


def _footprint(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"footprint": answer["footprint"]} if "footprint" in answer else {}
