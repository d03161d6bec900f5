"""Fold streamed chunks into the plain answer they make up.

The rule per field of a delta: texts are joined, lists of log-probabilities are joined, tool calls are matched
by their index, everything else is taken from the last chunk that has it. ``None`` never overwrites.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Assembly", "assemble"]

_PLAIN_OBJECT = {"chat.completion.chunk": "chat.completion", "text_completion": "text_completion"}
_JOINED = frozenset({"content", "reasoning_content", "refusal", "text", "arguments"})


def assemble(chunks: Iterable[Mapping[str, Any]], usage: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Fold all chunks of one request into a ``chat.completion`` or ``text_completion``.

    Args:
        chunks: in the order they came.
        usage: put into the answer; without it the usage found in a chunk is kept, if any.

    Raises:
        EngineError: E104 if there is no choice in them, or they aren't chunks.
    """
    assembly = Assembly()
    for chunk in chunks:
        assembly.add(chunk)
    return assembly.answer(usage)


class Assembly:
    """An answer that grows chunk by chunk."""

    def __init__(self) -> None:
        self._frame: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take one chunk in.

        Raises:
            EngineError: E104 if it isn't a chunk.
        """
        try:
            for field, value in chunk.items():
                if field != "choices" and value is not None:
                    self._frame[field] = value
            for choice in chunk["choices"]:
                if not isinstance(choice.get("delta"), dict | None):
                    raise TypeError("'delta' is no object")
                _fold(self._choices.setdefault(_index(choice), {}), choice)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"a streamed chunk isn't OpenAI-style: {type(error).__name__}: {error}", code="E104"
            ) from error

    def answer(self, usage: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make the plain answer of what has come so far.

        Raises:
            EngineError: E104 if no choice has come, or chunks of an unknown kind.
        """
        kind = self._frame.get("object")
        if not self._choices or kind not in _PLAIN_OBJECT:
            raise EngineError(f"no answer can be made of chunks of kind {kind!r}", code="E104")
        answer = {**self._frame, "object": _PLAIN_OBJECT[kind]}
        chat = kind == "chat.completion.chunk"
        answer["choices"] = [_plain(self._choices[index], chat) for index in sorted(self._choices)]
        if usage is not None:
            answer["usage"] = dict(usage)
        return answer


def _fold(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for field, value in new.items():
        if value is None:
            into.setdefault(field, None)
        elif field in _JOINED and isinstance(value, str):
            _start(into, field, _Pieces).append(value)
        elif field == "tool_calls":
            calls = _start(into, field, _Calls)
            for call in value:
                _fold(calls.setdefault(_index(call), {}), call)
        elif isinstance(value, dict):
            _fold(_start(into, field, dict), value)
        elif isinstance(value, list):
            _start(into, field, list).extend(value)
        elif field in _JOINED:
            raise TypeError(f"{field!r} is a {type(value).__name__}, not a text")
        else:
            into[field] = value


def _index(part: Mapping[str, Any]) -> int:
    index = part["index"]
    if not isinstance(index, int):
        raise TypeError(f"the index {index!r} is no number")
    return index


class _Pieces(list[str]):
    """A text that is still growing."""


class _Calls(dict[int, dict[str, Any]]):
    """Tool calls by their index in the stream."""


def _start(into: dict[str, Any], field: str, kind: type[Any]) -> Any:  # noqa: ANN401 (a new object of the kind)
    if into.get(field) is None:
        into[field] = kind()
    if type(into[field]) is not kind:
        raise TypeError(f"{field!r} changes its type along the stream")
    return into[field]


def _plain(choice: dict[str, Any], chat: bool) -> dict[str, Any]:
    plain: dict[str, Any] = _finished(choice)
    if chat:
        plain["message"] = {"role": "assistant", "content": None, **(plain.pop("delta", None) or {})}
    return {"finish_reason": None, "logprobs": None, **plain}


def _finished(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, _Calls):
        return [
            {field: part for field, part in _finished(value[index]).items() if field != "index"}
            for index in sorted(value)
        ]
    if isinstance(value, dict):
        return {field: _finished(part) for field, part in value.items()}
    return value
