"""The main job, measured: a real model behind the gateway, one request at a time and eight at once.

Starts `negajoule serve` in a process of its own, sends it the bundled prompts in interleaved rounds and reads
the server's own CPU time. The gateway's own cost is measured on the labelled fake engine, whose work is next
to nothing.

    python benchmarks/main_job.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

CONCURRENT = 8


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Start a server on a free port and yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "negajoule", "serve", "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NEGAJOULE_HOME": folder},
        )
        try:
            yield _url_of(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def _url_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"page\s+(http://\S+)/", line)
        if found:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            _wait_until_up(found.group(1))
            return found.group(1)
    raise SystemExit("the server didn't start")


def _wait_until_up(url: str) -> None:
    for _ in range(200):
        try:
            call(f"{url}/healthz")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server doesn't answer")


def call(url: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 (a server's JSON)
    """One HTTP call; returns the JSON answer."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"content-type": "application/json"}), timeout=300) as response:
        return json.load(response)


def play(url: str, model: str, prompts: list[dict[str, Any]], threads: int) -> tuple[float, int]:
    """Send the prompts; returns the server's CPU seconds and the tokens of prompts and answers."""

    def ask(prompt: dict[str, Any]) -> int:
        answer = call(
            f"{url}/v1/chat/completions",
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt["prompt"]}],
                "max_tokens": prompt["max_tokens"],
                "temperature": 0,
                "cache_prompt": False,
            },
        )
        return int(answer["usage"]["total_tokens"])

    before = call(f"{url}/healthz")["cpu_seconds"]
    with ThreadPoolExecutor(threads) as pool:
        tokens = sum(pool.map(ask, prompts))
    return call(f"{url}/healthz")["cpu_seconds"] - before, tokens


def main() -> None:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    text = (files("negajoule.cli") / "prompts.jsonl").read_text(encoding="utf-8")
    prompts = [json.loads(line) for line in text.splitlines()]

    sequential, concurrent = [], []
    with server() as url:
        model = call(f"{url}/v1/models")["data"][0]["id"]
        play(url, model, prompts[:2], 1)  # warm-up, not counted
        for number in range(rounds):
            for threads, into in ((1, sequential), (CONCURRENT, concurrent)):
                cpu_s, tokens = play(url, model, prompts, threads)
                into.append(tokens / cpu_s)
                print(
                    f"round {number + 1}, {threads} at once: {tokens} tokens, {cpu_s:.2f} CPU-s, "
                    f"{tokens / cpu_s:.1f} tokens per CPU-s"
                )
        energy = call(f"{url}/healthz")["energy"]

    with server("--fake-engine") as url:
        short = [{"prompt": "one two three", "max_tokens": 8}] * 400
        model = call(f"{url}/v1/models")["data"][0]["id"]
        play(url, model, short[:50], 1)
        added = [play(url, model, short, 1)[0] / len(short) * 1e3 for _ in range(rounds)]

    figures = {
        "tokens_per_cpu_s_sequential": statistics.median(sequential),
        "tokens_per_cpu_s_concurrent": statistics.median(concurrent),
        "added_cpu_ms_per_request": statistics.median(added),
        "sum_residual_relative": energy["residual_relative"],
    }
    ratio = figures["tokens_per_cpu_s_concurrent"] / figures["tokens_per_cpu_s_sequential"]
    print(f"eight at once against one by one: {ratio:.2f} times the tokens per CPU-second")
    added_ms = figures["added_cpu_ms_per_request"]
    print(f"the gateway adds {added_ms:.2f} ms of CPU a request (fake engine)")
    print(f"requests {energy['requests_j']:.3f} J + idle {energy['idle_j']:.3f} J")
    print(f"meter {energy['meter_j']:.3f} J, residual {energy['residual_relative']:.1e}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
