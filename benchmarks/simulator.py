"""How many requests a second the serving simulator works through, and in how much memory.

    python benchmarks/simulator.py [--data DIR] [--rounds N]

Llama-3-8B on one H100, lengths of Azure's conversations, Poisson arrivals at 4/s, and the real hour itself.
Each size runs in a process of its own: once to compile or load the compiled core, then ``--rounds`` times;
the best counts, for other work on the machine only slows. Reading the results is part of it, making the trace
isn't. Compiling is timed apart, with nothing kept. SimPy simulates the same, step by step, and must agree.

Vidur and splitwise-sim are in no registry, so they don't run here; what was measured of them on a machine of
the same kind, with 2 cores: Vidur (7d475133) 167, 114 and 59 requests/s at 1,000, 4,000 and 8,000 requests,
splitwise-sim (8f99e7dc) 521 at 5,000.

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from negajoule.physics.serving import ServingSetup, load_predictor, shape_of
from negajoule.simulate import Fleet, LengthsOf, LognormalLengths, Service, poisson, read_trace, simulate

if TYPE_CHECKING:
    from negajoule.physics.serving import StepTable
    from negajoule.simulate import Trace, View

SIZES = (1_000, 8_000, 100_000, 1_000_000)
SIMPY_SIZES = (1_000, 8_000)
RATE_PER_S = 4.0
BATCH = 256


class AtOnce:
    """A policy in plain Python, which the core doesn't know."""

    def decide(self, view: View) -> tuple[int, float]:
        """Let all go."""
        return view.held, float("inf")


class Window:
    """Another: hold for a second while nothing runs."""

    def decide(self, view: View) -> tuple[int, float]:
        """Let all go once one runs, or the oldest has waited a second."""
        if view.running or view.now_s >= view.oldest_s + 1.0:
            return view.held, float("inf")
        return 0, view.oldest_s + 1.0


POLICIES: dict[str, Any] = {"none": None, "at-once": AtOnce(), "window": Window()}


def table() -> StepTable:
    """Llama-3.1-8B on one H100."""
    return load_predictor().step_table(
        ServingSetup(shape=shape_of("llama-3.1-8b"), accelerator="H100"), BATCH
    )


def trace_of(number: int, conversations: Path) -> Trace:
    """Poisson arrivals with the conversations' lengths; the real hour for 0."""
    if not conversations.exists():
        return poisson(number or 20_000, RATE_PER_S, LognormalLengths(1155.0, 211.0), seed=1)
    real = read_trace(conversations)
    return real if number == 0 else poisson(number, RATE_PER_S, LengthsOf(real), seed=1)


def one(number: int, policy: str, rounds: int, conversations: Path, deployment: StepTable) -> dict[str, Any]:
    """Simulate one size; in a process of its own."""
    trace = trace_of(number, conversations)
    fleet, service = Fleet(table=deployment), Service(policy=POLICIES[policy])
    started = time.perf_counter()
    simulate(trace.first(10), fleet, service, compiled=True)
    compile_s = time.perf_counter() - started
    walls, outcome = [], None
    for _ in range(rounds):
        started = time.perf_counter()
        outcome = simulate(trace, fleet, service, compiled=True)
        walls.append(time.perf_counter() - started)
    assert outcome is not None
    return {
        "requests": len(trace),
        "compile_s": compile_s,
        "requests_per_s": len(trace) / min(walls),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "request_j": outcome.request_j,
        "p95_s": float(np.nanpercentile(outcome.latency_s, 95)),
        "served": outcome.fates["served"],
        "steps": int(outcome.steps.sum()),
    }


def apart(arguments: list[str], home: str) -> dict[str, Any]:
    """Run this script for one size in another process."""
    environment = os.environ | {"NEGAJOULE_HOME": home, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def against_simpy(conversations: Path, deployment: StepTable) -> dict[int, float]:
    """Requests a second of SimPy by size; its results must be ours."""
    try:
        from peers.simpy_serving import serve
    except ImportError:
        print("SimPy isn't installed: pip install simpy")
        return {}
    rates = {}
    for number in SIMPY_SIZES:
        trace = trace_of(number, conversations)
        started = time.perf_counter()
        latencies_s, energy_j = serve(trace, deployment, 2048)
        rates[number] = number / (time.perf_counter() - started)
        ours = simulate(trace, Fleet(table=deployment), compiled=False)
        off = float(np.max(np.abs(np.asarray(latencies_s) / ours.latency_s - 1)))
        off = max(off, abs(energy_j / ours.total_j - 1))
        print(
            f"SimPy, {number:>7,} requests: {rates[number]:>12,.0f} requests/s; differs from us by {off:.1e}"
        )
        if off > 1e-6:
            sys.exit("SimPy and the simulator don't serve alike: the race would mean nothing")
    return rates


def main() -> None:
    """Run all sizes, print what people read, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--policy", default="none", help=argparse.SUPPRESS)
    given = parser.parse_args()
    conversations = given.data / "serving" / "azure_llm_2023_conv.csv.gz"
    deployment = table()
    if given.one is not None:
        print(json.dumps(one(given.one, given.policy, given.rounds, conversations, deployment)))
        return
    common = ["--data", str(given.data), "--rounds", str(given.rounds)]
    if not conversations.exists():
        print(f"{conversations} isn't there: lognormal lengths of the same means instead")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        cold = apart([*common, "--one", "1000", "--rounds", "1"], home)
        figures["compile_s"] = cold["compile_s"]
        print(f"{deployment.title}: compiled once in {cold['compile_s']:.1f} s, then kept")
        runs = [(number, "none", f"Poisson {RATE_PER_S:g}/s") for number in SIZES]
        runs += [(0, "none", "the real hour")]
        runs += [
            (100_000, "at-once", "policy in Python, at once"),
            (100_000, "window", "policy in Python, window"),
        ]
        for number, policy, words in runs:
            result = apart([*common, "--one", str(number), "--policy", policy], home)
            print(
                f"{words:<26} {result['requests']:>9,} requests: {result['requests_per_s']:>12,.0f} /s, "
                f"{result['peak_mb']:>4.0f} MB; loaded in {result['compile_s']:.1f} s; "
                f"{result['request_j']:.1f} J/request, p95 {result['p95_s']:.1f} s"
            )
            figures[f"{policy}_{number}"] = result
    simpy_rates = against_simpy(conversations, deployment)
    python_rates = [figures[f"{name}_100000"]["requests_per_s"] for name in ("at-once", "window")]
    print(
        json.dumps(
            {
                "requests_per_s_100k": round(figures["none_100000"]["requests_per_s"]),
                "requests_per_s_1m": round(figures["none_1000000"]["requests_per_s"]),
                "python_policy_requests_per_s": round(min(python_rates)),
                "peak_mb_1m": round(figures["none_1000000"]["peak_mb"]),
                "compile_s": round(figures["compile_s"], 1),
                "requests_per_s_trace": round(figures["none_0"]["requests_per_s"]),
                **{f"simpy_requests_per_s_{number}": round(rate) for number, rate in simpy_rates.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
