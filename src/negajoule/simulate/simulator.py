"""Run a trace through a fleet: lay out the state, let the core go on, answer for policies in Python."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negajoule.errors import ConfigError
from negajoule.simulate import core
from negajoule.simulate import layout as at
from negajoule.simulate.compiled import compiled_run, worth_compiling
from negajoule.simulate.fleet import Service
from negajoule.simulate.outcome import HOUR_S, Outcome
from negajoule.simulate.policy import View
from negajoule.simulate.preparation import UNLIMITED, lay_out, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.simulate.fleet import Fleet
    from negajoule.simulate.policy import Policy
    from negajoule.simulate.trace import Trace

__all__ = ["simulate"]

Floats = NDArray[np.float64]

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
        compiled: whether numba compiles the core, with the same results; None if that saves time.
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
    state = lay_out(trace, fleet, each, policies, intensity)
    use = worth_compiling(len(trace)) if compiled is None else compiled
    run = compiled_run() if use else core.run
    if not use:
        state = at.State(*(np.asarray(column).tolist() for column in state))
    total = len(trace)
    stride = max(total // _PAUSES, 1)
    state.fleet_wholes[at.PAUSE_AT] = stride if progress is not None else UNLIMITED
    while (need := run(*state)) != at.FINISHED:
        if need == at.ASK:
            _answer(state, policies, trace)
        elif need == at.GROW:
            state = _grown(state, intensity)
        elif need == at.PAUSED:
            done = int(state.fleet_wholes[at.NEXT_ARRIVAL])
            state.fleet_wholes[at.PAUSE_AT] = done + stride if done < total else UNLIMITED
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


def _intensity(by_hour: Sequence[float] | None) -> Floats:
    given = np.asarray([] if by_hour is None else by_hour, dtype=np.float64)
    if given.ndim != 1 or (given < 0).any() or np.isinf(given).any():
        raise ConfigError("carbon intensities must be a row of numbers, none below 0")
    return given


def _grown(state: at.State, intensity: Floats) -> at.State:
    """The state with twice the bins of time, or as many as the next event needs."""
    bins = 2 * int(state.fleet_wholes[at.BINS])
    state.fleet_wholes[at.BINS] = bins
    columns: list[Any] = [
        padded(np.asarray(state.energy), bins * at.PHASES, 0.0),
        padded(intensity, bins, np.nan),
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
        f"the policy of class {trace.classes[kind]!r} gave {answer} while {held} were held, "
        f"at {float(state.fleet_reals[at.NOW]):g} s",
        fix="answer with a count from 0 to held and, if any stay, a time later than now",
    )
