"""The state before the first event: a trace, a fleet and services in the core's columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negajoule.errors import ConfigError
from negajoule.simulate import layout as at
from negajoule.simulate.fleet import Batching, Routing, capped
from negajoule.simulate.outcome import HOUR_S
from negajoule.simulate.policy import CodedPolicy, Rule
from negajoule.simulate.rules import PARAMETERS, RuleCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.physics.serving import StepTable
    from negajoule.simulate.fleet import Fleet, Service
    from negajoule.simulate.policy import Policy
    from negajoule.simulate.trace import Trace

__all__ = ["UNLIMITED", "lay_out", "padded"]

UNLIMITED = 2**62
"""More requests than there will ever be."""

Floats = NDArray[np.float64]

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


def lay_out(
    trace: Trace,
    fleet: Fleet,
    services: Sequence[Service],
    policies: Sequence[Policy | None],
    intensity: Floats,
) -> at.State:
    """The state before the first event.

    Raises:
        ConfigError: (C101) for a cap below idle power, or a rule with too many parameters.
    """
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
    fleet_wholes[at.MOST_OPEN] = UNLIMITED if fleet.most_open is None else fleet.most_open
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
        carbon=padded(intensity, bins, np.nan),
        fleet_reals=fleet_reals,
        fleet_wholes=fleet_wholes,
    )


def _costs(fleet: Fleet) -> Floats:
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


def padded(values: Floats, size: int, fill: float) -> Floats:
    """The first ``size`` values, filled up where there are fewer."""
    column = np.full(size, fill)
    column[: min(size, values.size)] = values[:size]
    return column
