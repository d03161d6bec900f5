"""Other servers put in place while calls run: none is lost, and what isn't wanted any more is let go."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from negajoule.errors import ConfigError
from negajoule.gateway import Fleet
from negajoule.gateway.plan import read_plan
from negajoule.gateway.server import Server
from negajoule.gateway.turnover import replace_servers
from servers import serve

from .asking import chat
from .conftest import gateway, serving


class Upstream:
    """A scripted server that says its name, slowly where it streams."""

    def __init__(self, name):
        self.name = name

    async def chat(self, request):
        body = await request.json()
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        choice = {"index": 0, "message": {"content": self.name}}
        if not body.get("stream"):
            return JSONResponse({"choices": [choice], "usage": usage})

        async def pieces():
            for _ in range(10):
                yield b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % self.name.encode()
                await asyncio.sleep(0.05)
            yield b"data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    def app(self):
        return Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])])


def server_of(url, name="s"):
    (plan,) = read_plan([{"name": name, "url": url}], "a test")
    return Server(plan, estimate=lambda *_: None)


def name_of(answer):
    return answer.json["choices"][0]["message"]["content"]


def test_a_stream_ends_where_it_was_begun_and_its_server_is_then_let_go(fresh_home):
    made = {}

    def make(splitter, accounts):
        made["loop"] = asyncio.get_running_loop()
        made["fleet"] = Fleet([server_of(old)], splitter, accounts)
        return made["fleet"]

    with (
        serving(Upstream("old").app()) as old,
        serving(Upstream("new").app()) as new,
        gateway(make) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        assert name_of(chat(running.url)) == "old"
        streamed = pool.submit(chat, running.url, stream=True)
        time.sleep(0.15)
        fleet = made["fleet"]
        gone = fleet.routes.servers[0]
        closed, close = [], gone.close

        async def noted():
            closed.append(gone)
            await close()

        gone.close = noted
        made["loop"].call_soon_threadsafe(replace_servers, fleet, [server_of(new)])
        time.sleep(0.05)
        assert name_of(chat(running.url)) == "new"
        assert gone in fleet.retired
        assert streamed.result().body.endswith(b"data: [DONE]\n\n")
        until = time.monotonic() + 5
        while fleet.retired and time.monotonic() < until:
            time.sleep(0.05)
        assert (fleet.retired, fleet.leaving) == ([], set())
        assert closed == [gone]


TABLES = '[[upstream]]\nname = "one"\nurl = "{}"\n'


@pytest.mark.slow
def test_a_running_server_takes_changed_tables_up_without_losing_a_call(fresh_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "negajoule.toml"
    with serving(Upstream("old").app()) as old, serving(Upstream("new").app()) as new:
        settings.write_text(TABLES.format(old))
        with serve(fresh_home) as running, ThreadPoolExecutor(4) as pool:
            stop = threading.Event()

            def keep_asking():
                names = []
                while not stop.is_set():
                    answer = chat(running.url)
                    names.append(name_of(answer) if answer.status == 200 else answer.status)
                return names

            asking = [pool.submit(keep_asking) for _ in range(4)]
            time.sleep(0.3)
            settings.write_text("[[upstream]]\nname = 1\n")  # nothing of it is taken up
            os.kill(running.process.pid, signal.SIGHUP)
            time.sleep(0.3)
            settings.write_text(TABLES.format(new))
            os.kill(running.process.pid, signal.SIGHUP)
            time.sleep(0.5)
            last = name_of(chat(running.url))
            stop.set()
            names = [name for one in asking for name in one.result()]
    assert set(names) == {"old", "new"}, "no call was lost"
    assert last == "new"


def test_what_hasnt_changed_stays_with_its_connections(fresh_home, tmp_path):
    from negajoule.cli.upstreams import Upstreams
    from negajoule.config import Settings
    from negajoule.instrument import find_here

    toml = tmp_path / "negajoule.toml"
    toml.write_text(
        TABLES.format("http://127.0.0.1:1") + TABLES.replace("one", "two").format("http://127.0.0.1:2")
    )
    settings = Settings(folder=tmp_path)
    upstreams, here = Upstreams(settings, None, embedded=False), find_here(settings)
    accounts = SimpleNamespace(metrics=SimpleNamespace(watch=lambda *_: None))
    fleet = upstreams.fleet(here, None, accounts)
    first = fleet.routes.servers
    wanted = TABLES.format("http://127.0.0.1:1") + TABLES.replace("one", "two").format("http://127.0.0.1:3")

    async def renew():
        upstreams.renewal(Settings(folder=tmp_path), fleet=fleet, here=here, after=lambda: None)()
        await asyncio.gather(*fleet.leaving)
        return fleet.routes.servers

    toml.write_text(wanted + '[[upstream]]\nname = "c"\nurl = "http://h"\nmetered_by = "no:0"\n')
    with pytest.raises(ConfigError, match="no such instrument"):
        asyncio.run(renew())
    assert fleet.routes.servers == first, "nothing of it was taken up"
    toml.write_text(wanted)
    second = asyncio.run(renew())
    assert second[0] is first[0]
    assert second[1] is not first[1]
    assert second[1].plan.base == "http://127.0.0.1:3/v1"
