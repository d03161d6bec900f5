"""What a gateway adds: ours, LiteLLM's proxy and a bare pass-through before one fake upstream, in one run.

    python benchmarks/gateway.py [--requests 600] [--rounds 3] [--venvs DIR] [--no-litellm]

CPU time is each server's own, by the operating system, per request; rounds are interleaved. Latency is what a
client on loopback sees, less what it sees from the upstream directly. LiteLLM is pinned and lives in an
environment of its own. Load goes to loopback only.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import urlopen

import aiohttp
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = Path(__file__).parent / "peers"
LITELLM = "litellm[proxy]==1.105.2"
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
    failed: int


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
    """CPU time of a server and its workers."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in family)


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
    targets = {
        "upstream": start("upstream", upstream, "/v1/models"),
        "bare": start("bare", bare, "/"),
        "ours": start("ours", ours, "/healthz", NEGAJOULE_HOME=f"{folder}/home"),
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
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "negajoule-benchmarks")
    parser.add_argument("--no-litellm", action="store_true")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        targets = start_all(stack, folder, options.venvs, litellm=not options.no_litellm)
        samples: dict[tuple[str, str], list[Load]] = {}
        for target in targets.values():
            for stream in (False, True):
                asyncio.run(load(target, 50, 2, stream=stream))  # warm-up, not counted
        for _ in range(options.rounds):
            for name, target in targets.items():
                count = options.requests // (6 if name == "litellm" else 1)
                for stream in (False, True):
                    kind = "stream" if stream else "plain"
                    one = asyncio.run(load(target, count, 1, stream=stream))
                    many = asyncio.run(load(target, count, 32, stream=stream))
                    samples.setdefault((name, f"{kind}, 1 client"), []).append(one)
                    samples.setdefault((name, f"{kind}, 32 clients"), []).append(many)
        for (name, kind), loads in samples.items():
            medians = [statistics.median(values) for values in zip(*loads, strict=True)]
            middle = Load(*medians)
            failed = sum(one.failed for one in loads)
            print(
                f"{name:<9} {kind:<18} CPU {middle.cpu_ms:7.3f} ms, p50 {middle.p50_ms:7.2f} ms, "
                f"p99 {middle.p99_ms:7.2f} ms, {middle.per_s:6.0f}/s, failed {failed}"
            )
            prefix = "" if name == "ours" else f"{name}_"
            if kind.endswith(" 1 client"):
                figures[f"{prefix}cpu_ms_{kind.split(',')[0]}"] = middle.cpu_ms
        for name, target in targets.items():
            prefix = "" if name == "ours" else f"{name}_"
            figures[f"{prefix}rss_mb"] = target.process.memory_info().rss / 1e6
    for kind in ("plain", "stream"):
        ours, bare = figures[f"cpu_ms_{kind}"], figures[f"bare_cpu_ms_{kind}"]
        peer = figures.get(f"litellm_cpu_ms_{kind}")
        lighter = f", {peer / ours:.1f} times lighter than LiteLLM" if peer else ""
        print(f"{kind}: {ours / bare:.2f} times the bare pass-through{lighter}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
