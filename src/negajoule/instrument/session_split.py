"""A test session's energy split over its tests, so that tests and the rest add up to the session.

The session is measured once, with all worker processes in its tree; each process measures its own tests. What
workers measure can't simply be added: idle power is claimed whole by each of them, so each gets its part of
it. A part of which the tests claim more than the session has is scaled down. What no test claims was spent
outside of tests: collection, start of workers, reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from negajoule.units import Energy, Part, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["CaseCost", "CaseRow", "merged", "split_session"]

_CLAIMED_WHOLE = ("cpu idle", "machine idle", "rest of the machine")
"""Parts that a process claims for all of its container or machine, whoever else runs there."""


class CaseRow(NamedTuple):
    """One test as its process measured it; made of plain types, for it travels between processes.

    Attributes:
        name: the test's node id.
        seconds: how long it took, set-up and tear-down included [s].
        cpu_s: CPU time [s].
        parts: name, value, low and high of each part of its energy [J].
    """

    name: str
    seconds: float
    cpu_s: float
    parts: list[tuple[str, float, float, float]]


class CaseCost(NamedTuple):
    """What a test cost.

    Attributes:
        name: the test's node id.
        seconds: how long it took [s].
        cpu_s: CPU time [s].
        energy: IT energy, boundary ``node`` [J].
    """

    name: str
    seconds: float
    cpu_s: float
    energy: Energy


def merged(rows: Iterable[CaseRow]) -> list[CaseRow]:
    """Rows of the same test, run several times or by several workers, as one."""
    found: dict[str, CaseRow] = {}
    for name, seconds, cpu_s, parts in rows:
        seen = found.get(name)
        if seen is not None:
            seconds, cpu_s, parts = seconds + seen.seconds, cpu_s + seen.cpu_s, [*seen.parts, *parts]
        found[name] = CaseRow(name, seconds, cpu_s, parts)
    return list(found.values())


def split_session(
    rows: Sequence[CaseRow], session: Sequence[Part], workers: int
) -> tuple[list[CaseCost], Energy]:
    """Give each test its share of the session.

    Args:
        rows: the tests as their processes measured them.
        session: the session's energy by parts, boundary ``node`` [J].
        workers: how many processes ran tests at the same time.

    Returns:
        The tests, costliest first, and what was spent outside of them.
    """
    whole = {part.name: part.energy for part in _by_name(session)}
    share = {name: 1.0 / max(workers, 1) if name in _CLAIMED_WHOLE else 1.0 for name in whole}
    claimed = dict.fromkeys(whole, 0.0)
    for row in rows:
        for name, value_j, _, _ in row.parts:
            if name in claimed:
                claimed[name] += value_j * share[name]
    for name, sum_j in claimed.items():
        if sum_j > whole[name].value:
            share[name] *= whole[name].value / sum_j
    costs = [
        CaseCost(
            row.name,
            row.seconds,
            row.cpu_s,
            total(
                Energy(value_j * share[name], low_j * share[name], high_j * share[name], "modelled", "node")
                for name, value_j, low_j, high_j in row.parts
                if name in share
            )
            or Energy.exact(0.0, "modelled", "node"),
        )
        for row in rows
    ]
    costs.sort(key=lambda cost: (-cost.energy.value, cost.name))
    return costs, _outside(costs, whole)


def _outside(costs: Sequence[CaseCost], whole: dict[str, Energy]) -> Energy:
    session = total(whole.values()) or Energy.exact(0.0, "modelled", "node")
    inside = total(cost.energy for cost in costs) or Energy.exact(0.0, "modelled", "node")
    rest_j = max(session.value - inside.value, 0.0)
    low_j = min(max(session.low - inside.high, 0.0), rest_j)
    return Energy(rest_j, low_j, max(session.high - inside.low, rest_j), "modelled", "node")


def _by_name(parts: Sequence[Part]) -> list[Part]:
    """Parts of one name and several sources as one."""
    sums: dict[str, Part] = {}
    for part in parts:
        seen = sums.get(part.name)
        energy = part.energy if seen is None else part.energy + seen.energy
        sums[part.name] = Part(part.name, energy, part.source, part.grade)
    return list(sums.values())
