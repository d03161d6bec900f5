"""A batch under one budget: the multiple-choice knapsack by a price, a million queries at a time.

Each query takes one model; the sum of values is to be as high as a sum of costs within the budget allows. The
linear relaxation splits at most one query, so a price per joule solves all but that one: every query takes
the model with the highest value minus price times cost, which always lies on the upper hull of its models
(Sinha and Zoltners, The Multiple-Choice Knapsack Problem, Operations Research 27, 1979). The price is
bracketed on a sample, then on all queries; between the last two prices the steps along the hulls are taken in
falling order of value per cost. What is lost against the exact optimum is at most the one step that didn't
fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Assignment", "assign", "choose"]

CHUNK = 1 << 14
SAMPLE = 1 << 14
FEW = 1 << 15
NOTHING = -1


class Assignment(NamedTuple):
    """Which model each query gets.

    Attributes:
        choice: index of the model per query; -1 where no model had a finite value and cost.
        price: value per unit of cost at which the budget is just spent; 0 if the budget doesn't bind.
        value: sum of the values chosen.
        cost: sum of the costs chosen.
        bound: what no assignment within the budget can exceed (the linear relaxation).
        feasible: whether the cheapest choice of every query fits the budget; if not, that choice is returned.
    """

    choice: NDArray[np.int64]
    price: float
    value: float
    cost: float
    bound: float
    feasible: bool


def choose(value: Floats, cost: Floats, price: float) -> NDArray[np.int64]:
    """The model with the highest ``value - price * cost`` of each query; of equals the cheaper.

    Args:
        value: queries x models; NaN means that the model isn't available.
        cost: queries x models, any unit; NaN likewise.
        price: value per unit of cost; infinite takes the cheapest.

    Returns:
        Index per query; -1 where nothing is available.
    """
    columns = _Columns(value, cost)
    return columns.at(price)[0]


def assign(value: Floats, cost: Floats, budget: float) -> Assignment:
    """Assign every query to a model within a budget; at most one query from the optimum.

    Args:
        value: queries x models, for instance predicted accuracy; NaN means not available.
        cost: queries x models, not negative, for instance predicted energy [J]; NaN likewise.
        budget: what the sum of costs must not exceed, in the unit of ``cost``.
    """
    columns = _Columns(value, cost)
    floor, floor_value, floor_cost = columns.at(np.inf)
    if floor_cost > budget or not len(floor):
        return Assignment(floor, np.inf, floor_value, floor_cost, floor_value, feasible=floor_cost <= budget)
    free, free_value, free_cost = columns.at(0.0)
    if free_cost <= budget:
        return Assignment(free, 0.0, free_value, free_cost, free_value, feasible=True)
    if len(floor) <= FEW:
        return _fill(columns, floor, np.flatnonzero(floor != free), budget, np.inf)
    low, high = _bracket(columns, budget)
    choice = columns.at(high)[0]
    moved = np.flatnonzero(choice != columns.at(low)[0])
    return _fill(columns, choice, moved, budget, high)


class _Columns:
    """Values and costs by model, so that a comparison runs over contiguous memory."""

    def __init__(self, value: Floats, cost: Floats) -> None:
        value, cost = np.asarray(value, float), np.asarray(cost, float)
        if value.shape != cost.shape or value.ndim != 2:
            raise ValueError(f"values {value.shape} and costs {cost.shape} must be equal tables")
        self.value = np.ascontiguousarray(value.T)
        self.cost = np.ascontiguousarray(cost.T)
        absent = ~(np.isfinite(self.value) & np.isfinite(self.cost))
        if absent.any():
            self.value[absent], self.cost[absent] = -np.inf, 0.0
        elif len(self.cost) and self.cost.size and self.cost.min() < 0:
            raise ValueError("costs must not be negative")
        self.nothing = np.asarray(absent.all(axis=0)) if absent.any() else None
        self.absent = absent if absent.any() else None

    def take(self, rows: NDArray[np.intp]) -> _Columns:
        """The same for some queries."""
        part = object.__new__(_Columns)
        part.value, part.cost = self.value[:, rows], self.cost[:, rows]
        part.nothing = None if self.nothing is None else self.nothing[rows]
        part.absent = None if self.absent is None else self.absent[:, rows]
        return part

    def at(self, price: float) -> tuple[NDArray[np.int64], float, float]:
        """Choice, sum of values and sum of costs at a price."""
        models, queries = self.value.shape
        choice = np.zeros(queries, dtype=np.int64)
        total_value = total_cost = 0.0
        for start in range(0, queries, CHUNK):
            part = slice(start, min(start + CHUNK, queries))
            best, picked = self._worth(0, part, price), choice[part]
            cost = self.cost[0, part].copy()
            for model in range(1, models):
                worth, other = self._worth(model, part, price), self.cost[model, part]
                better = worth > best
                equal = worth == best
                if equal.any():
                    better |= equal & self._preferred(model, picked, part, price)
                np.copyto(picked, model, where=better)
                np.copyto(cost, other, where=better)
                np.maximum(best, worth, out=best)
            rows = np.arange(start, part.stop)
            value = self.value[picked, rows]
            if self.nothing is not None:
                gone = self.nothing[part]
                picked[gone], value[gone], cost[gone] = NOTHING, 0.0, 0.0
            total_value += float(value.sum())
            total_cost += float(cost.sum())
        return choice, total_value, total_cost

    def spend(self, price: float) -> float:
        """Sum of costs at a price; what breaks ties may differ from ``at``."""
        queries = self.value.shape[1]
        total = 0.0
        for start in range(0, queries, CHUNK):
            part = slice(start, min(start + CHUNK, queries))
            best, cost = self._worth(0, part, price), self.cost[0, part].copy()
            for model in range(1, len(self.value)):
                worth = self._worth(model, part, price)
                np.copyto(cost, self.cost[model, part], where=worth > best)
                np.maximum(best, worth, out=best)
            total += float(cost.sum())
        return total

    def _preferred(
        self, model: int, picked: NDArray[np.int64], part: slice, price: float
    ) -> NDArray[np.bool_]:
        """Whether to prefer a model to an equal one: the cheaper, at an infinite price the better."""
        rows = np.arange(part.start, part.stop)
        if np.isfinite(price):
            cheaper: NDArray[np.bool_] = self.cost[model, part] < self.cost[picked, rows]
            return cheaper
        better: NDArray[np.bool_] = self.value[model, part] > self.value[picked, rows]
        return better

    def _worth(self, model: int, part: slice, price: float) -> Floats:
        if np.isfinite(price):
            return self.value[model, part] - price * self.cost[model, part]
        if self.absent is None:
            return -self.cost[model, part]
        return np.where(self.absent[model, part], -np.inf, -self.cost[model, part])


def _bracket(columns: _Columns, budget: float) -> tuple[float, float]:
    """Two prices with the budget between them, near each other, so that few queries change."""
    queries = columns.value.shape[1]
    rows = np.linspace(0, queries - 1, SAMPLE).astype(np.intp)
    sample = columns.take(rows)
    floor, free = sample.at(np.inf)[0], sample.at(0.0)[0]
    guess = _fill(sample, floor, np.flatnonzero(floor != free), budget * len(rows) / queries, np.inf).price
    if not 0 < guess < np.inf:
        guess = 1e-9
    low, high, width = guess, guess, 1.02
    while columns.spend(high) > budget:
        low, high, width = high, high * width, width * width
    while low > 0 and columns.spend(low) <= budget:
        high, low, width = low, (low / width if width < 1e9 else 0.0), width * width
    return low, high


def _fill(
    columns: _Columns, choice: NDArray[np.int64], moved: NDArray[np.intp], budget: float, price: float
) -> Assignment:
    """Climb the hulls of the queries that change, best step first, until one doesn't fit."""
    everyone = np.flatnonzero(choice != NOTHING)
    value = float(columns.value[choice[everyone], everyone].sum())
    cost = float(columns.cost[choice[everyone], everyone].sum())
    rows, targets, gains, extras = _steps(columns, choice, moved)
    order = np.argsort(-(gains / extras), kind="stable")
    spent = cost + np.cumsum(extras[order])
    fitting = int(np.searchsorted(spent, budget, side="right"))
    taken = order[:fitting]
    choice[rows[taken]] = targets[taken]  # of several steps of a query the last counts
    value += float(gains[taken].sum())
    cost += float(extras[taken].sum())
    bound = value
    if fitting < len(order):
        step = order[fitting]
        price = float(gains[step] / extras[step])
        bound += price * max(budget - cost, 0.0)
    return Assignment(choice, price, value, cost, bound, feasible=True)


def _steps(
    columns: _Columns, choice: NDArray[np.int64], moved: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.int64], Floats, Floats]:
    """All steps upwards along the hulls of some queries: query, next model, gain, extra cost."""
    rows, now = moved, choice[moved]
    found: list[tuple[NDArray[np.intp], NDArray[np.int64], Floats, Floats]] = []
    while len(rows):
        gain = columns.value[:, rows] - columns.value[now, rows]
        extra = columns.cost[:, rows] - columns.cost[now, rows]
        slope = np.full(gain.shape, -np.inf)
        np.divide(gain, extra, out=slope, where=(extra > 0) & (gain > 0))
        following = np.argmax(slope, axis=0)
        index = np.arange(len(rows))
        on = slope[following, index] > 0
        # Of equal slopes the longest step, so that no step is left on the same line.
        equal = slope >= slope[following, index] * (1 - 1e-12)
        following = np.where(equal & (extra > 0), extra, -np.inf).argmax(axis=0)
        rows, now, index = rows[on], following[on], index[on]
        found.append((rows, now, gain[now, index], extra[now, index]))
    if not found:
        return np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0), np.empty(0)
    return (
        np.concatenate([part[0] for part in found]),
        np.concatenate([part[1] for part in found]),
        np.concatenate([part[2] for part in found]),
        np.concatenate([part[3] for part in found]),
    )
