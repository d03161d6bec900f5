"""What all rules say of all runs, and what is left of a claim without those that can't be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from negajoule.audit.rules import Finding, check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.audit.rules import Verdict
    from negajoule.audit.run import Run

__all__ = ["Audit", "Judged", "Ratio", "audit"]

_WORST_FIRST: tuple[Verdict, ...] = ("implausible", "doubtful", "holds", "unknown")


class Judged(NamedTuple):
    """A run and what was found of it."""

    run: Run
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all findings."""
        said = {finding.verdict for finding in self.findings}
        return next(verdict for verdict in _WORST_FIRST if verdict in said)


class Ratio(NamedTuple):
    """How many times more the dearest run of a model takes than the cheapest.

    Attributes:
        parameters: of the model; ``None`` where that wasn't published.
        stated: of all runs.
        left: of those that can be; ``None`` if fewer than two are left.
    """

    parameters: float | None
    stated: float
    left: float | None


class Audit(NamedTuple):
    """What was found.

    Attributes:
        judged: each run.
        ratios: for each model with several runs.
    """

    judged: tuple[Judged, ...]
    ratios: tuple[Ratio, ...]

    @property
    def implausible(self) -> tuple[str, ...]:
        """Names of the runs that can't be."""
        return tuple(judged.run.name for judged in self.judged if judged.verdict == "implausible")


def audit(runs: Sequence[Run]) -> Audit:
    """Check runs by all rules.

    Raises:
        CatalogError: (F101) for an accelerator that isn't known.
    """
    judged = tuple(Judged(run, check(run)) for run in runs)
    ratios = []
    for parameters in dict.fromkeys(run.parameters for run in runs):
        theirs = [one for one in judged if one.run.parameters == parameters]
        stated = _ratio([one.run.each_j for one in theirs])
        if stated is not None:
            left = _ratio([one.run.each_j for one in theirs if one.verdict != "implausible"])
            ratios.append(Ratio(parameters, stated, left))
    return Audit(judged, tuple(ratios))


def _ratio(each_j: list[float]) -> float | None:
    if len(each_j) < 2 or not min(each_j) > 0.0:
        return None
    return max(each_j) / min(each_j)
