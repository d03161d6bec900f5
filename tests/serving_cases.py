"""Random small cases of serving: tables, requests, fleets and policies, by seed."""

from __future__ import annotations

import math
import random

import numpy as np

from negajoule.physics.serving import StepTable
from negajoule.simulate import Batching, Fate, Fleet, Routing, Rule, RuleCode, Service, Trace, simulate
from serving_by_token import ByToken

__all__ = ["Asked", "Coded", "check_case", "make_case", "naive_policy", "table"]

SMALLEST = 1e-3  # s or J: below it a difference counts against this


def table(max_batch=8, *, pace=1.0, kv_tokens=100_000, **changes):
    """Costs like those of an 8B model on an H100, slowed by ``pace``."""
    sizes = range(1, max_batch + 1)
    values = {
        "decode_s": (0.0, *(pace * (0.0066 + 0.000079 * b) for b in sizes)),
        "decode_context_s": (0.0, *(pace * (4e-8 + 1e-9 * b) for b in sizes)),
        "decode_j": (0.0, *(3.1 + 0.06 * b for b in sizes)),
        "decode_context_j": (0.0, *(2e-5 + 1e-7 * b for b in sizes)),
        "prefill_token_s": pace * 4e-5,
        "prefill_context_s": pace * 2e-10,
        "prefill_step_s": pace * 0.006,
        "prefill_token_j": 0.025,
        "prefill_context_j": 1e-7,
        "prefill_step_j": 2.5,
        "idle_w": 120.0,
        "sleep_w": 65.0,
        "wake_s": 3.0 * pace,
        "wake_j": 600.0,
        "kv_tokens": kv_tokens,
        "title": "a test",
        "basis": "assumed",
        "doubt": 0.3,
    }
    return StepTable(**(values | changes))


class Asked:
    """A policy that isn't coded, so that the core must ask it; it does what a rule does."""

    def __init__(self, rule):
        self.decide_so = naive_policy(rule)

    def decide(self, view):
        return self.decide_so(
            view.now_s, view.held, view.oldest_s, view.running, view.carbon_g_per_kwh, view.carbon_until_s
        )


class Coded(Asked):
    """The same, coded."""

    def __init__(self, rule):
        super().__init__(rule)
        self._rule = rule

    def rule(self):
        return self._rule


def naive_policy(rule):
    """What a rule is meant to do, written apart from the simulator's."""
    if rule is None:
        return lambda now, held, *_: (held, math.inf)
    p = rule.parameters
    if rule.code is RuleCode.HOLD:

        def hold(now, held, oldest, running, *_):
            count, wait, join, drained = p
            if drained and running:
                return 0, math.inf
            if held >= count or now >= oldest + wait or (running >= join and not drained):
                return held, math.inf
            return 0, oldest + wait

        return hold
    if rule.code is RuleCode.PACE:
        return _Pace(p)

    def carbon(now, held, oldest, running, intensity, until):
        if intensity > p[0] and now < oldest + p[1]:
            return 0, min(until, oldest + p[1])
        return held, math.inf

    return carbon


class _Pace:
    """Keeps its bucket on itself: the simulator copies a policy, and a closure can't be copied."""

    def __init__(self, parameters):
        self.rate, self.burst = parameters
        self.level, self.at = self.burst, None

    def __call__(self, now, held, *_):
        if self.at is not None:
            self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        count = min(held, math.floor(self.level + 1e-9))
        self.level = max(self.level - count, 0.0)
        return count, now + (1 - self.level) / self.rate if held > count else math.inf


def make_case(seed):
    """A trace, a fleet, services, the rules behind them and carbon intensities."""
    r = random.Random(seed)
    pace = r.choice([1.0, 1.0, 300.0])  # slow enough to cross hours
    max_batch = r.randint(1, 9)
    longest = r.choice([20, 60])
    kv = r.choice([longest * 2 + 1, longest * 3, longest * 6, 100_000])
    costs = table(max_batch, pace=pace, kv_tokens=kv)
    mode = r.choice(list(Batching))
    step_tokens = r.choice([max_batch + 1, max_batch + 7, 64, 2048])
    number = r.randint(1, 40)
    mean_s = pace * r.choice([0.0, 0.02, 0.2, 1.0])
    times, now = [], 0.0
    for _ in range(number):
        now += r.expovariate(1.0) * mean_s if r.random() < 0.9 else 0.0
        times.append(now)
    kinds = r.choice([1, 2])
    rules = [_rule(r, pace) for _ in range(kinds)]
    timeout_s = [pace * r.choice([math.inf, math.inf, 0.3, 3.0]) for _ in range(kinds)]
    services = [
        Service(policy=None if rule is None else r.choice([Asked, Coded])(rule), timeout_s=timeout)
        for rule, timeout in zip(rules, timeout_s, strict=True)
    ]
    apart = mode is Batching.CHUNKED and r.random() < 0.4
    slower = ()
    if r.random() < 0.3:
        slower = tuple(
            table(max_batch, pace=pace * s, kv_tokens=kv, decode_j=tuple(e * j for j in costs.decode_j))
            for s, e in ((1.3, 0.8), (1.7, 0.7))
        )
    fleet = Fleet(
        table=costs,
        replicas=r.choice([1, 1, 2, 3]),
        batching=mode,
        max_batch=r.choice([None, max(1, max_batch - 1)]),
        step_tokens=step_tokens,
        context_tokens=r.choice([None, longest + 5]),
        keep_free=r.choice([0.0, 0.01, 0.1]),
        prefix_cache=r.random() < 0.5,
        most_open=r.choice([None, None, 7]),
        routing=r.choice(list(Routing)),
        fill=r.randint(1, 5),
        sleep_after_s=pace * r.choice([math.inf, 0.0, 0.5]),
        power_cap_w=r.choice([None, None, 250.0]) if pace == 1.0 else None,
        slower=slower,
        inter_token_limit_s=pace * r.uniform(0.008, 0.014),
        prefill_replicas=r.choice([1, 2]) if apart else 0,
        prefill_table=table(1, pace=pace * 0.7, kv_tokens=kv) if apart and r.random() < 0.5 else None,
        transfer_token_s=pace * r.choice([0.0, 1e-3]),
        transfer_token_j=r.choice([0.0, 0.01]),
    )
    trace = Trace(
        times,
        [r.randint(1, longest) for _ in range(number)],
        [r.randint(1, longest) if r.random() < 0.9 else 1 for _ in range(number)],
        kept_tokens=[r.choice([0, r.randint(0, longest)]) for _ in range(number)],
        kind=[r.randrange(kinds) for _ in range(number)],
        classes=("interactive", "batch")[:kinds],
    )
    carbon = [r.uniform(50.0, 400.0) for _ in range(r.choice([0, 2, 20]))]
    return trace, fleet, services, rules, carbon


def _rule(r, pace):
    wait_s = pace * r.choice([0.05, 0.5, 5.0])
    return r.choice(
        [
            None,
            Rule(RuleCode.HOLD, (float(r.randint(1, 9)), wait_s, math.inf, 0.0)),
            Rule(RuleCode.HOLD, (float(r.randint(2, 9)), wait_s, float(r.randint(1, 4)), 0.0)),
            Rule(RuleCode.HOLD, (float(r.randint(1, 9)), wait_s, math.inf, 1.0)),
            Rule(RuleCode.PACE, (r.uniform(0.5, 30.0) / pace, float(r.randint(1, 3)))),
            Rule(RuleCode.CARBON, (r.uniform(100.0, 350.0), wait_s)),
        ]
    )


def difference(ours, theirs):
    """Largest relative difference; infinite if one is known where the other isn't."""
    a, b = np.asarray(list(ours), dtype=float), np.asarray(list(theirs), dtype=float)
    if (np.isnan(a) != np.isnan(b)).any():
        return math.inf
    known = ~np.isnan(a)
    scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), SMALLEST)
    return float(np.max(np.abs(a - b)[known] / scale[known], initial=0.0))


def check_case(seed, compiled):
    """One random case both ways: the largest difference, infinite where schedules aren't the same."""
    trace, fleet, services, rules, carbon = make_case(seed)
    ours = simulate(trace, fleet, services, carbon_g_per_kwh=carbon, compiled=compiled)
    columns = (trace.arrival_s, trace.prompt_tokens, trace.answer_tokens, trace.kept_tokens, trace.kind)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    policies = [naive_policy(rule) for rule in rules]
    naive = ByToken(rows, fleet, policies, [service.timeout_s for service in services], carbon).run()
    if [Fate(fate).name.lower() for fate in ours.fate.tolist()] != [one.fate for one in naive.all]:
        return math.inf, ours
    if ours.place.tolist() != [one.place for one in naive.all]:
        return math.inf, ours
    phases = naive.energy_by_phase()
    hours = naive.energy_by_hour(len(ours.energy_by_hour_j))
    pairs = [
        (ours.release_s, [one.release for one in naive.all]),
        (ours.first_s, [one.first for one in naive.all]),
        (ours.end_s, [one.end for one in naive.all]),
        ([ours.end_time_s], [naive.now]),
        ([ours.energy_j[phase] for phase in phases], phases.values()),
        (ours.energy_by_hour_j.sum(axis=1), hours),
        ([ours.total_j], [sum(hours)]),
    ]
    return max(difference(mine, other) for mine, other in pairs), ours
