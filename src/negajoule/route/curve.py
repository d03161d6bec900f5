"""What a policy is worth over all budgets: hulls, areas, shares of a gap, hypervolume.

A policy that has a knob (a price, a threshold) gives points of energy and accuracy. Mixing two of them at
random reaches every point between, so the upper hull of the points is what the policy offers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Curve", "Frame", "frame_of", "gap_recovered", "hypervolume", "share_needed", "upper_hull"]

AREA_POINTS = 2001


def upper_hull(cost: Floats, value: Floats) -> NDArray[np.intp]:
    """Indices of the points on the upper hull, from the cheapest to the best, rising in both.

    Args:
        cost: what each point costs, any unit.
        value: what each point is worth. Points with a NaN in either are left out.

    Returns:
        Indices into the arguments; empty if no point is finite.
    """
    finite = np.flatnonzero(np.isfinite(cost) & np.isfinite(value))
    order = finite[np.lexsort((-value[finite], cost[finite]))]
    kept: list[int] = []
    for index in order.tolist():
        if kept and value[index] <= value[kept[-1]]:
            continue
        while len(kept) >= 2:
            first, second = kept[-2], kept[-1]
            rise = (value[second] - value[first]) * (cost[index] - cost[second])
            if rise > (value[index] - value[second]) * (cost[second] - cost[first]):
                break
            kept.pop()
        kept.append(index)
    return np.asarray(kept, dtype=np.intp)


class Frame(NamedTuple):
    """The single models that every policy is held against.

    Attributes:
        cheapest: index of the model with the lowest mean energy.
        best: index of the model with the highest mean accuracy; of equals the cheaper.
        low_j: mean energy of the cheapest [J per query].
        high_j: mean energy of the best [J per query].
        best_accuracy: mean accuracy of the best, 0..1.
    """

    cheapest: int
    best: int
    low_j: float
    high_j: float
    best_accuracy: float


def frame_of(score: Floats, energy_j: Floats) -> Frame:
    """Find the best and the cheapest single model of a full table (queries x models)."""
    accuracy, energy = score.mean(axis=0), energy_j.mean(axis=0)
    cheapest = int(np.argmin(energy))
    best = int(np.lexsort((energy, -accuracy))[0])
    return Frame(cheapest, best, float(energy[cheapest]), float(energy[best]), float(accuracy[best]))


class Curve:
    """Accuracy against energy: the upper hull of a policy's points.

    Args:
        energy_j: mean energy of each point [J per query].
        accuracy: mean accuracy of each point, 0..1.
    """

    def __init__(self, energy_j: Floats, accuracy: Floats) -> None:
        hull = upper_hull(np.asarray(energy_j, float), np.asarray(accuracy, float))
        if not len(hull):
            raise ValueError("a curve needs a point with finite energy and accuracy")
        self.energy_j = np.asarray(energy_j, float)[hull]
        self.accuracy = np.asarray(accuracy, float)[hull]

    def accuracy_at(self, energy_j: float | Floats) -> Floats:
        """Accuracy within a mean energy [J per query]; below the first point, the first point's."""
        return np.asarray(np.interp(energy_j, self.energy_j, self.accuracy))

    def energy_at(self, accuracy: float) -> float:
        """Least mean energy that reaches an accuracy [J per query]; NaN if the policy never does."""
        if accuracy > self.accuracy[-1]:
            return float("nan")
        return float(np.interp(accuracy, self.accuracy, self.energy_j))

    def area(self, low_j: float, high_j: float) -> float:
        """Mean accuracy over budgets from ``low_j`` to ``high_j`` [J per query]."""
        return float(self.accuracy_at(np.linspace(low_j, high_j, AREA_POINTS)).mean())


def gap_recovered(gain: Floats, weak: Floats, strong: Floats) -> float:
    """APGR: the mean share of the gap between two models that is recovered over all shares of strong calls.

    Queries are sent to the strong model in falling order of ``gain`` (RouteLLM, arXiv 2406.18665, section 3).
    NaN if both models are equally good, because then there is no gap.
    """
    difference = (strong - weak)[np.argsort(-gain, kind="stable")]
    gap = float(difference.sum())
    if gap == 0:
        return float("nan")
    path = np.concatenate([[0.0], np.cumsum(difference)]) / gap
    return float(((path[1:] + path[:-1]) / 2).mean())


def share_needed(gain: Floats, weak: Floats, strong: Floats, recovered: float) -> float:
    """CPT: the least share of strong calls that recovers a share of the gap; NaN without a gap."""
    difference = (strong - weak)[np.argsort(-gain, kind="stable")]
    gap = float(difference.sum())
    if gap <= 0:
        return float("nan")
    path = np.cumsum(difference) / gap
    reached = np.flatnonzero(path >= recovered - 1e-12)
    return float((reached[0] + 1) / len(path)) if len(reached) else float("nan")


def hypervolume(energy_j: Floats, accuracy: Floats, worst_j: float) -> float:
    """Area that the points dominate, energy as a share of ``worst_j`` [J] and accuracy from 0; 0..1.

    It counts steps, not the hull, because it judges a set of choices and no mixing (PEARL's indicator).
    """
    order = np.lexsort((-accuracy, energy_j))
    best, volume, last = 0.0, 0.0, 1.0
    for index in order[::-1].tolist():
        x = min(energy_j[index] / worst_j, 1.0)
        reach = float(accuracy[energy_j <= energy_j[index]].max())
        best = max(best, reach)
        volume += (last - x) * reach
        last = x
    return volume
