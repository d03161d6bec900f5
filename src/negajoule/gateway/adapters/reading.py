"""Reading JSON that somebody else wrote: the right type, or an error that names the place.

What a client sent wrongly is a ``RequestError`` (R102) with the field; what an upstream sent wrongly is an
``EngineError`` (E104).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec

from negajoule.errors import EngineError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Translated",
    "arguments_of",
    "malformed",
    "objects",
    "refuse",
    "said",
    "shaped",
    "text",
    "thing",
    "word",
]

_T = TypeVar("_T")
_KINDS: dict[type, str] = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a text",
    type(None): "null",
}

UNPARSED = "unparsed_arguments"
"""Key under which arguments that aren't a JSON object stand, where a dialect takes objects only."""


class Translated(msgspec.Struct, frozen=True):
    """A request in another dialect.

    Attributes:
        body: the request.
        lost: fields of the original whose meaning was lost or narrowed on the way, in order; a gateway may
            tell its client.
    """

    body: dict[str, Any]
    lost: tuple[str, ...] = ()


def refuse(field: str, problem: str, *, fix: str = "") -> NoReturn:
    """Refuse a client's request because of one field.

    Raises:
        RequestError: R102, always.
    """
    raise RequestError(f"{field!r} {problem}", param=field, fix=fix)


def text(value: object, field: str) -> str:
    """A text, or a refusal."""
    if not isinstance(value, str):
        refuse(field, f"must be a text, not {_kind(value)}")
    return value


def thing(value: object, field: str) -> dict[str, Any]:
    """An object, or a refusal."""
    if not isinstance(value, dict):
        refuse(field, f"must be an object, not {_kind(value)}")
    return value


def objects(value: object, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list with their places (``messages[3]``); absent counts as empty; or a refusal."""
    if value is None:
        return
    if not isinstance(value, list):
        refuse(field, f"must be a list, not {_kind(value)}")
    for place, item in enumerate(value):
        name = f"{field}[{place}]"
        yield name, thing(item, name)


def word(value: object, words: Mapping[str, _T], field: str) -> _T:
    """What one of a dialect's words is in another, or a refusal that lists the words."""
    if not isinstance(value, str) or value not in words:
        refuse(field, f"must be one of {', '.join(words)}")
    return words[value]


def malformed(dialect: str, problem: object) -> EngineError:
    """The error for an upstream's answer that isn't what its dialect promises."""
    return EngineError(f"the upstream's answer isn't {dialect}'s: {problem}", code="E104")


def shaped(value: object, kind: type[_T], dialect: str) -> _T:
    """An upstream's JSON as a struct.

    Raises:
        EngineError: E104 if it doesn't fit.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise malformed(dialect, error) from None


def said(block: Mapping[str, Any], name: str, dialect: str) -> str:
    """A text in an upstream's JSON; empty if it's absent.

    Raises:
        EngineError: E104 if it's something else.
    """
    value = block.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed(dialect, f"{name!r} is {_kind(value)}, not a text")
    return value


def arguments_of(written: object) -> dict[str, Any]:
    """The object that a tool call's ``arguments`` text holds.

    Models do write arguments that aren't JSON. They are kept under a name of their own, so that a
    conversation that holds such a call can go on.
    """
    if isinstance(written, str):
        if not written.strip():
            return {}
        try:
            parsed = msgspec.json.decode(written)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return {UNPARSED: written}
        if isinstance(parsed, dict):
            return parsed
    return {} if written is None else {UNPARSED: written}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)
