"""The order of events: arrivals, answers, moments that a policy named; each at its time, ties in that order.

At a moment, first all steps that end then are settled, then arrivals are held, then policies are asked, then
replicas start their next steps. The core returns when it is finished, when a policy in Python is to be asked,
or when it needs more bins of time; called again, it goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.simulate import layout as at
from negajoule.simulate.jump import spread
from negajoule.simulate.layout import State
from negajoule.simulate.leaving import expiry_s, leave
from negajoule.simulate.replica import enqueue, form, rest, settle
from negajoule.simulate.routing import awake, choose
from negajoule.simulate.rules import decide_by_rule

if TYPE_CHECKING:
    from negajoule.simulate.layout import Reals, Wholes

__all__ = ["awake", "close", "run"]


def run(
    times: Reals,
    facts: Wholes,
    slots: Wholes,
    reals: Reals,
    wholes: Wholes,
    class_reals: Reals,
    class_wholes: Wholes,
    costs: Reals,
    energy: Reals,
    carbon: Reals,
    fleet_reals: Reals,
    fleet_wholes: Wholes,
) -> int:
    """Go on until something is needed: ``ASK``, ``GROW``, ``MISUSED``, ``PAUSED``, ``FINISHED``."""
    s = State(
        times,
        facts,
        slots,
        reals,
        wholes,
        class_reals,
        class_wholes,
        costs,
        energy,
        carbon,
        fleet_reals,
        fleet_wholes,
    )
    fleet = s.fleet_wholes
    while True:
        if fleet[at.ASKING] > 0:
            need = _ask(s)
            if need != at.FINISHED:
                return need
        outside_s = _next_from_outside(s)
        replica, inside_s, stepping = _next_from_inside(s)
        happens_s = min(inside_s, outside_s)
        if happens_s == at.INFINITE:
            return at.FINISHED
        last_bin = int((happens_s + s.fleet_reals[at.MARGIN_S]) / s.fleet_reals[at.BIN_S]) + 1
        if last_bin >= fleet[at.BINS]:
            return at.GROW
        if stepping and inside_s <= outside_s:
            s.fleet_reals[at.NOW] = inside_s
            _settle_all(s, inside_s)
            _start_asking(s)
        elif inside_s < outside_s:
            s.fleet_reals[at.NOW] = inside_s
            form(s, replica)
        else:
            s.fleet_reals[at.NOW] = outside_s
            _hold_arrivals(s, outside_s)
            _start_asking(s)
            if fleet[at.NEXT_ARRIVAL] >= fleet[at.PAUSE_AT]:
                return at.PAUSED


def close(s: State, end_s: float) -> None:
    """Book what idle replicas draw up to the end."""
    for replica in range(s.fleet_wholes[at.REPLICAS]):
        rest(s, replica, end_s)


def _next_from_outside(s: State) -> float:
    """When the next request arrives, or the first policy asked to be woken."""
    fleet = s.fleet_wholes
    happens_s = at.INFINITE
    if fleet[at.NEXT_ARRIVAL] < fleet[at.REQUESTS]:
        happens_s = s.times[fleet[at.NEXT_ARRIVAL] * at.TIMES + at.ARRIVAL]
    if fleet[at.HELD_ALL] > 0:
        for kind in range(fleet[at.CLASSES]):
            happens_s = min(happens_s, s.class_reals[kind * at.CLASS_REALS + at.ALARM])
    return happens_s


def _next_from_inside(s: State) -> tuple[int, float, bool]:
    """The replica that comes first, when, and whether its steps end then (else it starts some)."""
    first, first_s, stepping = 0, at.INFINITE, False
    for replica in range(s.fleet_wholes[at.REPLICAS]):
        clock_s = s.reals[replica * at.REALS + at.CLOCK]
        steps = s.wholes[replica * at.WHOLES + at.PHASE] == at.STEPPING
        if clock_s < first_s or (clock_s == first_s and steps and not stepping):
            first, first_s, stepping = replica, clock_s, steps
    return first, first_s, stepping


def _settle_all(s: State, now_s: float) -> None:
    """Settle all replicas whose steps end now; hand over the prompts that were computed elsewhere."""
    fleet = s.fleet_wholes
    for replica in range(fleet[at.REPLICAS]):
        own = replica * at.WHOLES
        if s.wholes[own + at.PHASE] == at.STEPPING and s.reals[replica * at.REALS + at.CLOCK] == now_s:
            settle(s, replica)
    for replica in range(fleet[at.MAINS], fleet[at.REPLICAS]):
        own = replica * at.WHOLES
        while s.wholes[own + at.PHASE] == at.READY and s.wholes[own + at.HANDED] != at.NONE:
            request = s.wholes[own + at.HANDED]
            facts = request * at.FACTS
            s.wholes[own + at.HANDED] = s.facts[facts + at.NEXT]
            if s.facts[facts + at.ANSWER] == s.facts[facts + at.MADE]:
                leave(s, replica, request, now_s, at.SERVED)
                continue
            s.wholes[own + at.LOAD] -= 1
            s.facts[facts + at.OUTCOME] = at.CARRIED
            prompt = s.facts[facts + at.PROMPT]
            until_s = now_s + s.fleet_reals[at.TRANSFER_S] * prompt
            spread(s, at.TRANSFER, now_s, until_s, s.fleet_reals[at.TRANSFER_J] * prompt)
            enqueue(s, choose(s, at.MAIN, now_s), request, now_s)


def _hold_arrivals(s: State, now_s: float) -> None:
    """Put all that arrive now into the queues of their classes."""
    fleet = s.fleet_wholes
    for kind in range(fleet[at.CLASSES] if fleet[at.TIMEOUTS] > 0 else 0):
        _drop_expired(s, kind, now_s)
    while fleet[at.NEXT_ARRIVAL] < fleet[at.REQUESTS]:
        request = fleet[at.NEXT_ARRIVAL]
        if s.times[request * at.TIMES + at.ARRIVAL] > now_s:
            break
        fleet[at.NEXT_ARRIVAL] = request + 1
        facts = request * at.FACTS
        if s.facts[facts + at.OUTCOME] != at.OPEN:
            continue
        if fleet[at.HELD_ALL] + fleet[at.RUNNING] >= fleet[at.MOST_OPEN]:
            s.facts[facts + at.OUTCOME] = at.REFUSED
            continue
        kind = s.facts[facts + at.KIND] * at.CLASS_WHOLES
        s.facts[facts + at.NEXT] = at.NONE
        if s.class_wholes[kind + at.HELD] == 0:
            s.class_wholes[kind + at.HELD_HEAD] = request
        else:
            s.facts[s.class_wholes[kind + at.HELD_TAIL] * at.FACTS + at.NEXT] = request
        s.class_wholes[kind + at.HELD_TAIL] = request
        s.class_wholes[kind + at.HELD] += 1
        fleet[at.HELD_ALL] += 1


def _start_asking(s: State) -> None:
    s.fleet_wholes[at.ASKING] = 1 if s.fleet_wholes[at.HELD_ALL] > 0 else 0
    s.fleet_wholes[at.CURSOR] = 0
    s.fleet_wholes[at.MOVED] = 0


def _ask(s: State) -> int:
    """Ask the policy of each class that holds requests; again, as long as any lets some go.

    Returns:
        ``FINISHED``, ``ASK`` to have a policy in Python asked, ``MISUSED`` if one gave an impossible answer.
    """
    fleet = s.fleet_wholes
    now_s = s.fleet_reals[at.NOW]
    while fleet[at.ASKING] > 0:
        while fleet[at.CURSOR] < fleet[at.CLASSES]:
            kind = fleet[at.CURSOR]
            wholes, reals = kind * at.CLASS_WHOLES, kind * at.CLASS_REALS
            if fleet[at.ANSWERED] == 0 and fleet[at.TIMEOUTS] > 0:
                _drop_expired(s, kind, now_s)
            held = s.class_wholes[wholes + at.HELD]
            if held > 0:
                if s.class_wholes[wholes + at.RULE] == 0:
                    if fleet[at.ANSWERED] == 0:
                        return at.ASK
                    fleet[at.ANSWERED] = 0
                    count = s.class_wholes[wholes + at.RELEASE]
                    again_s = s.class_reals[reals + at.ASK_AGAIN]
                else:
                    bin_now = int(now_s / s.fleet_reals[at.BIN_S])
                    count, again_s = decide_by_rule(
                        s.class_wholes[wholes + at.RULE],
                        s.class_reals,
                        reals + at.PARAMETERS_AT,
                        s.class_reals,
                        reals + at.MEMORY_AT,
                        now_s,
                        held,
                        s.times[s.class_wholes[wholes + at.HELD_HEAD] * at.TIMES + at.ARRIVAL],
                        fleet[at.RUNNING],
                        s.carbon[bin_now],
                        (bin_now + 1) * s.fleet_reals[at.BIN_S],
                    )
                if count < 0 or count > held or (count < held and not again_s > now_s):
                    return at.MISUSED
                _release(s, kind, count, now_s)
                s.class_reals[reals + at.ALARM] = again_s if count < held else at.INFINITE
                if count > 0:
                    fleet[at.MOVED] = 1
            fleet[at.CURSOR] = kind + 1
        if fleet[at.MOVED] == 0 or fleet[at.HELD_ALL] == 0:
            fleet[at.ASKING] = 0
        fleet[at.CURSOR] = 0
        fleet[at.MOVED] = 0
    return at.FINISHED


def _drop_expired(s: State, kind: int, now_s: float) -> None:
    """Drop held requests whose clients gave up."""
    wholes = kind * at.CLASS_WHOLES
    while s.class_wholes[wholes + at.HELD] > 0:
        request = s.class_wholes[wholes + at.HELD_HEAD]
        if expiry_s(s, request) > now_s:
            break
        s.times[request * at.TIMES + at.END] = expiry_s(s, request)
        s.facts[request * at.FACTS + at.OUTCOME] = at.TIMED_OUT
        _unhold(s, wholes, request)
    if s.class_wholes[wholes + at.HELD] == 0:
        s.class_reals[kind * at.CLASS_REALS + at.ALARM] = at.INFINITE


def _unhold(s: State, wholes: int, request: int) -> None:
    s.class_wholes[wholes + at.HELD_HEAD] = s.facts[request * at.FACTS + at.NEXT]
    s.class_wholes[wholes + at.HELD] -= 1
    s.fleet_wholes[at.HELD_ALL] -= 1


def _release(s: State, kind: int, count: int, now_s: float) -> None:
    """Let the oldest held requests of a class go to replicas."""
    role = at.PREFILLING if s.fleet_wholes[at.REPLICAS] > s.fleet_wholes[at.MAINS] else at.MAIN
    wholes = kind * at.CLASS_WHOLES
    for _ in range(count):
        request = s.class_wholes[wholes + at.HELD_HEAD]
        _unhold(s, wholes, request)
        s.times[request * at.TIMES + at.RELEASED] = now_s
        s.fleet_wholes[at.RUNNING] += 1
        enqueue(s, choose(s, role, now_s), request, now_s)
