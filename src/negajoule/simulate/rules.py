"""The rules of release that the compiled core knows, each a few comparisons.

==========  ======================================  ===================================================
code        parameters                              covers
==========  ======================================  ===================================================
``HOLD``    count, wait [s], join, drained (0, 1)   at once, hold while idle then join, gated, control
                                                    limit, deadline-aware
``PACE``    rate [1/s], burst                       fixed pacing (burst 1), token bucket
``CARBON``  intensity [gCO2e/kWh], wait [s]         deferral to cleaner hours
==========  ======================================  ===================================================

- ``HOLD`` releases all once ``count`` are held, the oldest has waited ``wait``, or ``join`` requests are
  running; with ``drained`` it does so only while nothing runs. At once is count 1. Hold while idle, then join
  is join 1. Gated is drained 1. A deadline is a wait: the deadline's allowance less the time of service.
- ``PACE`` is a bucket that starts full, with room for ``burst`` requests, filled at ``rate``.
- ``CARBON`` releases all while the grid's intensity is at most ``intensity`` or isn't known, or once the
  oldest has waited ``wait``.

The control limit is the form of the optimum of bulk service with holding cost (Deb and Serfozo, Optimal
control of batch service queues, Advances in Applied Probability 5, 1973).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from negajoule.simulate.layout import Reals

__all__ = ["MEMORY", "PARAMETERS", "RuleCode", "decide_by_rule"]

PARAMETERS = 4
"""Most parameters of a rule."""
MEMORY = 2
"""Numbers that a rule remembers: of ``PACE`` the level of the bucket and when that was; at first (-1, 0)."""

_WHOLE = 1.0 - 1e-9  # a bucket filled for exactly the time that one request takes may be short by rounding
_INFINITE = float("inf")


class RuleCode(IntEnum):
    """Numbers of the rules; ``OBJECT`` asks a Python object."""

    OBJECT = 0
    HOLD = 1
    PACE = 2
    CARBON = 3


def decide_by_rule(
    code: int,
    parameters: Reals,
    first: int,
    memory: Reals,
    place: int,
    now_s: float,
    held: int,
    oldest_s: float,
    running: int,
    carbon_g_per_kwh: float,
    carbon_until_s: float,
) -> tuple[int, float]:
    """How many held requests go now, and when to ask again [s].

    Args:
        code: a ``RuleCode``.
        parameters: holds the rule's parameters from position ``first``.
        first: that position.
        memory: holds what the rule remembers from position ``place``; changed.
        place: that position.
        now_s: the time [s].
        held: requests held, at least one.
        oldest_s: arrival of the oldest [s].
        running: requests released and not answered.
        carbon_g_per_kwh: intensity of the grid [gCO2e/kWh], NaN if unknown.
        carbon_until_s: when that may change [s].
    """
    if code == 1:
        due_s = oldest_s + parameters[first + 1]
        drained = parameters[first + 3] > 0.0
        if drained and running > 0:
            return 0, _INFINITE
        joins = running >= parameters[first + 2] and not drained
        if held >= parameters[first] or now_s >= due_s or joins:
            return held, _INFINITE
        return 0, due_s
    if code == 2:
        rate, burst = parameters[first], parameters[first + 1]
        level = burst if memory[place] < 0.0 else memory[place] + rate * (now_s - memory[place + 1])
        level = min(level, burst)
        count = min(held, int(level + (1.0 - _WHOLE)))
        level = max(level - count, 0.0)
        memory[place] = level
        memory[place + 1] = now_s
        return count, (_INFINITE if count == held else now_s + (1.0 - level) / rate)
    if carbon_g_per_kwh > parameters[first] and now_s < oldest_s + parameters[first + 1]:
        return 0, min(carbon_until_s, oldest_s + parameters[first + 1])
    return held, _INFINITE
