"""What came out: each request's moments, and the energy by phase and hour."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negajoule.simulate import core
from negajoule.simulate import layout as at

if TYPE_CHECKING:
    from negajoule.simulate.fleet import Fleet
    from negajoule.simulate.trace import Trace

__all__ = ["HOUR_S", "PHASES", "Fate", "Outcome"]

HOUR_S = 3600.0
"""Width of a bin of time [s]."""
PHASES = ("prefill", "decode", "idle", "sleep", "wake", "transfer", "host")
"""Phases, in the order of the columns of ``Outcome.energy_by_hour_j``."""

_JOULES_A_KWH = 3.6e6
_TENTH = 10
_ENOUGH = 100  # requests from which on a trend of waiting is told
_WAITED_SHARE = 0.05  # of the trace's span, that the last tenth waits on average when there are too many
_GROWTH = 1.5  # against those of the middle; even growth makes it 1.9

Floats = NDArray[np.float64]


class Fate(IntEnum):
    """What became of a request."""

    SERVED = at.SERVED
    REFUSED = at.REFUSED
    TIMED_OUT = at.TIMED_OUT
    TOO_LONG = at.TOO_LONG
    STARVED = at.STARVED


class Outcome:
    """A finished simulation.

    Attributes:
        trace: the requests.
        release_s: when each was let go to a replica [s]; NaN if never.
        first_s: when its first token was there [s]; NaN if never.
        end_s: when its answer was done, or was given up [s]; NaN if never begun.
        fate: a ``Fate`` each.
        place: the replica that answered, -1 if none.
        end_time_s: when all was over [s].
        energy_by_hour_j: energy, shape (hours, phases), phases as in ``PHASES`` [J].
        carbon_by_hour_g: emissions by hour [gCO2e]; NaN where the intensity isn't known.
        busy_s, steps, decoded_tokens, prefilled_tokens, preempted, woken: by replica, sums; those that only
            compute prompts come last.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.release_s: Floats
        self.first_s: Floats
        self.end_s: Floats
        self.fate: NDArray[np.int8]
        self.place: NDArray[np.int32]
        self.end_time_s = 0.0
        self.energy_by_hour_j: Floats
        self.carbon_by_hour_g: Floats
        self.busy_s: Floats
        self.steps: NDArray[np.int64]
        self.decoded_tokens: NDArray[np.int64]
        self.prefilled_tokens: NDArray[np.int64]
        self.preempted: NDArray[np.int64]
        self.woken: NDArray[np.int64]

    @classmethod
    def read(cls, trace: Trace, fleet: Fleet, state: at.State, carbon_g_per_kwh: Floats) -> Outcome:
        """Take the results out of the core's state."""
        self = cls(trace)
        times = np.asarray(state.times)
        facts = np.asarray(state.facts)
        self.release_s = times[at.RELEASED :: at.TIMES].copy()
        self.first_s = times[at.FIRST :: at.TIMES].copy()
        self.end_s = times[at.END :: at.TIMES].copy()
        fate = facts[at.OUTCOME :: at.FACTS].astype(np.int8)
        fate[fate == at.OPEN] = at.STARVED
        self.fate = fate
        self.place = facts[at.PLACE :: at.FACTS].astype(np.int32)
        last_s = float(state.fleet_reals[at.NOW])
        self.end_time_s = last_s
        core.close(state, last_s)
        hours = int(last_s / HOUR_S) + 1
        by_phase = np.asarray(state.energy).reshape(-1, at.PHASES)
        hours = max(hours, int(np.flatnonzero(by_phase.any(axis=1))[-1]) + 1 if by_phase.any() else 1)
        replicas = fleet.replicas + fleet.prefill_replicas
        edges = np.arange(hours + 1) * HOUR_S
        host = fleet.host_w * replicas * np.diff(np.minimum(edges, last_s))
        self.energy_by_hour_j = np.column_stack((by_phase[:hours], host))
        intensity = np.full(hours, np.nan)
        intensity[: min(hours, carbon_g_per_kwh.size)] = carbon_g_per_kwh[:hours]
        self.carbon_by_hour_g = self.energy_by_hour_j.sum(axis=1) / _JOULES_A_KWH * intensity
        wholes = np.asarray(state.wholes)
        self.busy_s = np.asarray(state.reals)[at.BUSY_S :: at.REALS].copy()
        self.steps = wholes[at.STEPS_DONE :: at.WHOLES].copy()
        self.decoded_tokens = wholes[at.DECODED :: at.WHOLES].copy()
        self.prefilled_tokens = wholes[at.PREFILLED :: at.WHOLES].copy()
        self.preempted = wholes[at.PREEMPTED :: at.WHOLES].copy()
        self.woken = wholes[at.WOKEN :: at.WHOLES].copy()
        return self

    @property
    def served(self) -> NDArray[np.bool_]:
        """Which requests were answered."""
        return np.asarray(self.fate == Fate.SERVED)

    @property
    def hold_s(self) -> Floats:
        """Time from arrival to release [s]."""
        return self.release_s - self.trace.arrival_s

    @property
    def ttft_s(self) -> Floats:
        """Time from arrival to the first token [s]."""
        return self.first_s - self.trace.arrival_s

    @property
    def latency_s(self) -> Floats:
        """Time from arrival to the end of the answer [s]; NaN for who wasn't served."""
        return np.where(self.served, self.end_s - self.trace.arrival_s, np.nan)

    @property
    def inter_token_s(self) -> Floats:
        """Mean time from token to token of each answer [s]; NaN for one token, or who wasn't served."""
        gaps = self.trace.answer_tokens - 1.0
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.served & (gaps > 0), (self.end_s - self.first_s) / gaps, np.nan)

    @property
    def energy_j(self) -> dict[str, float]:
        """Energy by phase [J]."""
        return dict(zip(PHASES, self.energy_by_hour_j.sum(axis=0).tolist(), strict=True))

    @property
    def total_j(self) -> float:
        """Energy of all phases [J]."""
        return float(self.energy_by_hour_j.sum())

    @property
    def request_j(self) -> float | None:
        """All energy, spread over the requests that were served [J]; None if none was."""
        served = int(np.count_nonzero(self.served))
        return self.total_j / served if served else None

    @property
    def carbon_g(self) -> float | None:
        """Emissions [gCO2e]; None if the intensity of an hour isn't known."""
        total = float(self.carbon_by_hour_g.sum())
        return None if np.isnan(total) else total

    @property
    def fates(self) -> dict[str, int]:
        """Number of requests by what became of them."""
        counts = np.bincount(self.fate, minlength=len(Fate) + 1)
        return {fate.name.lower(): int(counts[fate]) for fate in Fate}

    @property
    def overloaded(self) -> bool:
        """Whether more came than could be served: waiting grew all along, or some were refused."""
        if self.fates["refused"]:
            return True
        waited = (self.first_s - self.release_s)[self.served]
        if waited.size < _ENOUGH or self.trace.span_s == 0:
            return False
        tenth = waited.size // _TENTH
        last = float(waited[-tenth:].mean())
        middle = float(waited[waited.size // 2 - tenth // 2 :][:tenth].mean())
        return last > _WAITED_SHARE * self.trace.span_s and last > _GROWTH * middle

    def verdicts(self) -> tuple[str, ...]:
        """What must be said before any figure is used, in words."""
        fates = self.fates
        said = list(self.trace.notes)
        if self.overloaded:
            said.append("overloaded: requests come faster than they can be served, so waiting only grows")
        if fates["starved"]:
            said.append(f"starved: a policy holds {fates['starved']} requests and never lets them go")
        reasons = {
            "refused": "were refused, for too many were open",
            "timed_out": "were given up by their clients",
            "too_long": "don't fit the context or the KV cache",
        }
        said += [f"{fates[name]} requests {words}" for name, words in reasons.items() if fates[name]]
        if not fates["served"]:
            said.append("nobody was served, so there is no energy per request")
        return tuple(said)
