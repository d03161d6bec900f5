"""Which replica takes a released request.

- round robin: one after the other
- least loaded: the one with the fewest requests; one that is awake before one that sleeps, then the first
- fewest: the first with fewer than ``fill`` requests, so that the others can sleep; all full, the least
  loaded
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.simulate import layout as at

if TYPE_CHECKING:
    from negajoule.simulate.layout import State

__all__ = ["awake", "choose"]


def choose(s: State, role: int, now_s: float) -> int:
    """The replica of a role that gets the next request."""
    fleet = s.fleet_wholes
    low = 0 if role == at.MAIN else fleet[at.MAINS]
    high = fleet[at.MAINS] if role == at.MAIN else fleet[at.REPLICAS]
    if high - low == 1:
        return low
    if fleet[at.ROUTING] == at.ROUND_ROBIN:
        turn = fleet[at.TURN + role]
        fleet[at.TURN + role] = (turn + 1) % (high - low)
        return low + turn
    best, least, best_asleep = low, -1, False
    for replica in range(low, high):
        load = s.wholes[replica * at.WHOLES + at.LOAD]
        if fleet[at.ROUTING] == at.FEWEST and load < fleet[at.FILL]:
            return replica
        asleep = load == 0 and not awake(s, replica, now_s)
        if least < 0 or load < least or (load == least and best_asleep and not asleep):
            best, least, best_asleep = replica, load, asleep
    return best


def awake(s: State, replica: int, now_s: float) -> bool:
    """Whether a replica isn't asleep."""
    if s.wholes[replica * at.WHOLES + at.PHASE] != at.IDLE:
        return True
    return now_s < s.reals[replica * at.REALS + at.IDLE_SINCE] + s.fleet_reals[at.SLEEP_AFTER_S]
