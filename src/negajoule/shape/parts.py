"""Where a gain comes from: the engine, concurrency, timing, idling and sleep, one after the other.

"Up to 100 times less energy by timing" compares a naive loop with a saturated engine. Here each step of that
comparison stands alone, so that nobody credits the timing with what the engine does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.catalog import lookup
from negajoule.shape.policies import AtOnce
from negajoule.simulate.fleet import Batching, Service
from negajoule.simulate.simulator import simulate

if TYPE_CHECKING:
    from negajoule.physics.serving import StepTable
    from negajoule.shape.search import Plan
    from negajoule.simulate.fleet import Fleet
    from negajoule.simulate.outcome import Outcome
    from negajoule.simulate.trace import Trace

__all__ = ["Part", "gain_by_part"]

NAIVE_STEP = "serving.naive-loop.step"


class Part(NamedTuple):
    """One step of the way.

    Attributes:
        name: what is changed in this step.
        request_j: energy for each request served, afterwards [J].
        factor: how many times less than before; 1 for the first.
        idle_j: of that, idle and asleep [J].
        note: what the figure rests on.
    """

    name: str
    request_j: float
    factor: float
    idle_j: float
    note: str


def gain_by_part(trace: Trace, fleet: Fleet, plan: Plan) -> tuple[Part, ...]:
    """Energy per request on the way from a naive loop to a plan.

    Args:
        trace: the requests.
        fleet: what serves them; one of its replicas stands for the loop.
        plan: the way's end.

    Returns:
        Naive loop, engine (one at a time), concurrency (at once), timing, and what is done with the fleet.
        The first two fall behind when requests come fast: their energy is what the work takes, however late.
    """
    one = msgspec.structs.replace(
        fleet, max_batch=1, replicas=1, batching=Batching.CHUNKED, prefill_replicas=0, most_open=None
    )
    naive = msgspec.structs.replace(one, table=_in_a_loop(fleet.table))
    fact = lookup(NAIVE_STEP)
    outcomes = [
        (
            "naive loop, one at a time",
            simulate(trace, naive),
            f"assumed: {fact.value:g} {fact.unit} a step, {fact.source}",
        ),
        ("an engine, one at a time", simulate(trace, one), ""),
        ("concurrency, at once", simulate(trace, fleet), ""),
    ]
    plain = plan.variant.fleet is fleet or not plan.variant.title
    if any(not isinstance(policy, AtOnce) for policy in plan.policies):
        services = [Service(policy=policy) for policy in plan.policies]
        outcomes.append(("timing", simulate(trace, fleet, services), str(plan.policies[0])))
    if not plain:
        outcomes.append((plan.variant.title, plan.run(trace), ""))
    return tuple(_chained(outcomes))


def _in_a_loop(table: StepTable) -> StepTable:
    """The table of a loop over tokens that launches each kernel itself: no step is faster than the host."""
    slowest_s = lookup(NAIVE_STEP).si_interval()[0]

    def slowed(times_s: tuple[float, ...], energies_j: tuple[float, ...]) -> tuple[list[float], list[float]]:
        times, energies = [0.0], [0.0]
        for time_s, energy_j in zip(times_s[1:], energies_j[1:], strict=True):
            more_s = max(0.0, slowest_s - time_s)
            times.append(time_s + more_s)
            energies.append(energy_j + more_s * energy_j / time_s)
        return times, energies

    times, energies = slowed(table.decode_s, table.decode_j)
    return msgspec.structs.replace(table, decode_s=tuple(times), decode_j=tuple(energies))


def _chained(outcomes: list[tuple[str, Outcome, str]]) -> list[Part]:
    parts: list[Part] = []
    for name, outcome, note in outcomes:
        served = max(1, int(outcome.served.sum()))
        energy = outcome.energy_j
        request_j = outcome.total_j / served
        before = parts[-1].request_j if parts else request_j
        parts.append(
            Part(name, request_j, before / request_j, (energy["idle"] + energy["sleep"]) / served, note)
        )
    return parts
