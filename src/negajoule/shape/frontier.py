"""Cost against the promised quantile: what each second of patience buys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from negajoule.shape.policies import AtOnce, JoinBusy
from negajoule.simulate.fleet import Service
from negajoule.simulate.simulator import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.shape.promise import Promise
    from negajoule.simulate import Policy
    from negajoule.simulate.fleet import Fleet
    from negajoule.simulate.trace import Trace

__all__ = ["Point", "frontier"]

_WAITS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 4.0)
_RUNNING = (1, 4, 16, 64)


class Point(NamedTuple):
    """A policy's place.

    Attributes:
        policy: in words.
        reached_s: the promised quantile [s].
        request_j: energy for each request served [J].
    """

    policy: str
    reached_s: float
    request_j: float


def frontier(
    trace: Trace, fleet: Fleet, promise: Promise, waits_s: Sequence[float] = ()
) -> tuple[Point, ...]:
    """The policies that nothing else beats in both time and energy, fastest first.

    Args:
        trace: the requests.
        fleet: what serves them.
        promise: its measure and quantile are the time axis.
        waits_s: waits to try; default up to four times the promise's limit [s].
    """
    waits = waits_s or [promise.limit_s * share for share in _WAITS]
    policies: list[Policy] = [AtOnce()]
    policies += [JoinBusy(wait_s=wait, running=running) for wait in waits if wait > 0 for running in _RUNNING]
    points = []
    for policy in policies:
        outcome = simulate(trace, fleet, Service(policy=policy))
        request_j = outcome.request_j
        if request_j is not None:
            points.append(Point(str(policy), promise.check(outcome).reached_s, request_j))
    points.sort(key=lambda point: (point.reached_s, point.request_j))
    best: list[Point] = []
    for point in points:
        if not best or point.request_j < best[-1].request_j:
            best.append(point)
    return tuple(best)
