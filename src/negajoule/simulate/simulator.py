"""Run a trace through a fleet: lay out the state, let the core go on, answer for policies in Python."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from negajoule.errors import ConfigError
from negajoule.simulate import core
from negajoule.simulate import layout as at
from negajoule.simulate.compiled import can_compile, compiled_run
from negajoule.simulate.fleet import Batching, Routing, Service, capped
from negajoule.simulate.outcome import HOUR_S, Outcome
from negajoule.simulate.policy import CodedPolicy, Rule, View
from negajoule.simulate.rules import PARAMETERS, RuleCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.physics.serving import StepTable
    from negajoule.simulate.fleet import Fleet
    from negajoule.simulate.policy import Policy
    from negajoule.simulate.trace import Trace

__all__ = ["simulate"]

_MODES = {
    Batching.CHUNKED: at.CHUNKED,
    Batching.PREFILL_FIRST: at.PREFILL_FIRST,
    Batching.ORCA: at.ORCA,
    Batching.STATIC: at.STATIC,
}
_ROUTES = {
    Routing.ROUND_ROBIN: at.ROUND_ROBIN,
    Routing.LEAST_LOADED: at.LEAST_LOADED,
    Routing.FEWEST: at.FEWEST,
}
_AT_ONCE = Rule(RuleCode.HOLD, (1.0, 0.0, 0.0, 0.0))
_UNLIMITED = 2**62
_PAUSES = 100  # how often progress is told


def simulate(
    trace: Trace,
    fleet: Fleet,
    services: Sequence[Service] | Service | None = None,
    *,
    carbon_g_per_kwh: Sequence[float] | None = None,
    compiled: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Serve a trace.

    Args:
        trace: the requests.
        fleet: what serves them.
        services: what each class of the trace is promised; one holds for all; None releases all at once.
        carbon_g_per_kwh: intensity of the grid by hour from the trace's start [gCO2e/kWh].
        compiled: whether numba compiles the core; None if it is installed. Results are the same.
        progress: told the requests that have arrived so far, and all.

    Returns:
        What became of each request and of the energy. Policies are copied; the caller's don't change.

    Raises:
        ConfigError: (C101) for a cap below idle power, services that don't fit the trace's classes, or a
            policy whose answer can't be carried out.
        ExtraMissingError: (X101) if ``compiled`` is asked for and numba isn't installed.
    """
    each = _one_for_each(services, len(trace.classes))
    policies = [copy.deepcopy(service.policy) for service in each]
    intensity = _intensity(carbon_g_per_kwh)
    state = _lay_out(trace, fleet, each, policies, intensity)
    use = can_compile() if compiled is None else compiled
    run = compiled_run() if use else core.run
    if not use:
        state = at.State(*(column.tolist() for column in state))
    total = len(trace)
    stride = max(total // _PAUSES, 1)
    state.fleet_wholes[at.PAUSE_AT] = stride if progress is not None else _UNLIMITED
    while (need := run(*state)) != at.FINISHED:
        if need == at.ASK:
            _answer(state, policies, trace)
        elif need == at.GROW:
            state = _grown(state, intensity)
        elif need == at.PAUSED:
            done = int(state.fleet_wholes[at.NEXT_ARRIVAL])
            state.fleet_wholes[at.PAUSE_AT] = done + stride if done < total else _UNLIMITED
            assert progress is not None
            progress(done, total)
        else:
            raise _misuse(state, trace, "an impossible answer")
    return Outcome.read(trace, fleet, state, intensity)


def _one_for_each(services: Sequence[Service] | Service | None, classes: int) -> list[Service]:
    if services is None or isinstance(services, Service):
        return [services or Service()] * classes
    if len(services) != classes:
        raise ConfigError(f"there are {len(services)} services for {classes} classes of requests")
    return list(services)


def _intensity(by_hour: Sequence[float] | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    given = np.asarray([] if by_hour is None else by_hour, dtype=np.float64)
    if given.ndim != 1 or (given < 0).any() or np.isinf(given).any():
        raise ConfigError("carbon intensities must be a row of numbers, none below 0")
    return given


def _lay_out(
    trace: Trace,
    fleet: Fleet,
    services: list[Service],
    policies: list[Policy | None],
    intensity: np.ndarray[Any, np.dtype[np.float64]],
) -> at.State:
    """The state before the first event."""
    number, batch = len(trace), fleet.batch
    replicas = fleet.replicas + fleet.prefill_replicas
    times = np.full(number * at.TIMES, np.nan)
    times[at.ARRIVAL :: at.TIMES] = trace.arrival_s
    facts = np.zeros(number * at.FACTS, dtype=np.int32)
    facts[at.PROMPT :: at.FACTS] = trace.prompt_tokens
    facts[at.ANSWER :: at.FACTS] = trace.answer_tokens
    facts[at.KEPT :: at.FACTS] = trace.kept_tokens if fleet.prefix_cache else 0
    facts[at.KIND :: at.FACTS] = trace.kind
    facts[at.NEXT :: at.FACTS] = at.NONE
    facts[at.PLACE :: at.FACTS] = at.NONE
    whole = trace.prompt_tokens.astype(np.int64) + trace.answer_tokens
    limit = fleet.kv_tokens + 1  # the last token of an answer needs no room
    limit = limit if fleet.context_tokens is None else min(limit, fleet.context_tokens)
    facts[at.OUTCOME :: at.FACTS] = np.where(whole > limit, at.TOO_LONG, at.OPEN)

    slots = np.zeros(replicas * batch * at.SLOTS, dtype=np.int64)
    slots[at.FREE :: at.SLOTS] = np.tile(np.arange(batch)[::-1], replicas)
    reals = np.zeros(replicas * at.REALS)
    reals[at.CLOCK :: at.REALS] = np.inf
    wholes = np.zeros(replicas * at.WHOLES, dtype=np.int64)
    wholes[at.ROLE :: at.WHOLES] = np.arange(replicas) >= fleet.replicas
    wholes[at.FREED :: at.WHOLES] = batch
    for field in (at.NEWEST, at.HEAD, at.TAIL, at.PART, at.HANDED):
        wholes[field :: at.WHOLES] = at.NONE

    class_reals = np.zeros(len(services) * at.CLASS_REALS)
    class_wholes = np.zeros(len(services) * at.CLASS_WHOLES, dtype=np.int64)
    for kind, (service, policy) in enumerate(zip(services, policies, strict=True)):
        rule = _AT_ONCE if policy is None else policy.rule() if isinstance(policy, CodedPolicy) else None
        real = kind * at.CLASS_REALS
        class_reals[real + at.TIMEOUT_S] = service.timeout_s
        class_reals[real + at.ALARM] = np.inf
        class_reals[real + at.MEMORY_AT] = -1.0
        if rule is not None:
            class_wholes[kind * at.CLASS_WHOLES + at.RULE] = int(rule.code)
            if len(rule.parameters) > PARAMETERS:
                raise ConfigError(f"the rule {rule.code.name} has {len(rule.parameters)} parameters")
            class_reals[real + at.PARAMETERS_AT :][: len(rule.parameters)] = rule.parameters

    width_s = HOUR_S
    margin_s = max(
        fleet.table.wake_s,
        0.0 if fleet.prefill_table is None else fleet.prefill_table.wake_s,
        fleet.transfer_token_s * float(trace.prompt_tokens.max()),
    )
    bins = int((float(trace.arrival_s[-1]) + margin_s) / width_s) + 4
    fleet_reals = np.zeros(at.FLEET_REALS)
    fleet_reals[at.BIN_S] = width_s
    fleet_reals[at.SLEEP_AFTER_S] = fleet.sleep_after_s
    fleet_reals[at.INTER_TOKEN_S] = fleet.inter_token_limit_s
    fleet_reals[at.TRANSFER_S] = fleet.transfer_token_s
    fleet_reals[at.TRANSFER_J] = fleet.transfer_token_j
    fleet_reals[at.MARGIN_S] = margin_s
    fleet_wholes = np.zeros(at.FLEET_WHOLES, dtype=np.int64)
    fleet_wholes[at.REQUESTS] = number
    fleet_wholes[at.MAINS] = fleet.replicas
    fleet_wholes[at.REPLICAS] = replicas
    fleet_wholes[at.CLASSES] = len(services)
    fleet_wholes[at.BINS] = bins
    fleet_wholes[at.MODE] = _MODES[fleet.batching]
    fleet_wholes[at.ROUTING] = _ROUTES[fleet.routing]
    fleet_wholes[at.FILL] = fleet.fill
    fleet_wholes[at.MAX_BATCH] = batch
    fleet_wholes[at.STEP_TOKENS] = fleet.step_tokens
    fleet_wholes[at.KV_TOKENS] = fleet.kv_tokens
    fleet_wholes[at.KV_ADMIT] = int(fleet.kv_tokens * (1.0 - fleet.keep_free))
    fleet_wholes[at.LEVELS] = 1 + len(fleet.slower)
    fleet_wholes[at.MOST_OPEN] = _UNLIMITED if fleet.most_open is None else fleet.most_open
    fleet_wholes[at.TIMEOUTS] = any(math.isfinite(service.timeout_s) for service in services)
    return at.State(
        times=times,
        facts=facts,
        slots=slots,
        reals=reals,
        wholes=wholes,
        class_reals=class_reals,
        class_wholes=class_wholes,
        costs=_costs(fleet),
        energy=np.zeros(bins * at.PHASES),
        carbon=_padded(intensity, bins, np.nan),
        fleet_reals=fleet_reals,
        fleet_wholes=fleet_wholes,
    )


def _costs(fleet: Fleet) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The tables of costs, in the core's order."""
    cap_w = fleet.power_cap_w

    def with_cap(table: StepTable) -> StepTable:
        return table if cap_w is None else capped(table, cap_w)

    main = with_cap(fleet.table)
    scalars = [
        [
            table.prefill_token_s,
            table.prefill_context_s,
            table.prefill_step_s,
            table.prefill_token_j,
            table.prefill_context_j,
            table.prefill_step_j,
            table.idle_w,
            table.sleep_w,
            table.wake_s,
            table.wake_j,
        ]
        for table in (main, main if fleet.prefill_table is None else with_cap(fleet.prefill_table))
    ]
    levels = [
        np.stack(table.arrays(), axis=1)[: fleet.batch + 1].ravel()
        for table in (main, *(with_cap(slower) for slower in fleet.slower))
    ]
    return np.concatenate([np.asarray(scalars).ravel(), *levels])


def _padded(
    values: np.ndarray[Any, np.dtype[np.float64]], size: int, fill: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    padded = np.full(size, fill)
    padded[: min(size, values.size)] = values[:size]
    return padded


def _grown(state: at.State, intensity: np.ndarray[Any, np.dtype[np.float64]]) -> at.State:
    """The state with twice the bins of time, or as many as the next event needs."""
    bins = 2 * int(state.fleet_wholes[at.BINS])
    state.fleet_wholes[at.BINS] = bins
    columns: list[Any] = [
        _padded(np.asarray(state.energy), bins * at.PHASES, 0.0),
        _padded(intensity, bins, np.nan),
    ]
    if isinstance(state.energy, list):
        columns = [column.tolist() for column in columns]
    return state._replace(energy=columns[0], carbon=columns[1])


def _answer(state: at.State, policies: list[Policy | None], trace: Trace) -> None:
    """Ask a policy in Python and write its answer down."""
    fleet = state.fleet_wholes
    kind = int(fleet[at.CURSOR])
    wholes = kind * at.CLASS_WHOLES
    now_s = float(state.fleet_reals[at.NOW])
    bin_now = int(now_s / HOUR_S)
    replicas = int(fleet[at.REPLICAS])
    asleep = 0
    if state.fleet_reals[at.SLEEP_AFTER_S] < math.inf:
        asleep = sum(not core.awake(state, replica, now_s) for replica in range(replicas))
    held = int(state.class_wholes[wholes + at.HELD])
    policy = policies[kind]
    assert policy is not None
    answer = policy.decide(
        View(
            now_s,
            held,
            float(state.times[int(state.class_wholes[wholes + at.HELD_HEAD]) * at.TIMES + at.ARRIVAL]),
            int(fleet[at.RUNNING]),
            replicas - asleep,
            float(state.carbon[bin_now]),
            (bin_now + 1) * HOUR_S,
        )
    )
    try:
        count, again_s = answer
        state.class_wholes[wholes + at.RELEASE] = int(count)
        state.class_reals[kind * at.CLASS_REALS + at.ASK_AGAIN] = float(again_s)
    except (TypeError, ValueError, OverflowError):
        raise _misuse(state, trace, f"{answer!r}") from None
    fleet[at.ANSWERED] = 1


def _misuse(state: at.State, trace: Trace, answer: str) -> ConfigError:
    kind = int(state.fleet_wholes[at.CURSOR])
    held = int(state.class_wholes[kind * at.CLASS_WHOLES + at.HELD])
    return ConfigError(
        f"the policy of class {trace.classes[kind]!r} gave {answer} at {float(state.fleet_reals[at.NOW]):g} s, "
        f"while {held} were held",
        fix="answer with a count from 0 to held and, if any stay, a time later than now",
    )
