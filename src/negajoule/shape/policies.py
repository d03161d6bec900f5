"""Policies of release: when held requests go. Each is one idea, and works in a simulation and in a gateway.

A policy keeps nobody for ever: every wait has an end. Waits are counted from the oldest held request.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import ConfigError
from negajoule.simulate import Rule, RuleCode, decide_by_rule

if TYPE_CHECKING:
    from negajoule.simulate import View

__all__ = ["AtOnce", "CleanerHours", "ControlLimit", "Deadline", "Gated", "JoinBusy", "TokenBucket"]

_ENDLESS = 1e18  # a count that is never reached


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the policies without a memory share: they are one of the core's rules."""

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        raise NotImplementedError

    def decide(self, view: View) -> tuple[int, float]:
        """How many of the oldest held requests go now, and when to ask again [s]."""
        rule = self.rule()
        return _ruled(rule, view, [-1.0, 0.0])


class AtOnce(_Held, frozen=True, kw_only=True):
    """Nobody is held."""

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        return Rule(RuleCode.HOLD, (1.0, 0.0, 0.0, 0.0))

    def __str__(self) -> str:
        return "at once"


class JoinBusy(_Held, frozen=True, kw_only=True):
    """Hold while little runs; once the oldest has waited, let all go, and who comes while much runs joins.

    Those who join pay almost nothing, for the steps are made anyway; those who come later aren't let in one
    by one, which would keep a nearly empty batch alive.

    Attributes:
        wait_s: longest wait [s].
        running: requests that must run for others to join at once; 1 is "hold only while idle".
        count: held requests at which all go without waiting longer.
    """

    wait_s: float
    running: int = 1
    count: float = _ENDLESS

    def __post_init__(self) -> None:
        _check_wait(self.wait_s)
        _check_count("running", self.running)
        _check_count("count", self.count)

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        return Rule(RuleCode.HOLD, (self.count, self.wait_s, float(self.running), 0.0))

    def __str__(self) -> str:
        return f"hold up to {self.wait_s:.3g} s, join while {self.running} or more run"


class Gated(_Held, frozen=True, kw_only=True):
    """Accumulate, release, drain: the next release waits until all are answered.

    Attributes:
        wait_s: longest wait beside the drain [s].
        count: held requests at which all go without waiting longer.
    """

    wait_s: float
    count: float = _ENDLESS

    def __post_init__(self) -> None:
        _check_wait(self.wait_s)
        _check_count("count", self.count)

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        return Rule(RuleCode.HOLD, (self.count, self.wait_s, 0.0, 1.0))

    def __str__(self) -> str:
        return f"accumulate up to {self.wait_s:.3g} s, release, drain"


class ControlLimit(_Held, frozen=True, kw_only=True):
    """Release all once enough are held or the oldest has waited, whatever runs.

    The form of the optimum of bulk service with a cost of holding (Deb and Serfozo, 1973).

    Attributes:
        count: held requests at which all go.
        wait_s: longest wait [s].
    """

    count: float
    wait_s: float

    def __post_init__(self) -> None:
        _check_wait(self.wait_s)
        _check_count("count", self.count)

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        return Rule(RuleCode.HOLD, (self.count, self.wait_s, _ENDLESS, 0.0))

    def __str__(self) -> str:
        count = "" if self.count >= _ENDLESS else f"{self.count:.0f} held or "
        return f"release at {count}a wait of {self.wait_s:.3g} s"


class Deadline(_Held, frozen=True, kw_only=True):
    """Hold as long as the deadline allows: what was promised less what serving takes.

    Attributes:
        within_s: time from arrival to the answer that was promised [s].
        service_s: time that serving takes at worst, as predicted [s].
        running: requests that must run for others to join at once.
    """

    within_s: float
    service_s: float
    running: int = 1

    def __post_init__(self) -> None:
        _check_count("running", self.running)
        if not 0 <= self.service_s <= self.within_s < math.inf:
            raise ConfigError(
                f"serving takes {self.service_s:g} s of the {self.within_s:g} s that are promised",
                tried="holding requests up to their deadline",
                fix="promise more time, or serve at once",
            )

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        return Rule(RuleCode.HOLD, (_ENDLESS, self.within_s - self.service_s, float(self.running), 0.0))

    def __str__(self) -> str:
        return f"answer within {self.within_s:.4g} s, {self.service_s:.3g} s of it for serving"


class CleanerHours(_Held, frozen=True, kw_only=True):
    """Defer to hours with a cleaner grid, within a limit.

    Attributes:
        intensity_g_per_kwh: intensity at or below which requests go [gCO2e/kWh].
        wait_s: longest wait [s].
    """

    intensity_g_per_kwh: float
    wait_s: float

    def __post_init__(self) -> None:
        _check_wait(self.wait_s)
        if not self.intensity_g_per_kwh >= 0:
            raise ConfigError(f"an intensity of {self.intensity_g_per_kwh:g} gCO2e/kWh can't be")

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        return Rule(RuleCode.CARBON, (self.intensity_g_per_kwh, self.wait_s))

    def __str__(self) -> str:
        return f"wait for {self.intensity_g_per_kwh:.3g} gCO2e/kWh, up to {self.wait_s:.4g} s"


class TokenBucket(msgspec.Struct, kw_only=True):
    """At most so many a second, in bursts of at most so many. A burst of 1 is fixed pacing.

    It protects a server from bursts. It saves no energy: a batching engine absorbs them anyway
    (``docs/findings.md``).

    Attributes:
        rate_per_s: requests let go a second in the long run [1/s].
        burst: requests let go at one moment.
        memory: the level of the bucket and when that was.
    """

    rate_per_s: float
    burst: int = 1
    memory: list[float] = msgspec.field(default_factory=lambda: [-1.0, 0.0])

    def __post_init__(self) -> None:
        _check_count("burst", self.burst)
        if not 0 < self.rate_per_s < math.inf:
            raise ConfigError(
                f"a rate of {self.rate_per_s:g} requests/s would never let anybody go",
                fix="give a positive rate",
            )

    def rule(self) -> Rule:
        """The same in the simulator's own terms."""
        return Rule(RuleCode.PACE, (self.rate_per_s, float(self.burst)))

    def decide(self, view: View) -> tuple[int, float]:
        """How many of the oldest held requests go now, and when to ask again [s]."""
        return _ruled(self.rule(), view, self.memory)

    def __str__(self) -> str:
        return f"{self.rate_per_s:.3g} requests/s, bursts of {self.burst}"


def _ruled(rule: Rule, view: View, memory: list[float]) -> tuple[int, float]:
    parameters = [*rule.parameters, 0.0, 0.0, 0.0, 0.0]
    return decide_by_rule(
        int(rule.code), parameters, 0, memory, 0, view.now_s, view.held, view.oldest_s, view.running,
        view.carbon_g_per_kwh, view.carbon_until_s,
    )  # fmt: skip


def _check_wait(wait_s: float) -> None:
    if not 0 <= wait_s < math.inf:
        raise ConfigError(
            f"a wait of {wait_s:g} s would starve requests or can't be", fix="give a finite wait, 0 or more"
        )


def _check_count(name: str, count: float) -> None:
    if not count >= 1:
        raise ConfigError(f"{name} must be at least 1, not {count:g}")
