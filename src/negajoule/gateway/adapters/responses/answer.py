"""A chat answer as a response: output items, usage and the settings that were asked for.

Format: OpenAI API reference, "The response object". Ids of items follow from the answer's own id, so that the
streamed and the plain response agree. A count that nobody told is ``null``. The field ``footprint`` passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.gateway.adapters.frame import thought_in
from negajoule.gateway.adapters.reading import malformed, said, shaped
from negajoule.gateway.adapters.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Item",
    "client_answer",
    "function_call_item",
    "message_item",
    "output_text",
    "reasoning_item",
    "response",
]

_DIALECT = "OpenAI"
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "user": None,
}
"""Settings that a response repeats, with what stands there if none was asked for."""

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

Item = dict[str, Any]


class _Choice(msgspec.Struct):
    message: dict[str, Any]
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    id: str = ""
    created: int | None = None
    model: str = ""
    usage: Any = None


def client_answer(answer: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """Put a plain chat answer into a response; of several choices the first.

    Args:
        answer: the chat answer.
        request: the client's request of the Responses API, whose settings the response repeats.

    Raises:
        EngineError: E104 if it isn't a chat answer.
    """
    whole = shaped(answer, _Answer, _DIALECT)
    if not whole.choices:
        raise malformed(_DIALECT, "it holds no choice")
    choice = whole.choices[0]
    message = choice.message
    items: list[Item] = []
    thought = thought_in(message)
    if thought:
        items.append(reasoning_item(whole.id, len(items), thought))
    if said(message, "content", _DIALECT):
        items.append(message_item(whole.id, len(items), [output_text(message["content"])]))
    if said(message, "refusal", _DIALECT):
        refusal = {"type": "refusal", "refusal": message["refusal"]}
        items.append(message_item(whole.id, len(items), [refusal]))
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise malformed(_DIALECT, "a tool call without function")
        name, arguments = said(function, "name", _DIALECT), said(function, "arguments", _DIALECT)
        items.append(function_call_item(whole.id, len(items), said(call, "id", _DIALECT), name, arguments))
    return response(
        id=whole.id,
        created=whole.created,
        model=whole.model,
        request=request,
        output=items,
        finish_reason=choice.finish_reason,
        usage=Usage.of(whole.usage),
        footprint=answer.get("footprint"),
    )


def response(
    *,
    id: str,
    created: int | None,
    model: str,
    request: Mapping[str, Any],
    output: list[Item],
    finish_reason: str | None = None,
    usage: Usage | None = None,
    status: str | None = None,
    error: dict[str, Any] | None = None,
    footprint: object = None,
) -> dict[str, Any]:
    """The response object.

    Args:
        id: the chat answer's id.
        created: when it began [s since 1970].
        model: who answered.
        request: the client's request, whose settings are repeated.
        output: the items so far.
        finish_reason: of the chat answer; tells whether the response is complete.
        usage: what was counted.
        status: if given, instead of what the reason tells.
        error: why it failed, if it did.
        footprint: what it cost, if known.
    """
    incomplete = _INCOMPLETE.get(finish_reason or "")
    whole = {
        "id": f"resp_{id.removeprefix('chatcmpl-')}",
        "object": "response",
        "created_at": created,
        "status": status or ("incomplete" if incomplete else "completed"),
        "background": False,
        "error": error,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": model,
        "output": output,
        "previous_response_id": None,
        "store": False,
        "truncation": "disabled",
        "usage": None if usage is None else _usage(usage),
        **{
            name: default if request.get(name) is None else request[name] for name, default in _ECHOED.items()
        },
    }
    return whole if footprint is None else {**whole, "footprint": footprint}


def reasoning_item(id: str, place: int, thought: str, *, status: str = "completed") -> Item:
    """What the model thought, as an item."""
    content = [{"type": "reasoning_text", "text": thought}] if thought else []
    return {
        "id": f"rs_{_bare(id)}_{place}",
        "type": "reasoning",
        "summary": [],
        "content": content,
        "status": status,
    }


def message_item(id: str, place: int, parts: list[Item], *, status: str = "completed") -> Item:
    """What the model said, as an item."""
    return {
        "id": f"msg_{_bare(id)}_{place}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def function_call_item(
    id: str, place: int, call_id: str, name: str, arguments: str, *, status: str = "completed"
) -> Item:
    """A call of a function, as an item."""
    return {
        "id": f"fc_{_bare(id)}_{place}",
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def output_text(written: str) -> Item:
    """A part of a message that is text."""
    return {"type": "output_text", "text": written, "annotations": [], "logprobs": []}


def _bare(id: str) -> str:
    return id.removeprefix("chatcmpl-")


def _usage(usage: Usage) -> dict[str, Any] | None:
    if not usage.known:
        return None
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_written,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
