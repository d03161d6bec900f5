"""What an OpenAI chat request asks for, read once for every dialect it may be put into.

Format: OpenAI API reference, "Create chat completion". Fields fall into four sorts: those a dialect has a
word for; those whose absence would give an answer of another shape than asked, which are refused; those that
only lean on the answer (``seed``, ``logit_bias``), which are dropped and named; and those at a value that
changes nothing, which are dropped in silence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.gateway.adapters.reading import objects, refuse, text, thing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Asked",
    "Inline",
    "calls_in",
    "content_parts",
    "inline_of",
    "refuse_unanswerable",
    "stops",
    "texts_in",
    "unheard",
]

_CHANGES_NOTHING: dict[str, object] = {
    "n": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
    "top_logprobs": 0,
    "store": False,
    "logit_bias": {},
    "metadata": {},
    "modalities": ["text"],
    "parallel_tool_calls": True,
    "service_tier": "auto",
    "response_format": {"type": "text"},
}
_DATA_URL = re.compile(r"data:([^;,]+)(?:;[^;,]*)*;base64,(.*)", re.DOTALL)


class Inline(NamedTuple):
    """Data that stand in the request itself.

    Attributes:
        media_type: e.g. ``image/png``.
        data: in base64.
    """

    media_type: str
    data: str


class Asked(NamedTuple):
    """One call of a function in a conversation.

    Attributes:
        id: its id.
        name: the function.
        arguments: as the model wrote them.
        raw: the whole call, with fields we don't know.
    """

    id: str
    name: str
    arguments: Any
    raw: dict[str, Any]


def refuse_unanswerable(body: Mapping[str, Any], *, choices_at_most: int) -> None:
    """Refuse what the answer couldn't give, rather than give something else in silence.

    Raises:
        RequestError: R102.
    """
    count = body.get("n")
    if isinstance(count, int) and count > choices_at_most:
        refuse("n", f"is {count}; this provider gives at most {choices_at_most}")
    if body.get("logprobs"):
        refuse("logprobs", "can't be had from this provider")
    modalities = body.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        refuse("modalities", "asks for audio, which can't be had from this provider")
    for name, successor in (("functions", "tools"), ("function_call", "tool_choice")):
        if body.get(name):
            refuse(name, "is the deprecated form, which isn't translated", fix=f"use {successor}")


def unheard(body: Mapping[str, Any], heard: frozenset[str]) -> list[str]:
    """Names of the fields that are set, that matter and that no word was found for."""
    return [
        name
        for name, value in body.items()
        if name not in heard
        and value is not None
        and not (name in _CHANGES_NOTHING and value == _CHANGES_NOTHING[name])
    ]


def content_parts(content: object, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of a message's content with their places; a plain text is one part, ``None`` none."""
    if content is None:
        return
    if isinstance(content, str):
        yield field, {"type": "text", "text": content}
    else:
        yield from objects(content, field)


def texts_in(content: object, field: str) -> list[str]:
    """The texts of a content that must hold nothing else.

    Raises:
        RequestError: R102.
    """
    found = []
    for name, part in content_parts(content, field):
        if part.get("type") != "text":
            refuse(f"{name}.type", f"is {part.get('type')!r}; only 'text' can stand here")
        found.append(text(part.get("text"), f"{name}.text"))
    return found


def inline_of(url: str) -> Inline | None:
    """What a ``data:`` URL holds in base64; ``None`` if it's another URL."""
    found = _DATA_URL.fullmatch(url)
    return Inline(found.group(1), found.group(2)) if found else None


def calls_in(message: Mapping[str, Any], field: str) -> list[Asked]:
    """The calls of functions that an assistant's message makes.

    Raises:
        RequestError: R102.
    """
    calls = []
    for name, call in objects(message.get("tool_calls"), f"{field}.tool_calls"):
        function = thing(call.get("function"), f"{name}.function")
        calls.append(
            Asked(
                id=text(call.get("id"), f"{name}.id"),
                name=text(function.get("name"), f"{name}.function.name"),
                arguments=function.get("arguments"),
                raw=call,
            )
        )
    return calls


def stops(body: Mapping[str, Any]) -> list[str]:
    """The texts at which the answer is to stop.

    Raises:
        RequestError: R102.
    """
    stop = body.get("stop")
    if stop is None:
        return []
    if isinstance(stop, str):
        return [stop]
    if not isinstance(stop, list):
        refuse("stop", "must be a text or a list of texts")
    return [text(item, f"stop[{place}]") for place, item in enumerate(stop)]
