"""When held requests are let go: what a policy sees and what it answers.

The simulator and the gateway keep one queue of held requests for each class (interactive, batch ...), each
with its own policy. While requests of its class are held, a policy is asked whenever something may have
changed: requests arrived, steps ended, others were released, or the time came that it named itself. It may be
asked without a reason. Requests leave in the order in which they came. Nothing here knows whether it is
simulated.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from negajoule.simulate.rules import RuleCode

__all__ = ["CodedPolicy", "Policy", "Rule", "View"]


class View(msgspec.Struct, frozen=True, gc=False):
    """What a policy may know.

    Attributes:
        now_s: the time [s]; seconds since the epoch in a gateway, since the trace's start in a simulation.
        held: requests of the class that are held, at least one.
        oldest_s: when the oldest of them arrived [s].
        running: requests of all classes that were released and aren't answered yet, failed ones not counted.
        awake: replicas that aren't asleep.
        carbon_g_per_kwh: carbon intensity of the grid now [gCO2e/kWh]; NaN if it isn't known.
        carbon_until_s: when that may change [s]; infinite if it won't.
    """

    now_s: float
    held: int
    oldest_s: float
    running: int
    awake: int
    carbon_g_per_kwh: float
    carbon_until_s: float


class Policy(Protocol):
    """Decides when held requests go.

    A simulation works on a deep copy, so what a policy remembers must be on the object.
    """

    def decide(self, view: View) -> tuple[int, float]:
        """How many of the oldest held requests go now, and when to be asked again at the latest.

        Returns:
            The number, 0 to ``view.held``, and a time [s]: later than ``view.now_s`` if any stay behind,
            infinite to wait for the next arrival or answer.
        """
        ...


class Rule(msgspec.Struct, frozen=True):
    """A policy in the compiled core's own terms.

    Attributes:
        code: which rule of ``negajoule.simulate.rules``.
        parameters: its parameters, in the order given there.
    """

    code: RuleCode
    parameters: tuple[float, ...] = ()


@runtime_checkable
class CodedPolicy(Protocol):
    """A policy that one of the core's own rules does the same as, some ten times faster."""

    def decide(self, view: View) -> tuple[int, float]:
        """As ``Policy.decide``; must give what the rule gives."""
        ...

    def rule(self) -> Rule:
        """The rule."""
        ...
