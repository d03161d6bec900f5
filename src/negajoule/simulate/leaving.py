"""Who leaves a replica before the end: given up by the client, or pre-empted for want of KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.simulate import layout as at
from negajoule.simulate.batch import remove

if TYPE_CHECKING:
    from negajoule.simulate.layout import State

__all__ = ["expire", "expiry_s", "leave", "next_expiry", "preempt"]


def expiry_s(s: State, request: int) -> float:
    """When the client of a request gives up [s]."""
    kind = s.facts[request * at.FACTS + at.KIND]
    return s.times[request * at.TIMES + at.ARRIVAL] + s.class_reals[kind * at.CLASS_REALS + at.TIMEOUT_S]


def leave(s: State, replica: int, request: int, now_s: float, outcome: int) -> None:
    """Let a request go from a replica, answered or not."""
    if outcome == at.SERVED and s.fleet_wholes[at.TIMEOUTS] > 0 and now_s > expiry_s(s, request):
        outcome = at.TIMED_OUT
    s.times[request * at.TIMES + at.END] = now_s
    s.facts[request * at.FACTS + at.OUTCOME] = outcome
    s.wholes[replica * at.WHOLES + at.LOAD] -= 1
    s.fleet_wholes[at.RUNNING] -= 1


def expire(s: State, replica: int, now_s: float) -> None:
    """Drop those whose clients gave up: running ones, and at the head of the queue.

    A static batch keeps its slots to the end, so there only the queue is dropped.
    """
    own = replica * at.WHOLES
    w = s.wholes
    base = replica * s.fleet_wholes[at.MAX_BATCH]
    slot = at.NONE if s.fleet_wholes[at.MODE] == at.STATIC else w[own + at.NEWEST]
    while slot != at.NONE:
        record = (base + slot) * at.SLOTS
        before = s.slots[record + at.BEFORE]
        request = s.slots[record + at.REQUEST]
        if expiry_s(s, request) <= now_s:
            w[own + at.BATCH] -= 1
            w[own + at.CONTEXT] -= s.slots[record + at.ORIGIN] + w[own + at.COUNT]
            remove(s, replica, slot)
            if s.fleet_wholes[at.MODE] == at.ORCA:
                facts = request * at.FACTS
                w[own + at.RESERVED] -= s.facts[facts + at.PROMPT] + s.facts[facts + at.ANSWER]
            leave(s, replica, request, now_s, at.TIMED_OUT)
        slot = before
    part = w[own + at.PART]
    if part != at.NONE and expiry_s(s, part) <= now_s:
        w[own + at.PART] = at.NONE
        leave(s, replica, part, now_s, at.TIMED_OUT)
    while w[own + at.HEAD] != at.NONE and expiry_s(s, w[own + at.HEAD]) <= now_s:
        head = w[own + at.HEAD]
        w[own + at.HEAD] = s.facts[head * at.FACTS + at.NEXT]
        leave(s, replica, head, expiry_s(s, head), at.TIMED_OUT)


def next_expiry(s: State, replica: int) -> float:
    """When the first of those running, or the head of the queue, gives up [s]."""
    own = replica * at.WHOLES
    base = replica * s.fleet_wholes[at.MAX_BATCH]
    first_s = at.INFINITE
    slot = at.NONE if s.fleet_wholes[at.MODE] == at.STATIC else s.wholes[own + at.NEWEST]
    while slot != at.NONE:
        record = (base + slot) * at.SLOTS
        first_s = min(first_s, expiry_s(s, s.slots[record + at.REQUEST]))
        slot = s.slots[record + at.BEFORE]
    if s.wholes[own + at.HEAD] != at.NONE:
        first_s = min(first_s, expiry_s(s, s.wholes[own + at.HEAD]))
    return first_s


def preempt(s: State, replica: int) -> None:
    """Send back to the head of the queue whoever joined last, until the KV cache holds the rest.

    What they had is computed again when they return.
    """
    own = replica * at.WHOLES
    w = s.wholes
    base = replica * s.fleet_wholes[at.MAX_BATCH]
    while True:
        part = w[own + at.PART]
        held = w[own + at.CONTEXT] + (w[own + at.PART_ALL] if part != at.NONE else 0)
        members = w[own + at.BATCH] + (1 if part != at.NONE else 0)
        if members <= 1 or held <= s.fleet_wholes[at.KV_TOKENS]:
            return
        if part != at.NONE:
            request = part
            w[own + at.PART] = at.NONE
        else:
            slot = w[own + at.NEWEST]
            record = (base + slot) * at.SLOTS
            request = s.slots[record + at.REQUEST]
            context = s.slots[record + at.ORIGIN] + w[own + at.COUNT]
            s.facts[request * at.FACTS + at.MADE] = context - s.facts[request * at.FACTS + at.PROMPT]
            w[own + at.BATCH] -= 1
            w[own + at.CONTEXT] -= context
            remove(s, replica, slot)
        w[own + at.PREEMPTED] += 1
        if w[own + at.HEAD] == at.NONE:
            w[own + at.TAIL] = request
        s.facts[request * at.FACTS + at.NEXT] = w[own + at.HEAD]
        w[own + at.HEAD] = request
