"""A Gemini answer, plain or streamed, as OpenAI's.

Format: Gemini API reference, "Generating content" (``GenerateContentResponse``); a stream asked for with
``alt=sse`` is a row of such answers and just ends. A reason to finish that OpenAI has no word for becomes
``content_filter`` or ``error`` (OpenRouter's word) and stands in ``native_finish_reason``. A thought's
signature goes where Google's own OpenAI surface puts it:
``tool_calls[].extra_content.google.thought_signature``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import EngineError
from negajoule.gateway.adapters.errors import error_in_stream
from negajoule.gateway.adapters.frame import Frame, choice_of, tool_call
from negajoule.gateway.adapters.gemini.names import BLOCKED, FAILED
from negajoule.gateway.adapters.reading import malformed, said, shaped
from negajoule.gateway.adapters.usage import Usage, count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OpenAIChunks", "openai_answer"]

_DIALECT = "Gemini"


class _Content(msgspec.Struct):
    parts: list[dict[str, Any]] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    model_version: str | None = None
    response_id: str | None = None


class _Told:
    """What one candidate has told so far."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.calls = 0

    @property
    def finish(self) -> dict[str, Any]:
        reason = self.reason
        if reason is None:
            return {"finish_reason": None}
        if reason == "MAX_TOKENS":
            return {"finish_reason": "length"}
        finished = "tool_calls" if self.calls else "stop"
        if reason == "STOP":
            return {"finish_reason": finished}
        if reason in BLOCKED or reason in FAILED:
            finished = "content_filter" if reason in BLOCKED else "error"
        return {"finish_reason": finished, "native_finish_reason": reason}


def openai_answer(answer: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Put a plain answer into OpenAI's words.

    Args:
        answer: Gemini's, decoded.
        frame: id, time and model to use where Gemini gives none.

    Raises:
        EngineError: E104 if it isn't Gemini's, E103 if it's an error.
    """
    whole = _read(answer)
    frame = frame.named(whole.response_id, whole.model_version)
    choices = []
    for candidate in whole.candidates or ():
        told = _Told()
        told.reason = candidate.finish_reason
        message: dict[str, Any] = {"content": None}
        for delta in _deltas(candidate, told, frame.id):
            for name, value in delta.items():
                if name == "tool_calls":
                    value = [{field: call[field] for field in call if field != "index"} for call in value]
                message[name] = value if message.get(name) is None else message[name] + value
        choices.append(choice_of(message, index=candidate.index, **told.finish))
    if not choices:
        blocked = _blocked(whole)
        if blocked is None:
            raise malformed(_DIALECT, "it holds no candidate")
        choices = [choice_of({"content": None, **blocked}, **_BLOCKED_PROMPT)]
    return frame.answer(choices, _usage(whole.usage_metadata))


class OpenAIChunks:
    """Turns Gemini's streamed answers into OpenAI's chunks; an ``UpstreamStream``.

    Args:
        frame: id, time and model to use where Gemini gives none.
    """

    def __init__(self, frame: Frame) -> None:
        self.ended = False
        self.usage = Usage()
        self._frame = frame
        self._told: dict[int, _Told] = {}
        self._blocked: dict[str, Any] | None = None

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take an event; return the chunks it makes. See ``UpstreamStream``."""
        part = _read(event)
        if not self._told:
            self._frame = self._frame.named(part.response_id, part.model_version)
        if part.usage_metadata is not None:
            self.usage = _usage(part.usage_metadata)
        self._blocked = _blocked(part) or self._blocked
        chunks = []
        for candidate in part.candidates or ():
            told = self._told.get(candidate.index)
            if told is None:
                told = self._told[candidate.index] = _Told()
                chunks.append(
                    self._frame.chunk({"role": "assistant", "content": None}, index=candidate.index)
                )
            told.reason = candidate.finish_reason or told.reason
            chunks += [
                self._frame.chunk(delta, index=candidate.index)
                for delta in _deltas(candidate, told, self._frame.id)
            ]
        whole = bool(self._told) and all(told.reason is not None for told in self._told.values())
        self.ended = whole or (not self._told and self._blocked is not None)
        return chunks

    def finish(self) -> list[dict[str, Any]]:
        """The stream was closed. See ``UpstreamStream``."""
        if not self.ended:
            raise EngineError("the upstream broke off before the end of its answer", code="E103")
        if not self._told:
            last = [self._frame.chunk({"role": "assistant", **(self._blocked or {})}, **_BLOCKED_PROMPT)]
        else:
            last = [self._frame.chunk({}, index=index, **told.finish) for index, told in self._told.items()]
        return [*last, *self._frame.usage_chunk(self.usage)]


_BLOCKED_PROMPT: dict[str, Any] = {
    "finish_reason": "content_filter",
    "native_finish_reason": "PROMPT_BLOCKED",
}


def _read(answer: Mapping[str, Any]) -> _Answer:
    error = error_in_stream(answer)
    if error is not None:
        raise error
    return shaped(answer, _Answer, _DIALECT)


def _deltas(candidate: _Candidate, told: _Told, answer_id: str) -> list[dict[str, Any]]:
    """What a candidate's parts add to its message. Parts that Gemini's own tools made are passed over."""
    deltas: list[dict[str, Any]] = []
    for part in (candidate.content and candidate.content.parts) or ():
        if "functionCall" in part:
            deltas.append({"tool_calls": [_call(part, told, candidate.index, answer_id)]})
        elif "inlineData" in part:
            deltas.append({"images": [_image(part["inlineData"])]})
        elif "text" in part:
            written = said(part, "text", _DIALECT)
            if part.get("thought"):
                deltas.append({"reasoning_content": written})
            else:
                deltas.append({"content": written})
    if candidate.finish_reason in BLOCKED and candidate.finish_message:
        deltas.append({"refusal": candidate.finish_message})
    return deltas


def _call(part: dict[str, Any], told: _Told, candidate: int, answer_id: str) -> dict[str, Any]:
    call = part["functionCall"]
    if not isinstance(call, dict):
        raise malformed(_DIALECT, "a function call that is no object")
    arguments = call.get("args") or {}
    if not isinstance(arguments, dict):
        raise malformed(_DIALECT, "the arguments of a function call are no object")
    index = told.calls
    told.calls += 1
    id = said(call, "id", _DIALECT) or f"call_{answer_id}_{candidate}_{index}"
    name = said(call, "name", _DIALECT)
    translated = {"index": index, **tool_call(id, name, msgspec.json.encode(arguments).decode())}
    signature = said(part, "thoughtSignature", _DIALECT)
    if signature:
        translated["extra_content"] = {"google": {"thought_signature": signature}}
    return translated


def _image(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise malformed(_DIALECT, "'inlineData' is no object")
    url = f"data:{said(data, 'mimeType', _DIALECT)};base64,{said(data, 'data', _DIALECT)}"
    return {"type": "image_url", "image_url": {"url": url}}


def _blocked(answer: _Answer) -> dict[str, Any] | None:
    """The refusal of a prompt that was blocked; ``None`` if it wasn't."""
    feedback = answer.prompt_feedback
    if feedback is None or feedback.block_reason is None:
        return None
    return {"refusal": feedback.block_reason_message or f"the prompt was blocked: {feedback.block_reason}"}


def _usage(metadata: object) -> Usage:
    """Gemini counts thoughts apart from the candidates, and a zero is left out as protobuf does.

    Where the candidates' count is absent, the total tells what was produced.
    """
    if not isinstance(metadata, dict):
        return Usage()
    prompt = count_of(metadata.get("promptTokenCount"))
    tools = count_of(metadata.get("toolUsePromptTokenCount")) or 0
    thoughts = count_of(metadata.get("thoughtsTokenCount"))
    produced = count_of(metadata.get("candidatesTokenCount"))
    total = count_of(metadata.get("totalTokenCount"))
    completion: int | None = None
    if produced is not None:
        completion = produced + (thoughts or 0)
    elif total is not None and prompt is not None:
        completion = count_of(total - prompt - tools)
    return Usage(
        prompt=None if prompt is None else prompt + tools,
        completion=completion,
        cached=count_of(metadata.get("cachedContentTokenCount")),
        reasoning=thoughts,
    )
