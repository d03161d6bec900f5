"""What timing saves on a real model: calls at once, paced and held, through our own server, at equal load.

    python benchmarks/shaping_live.py [--requests 48] [--load 0.6] [--rounds 2] [--format Q8_0] [--patience 3]

A profile of the embedded engine (one thread) is measured first. Real prompts then arrive at the same random
moments under each policy; the server's own CPU time, tokens and each call's latency are measured, and the
same arrivals are simulated with its costs. One thread is busy or idle, so CPU time is what is saved;
joules are CPU time times the power of a core, on a machine without counters. Load goes to loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from main_job import _wait_until_up, call
from negajoule.engine.siblings import precision_sibling
from negajoule.profile import Sweep, open_target, run_sweep
from negajoule.profile.step_table import step_table_of
from negajoule.shape import AtOnce, ControlLimit, JoinBusy, Promise, TokenBucket
from negajoule.shape.live import HoldRule, write_rules
from negajoule.simulate import FixedLengths, Fleet, Outcome, Service, Trace, poisson, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from negajoule.physics.serving import StepTable
    from negajoule.simulate import Policy

SLOTS = 8
MAX_TOKENS = 96
QUANTILE = 0.95


class Run(NamedTuple):
    """One arrangement, once.

    Attributes:
        cpu_s: of the server [s].
        tokens: of all answers.
        latencies_s: of each call [s].
        prompts: prompt tokens of each call.
        answers: answer tokens of each call.
    """

    cpu_s: float
    tokens: int
    latencies_s: list[float]
    prompts: list[int]
    answers: list[int]

    @property
    def cpu_ms_a_token(self) -> float:
        """CPU time for each token of an answer [ms]."""
        return 1e3 * self.cpu_s / self.tokens

    @property
    def p95_s(self) -> float:
        """95 % quantile of latency [s]."""
        return float(np.quantile(self.latencies_s, QUANTILE, method="higher"))


def costs(number_format: str, repeats: int) -> StepTable:
    """Costs of steps, measured here, with CPU time in place of joules."""
    sweep = Sweep(batches=(1, 2, 4, SLOTS), prompts=(32, 96), outputs=(48,), repeats=repeats)
    with open_target("smollm2-135m-instruct", sweep, formats=[number_format], threads=1) as target:
        profile = run_sweep(target, sweep)
    law = profile.law(number_format, "cpu")
    assert law is not None
    step = tuple(law.step(batch) for batch in range(1, SLOTS + 1))
    table = step_table_of(profile, number_format)
    each = (law.decode_context,) * SLOTS
    return msgspec.structs.replace(
        table,
        decode_j=(0.0, *step),
        decode_context_j=(0.0, *each),
        prefill_token_j=law.prefill_token,
        prefill_context_j=law.prefill_context,
        prefill_step_j=law.prefill_step,
        idle_w=0.0,
        sleep_w=0.0,
    )


@contextmanager
def server(model_file: Path, rule: HoldRule) -> Iterator[str]:
    """Our server with one rule of holding, in a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "negajoule.toml").write_text(write_rules([rule]), encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "negajoule", "serve", "--port", str(port), "--slots", str(SLOTS)]
        process = subprocess.Popen(
            [*command, "--model-file", str(model_file)],
            cwd=folder,
            env={**os.environ, "NEGAJOULE_HOME": folder},
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_up(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def measure(url: str, prompts: list[str], arrivals_s: list[float]) -> Run:
    """Send the prompts at their moments."""
    model = call(f"{url}/v1/models")["data"][0]["id"]

    def ask(prompt: str, tokens: int = MAX_TOKENS) -> tuple[int, int]:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "cache_prompt": False,
        }
        usage = call(f"{url}/v1/chat/completions", body)["usage"]
        return int(usage["prompt_tokens"]), int(usage["completion_tokens"])

    def at(prompt: str, moment_s: float) -> tuple[float, int, int]:
        time.sleep(max(0.0, begun + moment_s - time.monotonic()))
        asked = time.monotonic()
        counts = ask(prompt)
        return time.monotonic() - asked, *counts

    ask(prompts[0], 4)
    before = call(f"{url}/healthz")["cpu_seconds"]
    begun = time.monotonic()
    with ThreadPoolExecutor(len(prompts)) as pool:
        found = list(pool.map(at, prompts, arrivals_s))
    cpu_s = call(f"{url}/healthz")["cpu_seconds"] - before
    latencies, ins, outs = (list(column) for column in zip(*found, strict=True))
    return Run(cpu_s, sum(outs), latencies, ins, outs)


def fleet_of(table: StepTable) -> Fleet:
    """The engine as the simulator knows it."""
    return Fleet(table=table, max_batch=SLOTS, step_tokens=512)


def choose(table: StepTable, tuning: Trace, promise: Promise) -> Policy:
    """The policy that takes the least CPU time and surely keeps the promise, by simulation alone."""
    best: tuple[float, Policy] = (simulate(tuning, fleet_of(table)).total_j, AtOnce())
    for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        for running in (1, 2, 3, 4, 6):
            policy = JoinBusy(wait_s=share * promise.limit_s, running=running, count=SLOTS)
            outcome = simulate(tuning, fleet_of(table), Service(policy=policy))
            if promise.check(outcome).surely and outcome.total_j < best[0]:
                best = (outcome.total_j, policy)
    return best[1]


def simulated(table: StepTable, policy: Policy, arrivals_s: list[float], like: Run) -> Outcome:
    """The same arrivals and lengths in the simulator."""
    trace = Trace(arrivals_s, like.prompts, like.answers)
    return simulate(trace, fleet_of(table), Service(policy=policy))


def main() -> None:
    """Run the arrangements and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--load", type=float, default=0.6, help="of what the engine does one by one")
    parser.add_argument("--patience", type=float, default=3.0, help="the promise, in p95 of calls at once")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--format", default="Q8_0")
    options = parser.parse_args()
    text = (files("negajoule.cli") / "prompts.jsonl").read_text(encoding="utf-8")
    bundled = [json.loads(line)["prompt"] for line in text.splitlines()]
    random = np.random.default_rng(7)
    prompts = [bundled[number % len(bundled)] for number in range(options.requests)]

    model_file = precision_sibling(options.format)
    table = costs(options.format, repeats=3)
    alone = simulate(Trace([0.0], [60], [MAX_TOKENS]), fleet_of(table))
    rate = options.load / float(alone.latency_s[0])
    arrivals = np.cumsum(random.exponential(1.0 / rate, options.requests)).tolist()
    tuning = poisson(2000, rate, FixedLengths(prompt=60, answer=MAX_TOKENS), seed=1)
    usual_s = Promise(limit_s=1.0).check(simulate(tuning, fleet_of(table))).reached_s
    promise = Promise(limit_s=round(options.patience * usual_s, 1))
    chosen = "chosen"
    policies: dict[str, Policy] = {
        "at once": AtOnce(),
        "paced": TokenBucket(rate_per_s=1.15 * rate),
        "windowed": ControlLimit(count=1e9, wait_s=0.3 * promise.limit_s),
        chosen: choose(table, tuning, promise),
    }
    print(f"{rate:.3g} requests/s; {promise}; chosen by simulation: {policies[chosen]}")
    runs: dict[str, list[Run]] = {name: [] for name in policies}
    for number in range(options.rounds):
        for name, policy in policies.items():
            with server(model_file, HoldRule(policy=policy, promise=promise)) as url:
                run = measure(url, prompts, arrivals)
            runs[name].append(run)
            print(
                f"round {number + 1}, {name}: {run.cpu_ms_a_token:.2f} CPU-ms a token, p95 {run.p95_s:.1f} s"
            )

    like = runs["at once"][0]
    print(f"\n{'policy':20} {'CPU-ms/token':>12} {'predicted':>10} {'p95 s':>7} {'predicted':>10}")
    measured, predicted, kept = {}, {}, {}
    for name, policy in policies.items():
        outcome = simulated(table, policy, arrivals, like)
        measured[name] = median(run.cpu_ms_a_token for run in runs[name])
        predicted[name] = 1e3 * outcome.total_j / sum(like.answers)
        p95_s = median(run.p95_s for run in runs[name])
        kept[name] = p95_s <= promise.limit_s
        foreseen_s = promise.check(outcome).reached_s
        print(f"{name:20} {measured[name]:12.2f} {predicted[name]:10.2f} {p95_s:7.1f} {foreseen_s:10.1f}")
    gain = {
        kind: costs_of["at once"] / costs_of[chosen] for kind, costs_of in (("m", measured), ("p", predicted))
    }
    print("\nThe choice was made before anything ran under load. A gain in CPU time is one in energy.")
    print(
        json.dumps(
            {
                "measured_gain": round(gain["m"], 3),
                "predicted_gain": round(gain["p"], 3),
                "p95_kept": bool(kept[chosen]),
                "policy": str(policies[chosen]),
                "prediction_error": round(abs(gain["p"] / gain["m"] - 1.0), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
