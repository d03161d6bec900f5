"""Do the parts add up to the whole? 1,000 random histories of processes, cgroups and batches.

For processes and cgroups the machine's counters are split over random claims, some of them overlapping and
claiming more than there is. For batches a synthetic engine of known cost runs random requests against a
synthetic meter; besides the residual, the shares are compared with what each request's steps really cost.

    python benchmarks/attribution.py [--histories 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import random
from math import fsum
from statistics import median

from negajoule.meter.attribution import Claim, Counted, split
from negajoule.meter.model import Span
from negajoule.meter.requests import RequestSplitter
from negajoule.meter.window import Snapshot, Window
from negajoule.units import Energy, Part

STEP_J, TOKEN_J, IDLE_W = 2.0, 0.3, 5.0
STEP_S, TOKEN_S = 0.05, 0.004


class Bench:
    """A synthetic meter whose truth is known: it advances only when told."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.energy_j = 0.0

    def spend(self, energy_j: float, seconds: float) -> None:
        """Let time and energy pass."""
        self.energy_j += energy_j
        self.time_s += seconds

    def read(self) -> Snapshot:
        """The meter now."""
        return Snapshot(self.time_s, self.time_s, self.time_s, (self.energy_j,) * 3, 0)

    def between(self, first: Snapshot, last: Snapshot) -> Window:
        """What passed between two readings."""
        joules = last.sums[0] - first.sums[0]
        energy = Energy.exact(joules, "measured", "node")
        seconds = last.time_s - first.time_s
        return Window(seconds, seconds, (Part("synthetic", energy, "bench", "A"),), energy)


def processes(rng: random.Random) -> float:
    """Residual of one random split of a machine's counters over processes and cgroups."""

    def span(high: float) -> Span:
        low, value, top = sorted(rng.uniform(0, high) for _ in range(3))
        return Span(value, low, top)

    counted = [
        Counted(component, f"{component} {i}", "bench", "A", span(10 ** rng.uniform(-3, 6)))
        for component in ("cpu", "memory", "gpu")
        for i in range(rng.randint(0, 2))
    ]
    if rng.random() < 0.3:
        inner = fsum(item.energy_j.high for item in counted)
        counted.append(Counted("platform", "board", "bench", "A", Span(*(inner * 1.2 + 1.0,) * 3)))
    claims = [
        Claim(span(1), span(1), span(1), {f"gpu {i}": span(1) for i in range(2)})
        for _ in range(rng.randint(0, 12))
    ]
    result = split(counted, claims, idle_j=span(100), server_idle_j=span(200))
    slices = [item for claim in result.claims for item in claim] + list(result.unattributed)
    boards = [item for item in counted if item.component == "platform"]
    whole = fsum(item.energy_j.value for item in boards or counted)
    return abs(fsum(item.energy_j.value for item in slices) - whole) / whole if whole else 0.0


def batch(rng: random.Random) -> tuple[float, float]:
    """Residual of one random history of a batching engine, and the median error of the shares."""
    bench = Bench()
    splitter = RequestSplitter(bench, spacing_s=rng.choice([0.0, 0.05, 0.2]), clock=lambda: bench.time_s)
    truth: dict[int, float] = {}
    left: dict[int, list[int]] = {}
    shares: dict[int, float] = {}
    idle_j, number = 0.0, 0
    for _ in range(rng.randint(20, 120)):
        while len(left) < 8 and rng.random() < 0.4:
            number += 1
            left[number] = [rng.randint(1, 200), rng.randint(1, 40)]
            truth[number] = 0.0
            splitter.begin(number)
        if not left:
            seconds = rng.uniform(0, 2)
            bench.spend(IDLE_W * seconds, seconds)
            continue
        work = {request: prompt or 1 for request, (prompt, _) in left.items()}
        tokens = sum(work.values())
        energy_j = STEP_J + TOKEN_J * tokens
        bench.spend(energy_j, STEP_S + TOKEN_S * tokens)
        for request in rng.sample(sorted(left), len(left)):
            truth[request] += energy_j * work[request] / tokens
            if left[request][0]:
                splitter.work(request, left[request][0], "prefill")
                left[request][0] = 0
            splitter.work(request, 1, "decode")
            left[request][1] -= 1
        for request in [r for r, (_, output) in left.items() if output <= 0]:
            del left[request]
            shares[request] = fsum(part.energy.value for part in splitter.end(request).parts)
        if rng.random() < 0.1:
            idle_j += fsum(part.energy.value for part in splitter.take_idle().parts)
    for request in list(left):
        shares[request] = fsum(part.energy.value for part in splitter.end(request).parts)
    idle_j += fsum(part.energy.value for part in splitter.take_idle().parts)
    whole = bench.energy_j
    residual = abs(fsum(shares.values()) + idle_j - whole) / whole if whole else 0.0
    errors = [abs(shares[r] - truth[r]) / truth[r] for r in shares if truth[r] > 0]
    return residual, median(errors) if errors else 0.0


def main() -> None:
    """Run the histories and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    machine = [processes(rng) for _ in range(options.histories)]
    batches = [batch(rng) for _ in range(options.histories)]
    worst = max(max(machine), max(residual for residual, _ in batches))
    error = median(error for _, error in batches)
    print(f"processes and cgroups: worst residual {max(machine):.1e} over {len(machine)} histories")
    print(f"batches: worst residual {max(r for r, _ in batches):.1e} over {len(batches)} histories")
    print(f"batches: a request's share is off by {error:.1%} in the median history")
    print(
        json.dumps({"max_residual_relative": worst, "share_error_median": error, "histories": len(machine)})
    )


if __name__ == "__main__":
    main()
