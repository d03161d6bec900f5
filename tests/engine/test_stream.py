"""llama.cpp's chunks, in every shape its wheels have had, come out as OpenAI's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from negajoule.engine.stream import Stream
from negajoule.errors import EngineError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.engine.protocol import Progress

RAW = {"id": "theirs", "created": 1, "model": "/some/where/m.gguf", "system_fingerprint": "b0"}


def timings(prompt: int, output: int, cached: int = 2) -> dict[str, Any]:
    return {
        "cache_n": cached,
        "prompt_n": prompt,
        "prompt_ms": 10.0 * prompt,
        "predicted_n": output,
        "predicted_ms": 20.0 * output,
    }


def chat(delta: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "finish_reason": finish, "delta": delta}
    return {**RAW, "object": "chat.completion.chunk", "choices": [choice], **more}


ANNOUNCE = {"role": "assistant", "content": None}
RECORDED = [
    chat(ANNOUNCE, timings=timings(0, 0), prompt_progress={"processed": 2}),
    chat(ANNOUNCE, timings=timings(128, 0), prompt_progress={"processed": 130}),
    chat(ANNOUNCE, timings=timings(150, 0), prompt_progress={"processed": 152}),
    chat(ANNOUNCE),
    chat({"content": "Rhine"}, timings=timings(150, 1)),
    chat({"content": " 🌊"}, timings=timings(150, 4)),
    chat({}, finish="stop"),
    {**RAW, "object": "chat.completion.chunk", "choices": [], "usage": {}, "timings": timings(150, 5)},
]


def play(
    raw: list[Any], task: Any = "chat", **options: Any
) -> tuple[Stream, list[dict[str, Any]], list[Progress]]:
    chunks: list[dict[str, Any]] = []
    progress: list[Progress] = []
    stream = Stream(task, "m", lambda chunk: bool(chunks.append(chunk)), progress.append, **options)
    for item in raw:
        stream.take(item)
    return stream, chunks, progress


FORMS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "dicts": lambda raw: raw,
    "texts": lambda raw: [json.dumps(item) for item in raw],
    "bytes": lambda raw: [json.dumps(item).encode() for item in raw],
    "events": lambda raw: [*(f"data: {json.dumps(item)}\n\n" for item in raw), "data: [DONE]"],
    "tuples": lambda raw: [(200, item) for item in raw],
    "lists": lambda raw: [None, raw],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form: str) -> None:
    stream, chunks, progress = play(FORMS[form](RECORDED))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Rhine"}, {"content": " 🌊"}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert {chunk["model"] for chunk in chunks} == {"m"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert not any({"usage", "timings", "prompt_progress"} & set(chunk) for chunk in chunks)
    assert [(event.kind, event.tokens) for event in progress] == [
        ("prefill", 128),
        ("prefill", 22),
        ("decode", 1),
        ("decode", 3),
        ("decode", 1),
    ]
    result = stream.result()
    assert result.timings.cached_tokens == 2
    assert result.timings.prompt_tokens == 150
    assert result.timings.prompt_s == pytest.approx(1.5)
    assert result.timings.output_s == pytest.approx(0.1)
    assert result.usage == {
        "prompt_tokens": 152,
        "completion_tokens": 5,
        "total_tokens": 157,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert not result.cancelled


def test_ids_differ_by_request_and_show_the_task() -> None:
    first, second = (play(RECORDED)[1][0]["id"] for _ in range(2))
    assert first != second
    assert first.startswith("chatcmpl-")


def test_a_request_with_tools_announces_no_text() -> None:
    chunks = play(RECORDED[:1], tools=True)[1]
    assert chunks[0]["choices"][0]["delta"]["content"] is None


def test_choices_of_one_prompt_share_its_prefill() -> None:
    raw = [
        chat({"content": "x"} if output else ANNOUNCE, index, timings=timings(30, output))
        for output in range(3)
        for index in range(4)
    ]
    stream, chunks, progress = play(raw, choices_per_prompt=2)
    result = stream.result()
    assert result.timings.prompt_tokens == 60
    assert result.timings.output_tokens == 8
    assert sum(event.tokens for event in progress if event.kind == "prefill") == 60
    assert sum(event.tokens for event in progress if event.kind == "decode") == 8
    assert sum("role" in chunk["choices"][0]["delta"] for chunk in chunks) == 4


def test_completions_get_their_own_shape_of_logprobs() -> None:
    def text(text: str, tokens: list[str], finish: str | None = None) -> dict[str, Any]:
        content = [
            {"token": token, "logprob": -0.5, "top_logprobs": [{"token": token, "logprob": -0.5}]}
            for token in tokens
        ]
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": {"content": content}}
        return {**RAW, "object": "text_completion", "choices": [choice], "timings": timings(3, 1)}

    raw = [text("", []), text("ab", ["a", "b"]), text("c", ["c"]), text("", [], "stop")]
    _, chunks, _ = play(raw, "completion")
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in choices] == ["", "ab", "c", ""]
    assert choices[1]["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"a": -0.5}, {"b": -0.5}],
        "text_offset": [0, 1],
    }
    assert choices[2]["logprobs"]["text_offset"] == [2]
    assert choices[3]["logprobs"] is None
    assert chunks[0]["id"].startswith("cmpl-")


@pytest.mark.parametrize("cancel_at", [1, 2, 3, 4])
def test_hanging_up_stops_the_stream_at_once(cancel_at: int) -> None:
    chunks: list[dict[str, Any]] = []

    def on_chunk(chunk: dict[str, Any]) -> bool:
        chunks.append(chunk)
        return len(chunks) == cancel_at

    stream = Stream("chat", "m", on_chunk)
    asked_to_stop = [stream.take(item) for item in RECORDED]
    assert len(chunks) == cancel_at
    assert asked_to_stop == sorted(asked_to_stop)
    assert asked_to_stop[-1]
    assert stream.result().cancelled


def test_progress_can_hang_up_during_prefill() -> None:
    chunks: list[dict[str, Any]] = []
    stream = Stream("chat", "m", lambda chunk: bool(chunks.append(chunk)), lambda event: True)
    assert [stream.take(item) for item in RECORDED[:2]] == [False, True]
    result = stream.result()
    assert result.cancelled
    assert result.timings.prompt_tokens == 128
    assert len(chunks) == 1


def test_hanging_up_before_anything_ran_counts_nothing() -> None:
    stream = Stream("chat", "m", lambda chunk: True)
    assert stream.take(chat(ANNOUNCE))
    assert stream.result().usage["total_tokens"] == 0


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()])
def test_what_a_callback_raises_comes_out_of_result(error: BaseException) -> None:
    def on_chunk(chunk: dict[str, Any]) -> bool:
        raise error

    stream = Stream("chat", "m", on_chunk)
    assert stream.take(RECORDED[0])
    assert stream.take(RECORDED[1])
    with pytest.raises(type(error)) as caught:
        stream.result()
    assert caught.value is error


def test_closing_ends_the_stream() -> None:
    stream, chunks, _ = play(RECORDED, stopping=lambda: True)
    assert not chunks
    with pytest.raises(EngineError) as caught:
        stream.result()
    assert caught.value.status == 503


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        ({"error": {"code": 400, "message": "no such sampler", "type": "x"}}, 400, "no such sampler"),
        ({"error": {"code": 503, "message": "Loading model"}}, 503, "Loading model"),
        ({"error": {"code": 7}}, 500, "no reason"),
        ({"error": {"code": "400"}}, 500, "no reason"),
        ({"error": "out of order"}, 500, "out of order"),
        ('{"error": "out of order"}', 500, "out of order"),
        (None, 500, "without an answer"),
    ],
)
def test_errors_carry_a_status(raw: object, status: int, words: str) -> None:
    stream, chunks, _ = play([raw])
    assert not chunks
    with pytest.raises(EngineError, match=words) as caught:
        stream.result()
    assert (caught.value.code, caught.value.status) == ("E102", status)


def test_a_prompt_too_long_is_the_clients_error() -> None:
    error = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 3031, "n_ctx": 2048}
    stream, _, _ = play([{"error": error}])
    with pytest.raises(RequestError, match=r"3031 tokens.*2048") as caught:
        stream.result()
    assert caught.value.code == "R104"
