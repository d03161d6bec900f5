"""Find the policy that costs least and keeps what was promised, and say so when none helps.

Waits are found by bisection, the rest by trying; a simulated trace takes milliseconds. A wait must keep the
promise with a margin that the trace's own parts give, on a first stretch of the trace; a second stretch, on
which nothing was tuned, has the last word. What doesn't hold there loses to "at once".
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from negajoule.errors import ConfigError
from negajoule.shape.fleets import Variant, variants
from negajoule.shape.policies import AtOnce, CleanerHours, ControlLimit, Gated, JoinBusy
from negajoule.shape.promise import Kept
from negajoule.simulate import Policy
from negajoule.simulate.compiled import worth_compiling
from negajoule.simulate.fleet import Service
from negajoule.simulate.simulator import simulate
from negajoule.units import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from negajoule.shape.promise import Promise
    from negajoule.simulate.fleet import Fleet
    from negajoule.simulate.outcome import Outcome
    from negajoule.simulate.trace import Trace

__all__ = ["Plan", "Shaped", "Trial", "shape"]

_RUNNING = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
_BISECTIONS = 9  # leaves 0.2 % of the limit
_TUNED_SHARE = 0.6  # of the trace; the rest judges
_PARTS = 5  # of the judging stretch, for the interval of the gain
_STUDENT = 2.132  # 95 % quantile of Student's distribution with 4 degrees of freedom: a 90 % interval
_RETREATS = (1.0, 0.96, 0.9, 0.8)  # shares of a wait that are tried when the judging stretch says no
_CLEAN_SHARES = (0.1, 0.25, 0.5, 0.75)  # of the hours that count as clean enough to go
_FEW = 200  # requests below which a trace is too short to tune and judge


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: a policy for each class, and how the fleet is run.

    Attributes:
        policies: for each class of the trace, in its order.
        variant: what is done with the fleet.
    """

    policies: tuple[Policy, ...]
    variant: Variant

    def run(
        self,
        trace: Trace,
        *,
        carbon_g_per_kwh: Sequence[float] | None = None,
        compiled: bool | None = None,
    ) -> Outcome:
        """Serve a trace by this plan; arguments as of ``simulate``."""
        services = [Service(policy=policy) for policy in self.policies]
        return simulate(
            trace, self.variant.fleet, services, carbon_g_per_kwh=carbon_g_per_kwh, compiled=compiled
        )

    def __str__(self) -> str:
        said = dict.fromkeys(str(policy) for policy in self.policies)
        return "; ".join([*said, *([self.variant.title] if self.variant.title else [])])


class Trial(NamedTuple):
    """A plan and what came of it.

    Attributes:
        plan: the plan.
        cost: energy, emissions or money for each request served [J], [gCO2e] or [1].
        kept: of each promise.
    """

    plan: Plan
    cost: float
    kept: tuple[Kept, ...]


class Shaped(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        decision: the choice; its margin is against the best alternative.
        plan: the chosen plan.
        objective: what was made small: ``energy``, ``carbon`` or ``money``.
        unit: of costs: J, gCO2e or a currency.
        cost: of the plan on the judging stretch, for each request served, in that unit.
        at_once: the same when nobody is held and the fleet is left as it is.
        gain: ``at_once / cost``.
        gain_low: lower end of its 90 % interval.
        gain_high: upper end of it.
        kept: of each promise, on the judging stretch.
        trials: the best of each kind on the tuning stretch, cheapest first.
        notes: what must be said beside the figures.
    """

    decision: Decision
    plan: Plan
    objective: str
    unit: str
    cost: float
    at_once: float
    gain: float
    gain_low: float
    gain_high: float
    kept: tuple[Kept, ...]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...]


def shape(
    trace: Trace,
    fleet: Fleet,
    promises: Sequence[Promise],
    *,
    objective: str = "energy",
    carbon_g_per_kwh: Sequence[float] | None = None,
    price_per_kwh: Sequence[float] | None = None,
    currency: str = "EUR",
    levers: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Shaped:
    """Choose when requests go.

    Args:
        trace: requests like those to come; the first 60 % tune, the rest judges.
        fleet: what serves them.
        promises: what must be kept; classes without a promise go at once.
        objective: ``energy``, ``carbon`` or ``money``.
        carbon_g_per_kwh: intensity of the grid by hour from the trace's start; needed for ``carbon``. If it
            changes, waiting for cleaner hours is tried as well.
        price_per_kwh: price of energy by hour from the trace's start; needed for ``money``.
        currency: of that price.
        levers: what may be done with the fleet beside timing: ``sleep``, ``consolidate``, ``clocks``.
        progress: told how many kinds of plan were tried, and of how many.

    Raises:
        ConfigError: (C101) for an unknown objective or lever, no promise, or a trace too short to judge.
    """
    by_hour = {"energy": (), "carbon": carbon_g_per_kwh, "money": price_per_kwh}.get(objective)
    if by_hour is None:
        raise ConfigError(
            f"the objective {objective!r} can't be followed",
            fix="energy, carbon with the grid's intensity by hour, or money with the price by hour",
        )
    if not promises:
        raise ConfigError(
            "nothing is promised, so everybody could be held for ever", fix="give a promise: p95<=10s"
        )
    if len(trace) < _FEW:
        raise ConfigError(
            f"{trace.title}: {len(trace)} requests are too few to tune on some and judge on others",
            fix=f"give at least {_FEW}",
        )
    unit = {"energy": "J", "carbon": "gCO2e"}.get(objective, currency)
    search = _Search(trace, fleet, tuple(promises), objective, unit, by_hour)
    return search.answer(variants(fleet, levers), progress)


class _Search:
    """One search: the stretches, the promises and what was found."""

    def __init__(
        self,
        trace: Trace,
        fleet: Fleet,
        promises: tuple[Promise, ...],
        objective: str,
        unit: str,
        by_hour: Sequence[float],
    ) -> None:
        self.promises, self.objective, self.unit = promises, objective, unit
        # Money is to the simulator what carbon is: so much for each kilowatt-hour of an hour.
        self.by_hour = by_hour or None
        self.makers = _makers(by_hour if objective == "carbon" else ())
        self.classes = trace.classes
        cut = int(len(trace) * _TUNED_SHARE)
        cut_s = float(trace.arrival_s[cut])
        self.tuning, self.judging = trace.first(cut), trace.between(cut_s, math.inf)
        self.cut_s = cut_s
        self.compiled = worth_compiling(cut * len(_RUNNING) * _BISECTIONS)
        self.plain = Plan(policies=(AtOnce(),) * len(trace.classes), variant=Variant("", fleet))

    def cost(self, outcome: Outcome) -> float:
        """For each request served; infinite if nobody was."""
        served = int(np.count_nonzero(outcome.served))
        total = outcome.total_j if self.objective == "energy" else outcome.carbon_g
        return total / served if served and total is not None else math.inf

    def tried(self, plan: Plan) -> Trial:
        """A plan on the tuning stretch."""
        outcome = plan.run(self.tuning, carbon_g_per_kwh=self.by_hour, compiled=self.compiled)
        return Trial(plan, self.cost(outcome), tuple(promise.check(outcome) for promise in self.promises))

    def judged(self, plan: Plan) -> Trial:
        """A plan on the judging stretch."""
        outcome = plan.run(self.judging, carbon_g_per_kwh=self._from(self.cut_s), compiled=self.compiled)
        return Trial(plan, self.cost(outcome), tuple(promise.check(outcome) for promise in self.promises))

    def answer(self, fleets: Sequence[Variant], progress: Callable[[int, int], None] | None) -> Shaped:
        """Try, judge, and choose."""
        plain = self.tried(self.plain)
        trials = [plain]
        limits = self._limits()
        kinds = [(variant, kind) for variant in fleets for kind in range(1 + len(self.makers))]
        for done, (variant, kind) in enumerate(kinds, 1):
            trial = self._best_of(variant, kind, limits)
            if trial is not None:
                trials.append(trial)
            if progress is not None:
                progress(done, len(kinds))
        trials.sort(key=lambda trial: trial.cost)
        base = self.judged(self.plain)
        for trial in trials:
            if trial.cost >= plain.cost:
                break
            for share in _RETREATS:
                judged = self.judged(_with_wait(trial.plan, share))
                if all(kept.kept for kept in judged.kept) and judged.cost < base.cost:
                    return self._shaped(judged, base, trials)
        return self._shaped(base, base, trials)

    def _limits(self) -> dict[int, float]:
        """The tightest limit of each class that has one, by its place [s]."""
        limits: dict[int, float] = {}
        for promise in self.promises:
            places = range(len(self.classes)) if promise.kind is None else (self.classes.index(promise.kind),)
            for place in places:
                limits[place] = min(limits.get(place, math.inf), promise.limit_s)
        return limits

    def _best_of(self, variant: Variant, kind: int, limits: dict[int, float]) -> Trial | None:
        """The longest waits of one kind of policy that surely keep every promise, class after class."""
        policies: list[Policy] = list(self.plain.policies)
        best = self.tried(Plan(policies=tuple(policies), variant=variant))
        if kind == 0:
            return best if variant.title and _all_kept(best) else None
        for place, limit_s in sorted(limits.items(), key=lambda item: -item[1]):

            def plan(wait_s: float, place: int = place, policies: list[Policy] = policies) -> Plan:
                changed = [*policies]
                changed[place] = self.makers[kind - 1](wait_s)
                return Plan(policies=tuple(changed), variant=variant)

            found = self._longest(plan, limit_s)
            if found is not None and found.cost < best.cost:
                best, policies = found, list(found.plan.policies)
        return best if _all_kept(best) and any(not isinstance(p, AtOnce) for p in policies) else None

    def _longest(self, plan: Callable[[float], Plan], limit_s: float) -> Trial | None:
        low, high, found = 0.0, limit_s, None
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            trial = self.tried(plan(middle))
            if _all_kept(trial):
                low, found = middle, trial
            else:
                high = middle
        return found

    def _shaped(self, judged: Trial, base: Trial, trials: list[Trial]) -> Shaped:
        gain = base.cost / judged.cost if judged.cost else 1.0
        low, high = self._interval(judged.plan) if judged is not base else (1.0, 1.0)
        others = [trial for trial in trials if _kind(trial.plan) != _kind(judged.plan)]
        runner_up = min(others, key=lambda trial: trial.cost, default=None)
        margin = None if runner_up is None else 1.0 - self.tried(judged.plan).cost / runner_up.cost
        notes = tuple(self._notes(judged, base))
        reason = (
            f"{judged.cost:.4g} {self.unit} a request against {base.cost:.4g} at once: {gain:.3g} times less"
            if judged is not base
            else "no policy saves anything and surely keeps the promise, so nobody is held"
        )
        return Shaped(
            decision=Decision(
                chosen=str(judged.plan),
                runner_up=None if runner_up is None else str(runner_up.plan),
                margin=margin,
                reason=reason,
            ),
            plan=judged.plan,
            objective=self.objective,
            unit=self.unit,
            cost=judged.cost,
            at_once=base.cost,
            gain=gain,
            gain_low=low,
            gain_high=high,
            kept=judged.kept,
            trials=tuple(trials),
            notes=notes,
        )

    def _interval(self, plan: Plan) -> tuple[float, float]:
        """The gain's 90 % interval from parts of the judging stretch, as logarithms."""
        edges = np.linspace(0, len(self.judging) - 1, _PARTS + 1).astype(int)
        logs = []
        for low, high in pairwise(edges):
            begin_s = float(self.judging.arrival_s[low])
            part = self.judging.between(begin_s, float(self.judging.arrival_s[high]))
            by_hour = self._from(self.cut_s + begin_s)
            costs = [
                self.cost(each.run(part, carbon_g_per_kwh=by_hour, compiled=self.compiled))
                for each in (self.plain, plan)
            ]
            logs.append(math.log(costs[0] / costs[1]))
        middle, error = float(np.mean(logs)), float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
        return math.exp(middle - _STUDENT * error), math.exp(middle + _STUDENT * error)

    def _from(self, begin_s: float) -> Sequence[float] | None:
        """The signal by hour as it is for a stretch that begins at a time of the trace."""
        return None if self.by_hour is None else self.by_hour[int(begin_s // 3600.0) :]

    def _notes(self, judged: Trial, base: Trial) -> Iterator[str]:
        outcome = judged.plan.run(self.judging, compiled=self.compiled)
        yield from outcome.verdicts()
        for promise, kept in zip(self.promises, base.kept, strict=True):
            if not kept.kept:
                yield (
                    f"{promise} isn't kept even when nobody is held: it comes out at {kept.reached_s:.3g} s; "
                    "more replicas or another limit are needed"
                )
        if judged is base:
            yield "timing cannot help here"


def _makers(carbon_g_per_kwh: Sequence[float]) -> list[Callable[[float], Policy]]:
    """From a wait to a policy, for each kind: join, control limit, gate, cleaner hours where they differ."""
    made: list[Callable[[float], Policy]] = [partial(_join, running) for running in _RUNNING]
    made += [lambda wait_s: ControlLimit(count=1e18, wait_s=wait_s), lambda wait_s: Gated(wait_s=wait_s)]
    if len(set(carbon_g_per_kwh)) > 1:
        levels = sorted({float(np.quantile(carbon_g_per_kwh, share)) for share in _CLEAN_SHARES})
        made += [partial(_cleaner, level) for level in levels]
    return made


def _join(running: int, wait_s: float) -> Policy:
    return JoinBusy(wait_s=wait_s, running=running)


def _cleaner(level: float, wait_s: float) -> Policy:
    return CleanerHours(intensity_g_per_kwh=level, wait_s=wait_s)


def _with_wait(plan: Plan, share: float) -> Plan:
    policies = tuple(
        msgspec.structs.replace(policy, wait_s=policy.wait_s * share)
        if isinstance(policy, JoinBusy | ControlLimit | Gated | CleanerHours)
        else policy
        for policy in plan.policies
    )
    return Plan(policies=policies, variant=plan.variant)


def _kind(plan: Plan) -> tuple[str, ...]:
    return (*(type(policy).__name__ for policy in plan.policies), plan.variant.title)


def _all_kept(trial: Trial) -> bool:
    return all(kept.surely for kept in trial.kept)
