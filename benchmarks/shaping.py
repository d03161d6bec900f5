"""What timing saves under a latency promise: the best policy against serving at once, on traffic new to it.

    python benchmarks/shaping.py [--trace FILE] [--requests 20000]

An 8B model on one H100 that idles at 120 W; prompts of 391 and answers of 230 tokens on average, lognormal.
With a trace, its requests are stretched to each rate, its first 60 % tune and the rest judges. Without one,
traffic is Poisson: one sample tunes, another judges. The promise is on the 95 % quantile of latency.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import msgspec
import numpy as np

from negajoule.physics.serving import ServingSetup, StepTable, load_predictor, shape_of
from negajoule.shape import Plan, Promise, Shaped, gain_by_part, shape
from negajoule.shape.policies import AtOnce
from negajoule.simulate.fleet import Fleet
from negajoule.simulate.trace import Trace

RATES = (0.5, 2.0, 8.0)
LIMITS_S = (10.0, 15.0, 30.0, 60.0)
TARGETS = {10.0: 1.15, 15.0: 1.49, 30.0: 1.9, 60.0: 2.26}
IDLE_W = 120.0
SPREAD = 0.8  # sigma of the lognormal lengths; ML.ENERGY v3 measured E[L^2] / E[L]^2 of about 2: sigma 0.83


def table() -> StepTable:
    """The deployment that the targets were stated for."""
    setup = ServingSetup(shape=shape_of("llama-3.1-8b"), accelerator="h100")
    return msgspec.structs.replace(load_predictor().step_table(setup, 256), idle_w=IDLE_W, sleep_w=IDLE_W)


def poisson(rate: float, number: int, seed: int) -> Trace:
    """Poisson arrivals with the reference's lengths."""
    random = np.random.default_rng(seed)

    def lengths(mean: float, most: int) -> np.ndarray:
        drawn = random.lognormal(math.log(mean) - SPREAD**2 / 2, SPREAD, number)
        return np.clip(np.round(drawn), 1, most)

    arrivals = np.cumsum(random.exponential(1.0 / rate, number))
    return Trace(arrivals, lengths(391, 4000), lengths(230, 2000), title=f"Poisson, {rate:g}/s, seed {seed}")


def traffic(rate: float, path: Path | None, number: int) -> tuple[Trace, Trace]:
    """What tunes and what judges, at a rate."""
    if path is None:
        return poisson(rate, number, 1), poisson(rate, number, 2)
    from negajoule.simulate import read_trace

    whole = read_trace(path).at_rate(rate)
    cut = int(len(whole) * 0.6)
    return whole.first(cut), whole.between(float(whole.arrival_s[cut]), math.inf)


def judged(shaped: Shaped, plain: Plan, promise: Promise, fresh: Trace) -> tuple[float, float, bool]:
    """Gain, quantile and whether it was kept on traffic that the search never saw."""
    outcome, base = shaped.plan.run(fresh), plain.run(fresh)
    kept = promise.check(outcome)
    assert base.request_j is not None
    assert outcome.request_j is not None
    return base.request_j / outcome.request_j, kept.reached_s, kept.kept


def main() -> None:
    """Run the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, help="a trace of requests; default Poisson traffic")
    parser.add_argument("--requests", type=int, default=20_000, help="of the Poisson traffic")
    arguments = parser.parse_args()
    fleet = Fleet(table=table())
    found: dict[str, float] = {}
    violations, worst = 0, math.inf
    print(f"{'rate/s':>6} {'p95 <= s':>8} {'gain':>6} {'90 % interval':>15} {'p95 s':>7} {'kept':>5}  policy")
    for rate in RATES:
        tuning, fresh = traffic(rate, arguments.trace, arguments.requests)
        for limit_s in LIMITS_S:
            promise = Promise(limit_s=limit_s)
            shaped = shape(tuning, fleet, [promise])
            plain = msgspec.structs.replace(
                shaped.plan, policies=tuple(AtOnce() for _ in shaped.plan.policies)
            )
            possible = promise.check(plain.run(fresh)).kept
            gain, reached_s, kept = judged(shaped, plain, promise, fresh)
            violations += possible and not kept
            worst = min(worst, gain)
            found[f"gain_{rate:g}rps_p95_{limit_s:g}"] = round(gain, 3)
            interval = f"{shaped.gain_low:.2f} to {shaped.gain_high:.2f}"
            said = "yes" if kept else "no" if possible else "never"
            print(
                f"{rate:6g} {limit_s:8g} {gain:6.2f} {interval:>15} {reached_s:7.2f} {said:>5}  {shaped.plan}"
            )
            if rate == 2.0 and limit_s == LIMITS_S[-1]:
                last = gain_by_part(fresh, fleet, shaped.plan)
    print("\nWhere it comes from, at 2/s and 60 s:")
    for part in last:
        print(f"  {part.name:28} {part.request_j:8.1f} J/request  {part.factor:6.2f} x  {part.note}")
    print("\nTargets at 2/s:", ", ".join(f"p95 <= {limit:g} s: {gain}" for limit, gain in TARGETS.items()))
    print(json.dumps({**found, "slo_violations": violations, "worst_gain": round(worst, 4)}))


if __name__ == "__main__":
    main()
