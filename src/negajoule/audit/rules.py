"""What each run is checked for: what holds, what can't be, what is doubtful, and what nobody can tell.

The floor of arithmetic: a token takes two operations for each parameter that it uses, and no accelerator does
more of them for a joule than its data sheet's rate over its rated power. Lower clocks can do somewhat more:
a run a little below the floor has a better excuse than one far below. A prompt's tokens that were kept take
no operations; who keeps them must count fewer tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from negajoule.catalog import lookup
from negajoule.physics.accelerators import hardware_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.audit.run import Run

__all__ = ["RULES", "Finding", "Verdict", "check"]

Verdict = Literal["holds", "implausible", "doubtful", "unknown"]

IDLE_SHARE = "serving.idle-power-share"
_STATED_WITHIN = 0.02  # rounding of stated figures


class Finding(NamedTuple):
    """What a rule says of a run.

    Attributes:
        rule: its name.
        verdict: whether it holds.
        text: why, in words.
        value: the run's figure; ``None`` if the rule needs what wasn't published.
        bound: what it is held against, in the same unit.
        unit: of both.
    """

    rule: str
    verdict: Verdict
    text: str
    value: float | None = None
    bound: float | None = None
    unit: str = ""


def check(run: Run) -> tuple[Finding, ...]:
    """What all rules say of a run.

    Raises:
        CatalogError: (F101) for an accelerator that isn't known.
    """
    return tuple(rule(run) for rule in RULES)


def floor_of_arithmetic(run: Run) -> Finding:
    """Joules for each request against those that its operations take at best."""
    name = "floor of arithmetic"
    floor_j = _floor_j(run)
    if floor_j is None:
        return Finding(name, "unknown", "needs accelerator, parameters and tokens")
    words = f"{run.each_j:.3g} J a request; its operations take {floor_j:.3g} J at the data sheet's best"
    return Finding(name, "holds" if run.each_j >= floor_j else "implausible", words, run.each_j, floor_j, "J")


def idle_power(run: Run) -> Finding:
    """Mean power against idle power, though requests were served."""
    name = "idle power"
    if run.accelerator is None:
        return Finding(name, "unknown", "needs the accelerator")
    hardware = hardware_of(run.accelerator)
    share = lookup(IDLE_SHARE)
    idle_w = share.high * hardware.power
    idle = f"{share.low * hardware.power:.3g} to {idle_w:.3g} W"
    words = f"{run.mean_w:.3g} W on average; idle, {run.accelerator} takes {idle}"
    if run.mean_w > idle_w:
        return Finding(name, "holds", words, run.mean_w, idle_w, "W")
    least_w = _least_w(run)
    if least_w is None:
        return Finding(name, "doubtful", f"{words}; so it hardly worked", run.mean_w, idle_w, "W")
    if least_w <= run.mean_w:
        return Finding(name, "holds", f"{words}; so little work fits", run.mean_w, least_w, "W")
    return Finding(
        name, "implausible", f"{words}, and at least {least_w:.3g} W with its work", run.mean_w, least_w, "W"
    )


def idle_and_work(run: Run) -> Finding:
    """Mean power against idle power for the time that is left beside the least work."""
    name = "idle and work"
    least_w = _least_w(run)
    if least_w is None:
        return Finding(name, "unknown", "needs accelerator, parameters and tokens")
    words = f"{run.mean_w:.3g} W on average; idling beside the least work takes {least_w:.3g} W"
    return Finding(name, "holds" if run.mean_w >= least_w else "doubtful", words, run.mean_w, least_w, "W")


def served_or_failed(run: Run) -> Finding:
    """Whether the energy is divided by requests that were answered."""
    name = "served or failed"
    served = run.served if run.served is not None or run.failed is None else run.requests - run.failed
    if served is None:
        return Finding(name, "unknown", "how many requests were answered isn't told")
    if served > run.requests or (run.failed is not None and served + run.failed > run.requests + 0.5):
        return Finding(name, "implausible", "more requests ended than came", served, run.requests, "1")
    if served == run.requests:
        return Finding(name, "holds", "all requests were answered", served, run.requests, "1")
    if not served:
        return Finding(name, "implausible", "no request was answered", served, run.requests, "1")
    text = (
        f"{served:.0f} of {run.requests:.0f} were answered: {run.energy_j / served:.3g} J for each of those"
    )
    return Finding(name, "doubtful", text, served, run.requests, "1")


def sums(run: Run) -> Finding:
    """Whether what is stated twice agrees."""
    name = "sums"
    if run.total_kwh is not None and run.total_kwh < run.kwh:
        text = "the whole is less than its accelerators"
        return Finding(name, "implausible", text, run.total_kwh, run.kwh, "kWh")
    if run.request_j is None:
        return Finding(name, "holds" if run.total_kwh is not None else "unknown", "nothing is stated twice")
    agrees = abs(run.request_j - run.each_j) <= _STATED_WITHIN * run.each_j
    text = f"{run.request_j:.3g} J a request are stated, {run.each_j:.3g} J follow"
    return Finding(name, "holds" if agrees else "implausible", text, run.request_j, run.each_j, "J")


RULES: tuple[Callable[[Run], Finding], ...] = (
    floor_of_arithmetic,
    idle_power,
    idle_and_work,
    served_or_failed,
    sums,
)
"""All rules, in the order that they are told."""


def _floor_j(run: Run) -> float | None:
    """The least energy that the operations of a request take [J]."""
    if run.accelerator is None or run.parameters is None or run.tokens is None:
        return None
    hardware = hardware_of(run.accelerator)
    rate = hardware.compute_16bit if run.bits >= 16 else hardware.compute_8bit * max(1.0, 8.0 / run.bits)
    return 2.0 * run.parameters * run.tokens * hardware.power / rate


def _least_w(run: Run) -> float | None:
    """Least mean power of one accelerator: rated while it must compute, least idle power else [W]."""
    floor_j = _floor_j(run)
    if floor_j is None or run.accelerator is None:
        return None
    rated_w = hardware_of(run.accelerator).power
    idle_w = lookup(IDLE_SHARE).low * rated_w
    busy = min(1.0, floor_j * run.requests / (rated_w * run.accelerators * run.seconds))
    return busy * rated_w + (1.0 - busy) * idle_w
