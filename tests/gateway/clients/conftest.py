"""A gateway before a scripted upstream, and foreign clients in places of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from negajoule.gateway import UpstreamBackend

from ..conftest import passing_gateway as gateway
from ..conftest import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..conftest import Running

# Read before any test begins, since every test clears our variables.
CACHE = os.environ.get("NEGAJOULE_TEST_VENVS")
INSTALL_S = 300
"""The longest that an installation may take [s]."""

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Zürich"}'}}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
SAID = "né à Zürich"


class Scripted:
    """An upstream: calls a tool if tools are offered and not yet answered, else says one sentence.

    Attributes:
        bodies: what it was asked, in order.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def chat(self, request):
        body = await request.json()
        self.bodies.append(body)
        calls = bool(body.get("tools")) and body["messages"][-1]["role"] != "tool"
        finish = "tool_calls" if calls else "stop"
        head = {
            "id": "chatcmpl-1",
            "created": 1,
            "model": "big",
            "system_fingerprint": "fp_kept",
            "x_new": {"deep": [1]},
        }
        if not body.get("stream"):
            message = {"role": "assistant", "content": None if calls else SAID}
            if calls:
                message["tool_calls"] = [CALL]
            choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
            return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": USAGE})
        first = {**CALL, "function": {"name": "weather", "arguments": ""}}
        deltas = [{"role": "assistant", "content": None}]
        if calls:
            deltas.append({"tool_calls": [{"index": 0, **first}]})
            deltas += [
                {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
                for piece in CALL["function"]["arguments"]
            ]
        else:
            deltas += [{"content": piece} for piece in SAID]

        async def events():
            chunk = {**head, "object": "chat.completion.chunk"}
            for delta in deltas:
                yield _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
            if (body.get("stream_options") or {}).get("include_usage"):
                yield _event({**chunk, "choices": [], "usage": USAGE})
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def models(self, _):
        return JSONResponse({"object": "list", "data": [{"id": "big", "object": "model"}]})

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models),
            ]
        )


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + JSONResponse(chunk).body + b"\n\n"


@pytest.fixture
def scripted() -> Scripted:
    """The upstream."""
    return Scripted()


@pytest.fixture
def passing(scripted, fresh_home) -> Iterator[Running]:
    """A gateway that passes calls on to it."""

    def backend(url: str):
        return lambda splitter, accounts: UpstreamBackend(
            url, splitter, accounts, key="secret", estimate=lambda model, tokens: None
        )

    with serving(scripted.app()) as url, gateway(backend(url)) as running:
        yield running


class Place(NamedTuple):
    """Where a foreign client is installed.

    Attributes:
        folder: all of it.
    """

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter, if it is Python's."""
        return str(self.folder / "bin" / "python")

    @property
    def environment(self) -> dict[str, str]:
        """Variables to run it with: none of ours, none of the user's keys."""
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
        }


@pytest.fixture(scope="session")
def places(tmp_path_factory) -> Path:
    """The folder of foreign clients: ``NEGAJOULE_TEST_VENVS`` keeps it from run to run."""
    return Path(CACHE).resolve() if CACHE else tmp_path_factory.mktemp("clients")


@pytest.fixture
def install_python(places) -> Callable[[str], Place]:
    """Put one pinned package, and what it needs, into an environment of its own."""

    def install(requirement: str) -> Place:
        place = Place(places / requirement.replace("==", "-"))
        if not (place.folder / "ready").exists():
            _run([sys.executable, "-m", "venv", "--clear", str(place.folder)], requirement)
            pip = [place.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, requirement], requirement)
            (place.folder / "ready").touch()
        return place

    return install


@pytest.fixture
def install_node(places) -> Callable[[str], Place]:
    """Put one pinned package of npm into a folder of its own."""

    def install(requirement: str) -> Place:
        place = Place(places / f"node-{requirement.replace('@', '-')}")
        if not (place.folder / "ready").exists():
            place.folder.mkdir(parents=True, exist_ok=True)
            npm = [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
                str(place.folder),
            ]
            _run([*npm, requirement], requirement)
            (place.folder / "ready").touch()
        return place

    return install


def _run(command: list[str], what: str) -> None:
    """Run a step of an installation, or skip the test with the reason why it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except FileNotFoundError:
        pytest.skip(f"{what} isn't tested: there is no {command[0]} here")
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what} isn't tested: it couldn't be installed within {INSTALL_S} s")
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        pytest.skip(f"{what} isn't tested: it couldn't be installed: {reason}")
