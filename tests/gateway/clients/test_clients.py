"""Foreign clients unchanged: plain and streamed, tools, fields that we don't know.

Each client runs twice: before the fake engine, and before a gateway that passes calls on to a scripted
upstream. Those that need an installation are slow; set ``NEGAJOULE_TEST_VENVS`` to a folder to keep it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import CALL, SAID, USAGE

PROGRAMS = Path(__file__).parent / "programs"
RUN_S = 120
UNKNOWN = {"deep": [1]}

# The poisoned releases of March 2026 were 1.82.7 and 1.82.8; this is the benchmark's, in a place of its own.
LITELLM = "litellm==1.105.2"
LANGCHAIN = "langchain-openai==1.5.2"
LLM = "llm==0.36"
OPENAI_NODE = "openai@7.57.0"


def run(command: list[str], **options) -> str:
    """Run a client; its words on stderr are the failure's message."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def seen_by(command: list[str], environment: dict[str, str]) -> dict:
    """What a client's program says that it read: its last line."""
    return json.loads(run(command, env=environment).splitlines()[-1])


def arguments_of(calls: list[dict]) -> list[tuple]:
    """Name and arguments of tool calls, however a client writes them."""
    found = []
    for call in calls:
        function = call.get("function", call)
        arguments = function["arguments"] if "arguments" in function else function["args"]
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
        found.append((call["id"], function["name"], parsed))
    return found


EXPECTED_CALL = [(CALL["id"], "weather", {"at": "Zürich"})]


def check_engine(seen: dict) -> None:
    """What every client must read from the fake engine."""
    assert seen["plain"] == seen["streamed"]
    assert seen["plain"].startswith("fake:")
    assert seen["plain_usage"] == seen["streamed_usage"] > 0


def check_passing(seen: dict, bodies: list[dict]) -> None:
    """What every client must read through us, and what must arrive behind us."""
    assert seen["plain"] == seen["streamed"] == SAID
    assert seen["plain_usage"] == seen["streamed_usage"] == USAGE["completion_tokens"]
    assert [arguments_of(calls) for calls in seen["calls"]] == [EXPECTED_CALL, EXPECTED_CALL]
    assert all(body["x_unknown"] == UNKNOWN for body in bodies)
    offered = [body["tools"] for body in bodies if "tools" in body]
    assert offered
    assert all(tools[0]["function"]["name"] == "weather" for tools in offered)


@pytest.mark.foreign
def test_the_official_node_client(served, passing, scripted, install_node):
    place = install_node(OPENAI_NODE)
    program = ["node", str(PROGRAMS / "openai_node.mjs"), str(place.folder)]
    seen = seen_by([*program, served.url, "fake"], place.environment)
    check_engine(seen)
    assert seen["models"] == ["fake"]
    assert seen["refused"] == {"status": 400, "code": "R102"}
    assert all(served.ledger.get(request_id) for request_id in seen["footprints"])
    seen = seen_by([*program, passing.url, "big"], place.environment)
    check_passing(seen, scripted.bodies)
    assert seen["fingerprint"] == "fp_kept"
    assert {row.tokens_out for row in passing.ledger.latest(4)} == {USAGE["completion_tokens"]}


@pytest.mark.foreign
def test_langchains_chat_openai(served, passing, scripted, install_python):
    place = install_python(LANGCHAIN)
    program = [place.python, str(PROGRAMS / "langchain_client.py")]
    check_engine(seen_by([*program, served.url, "fake"], place.environment))
    seen = seen_by([*program, passing.url, "big"], place.environment)
    check_passing(seen, scripted.bodies)
    assert seen["after"] == SAID
    assert scripted.bodies[-1]["messages"][-1]["content"] == "rain at Zürich"


@pytest.mark.foreign
def test_litellms_openai_client(served, passing, scripted, install_python):
    place = install_python(LITELLM)
    program = [place.python, str(PROGRAMS / "litellm_client.py")]
    offline = {**place.environment, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    check_engine(seen_by([*program, served.url, "fake"], offline))
    seen = seen_by([*program, passing.url, "big"], offline)
    check_passing(seen, scripted.bodies)


@pytest.mark.foreign
def test_simon_willisons_llm(served, passing, scripted, install_python, tmp_path):
    place = install_python(LLM)
    models = [
        {"model_id": alias, "model_name": name, "api_base": f"{running.url}/v1", "supports_tools": True}
        for alias, name, running in (("engine", "fake", served), ("passed", "big", passing))
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # JSON is YAML too
    environment = {**place.environment, "LLM_USER_PATH": str(tmp_path)}

    def ask(*arguments: str) -> str:
        command = [
            place.python,
            "-m",
            "llm",
            "prompt",
            "one two three",
            "--key",
            "none",
            "--no-log",
            *arguments,
        ]
        return run(command, env=environment).strip()

    plain = ask("-m", "engine", "--no-stream")
    assert plain == ask("-m", "engine")
    assert plain.startswith("fake:")
    assert ask("-m", "passed", "--no-stream") == ask("-m", "passed") == SAID
    weather = 'def weather(at: str) -> str:\n    "Tell the weather."\n    return "rain at " + at'
    for way in ([], ["--no-stream"]):
        assert ask("-m", "passed", "--functions", weather, *way) == SAID
        assert scripted.bodies[-1]["messages"][-1]["content"] == "rain at Zürich"
        assert scripted.bodies[-1]["tools"][0]["function"]["name"] == "weather"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't tested: there is no curl here")
def test_curl(served, passing, scripted):
    def ask(url: str, path: str, *arguments: str, **body) -> str:
        data = ["--data-binary", json.dumps(body)] if body else []
        return run(
            ["curl", "--silent", "--show-error", "--max-time", "20", *arguments, f"{url}/v1/{path}", *data]
        )

    asked = {"messages": [{"role": "user", "content": "one two three"}], "x_unknown": UNKNOWN}
    plain = json.loads(ask(served.url, "chat/completions", model="fake", **asked))
    said = plain["choices"][0]["message"]["content"]
    assert said.startswith("fake:")
    text = ask(served.url, "chat/completions", "--no-buffer", model="fake", stream=True, **asked)
    *events, end = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert end == "[DONE]"
    pieces = [choice["delta"].get("content") for event in events for choice in json.loads(event)["choices"]]
    assert "".join(piece or "" for piece in pieces) == said
    assert "footprint" in json.loads(events[-1])

    answer = json.loads(ask(passing.url, "chat/completions", model="big", **asked))
    assert (answer["x_new"], answer["choices"][0]["message"]["content"]) == (UNKNOWN, SAID)
    assert scripted.bodies[-1] == {"model": "big", **asked}
    tools = [{"type": "function", "function": {"name": "weather"}}]
    text = ask(passing.url, "chat/completions", model="big", stream=True, tools=tools, **asked)
    assert text.endswith("data: [DONE]\n\n")
    assert '"x_new":{"deep":[1]}' in text
    assert scripted.bodies[-1]["tools"] == tools
    status = ask(
        passing.url, "chat/completions", "--output", "/dev/null", "--write-out", "%{http_code}", model=""
    )
    assert status == "400"
    assert json.loads(ask(passing.url, "models"))["data"][0]["id"] == "big"
