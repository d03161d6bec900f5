"""What a gateway adds: ours, LiteLLM's proxy and a bare pass-through before one fake upstream, in one run.

    python benchmarks/gateway.py [--requests 120] [--rounds 15] [--venvs DIR] [--no-litellm]

Ours asks for an API key, holds a budget, books every call in the ledger and counts it for Prometheus. LiteLLM
asks for its master key; it has no database, so it keeps no books. The pass-through does nothing of it.

CPU time is each server's own, by the operating system, per request. Servers take turns, and ratios are
medians of those within a round, so that what else runs on the machine counts little. Latency is what a client
on loopback sees; ``added`` is that less what it sees from the upstream itself. LiteLLM is pinned and lives in
an environment of its own. All servers run on uvicorn with one worker and, where it is installed, on uvloop,
which is printed. Load goes to loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

import aiohttp
import psutil

from negajoule.ledger import Ledger
from negajoule.ledger.accounts import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = Path(__file__).parent / "peers"
LITELLM = "litellm[proxy]==1.105.2"
WARM_UP = 50
KINDS = (("plain", 1, False), ("stream", 1, True), ("plain_32", 32, False), ("stream_32", 32, True))
"""Name, clients at once, streamed."""
BODY = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Tell me something. " * 8}],
    "max_tokens": 64,
}


class Target(NamedTuple):
    """A server under test."""

    name: str
    url: str
    process: psutil.Process
    key: str


class Load(NamedTuple):
    """What a load brought to light."""

    cpu_ms: float
    p50_ms: float
    p99_ms: float
    per_s: float
    failed: float
    sent: float


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, folder: str, **variables: str) -> Iterator[psutil.Process]:
    """Start a server, wait until it answers, end it by its process id."""
    environment = {**os.environ, **variables}
    with (Path(folder) / f"{Path(command[-1]).name or 'server'}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    urlopen(url, timeout=2).close()
                    break
                except OSError as error:
                    if getattr(error, "code", None):
                        break
                    if process.poll() is not None or time.monotonic() > until:
                        raise SystemExit(f"{command[:3]} didn't start; see {log.name}") from None
                    time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)


def cpu_s(process: psutil.Process) -> float:
    """CPU time of a server and its workers, by their clocks: see ``clock_getcpuclockid(3)`` for the id."""
    family = [process, *process.children(recursive=True)]
    return sum(time.clock_gettime((~one.pid << 3) | 2) for one in family)


def loop_of(process: psutil.Process) -> str:
    """The event loop that a server has loaded."""
    maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
    return "uvloop" if "/uvloop/" in maps else "asyncio"


def admitted(home: str) -> str:
    """A key with a budget in a home of ours."""
    environment = {**os.environ, "NEGAJOULE_HOME": home}

    def told(*words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "negajoule", *words, "--json"]
        answer = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
        found: dict[str, Any] = json.loads(answer)
        return found

    told("budgets", "set", "1000 kWh", "--key", "bench", "--per", "day")
    return str(told("keys", "create", "bench")["secret"])


def booked(home: Path) -> tuple[int, int]:
    """Calls that the ledger and the budget of a stopped server hold."""
    with Ledger(home / "ledger.sqlite", read_only=True) as ledger:
        rows = sum(group.activities for group in ledger.totals(by="kind") if group.group == "request")
    with closing(SqliteStore(home / "accounts.sqlite")) as store:
        (usage,) = store.usage()
    return rows, usage.requests


async def load(target: Target, requests: int, clients: int, *, stream: bool) -> Load:
    """Send requests from some clients at once."""
    body = json.dumps({**BODY, "stream": stream}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {target.key}"}
    latencies: list[float] = []
    failed = 0
    left = requests
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client() -> None:
            nonlocal left, failed
            while left > 0:
                left -= 1
                started = time.perf_counter()
                async with session.post(
                    f"{target.url}/v1/chat/completions", data=body, headers=headers
                ) as response:
                    answer = await response.read()
                    whole = answer.rstrip().endswith(b"[DONE]") if stream else answer.endswith(b"}")
                    if response.status != 200 or not whole:
                        if not failed:
                            print(f"{target.name}: {response.status} {answer[-200:]!r}", file=sys.stderr)
                        failed += 1
                latencies.append(time.perf_counter() - started)

        before, started = cpu_s(target.process), time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        seconds, used = time.perf_counter() - started, cpu_s(target.process) - before
    latencies.sort()
    return Load(
        cpu_ms=used / requests * 1e3,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
        per_s=requests / seconds,
        failed=failed,
        sent=requests,
    )


def start_all(stack: ExitStack, folder: str, venvs: Path, *, litellm: bool) -> dict[str, Target]:
    """Start the upstream and all gateways before it."""
    ports = {name: free_port() for name in ("upstream", "bare", "ours", "litellm")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    python = sys.executable

    def start(name: str, command: list[str], path: str, key: str = "none", **variables: str) -> Target:
        process = stack.enter_context(running(command, urls[name] + path, folder, **variables))
        return Target(name, urls[name], process, key)

    upstream = [python, str(PEERS / "fake_upstream.py"), str(ports["upstream"])]
    bare = [python, str(PEERS / "bare_proxy.py"), str(ports["bare"]), urls["upstream"]]
    ours = [python, "-m", "negajoule", "serve", "--port", str(ports["ours"]), "--upstream", urls["upstream"]]
    home = f"{folder}/home"
    key = admitted(home)
    targets = {
        "upstream": start("upstream", upstream, "/v1/models"),
        "bare": start("bare", bare, "/"),
        "ours": start("ours", ours, "/healthz", key, NEGAJOULE_HOME=home),
    }
    if litellm:
        binary = litellm_command(venvs)
        config = Path(folder) / "litellm.yaml"
        config.write_text(
            "model_list:\n  - model_name: gpt-4o-mini\n    litellm_params:\n      model: openai/fake\n"
            f"      api_base: {urls['upstream']}/v1\n      api_key: none\n"
            "general_settings:\n  master_key: sk-bench\nlitellm_settings:\n  telemetry: false\n"
        )
        command = [
            str(binary),
            "--config",
            str(config),
            "--port",
            str(ports["litellm"]),
            "--host",
            "127.0.0.1",
        ]
        # Without this it asks the network for its price list at every start.
        offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        targets["litellm"] = start("litellm", command, "/health/liveliness", "sk-bench", **offline)
    return targets


def litellm_command(venvs: Path) -> Path:
    """LiteLLM's proxy in its own environment, installed if need be."""
    home = venvs / "litellm"
    command = home / "bin" / "litellm"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", LITELLM], check=True)
    return command


def main() -> None:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=120, help="in a round, of each kind")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "negajoule-benchmarks")
    parser.add_argument("--no-litellm", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with ExitStack() as stack:
            targets = start_all(stack, folder, options.venvs, litellm=not options.no_litellm)
            samples = measured(targets, options.requests, options.rounds)
            figures = {f"{prefix(name)}rss_mb": rss_mb(target) for name, target in targets.items()}
            print(", ".join(f"{name} on {loop_of(target.process)}" for name, target in targets.items()))
        rows, charged = booked(Path(folder) / "home")
    sent = sum(one.sent for (name, _), loads in samples.items() for one in loads if name == "ours")
    print(f"ours booked {rows} calls and charged {charged}; {sent + 2 * WARM_UP} were sent")
    report(samples, figures)
    print(json.dumps({**figures, "unbooked": sent + 2 * WARM_UP - min(rows, charged)}))


def measured(targets: dict[str, Target], requests: int, rounds: int) -> dict[tuple[str, str], list[Load]]:
    """The loads of all rounds, by target and kind."""
    samples: dict[tuple[str, str], list[Load]] = {}
    for target in targets.values():
        for stream in (False, True):
            asyncio.run(load(target, WARM_UP, 2, stream=stream))
    for kind, clients, stream in KINDS:
        for _ in range(rounds):
            for name, target in targets.items():  # one right after the other: what else runs hits all alike
                count = requests // (6 if name == "litellm" else 1)
                one = asyncio.run(load(target, count, clients, stream=stream))
                samples.setdefault((name, kind), []).append(one)
    return samples


def report(samples: dict[tuple[str, str], list[Load]], figures: dict[str, float]) -> None:
    """Print the medians of the rounds and put them among the figures."""
    for (name, kind), loads in samples.items():
        middle = Load(*(statistics.median(values) for values in zip(*loads, strict=True)))
        failed = sum(one.failed for one in loads)
        print(
            f"{name:<9} {kind:<9} CPU {middle.cpu_ms:7.3f} ms, p50 {middle.p50_ms:7.2f} ms, "
            f"p99 {middle.p99_ms:7.2f} ms, {middle.per_s:6.0f}/s, failed {failed}"
        )
        before = prefix(name)
        figures |= {f"{before}cpu_ms_{kind}": middle.cpu_ms, f"{before}failed_{kind}": failed}
        figures |= {f"{before}p50_ms_{kind}": middle.p50_ms, f"{before}p99_ms_{kind}": middle.p99_ms}
        figures[f"{before}per_s_{kind}"] = middle.per_s
    for kind in ("plain", "stream"):
        for end in ("p50", "p99"):
            ours, direct = figures[f"{end}_ms_{kind}"], figures[f"upstream_{end}_ms_{kind}"]
            figures[f"added_{end}_ms_{kind}"] = ours - direct
        ratios = {
            name: statistics.median(
                ours.cpu_ms / theirs.cpu_ms
                for ours, theirs in zip(samples["ours", kind], samples[name, kind], strict=True)
            )
            for name in ("bare", "litellm")
            if (name, kind) in samples
        }
        figures |= {f"{name}_ratio_{kind}": ratio for name, ratio in ratios.items()}
        lighter = f", {1 / ratios['litellm']:.1f} times lighter than LiteLLM" if "litellm" in ratios else ""
        added = ", ".join(f"{end} {figures[f'added_{end}_ms_{kind}']:.2f} ms" for end in ("p50", "p99"))
        print(f"{kind}: {ratios['bare']:.2f} times the bare pass-through{lighter}; added {added}")


def prefix(name: str) -> str:
    """What stands before the keys of a server's figures."""
    return "" if name == "ours" else f"{name}_"


def rss_mb(target: Target) -> float:
    """Memory that a server holds [MB]."""
    return float(target.process.memory_info().rss / 1e6)


if __name__ == "__main__":
    main()
