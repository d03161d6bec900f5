"""What hypothesis makes up for adapters: conversations, answers, split streams, damage."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st

from negajoule.engine import Assembly
from negajoule.errors import NegajouleError
from negajoule.gateway.adapters import Frame, decode_event
from negajoule.gateway.sse import EventCutter, data_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@contextlib.contextmanager
def at_most(*codes: str) -> Iterator[None]:
    """Whatever is done inside may fail with one of these codes, and with nothing else."""
    try:
        yield
    except NegajouleError as error:
        if error.code not in codes:
            raise


few = settings(max_examples=40)
"""For properties over whole streams, whose examples are long; they held over 1,500 examples once."""

FRAME = Frame("req_1", 1_700_000_000, "asked-model")

texts = st.text(min_size=1, max_size=30)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,24}", fullmatch=True)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,20}", fullmatch=True)
counts = st.none() | st.integers(0, 10**9)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


def calls_with(call_ids: list[str]) -> st.SearchStrategy[list[dict]]:
    """Tool calls of these ids."""
    return st.tuples(*[st.tuples(names, json_objects) for _ in call_ids]).map(
        lambda made: [
            {
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for id, (name, arguments) in zip(call_ids, made, strict=True)
        ]
    )


@st.composite
def conversations(draw) -> list[dict]:
    """Text and tool conversations as OpenAI writes them, system messages first."""
    messages = [
        {"role": draw(st.sampled_from(["system", "developer"])), "content": said}
        for said in draw(st.lists(texts, max_size=2))
    ]
    fresh = iter(draw(st.lists(ids, unique=True, min_size=12, max_size=12)))
    messages.append({"role": "user", "content": draw(texts)})
    for kind in draw(st.lists(st.sampled_from(["user", "parts", "said", "calls"]), max_size=5)):
        if kind == "user":
            messages.append({"role": "user", "content": draw(texts)})
        elif kind == "parts":
            parts = [{"type": "text", "text": said} for said in draw(st.lists(texts, min_size=2, max_size=3))]
            messages.append({"role": "user", "content": parts})
        elif kind == "said":
            messages.append({"role": "assistant", "content": draw(texts)})
        else:
            call_ids = [next(fresh) for _ in range(draw(st.integers(1, 2)))]
            messages.append(
                {
                    "role": "assistant",
                    "content": draw(st.none() | texts),
                    "tool_calls": draw(calls_with(call_ids)),
                }
            )
            messages += [{"role": "tool", "tool_call_id": id, "content": draw(texts)} for id in call_ids]
    return messages


def meaning(messages: Iterable[dict]) -> list[tuple]:
    """What a translation must keep: roles, texts, names, arguments, ids.

    System and developer messages count as one beginning, however cut; arguments count by what they say.
    """
    kept: list[tuple] = []
    for message in messages:
        role = "system" if message["role"] == "developer" else message["role"]
        content = message.get("content")
        said = tuple([content] if isinstance(content, str) else [part["text"] for part in content or ()])
        if role == "system" and kept and kept[-1][0] == "system":
            kept[-1] = ("system", kept[-1][1] + said, (), None)
            continue
        calls = tuple(
            (call["id"], call["function"]["name"], json.dumps(json.loads(call["function"]["arguments"])))
            for call in message.get("tool_calls") or ()
        )
        kept.append((role, said, calls, message.get("tool_call_id")))
    return kept


@st.composite
def pieces(draw, whole: str, most: int = 4) -> list[str]:
    """A text cut at any places."""
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=most - 1)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@st.composite
def as_bytes(draw, events: list[dict], encode: Callable[[dict], bytes]) -> list[dict]:
    """The same events after a way through bytes that were split anywhere, even within a character."""
    whole = b"".join(map(encode, events))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    cutter = EventCutter()
    arrived = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        for raw in cutter.feed(whole[start:end]):
            data = data_of(raw)
            assert data is not None
            arrived.append(decode_event(data))
    assert cutter.rest == b""
    return arrived


def folded(chunks: Iterable[dict]) -> dict[str, Any]:
    """Chunks as the plain answer they make up."""
    assembly = Assembly()
    for chunk in chunks:
        assembly.add(chunk)
    return assembly.answer()


def by_meaning(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer whose tool calls' arguments count by what they say, not by their blanks."""
    answer = copy.deepcopy(answer)
    for choice in answer["choices"]:
        for call in choice["message"].get("tool_calls") or ():
            call["function"]["arguments"] = json.loads(call["function"]["arguments"] or "{}")
    return answer


@st.composite
def damaged(draw, whole: Any) -> Any:
    """The same JSON with one value, anywhere inside, replaced by another or taken out."""
    whole = copy.deepcopy(whole)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = (
            list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        )
        for key in keys:
            places.append((value, key))
            walk(value[key])

    walk(whole)
    holder, key = draw(st.sampled_from(places))
    if draw(st.booleans()):
        holder[key] = draw(json_values)
    else:
        del holder[key]
    return whole
