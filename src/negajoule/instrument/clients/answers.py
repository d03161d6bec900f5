"""What an answer tells: its token counts and, if a negajoule gateway gave it, its footprint.

Each API has a reader for whole answers and one that listens to a stream. Both take the clients' own types and
plain JSON. A count that isn't told, or isn't a whole number from 0 on, is ``None``.

Where the prompt's cached part and the answer's hidden reasoning are counted differs:

    OpenAI      prompt includes cached, answer includes reasoning
    Anthropic   prompt excludes cache reads and writes, answer includes thinking
    Google      prompt includes cached but not results of tools, answer excludes thoughts
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from negajoule.errors import UnitError
from negajoule.units import INDICATORS, Boundary, Footprint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["APIS", "Api", "Listener", "Said", "gateway_footprint"]

_SCHEMA = "negajoule.footprint/1"
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")
"""The events of OpenAI's Responses API that carry the whole answer and its usage."""


class Said(NamedTuple):
    """What an answer, or the part of it that came, told.

    Attributes:
        tokens_in: prompt tokens, cached ones included.
        tokens_cached: prompt tokens out of a cache.
        tokens_out: generated tokens, hidden reasoning included.
        tokens_reasoning: hidden reasoning among them.
        model: the model that answered, empty if it wasn't told.
        footprint: the JSON form of a negajoule gateway's footprint.
    """

    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_out: int | None = None
    tokens_reasoning: int | None = None
    model: str = ""
    footprint: dict[str, Any] | None = None


class Listener:
    """Follows a stream; ``said`` holds what it has told so far.

    Args:
        read: reads the chunks that say something.
    """

    def __init__(self, read: Callable[[Any], Said]) -> None:
        self.said = Said()
        self._read = read

    def hear(self, chunk: object) -> None:
        """Take one chunk; later figures replace earlier ones, for they are sums so far."""
        new = self._read(chunk)
        if new is not _NOTHING:
            both = zip(self.said, new, strict=True)
            self.said = Said._make(old if fresh in (None, "") else fresh for old, fresh in both)


class Api(NamedTuple):
    """One API of a provider.

    Attributes:
        operation: its name in OpenTelemetry's conventions for generative AI.
        answer: reads a whole answer.
        chunk: reads a chunk of a stream.
    """

    operation: str
    answer: Callable[[Any], Said]
    chunk: Callable[[Any], Said]


_NOTHING = Said()


def _openai(answer: object) -> Said:
    """Chat completions, completions and embeddings, whole or in chunks."""
    usage = _field(answer, "usage")
    given = _extra(answer, "footprint")
    if usage is None and given is None:
        return _NOTHING
    return Said(
        _count(usage, "prompt_tokens"),
        _count(_field(usage, "prompt_tokens_details"), "cached_tokens"),
        _count(usage, "completion_tokens"),
        _count(_field(usage, "completion_tokens_details"), "reasoning_tokens"),
        _field(answer, "model") or "",
        given if isinstance(given, dict) else None,
    )


def _embeddings(answer: object) -> Said:
    """Embeddings: nothing is generated, so no count of it is told."""
    said = _openai(answer)
    return said._replace(tokens_out=0) if said.tokens_in is not None else said


def _responses(answer: object) -> Said:
    """OpenAI's Responses API."""
    usage = _field(answer, "usage")
    given = _extra(answer, "footprint")
    return Said(
        _count(usage, "input_tokens"),
        _count(_field(usage, "input_tokens_details"), "cached_tokens"),
        _count(usage, "output_tokens"),
        _count(_field(usage, "output_tokens_details"), "reasoning_tokens"),
        _field(answer, "model") or "",
        given if isinstance(given, dict) else None,
    )


def _responses_event(event: object) -> Said:
    if _field(event, "type") not in _RESPONSE_ENDS:
        return _NOTHING
    answer = _field(event, "response")
    return _NOTHING if answer is None else _responses(answer)


def _anthropic(answer: object) -> Said:
    usage = _field(answer, "usage")
    return Said(
        *_anthropic_prompt(usage), _count(usage, "output_tokens"), None, _field(answer, "model") or ""
    )


def _anthropic_event(event: object) -> Said:
    kind = _field(event, "type")
    if kind == "message_start":
        message = _field(event, "message")
        # Its output count stands for the first piece only; the real one comes with message_delta.
        return Said(*_anthropic_prompt(_field(message, "usage")), model=_field(message, "model") or "")
    if kind == "message_delta":
        usage = _field(event, "usage")
        return Said(*_anthropic_prompt(usage), _count(usage, "output_tokens"))
    return _NOTHING


def _anthropic_prompt(usage: object) -> tuple[int | None, int | None]:
    fresh, read = _count(usage, "input_tokens"), _count(usage, "cache_read_input_tokens")
    if fresh is None:
        return None, read
    return fresh + (read or 0) + (_count(usage, "cache_creation_input_tokens") or 0), read


def _google(answer: object) -> Said:
    usage = _field(answer, "usage_metadata", "usageMetadata")
    prompt = _count(usage, "prompt_token_count", "promptTokenCount")
    tools = _count(usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount")
    answered = _count(usage, "candidates_token_count", "candidatesTokenCount")
    thought = _count(usage, "thoughts_token_count", "thoughtsTokenCount")
    return Said(
        None if prompt is None else prompt + (tools or 0),
        _count(usage, "cached_content_token_count", "cachedContentTokenCount"),
        None if answered is None and thought is None else (answered or 0) + (thought or 0),
        thought,
        _field(answer, "model_version", "modelVersion") or "",
    )


APIS: dict[str, Api] = {
    "chat": Api("chat", _openai, _openai),
    "completions": Api("text_completion", _openai, _openai),
    "embeddings": Api("embeddings", _embeddings, _embeddings),
    "responses": Api("chat", _responses, _responses_event),
    "messages": Api("chat", _anthropic, _anthropic_event),
    "generate_content": Api("generate_content", _google, _google),
}
"""The APIs whose answers can be read."""


def gateway_footprint(given: dict[str, Any] | None) -> Footprint | None:
    """The footprint that a negajoule gateway put into its answer; ``None`` if it isn't one.

    Its factors come by key only, so they can't be carried over; they are named in a note.
    """
    if given is None or given.get("schema") != _SCHEMA or given.get("boundary") not in get_args(Boundary):
        return None
    notes = given.get("notes")
    factors = given.get("factors")
    remarks = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    if isinstance(factors, dict) and factors:
        remarks.append("the gateway's factors: " + ", ".join(str(key) for key in factors.values()))
    try:
        indicators: dict[str, Any] = {
            name: None if given.get(name) is None else kind.from_dict(given[name])
            for name, kind in INDICATORS.items()
        }
    except (UnitError, AttributeError):
        return None
    return Footprint(boundary=given["boundary"], **indicators, notes=tuple(remarks))


def _field(thing: object, *names: str) -> Any:  # noqa: ANN401 (any client's types)
    """The first of these fields that there is, of an object or of JSON."""
    for name in names:
        found = thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
        if found is not None:
            return found
    return None


def _extra(thing: object, name: str) -> Any:  # noqa: ANN401 (any server's JSON)
    """A field that the clients' types don't know; asking those for it as an attribute would be slow."""
    fields = thing if isinstance(thing, dict) else getattr(thing, "model_extra", None)
    return fields.get(name) if fields else None


def _count(thing: object, *names: str) -> int | None:
    found = _field(thing, *names)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
