"""Whether the serving simulator is right: against every token made for itself, and against queueing theory.

    python benchmarks/simulator_check.py [--cases N] [--seed N] [--interpreted]

- Random small cases over all modes of batching, KV limits, pre-emption, prefix cache, replicas, routing,
  sleep, time-outs, admission limits, power caps, lower clocks, separate prefill and policies, each also
  simulated by ``tests/serving_by_token.py``, a naive loop that shares no code: who is served where and why
  not must be the same, times and energies within 1e-9. The loop integrates power over time, and phases and
  hours must add up to it.
- M/G/1: one request at a time; the wait is that of Pollaczek and Khinchine.
- Bulk service: batches of any size that all take as long; wait, batch and energy follow from the renewal of
  the server (each service, and the idle time after it if nobody came). Windows and control limits of release
  likewise.

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from negajoule.simulate import (
    Batching,
    FixedLengths,
    Fleet,
    LognormalLengths,
    Rule,
    RuleCode,
    Service,
    poisson,
    simulate,
)
from serving_cases import Coded, check_case, table

TOLERANCE = 1e-9
RUNS = 30
REQUESTS = 20_000
WIDEST = 4.0  # standard errors; one of ten figures lies beyond by chance once in a thousand runs


def judged(name: str, figures: list[float], expected: float) -> float:
    """By how many standard errors the mean of independent runs lies from what theory says."""
    mean, spread = float(np.mean(figures)), float(np.std(figures, ddof=1))
    off = abs(mean - expected) / (spread / math.sqrt(len(figures)) + 1e-12 * abs(expected))
    print(f"{name:<52} {mean:>12.6g}, theory {expected:>12.6g}, {off:4.1f} standard errors")
    return off


def single_server(compiled: bool) -> list[float]:
    """M/G/1: mean wait by Pollaczek and Khinchine; moments of service from a sample of the lengths."""
    costs = table(1)
    fleet = Fleet(table=costs, max_batch=1, batching=Batching.PREFILL_FIRST)
    lengths = LognormalLengths(200.0, 60.0, 0.8, 4000)

    def service_s(prompts: Any, answers: Any) -> Any:  # noqa: ANN401 (arrays)
        first = costs.prefill_step_s + costs.prefill_token_s * prompts
        first = first + costs.prefill_context_s * prompts**2
        steps = answers - 1.0
        contexts = steps * (prompts + 1) + steps * (steps - 1) / 2
        return first + steps * costs.decode_s[1] + costs.decode_context_s[1] * contexts

    sample = lengths.draw(4_000_000, np.random.default_rng(99))
    seconds = service_s(*(side.astype(float) for side in sample))
    rate = 0.6 / float(seconds.mean())
    expected = rate * float((seconds**2).mean()) / (2 * (1 - rate * float(seconds.mean())))
    waits, shares = [], []
    for seed in range(RUNS):
        trace = poisson(REQUESTS, rate, lengths, seed=seed)
        outcome = simulate(trace, fleet, compiled=compiled)
        own = service_s(trace.prompt_tokens.astype(float), trace.answer_tokens.astype(float))
        waits.append(float((outcome.latency_s - own)[REQUESTS // 20 :].mean()))
        shares.append(float(outcome.busy_s.sum() / outcome.end_time_s))
    return [
        judged("M/G/1: mean wait [s]", waits, expected),
        judged("M/G/1: busy share", shares, rate * float(seconds.mean())),
    ]


def bulk(compiled: bool) -> list[float]:
    """Bulk service without a limit: wait, batch and energy per request."""
    size, answer, rate = 400, 50, 30.0
    flat_s, flat_j, each_j = 0.02, 3.0, 0.05
    costs = table(
        size,
        decode_s=(0.0, *(flat_s for _ in range(size))),
        decode_context_s=(0.0,) * (size + 1),
        decode_j=(0.0, *(flat_j + each_j * b for b in range(1, size + 1))),
        decode_context_j=(0.0,) * (size + 1),
        prefill_token_s=0.0,
        prefill_context_s=0.0,
        prefill_token_j=0.0,
        prefill_context_j=0.0,
        kv_tokens=10**9,
    )
    fleet = Fleet(table=costs, batching=Batching.STATIC)
    service_s = costs.prefill_step_s + (answer - 1) * flat_s
    nobody = math.exp(-rate * service_s)
    members = rate * service_s + nobody
    wait_s = rate * service_s**2 / 2 / members
    service_j = costs.prefill_step_j + (answer - 1) * flat_j
    request_j = (service_j + costs.idle_w * nobody / rate) / members + (answer - 1) * each_j
    waits, joules, batches = [], [], []
    for seed in range(RUNS):
        trace = poisson(REQUESTS, rate, FixedLengths(10, answer), seed=seed)
        outcome = simulate(trace, fleet, compiled=compiled)
        waits.append(float(outcome.latency_s.mean()) - service_s)
        joules.append(outcome.total_j / REQUESTS)
        batches.append(REQUESTS / (float(outcome.steps.sum()) / answer))
    return [
        judged("bulk service: mean wait [s]", waits, wait_s),
        judged("bulk service: mean batch", batches, members),
        judged("bulk service: J per request", joules, request_j),
    ]


def release(compiled: bool) -> list[float]:
    """Holding times of a window and of a control limit."""
    rate, window_s, count = 2.0, 3.0, 5.0
    held: dict[str, list[float]] = {"window": [], "limit": []}
    rules = {
        "window": Rule(RuleCode.HOLD, (math.inf, window_s, math.inf, 0.0)),
        "limit": Rule(RuleCode.HOLD, (count, math.inf, math.inf, 0.0)),
    }
    fleet = Fleet(table=table(64))
    for seed in range(RUNS):
        trace = poisson(REQUESTS, rate, FixedLengths(20, 5), seed=seed)
        for name, rule in rules.items():
            outcome = simulate(trace, fleet, Service(policy=Coded(rule)), compiled=compiled)
            held[name].append(float(np.nanmean(outcome.hold_s)))
    joined = rate * window_s
    window_hold_s = window_s * (1 + joined / 2) / (1 + joined)
    return [
        judged("window of release: mean hold [s]", held["window"], window_hold_s),
        judged("control limit: mean hold [s]", held["limit"], (count - 1) / (2 * rate)),
    ]


def main() -> None:
    """Check cases, then theory; print what people read, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interpreted", action="store_true", help="check the core without numba")
    given = parser.parse_args()
    compiled = not given.interpreted
    worst, wrong, requests, preempted = 0.0, [], 0, 0
    fates: dict[str, int] = {}
    for seed in range(given.seed, given.seed + given.cases):
        off, outcome = check_case(seed, compiled)
        worst = max(worst, off)
        requests += len(outcome.trace)
        preempted += int(outcome.preempted.sum())
        for fate, number in outcome.fates.items():
            fates[fate] = fates.get(fate, 0) + number
        if off > TOLERANCE:
            wrong.append(seed)
            print(f"case {seed}: {'schedules differ' if math.isinf(off) else f'off by {off:.1e}'}")
    told = ", ".join(f"{number} {fate}" for fate, number in fates.items())
    print(f"{given.cases} cases, {requests} requests ({told}), {preempted} pre-emptions")
    print(f"largest relative difference {worst:.1e}")
    errors = [*single_server(compiled), *bulk(compiled), *release(compiled)]
    sound = not wrong and max(errors) < WIDEST
    print("right" if sound else "WRONG")
    print(
        json.dumps(
            {
                "max_relative_difference": worst,
                "cases": given.cases,
                "max_standard_errors": round(max(errors), 2),
                "right": sound,
            }
        )
    )
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
