"""Steady load on our gateway while upstream and clients misbehave: does it grow, leak, or lose a token?

    python benchmarks/soak.py [--minutes 2] [--clients 8]

The upstream, scripted, is slow, breaks off, lies about its usage, sends junk or fails; clients hang up or
never read. A budget counts every call. All of it is on loopback; only processes that this starts are ended.

- ``rss_slope_mb_per_min``: growth of the gateway's memory after ``warm_up_min`` (caches fill: a third of the
  run, at least two minutes if it has four), least squares, with its standard error.
- ``unaccounted_tokens``: output tokens of answers that have no row in the ledger, or whose row doesn't hold
  what a believable usage said.
- ``failed_without_error``: answers that ended neither whole nor with an error.
- ``leaked``: calls, reservations and client connections still open when all clients have gone;
  ``leaked_tasks``: tasks of its loop beyond those it began with; ``leaked_upstream_connections``: those to
  the upstream that are still open when even those kept for other calls should have been closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import urlopen

import aiohttp
from aiohttp import web

from gateway import free_port, running
from negajoule.ledger import Ledger
from negajoule.ledger.accounts import SqliteStore, Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

FAULTS = {
    "none": 60,
    "slow": 8,
    "cut": 4,
    "liar": 4,
    "twice": 4,
    "junk": 3,
    "fails": 2,
    "hangup": 8,
    "deaf": 2,
}
"""What goes wrong, and how often in a hundred calls."""

WORDS = 20
BELIEVED = ("none", "slow", "twice")
PAUSE_S = 0.02
DEAF_S = 2.0
SETTLING_S = 15.0
KEPT_S = 40.0
"""Longer than the gateway keeps an idle connection."""


class Seen(NamedTuple):
    """What a client saw of one call."""

    request_id: str
    fault: str
    ended: str


def chunk(**more: object) -> bytes:
    """One event of a stream."""
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", **more}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def upstream(request: web.Request) -> web.StreamResponse:
    """Answer as the prompt says."""
    body = await request.json()
    fault = body["messages"][0]["content"]
    usage: dict[str, object] = {"prompt_tokens": 5, "completion_tokens": WORDS, "total_tokens": 5 + WORDS}
    if fault == "liar":
        usage = {"prompt_tokens": -1, "completion_tokens": "many"}
    if fault == "fails":
        return web.json_response({"error": {"message": "broken"}}, status=500)
    if fault == "junk" and not body.get("stream"):
        return web.Response(text="<html>no JSON</html>", content_type="application/json")
    if not body.get("stream"):
        await asyncio.sleep(WORDS * PAUSE_S if fault == "slow" else 0)
        message = {"role": "assistant", "content": "word " * WORDS}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}
        )
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    with suppress(ConnectionError):
        word = "word " * (20_000 if fault == "deaf" else 1)
        for number in range(WORDS):
            await response.write(chunk(choices=[{"index": 0, "delta": {"content": word}}]))
            if fault in ("slow", "hangup"):
                await asyncio.sleep(PAUSE_S)
            if number == WORDS // 2 and fault == "cut":
                request.transport.abort()
                return response
            if number == WORDS // 2 and fault == "junk":
                await response.write(b"data: {not JSON\n\n")
        await response.write(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        for _ in range(2 if fault == "twice" else 1):
            await response.write(chunk(choices=[], usage=usage))
        await response.write(b"data: [DONE]\n\n")
    return response


async def call(session: aiohttp.ClientSession, url: str, fault: str, *, stream: bool) -> Seen:
    """Make one call and say how it ended."""
    body = {
        "model": "gpt-4o-mini",
        "stream": stream,
        "max_tokens": WORDS,
        "messages": [{"role": "user", "content": fault}],
    }
    request_id, whole = "", b""
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            request_id = response.headers.get("x-negajoule-request-id", "")
            if fault == "deaf":
                await asyncio.sleep(DEAF_S)
                response.close()
                return Seen(request_id, fault, "left")
            async for piece, _ in response.content.iter_chunks():
                whole += piece
                if fault == "hangup":
                    response.close()
                    return Seen(request_id, fault, "left")
    except aiohttp.ClientError as error:
        return Seen(request_id, fault, f"nothing: {type(error).__name__}")
    if b'"error"' in whole[-2000:]:
        return Seen(request_id, fault, "error")
    good = whole.rstrip().endswith(b"[DONE]") if stream else whole.rstrip().endswith(b"}")
    return Seen(request_id, fault, "whole" if good else "cut")


async def load(
    url: str, process: psutil.Process, seconds: float, clients: int
) -> tuple[list[Seen], list[tuple[float, float]]]:
    """Keep the clients calling; sample the gateway's memory."""
    seen: list[Seen] = []
    samples: list[tuple[float, float]] = []
    started = time.monotonic()
    until = started + seconds
    chance = random.Random(4)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client() -> None:
            while time.monotonic() < until:
                fault = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
                stream = fault in ("cut", "hangup", "deaf") or chance.random() < 0.5
                seen.append(await call(session, url, fault, stream=stream))
                await asyncio.sleep(PAUSE_S)

        async def watch() -> None:
            while time.monotonic() < until:
                samples.append((time.monotonic() - started, process.memory_info().rss / 1e6))
                await asyncio.sleep(0.5)

        await asyncio.gather(watch(), *(client() for _ in range(clients)))
    return seen, samples


def gauges(url: str) -> dict[str, float]:
    """The gateway's own gauges."""
    with urlopen(f"{url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
    return {name: float(value) for name, value in pairs if name.startswith("negajoule_")}


def connections(process: psutil.Process, *, port: int = 0, behind: int = 0) -> int:
    """Open connections of a process: those it accepted on a port, or made to one."""
    return sum(
        one.status == "ESTABLISHED"
        and (one.laddr.port == port or (one.raddr.port if one.raddr else 0) == behind)
        for one in process.net_connections("tcp")
    )


async def left(process: psutil.Process, url: str, port: int, behind: int, tasks: float) -> dict[str, float]:
    """What is still open when nobody asks any more, as soon as it is nothing or patience ends."""

    async def settled(count: Callable[[], float], patience_s: float) -> float:
        until = time.monotonic() + patience_s
        while (now := await asyncio.to_thread(count)) > 0 and time.monotonic() < until:
            await asyncio.sleep(0.5)
        return now

    def calls() -> float:
        now = gauges(url)
        return now["negajoule_in_flight"] + now["negajoule_budget_open"] + connections(process, port=port)

    return {
        "leaked": await settled(calls, SETTLING_S),
        "leaked_tasks": await settled(lambda: gauges(url)["negajoule_tasks"] - tasks, SETTLING_S),
        "leaked_upstream_connections": await settled(lambda: connections(process, behind=behind), KEPT_S),
    }


def slope(samples: list[tuple[float, float]], warm_up_s: float) -> tuple[float, float]:
    """Growth and its standard error [MB/min], without the warm-up."""
    later = [one for one in samples if one[0] >= warm_up_s]
    times, sizes = [one[0] / 60 for one in later], [one[1] for one in later]
    line = statistics.linear_regression(times, sizes)
    rest = [size - line.intercept - line.slope * at for at, size in zip(times, sizes, strict=True)]
    spread = sum((at - statistics.fmean(times)) ** 2 for at in times)
    error = (sum(one * one for one in rest) / max(1, len(rest) - 2) / spread) ** 0.5
    return line.slope, error


def unaccounted(seen: list[Seen], home: Path) -> int:
    """Output tokens of answers that the ledger doesn't hold, or holds wrongly."""
    missing = 0
    with Ledger(home / "ledger.sqlite", read_only=True) as ledger:
        for one in seen:
            if one.ended not in ("whole", "left", "cut") or not one.request_id:
                continue
            row = ledger.get(one.request_id)
            told = one.ended == "whole" and one.fault in BELIEVED
            if row is None or (told and row.tokens_out != WORDS):
                missing += WORDS
    return missing


async def soak(minutes: float, clients: int, folder: str) -> dict[str, float]:
    """Run it all."""
    home, port, behind = Path(folder) / "home", free_port(), free_port()
    with closing(SqliteStore(home / "accounts.sqlite")) as store:
        account = store.create(Terms.checked("global", "", "J", "total"), 1e9)
        app = web.Application()
        app.router.add_post("/v1/chat/completions", upstream)
        app.router.add_get(
            "/v1/models", lambda _: web.json_response({"object": "list", "data": [{"id": "gpt-4o-mini"}]})
        )
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", behind).start()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "negajoule", "serve", "--port", str(port)]
        command += ["--upstream", f"http://127.0.0.1:{behind}"]
        server = running(command, f"{url}/healthz", folder, NEGAJOULE_HOME=str(home))
        process = await asyncio.to_thread(server.__enter__)
        try:
            tasks = (await asyncio.to_thread(gauges, url))["negajoule_tasks"]
            seen, samples = await load(url, process, minutes * 60, clients)
            still = await left(process, url, port, behind, tasks)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
            await runner.cleanup()
        (usage,) = store.usage(account_id=account.id)
    warm_up_s = max(minutes * 20, min(120.0, minutes * 30))
    growth, error = slope(samples, warm_up_s)
    for fault in FAULTS:
        ends = [one.ended for one in seen if one.fault == fault]
        counts = {end: ends.count(end) for end in sorted(set(ends))}
        print(f"{fault:<7} {len(ends):6} calls: {counts}")
    minutes_mb: dict[int, list[float]] = {}
    for at, size in samples:
        minutes_mb.setdefault(int(at // 60), []).append(size)
    print("memory by minute [MB]:", *(f"{statistics.median(sizes):.1f}" for sizes in minutes_mb.values()))
    print(
        f"memory: {samples[-1][1]:.1f} MB, {growth:+.3f} +- {error:.3f} MB/min; "
        f"budget: {usage.requests} calls"
    )
    return {
        "rss_slope_mb_per_min": growth,
        "rss_slope_error_mb_per_min": error,
        "rss_mb": samples[-1][1],
        "unaccounted_tokens": unaccounted(seen, home),
        "failed_without_error": sum(one.ended == "cut" or one.ended.startswith("nothing") for one in seen),
        "warm_up_min": warm_up_s / 60,
        **still,
        "budget_held": usage.held + usage.presumed,
        "budget_overrun_j": usage.overrun / 1e6,
        "requests": len(seen),
    }


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(soak(min(options.minutes, 24 * 60.0), min(options.clients, 64), folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
