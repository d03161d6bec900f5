"""One replica: at the end of its steps it lets go who is done, takes in who fits, and starts the next steps.

A replica is idle, ready (it stands between two steps) or stepping. While nobody joins or leaves, its steps
are one jump; an arrival that may join shortens the jump to the first step that ends at or after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.simulate import layout as at
from negajoule.simulate.admission import admit, admit_whole_batch
from negajoule.simulate.batch import add, first_due, remove
from negajoule.simulate.jump import book_steps, spread, steps_until, sum_of_steps
from negajoule.simulate.leaving import expire, leave, next_expiry, preempt

if TYPE_CHECKING:
    from negajoule.simulate.layout import State

__all__ = ["enqueue", "form", "settle"]


def settle(s: State, replica: int) -> None:
    """End the steps in flight: book them, let those who are done go; the replica is ready."""
    own, mine = replica * at.WHOLES, replica * at.REALS
    w = s.wholes
    now_s = s.reals[mine + at.CLOCK]
    start_s = s.reals[mine + at.START]
    steps = w[own + at.STEPS]
    s.reals[mine + at.BUSY_S] += now_s - start_s
    w[own + at.STEPS_DONE] += steps
    if s.reals[mine + at.PREFILL_J] > 0.0:
        spread(s, at.PREFILL, start_s, now_s, s.reals[mine + at.PREFILL_J])
    if w[own + at.DECODES] > 0:
        book_steps(s, replica)
        w[own + at.COUNT] += steps
        w[own + at.CONTEXT] += w[own + at.BATCH] * steps
        w[own + at.DECODED] += w[own + at.BATCH] * steps
    w[own + at.BATCH] += w[own + at.JOINING]
    w[own + at.CONTEXT] += w[own + at.JOINING_CONTEXT]
    w[own + at.JOINING] = 0
    w[own + at.JOINING_CONTEXT] = 0
    w[own + at.PHASE] = at.READY
    base = replica * s.fleet_wholes[at.MAX_BATCH]
    while w[own + at.HEAPED] > 0:
        slot = first_due(s, replica)
        record = (base + slot) * at.SLOTS
        if s.slots[record + at.DUE] > w[own + at.COUNT]:
            break
        request = s.slots[record + at.REQUEST]
        w[own + at.BATCH] -= 1
        w[own + at.CONTEXT] -= s.slots[record + at.ORIGIN] + w[own + at.COUNT]
        remove(s, replica, slot)
        if s.fleet_wholes[at.MODE] == at.ORCA:
            facts = request * at.FACTS
            w[own + at.RESERVED] -= s.facts[facts + at.PROMPT] + s.facts[facts + at.ANSWER]
        leave(s, replica, request, now_s, at.SERVED)


def form(s: State, replica: int) -> None:
    """Start the next steps of a replica that is ready, or leave it idle."""
    own, mine = replica * at.WHOLES, replica * at.REALS
    w, fleet = s.wholes, s.fleet_wholes
    now_s = s.reals[mine + at.CLOCK]
    mode = at.PREFILL_FIRST if w[own + at.ROLE] == at.PREFILLING else fleet[at.MODE]
    if fleet[at.TIMEOUTS] > 0:
        expire(s, replica, now_s)
    if mode == at.STATIC:
        tokens, square, done = admit_whole_batch(s, replica)
    else:
        preempt(s, replica)
        tokens, square, done = admit(s, replica, mode, now_s)
    s.reals[mine + at.START] = now_s
    if tokens > 0:
        _form_prompt_step(s, replica, mode, tokens, square, done)
    elif w[own + at.BATCH] > 0:
        _form_jump(s, replica, mode)
    else:
        head = w[own + at.HEAD]
        if head == at.NONE:
            w[own + at.PHASE] = at.IDLE
            s.reals[mine + at.IDLE_SINCE] = now_s
            s.reals[mine + at.CLOCK] = at.INFINITE
        else:
            ready_s = _ready_s(s, head)
            idle_w = s.costs[w[own + at.ROLE] * at.SCALARS + at.IDLE_W]
            spread(s, at.IDLING, now_s, ready_s, idle_w * (ready_s - now_s))
            s.reals[mine + at.CLOCK] = ready_s


def _form_prompt_step(s: State, replica: int, mode: int, tokens: int, square: int, done: int) -> None:
    """One step that computes prompt parts; ``done`` heads those whose prompt it completes."""
    own, mine = replica * at.WHOLES, replica * at.REALS
    w, costs = s.wholes, s.costs
    scalars = w[own + at.ROLE] * at.SCALARS
    time_s = costs[scalars + at.PREFILL_TOKEN_S] * tokens + costs[scalars + at.PREFILL_CONTEXT_S] * square
    energy_j = costs[scalars + at.PREFILL_TOKEN_J] * tokens + costs[scalars + at.PREFILL_CONTEXT_J] * square
    batch = w[own + at.BATCH]
    decodes = batch > 0 and mode != at.PREFILL_FIRST
    if decodes:
        cost = at.DECODES_AT + 4 * batch
        time_s += costs[cost] + costs[cost + 1] * w[own + at.CONTEXT]
        s.reals[mine + at.STEP_J] = costs[cost + 2] + costs[cost + 3] * w[own + at.CONTEXT]
    else:
        time_s += costs[scalars + at.PREFILL_STEP_S]
        energy_j += costs[scalars + at.PREFILL_STEP_J]
    w[own + at.PREFILLED] += tokens
    w[own + at.DECODES] = 1 if decodes else 0
    s.reals[mine + at.PREFILL_J] = energy_j
    s.reals[mine + at.STEP_S] = time_s
    s.reals[mine + at.SLOPE_S] = 0.0
    s.reals[mine + at.SLOPE_J] = 0.0
    end_s = s.reals[mine + at.START] + time_s
    _fly(s, replica, 1, end_s)
    count = w[own + at.COUNT] + w[own + at.DECODES]
    longest_prompt, longest_answer = 0, 0
    request = done
    while mode == at.STATIC and request != at.NONE:
        longest_prompt = max(longest_prompt, s.facts[request * at.FACTS + at.PROMPT])
        longest_answer = max(longest_answer, s.facts[request * at.FACTS + at.ANSWER])
        request = s.facts[request * at.FACTS + at.NEXT]
    if w[own + at.ROLE] == at.PREFILLING:
        w[own + at.HANDED] = done
    while done != at.NONE:
        facts = done * at.FACTS
        made = s.facts[facts + at.MADE] + 1
        s.facts[facts + at.MADE] = made
        if made == 1:
            s.times[done * at.TIMES + at.FIRST] = end_s
        if w[own + at.ROLE] == at.MAIN:
            context = s.facts[facts + at.PROMPT] + made
            remaining = s.facts[facts + at.ANSWER] - made
            if mode == at.STATIC:
                context = longest_prompt + 1
                remaining = longest_answer - 1
            add(s, replica, done, count + remaining, context - count)
            w[own + at.JOINING] += 1
            w[own + at.JOINING_CONTEXT] += context
        done = s.facts[facts + at.NEXT]


def _form_jump(s: State, replica: int, mode: int) -> None:
    """As many decode steps as nobody can join or leave."""
    own, mine = replica * at.WHOLES, replica * at.REALS
    w, fleet = s.wholes, s.fleet_wholes
    batch, context = w[own + at.BATCH], w[own + at.CONTEXT]
    base = replica * fleet[at.MAX_BATCH]
    steps = s.slots[(base + first_due(s, replica)) * at.SLOTS + at.DUE] - w[own + at.COUNT]
    if batch > 1 and (mode == at.CHUNKED or mode == at.PREFILL_FIRST):
        steps = min(steps, (fleet[at.KV_TOKENS] - context) // batch + 1)
    level = fleet[at.LEVELS] - 1
    limit_s = s.fleet_reals[at.INTER_TOKEN_S]
    stride = 4 * (fleet[at.MAX_BATCH] + 1)
    cost = at.DECODES_AT + 4 * batch + level * stride
    while level > 0 and s.costs[cost] + s.costs[cost + 1] * context > limit_s:
        level -= 1
        cost -= stride
    first_s = s.costs[cost] + s.costs[cost + 1] * context
    slope_s = s.costs[cost + 1] * batch
    if level > 0 and slope_s * (steps - 1) > limit_s - first_s:
        steps = int((limit_s - first_s) / slope_s) + 1
    s.reals[mine + at.STEP_S] = first_s
    s.reals[mine + at.SLOPE_S] = slope_s
    s.reals[mine + at.STEP_J] = s.costs[cost + 2] + s.costs[cost + 3] * context
    s.reals[mine + at.SLOPE_J] = s.costs[cost + 3] * batch
    s.reals[mine + at.PREFILL_J] = 0.0
    w[own + at.DECODES] = 1
    start_s = s.reals[mine + at.START]
    head = w[own + at.HEAD]
    is_open = head == at.NONE and batch < fleet[at.MAX_BATCH] and mode != at.STATIC
    w[own + at.OPEN_TO_ARRIVALS] = 1 if is_open else 0
    _fly(s, replica, steps, start_s + sum_of_steps(steps, first_s, slope_s))
    if head != at.NONE and s.facts[head * at.FACTS + at.OUTCOME] == at.CARRIED:
        ready_s = _ready_s(s, head)
        if ready_s > start_s:
            _shorten(s, replica, ready_s)
    if fleet[at.TIMEOUTS] > 0:
        _shorten(s, replica, next_expiry(s, replica))


def _fly(s: State, replica: int, steps: int, end_s: float) -> None:
    s.wholes[replica * at.WHOLES + at.STEPS] = steps
    s.wholes[replica * at.WHOLES + at.PHASE] = at.STEPPING
    s.reals[replica * at.REALS + at.CLOCK] = end_s


def _shorten(s: State, replica: int, until_s: float) -> None:
    """End a jump with the first step that ends at or after a moment."""
    mine = replica * at.REALS
    if until_s < s.reals[mine + at.CLOCK]:
        start_s = s.reals[mine + at.START]
        first_s, slope_s = s.reals[mine + at.STEP_S], s.reals[mine + at.SLOPE_S]
        steps = steps_until(start_s, until_s, first_s, slope_s)
        if steps < s.wholes[replica * at.WHOLES + at.STEPS]:
            _fly(s, replica, steps, start_s + sum_of_steps(steps, first_s, slope_s))


def _ready_s(s: State, request: int) -> float:
    """When the KV cache of a request has come over from where its prompt was computed."""
    prompt = s.facts[request * at.FACTS + at.PROMPT]
    return s.times[request * at.TIMES + at.FIRST] + s.fleet_reals[at.TRANSFER_S] * prompt


def enqueue(s: State, replica: int, request: int, now_s: float) -> None:
    """Put a request at the end of a replica's queue; wake it, or shorten its jump, if need be."""
    own = replica * at.WHOLES
    w = s.wholes
    w[own + at.LOAD] += 1
    s.facts[request * at.FACTS + at.PLACE] = replica
    s.facts[request * at.FACTS + at.NEXT] = at.NONE
    was_empty = w[own + at.HEAD] == at.NONE
    if was_empty:
        w[own + at.HEAD] = request
    else:
        s.facts[w[own + at.TAIL] * at.FACTS + at.NEXT] = request
    w[own + at.TAIL] = request
    if w[own + at.PHASE] == at.IDLE:
        wake(s, replica, now_s)
    elif w[own + at.PHASE] == at.STEPPING and w[own + at.STEPS] > 1:
        if w[own + at.OPEN_TO_ARRIVALS] > 0:
            _shorten(s, replica, now_s)
        elif was_empty and s.fleet_wholes[at.TIMEOUTS] > 0:
            _shorten(s, replica, next_expiry(s, replica))


def wake(s: State, replica: int, now_s: float) -> None:
    """End a replica's idling: book it and its sleep, make it ready."""
    own, mine = replica * at.WHOLES, replica * at.REALS
    scalars = s.wholes[own + at.ROLE] * at.SCALARS
    asleep = rest(s, replica, now_s)
    s.wholes[own + at.PHASE] = at.READY
    s.reals[mine + at.CLOCK] = now_s
    if asleep:
        s.wholes[own + at.WOKEN] += 1
        s.reals[mine + at.CLOCK] = now_s + s.costs[scalars + at.WAKE_S]
        spread(s, at.WAKING, now_s, s.reals[mine + at.CLOCK], s.costs[scalars + at.WAKE_J])


def rest(s: State, replica: int, now_s: float) -> bool:
    """Book a replica's idling and sleep up to now; whether it slept."""
    mine = replica * at.REALS
    scalars = s.wholes[replica * at.WHOLES + at.ROLE] * at.SCALARS
    since_s = s.reals[mine + at.IDLE_SINCE]
    asleep_s = since_s + s.fleet_reals[at.SLEEP_AFTER_S]
    idle_w, sleep_w = s.costs[scalars + at.IDLE_W], s.costs[scalars + at.SLEEP_W]
    awake_until_s = min(asleep_s, now_s)
    if awake_until_s > since_s:
        spread(s, at.IDLING, since_s, awake_until_s, idle_w * (awake_until_s - since_s))
    if now_s > asleep_s:
        spread(s, at.SLEEPING, asleep_s, now_s, sleep_w * (now_s - asleep_s))
    return now_s >= asleep_s
