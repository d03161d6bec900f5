"""Folding the chunks of any answer gives the answer."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.engine import assemble
from negajoule.errors import EngineError

FRAME = {"id": "x-1", "created": 5, "model": "m"}
FIELDS = [
    "choices",
    "content",
    "delta",
    "finish_reason",
    "function",
    "id",
    "index",
    "logprobs",
    "role",
    "text",
    "tool_calls",
]
names = st.text("abcdef_", min_size=1, max_size=8)
finishes = st.sampled_from(["stop", "length", "tool_calls"])
tokens = st.lists(
    st.fixed_dictionaries({"token": st.text(max_size=3), "logprob": st.floats(-9, 0)}), min_size=1, max_size=4
)


@st.composite
def tool_calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{place}",
            "type": "function",
            "function": {"name": draw(names), "arguments": draw(st.text(max_size=20))},
        }
        for place in range(draw(st.integers(1, 3)))
    ]


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    message = {"role": "assistant", "content": draw(st.none() | st.text(max_size=30))}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(st.text(max_size=30))
    if draw(st.booleans()):
        message["tool_calls"] = draw(tool_calls())
    return message


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    chat = draw(st.booleans())
    choices = []
    for index in range(draw(st.integers(1, 3))):
        choice = {"index": index, "finish_reason": draw(finishes), "logprobs": None}
        if chat:
            choice["message"] = draw(messages())
            choice["logprobs"] = draw(st.none() | st.fixed_dictionaries({"content": tokens}))
        else:
            choice["text"] = draw(st.text(max_size=30))
        choices.append(choice)
    return {**FRAME, "object": "chat.completion" if chat else "text_completion", "choices": choices}


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text at random places."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def chat_deltas(draw: st.DrawFn, message: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for field in ("reasoning_content", "content"):
        if message.get(field) is not None:
            deltas += [{field: piece} for piece in pieces(draw, message[field])]
    for place, call in enumerate(message.get("tool_calls", ())):
        first, *rest = pieces(draw, call["function"]["arguments"])
        function = {"name": call["function"]["name"], "arguments": first}
        deltas.append({"tool_calls": [{**call, "index": place, "function": function}]})
        deltas += [{"tool_calls": [{"index": place, "function": {"arguments": piece}}]} for piece in rest]
    return deltas


def choice_stream(draw: st.DrawFn, choice: dict[str, Any]) -> list[dict[str, Any]]:
    """Cut one choice into the choices of chunks."""
    blank = {"index": choice["index"], "finish_reason": None}
    if "text" in choice:
        stream = [{**blank, "text": piece} for piece in pieces(draw, choice["text"])]
        return [*stream, {**blank, "text": "", "finish_reason": choice["finish_reason"]}]
    stream = [{**blank, "delta": delta} for delta in chat_deltas(draw, choice["message"])]
    for token in (choice["logprobs"] or {}).get("content", ()):
        stream.append({**blank, "delta": {}, "logprobs": {"content": [token]}})
    return [*stream, {**blank, "delta": {}, "finish_reason": choice["finish_reason"]}]


@st.composite
def streamed(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    answer = draw(answers())
    streams = [choice_stream(draw, choice) for choice in answer["choices"]]
    order = draw(st.permutations([place for place, stream in enumerate(streams) for _ in stream]))
    kind = "text_completion" if answer["object"] == "text_completion" else "chat.completion.chunk"
    chunks = [{**FRAME, "object": kind, "choices": [streams[place].pop(0)]} for place in order]
    return answer, chunks


@given(streamed())
def test_the_chunks_of_an_answer_fold_into_it(pair: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    answer, chunks = pair
    assert assemble(chunks) == answer


def chunk(**choice: Any) -> dict[str, Any]:
    return {**FRAME, "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]}


def test_usage_is_the_one_given_or_the_one_that_came() -> None:
    told = {**FRAME, "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 3}}
    chunks = [chunk(delta={"content": "a"}), told]
    assert assemble(chunks)["usage"] == {"total_tokens": 3}
    assert assemble(chunks, {"total_tokens": 4})["usage"] == {"total_tokens": 4}
    assert "usage" not in assemble(chunks[:1])


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [{**FRAME, "object": "chat.completion.chunk", "choices": []}],
        [{**FRAME, "object": "list", "choices": [{"index": 0}]}],
        [{**FRAME, "object": "chat.completion.chunk"}],
        ["data: [DONE]"],
        [chunk(delta={"content": 5})],
        [chunk(delta={"content": "a"}), chunk(delta={"content": ["b"]})],
        [chunk(delta="a")],
        [chunk(delta={"tool_calls": [{"id": "no index"}]})],
        [chunk(delta={"tool_calls": 5})],
        [{**FRAME, "object": "chat.completion.chunk", "choices": [{"delta": {}}]}],
        [{**FRAME, "object": "chat.completion.chunk", "choices": None}],
    ],
)
def test_what_is_no_stream_is_refused(chunks: list[Any]) -> None:
    with pytest.raises(EngineError) as caught:
        assemble(chunks)
    assert caught.value.code == "E104"


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), json), max_size=4))
def test_any_json_folds_or_is_refused_as_such(changes: list[dict[str, Any]]) -> None:
    begin = chunk(delta={"content": "a"}, finish_reason="stop")
    chunks = [begin, *({**begin, "choices": [{"index": 0, **change}]} for change in changes)]
    with contextlib.suppress(EngineError):
        assert assemble(chunks)["choices"][0]["index"] is not None
