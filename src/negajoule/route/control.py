"""Budgets online: a price per budget that keeps the plan, above a reserve that can't be overdrawn.

Each budget has a price in units of score. A request takes the model with the highest expected score less
prices times uses. After it the price rises if more was used than the pace allows and falls if less; the step
is scaled by the score at stake per unit of budget, so that it means the same for joules, grams and euros.
Every few requests the price is solved anew for what is left of the budget and of the traffic.

What is left of the traffic is planned without replacement: of requests of each size as many are still to come
as earlier traffic had, less those that came. So an order that brings the dear or the hard ones first doesn't
look like overspending. Where more of a size came than was planned the plan is wrong, and recent requests take
its place.

Prices can be wrong; ``allow`` can't: before a request is sent its sure upper bound is reserved, and a model
whose bound doesn't fit isn't offered. In the gateway the ledger's accounts do this; here it is the same rule
in memory, for replays and tests.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from negajoule.route.assignment import assign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Budget", "OnlineController"]

STEP = 0.002
RECENT = 400
SOLVE_EVERY = 25
LEAST_RECENT = 20
SIZES = 8
SURPRISE = 5.0


class Budget:
    """One budget in one unit: joules, grams of CO2e or currency.

    Attributes:
        name: how it is called, and the key under which uses are told.
        limit: what must not be exceeded.
        expected: requests that it has to last for; at least 1.
        spent: settled uses.
        reserved: upper bounds of requests under way.
        price: score per unit.
    """

    def __init__(self, name: str, limit: float, expected: int, *, price: float = 0.0) -> None:
        if not limit >= 0:
            raise ValueError(f"the limit of {name!r} must not be negative")
        self.name, self.limit, self.expected = name, float(limit), max(int(expected), 1)
        self.spent = self.reserved = 0.0
        self.price = max(price, 0.0)
        self.seen = 0

    @property
    def left(self) -> float:
        """What may still be reserved."""
        return max(self.limit - self.spent - self.reserved, 0.0)

    @property
    def pace(self) -> float:
        """What the next request may use on average."""
        return self.left / max(self.expected - self.seen, 1)


class OnlineController:
    """Prices of several budgets and the reserve beneath them.

    Args:
        budgets: what has to hold.
        step: how far a price moves when a request uses twice its pace, as a share of the score at stake.
        solve_every: after how many requests prices are solved anew; 0 never.
    """

    def __init__(
        self, budgets: Sequence[Budget], *, step: float = STEP, solve_every: int = SOLVE_EVERY
    ) -> None:
        self.budgets = {budget.name: budget for budget in budgets}
        self._step, self._solve_every = step, solve_every
        self._scores: deque[Floats] = deque(maxlen=RECENT)
        self._uses: dict[str, deque[Floats]] = {name: deque(maxlen=RECENT) for name in self.budgets}
        self._floor = dict.fromkeys(self.budgets, 0.0)
        self._plan: _Plan | None = None

    def warm_start(self, score: Floats, uses: Mapping[str, Floats]) -> None:
        """Set prices by a batch solve on earlier requests.

        Args:
            score: expected scores, requests x models; at least one request.
            uses: expected uses by budget, requests x models.
        """
        first = next(iter(self.budgets.values()))
        self._plan = _Plan(score, {name: np.asarray(uses[name], float) for name in self.budgets}, first)
        self._solve()

    def prices(self) -> dict[str, float]:
        """Score per unit of each budget."""
        return {name: budget.price for name, budget in self.budgets.items()}

    def worth(self, score: Floats, uses: Mapping[str, Floats]) -> Floats:
        """Expected scores less prices times expected uses, by model."""
        total = np.array(score, dtype=float)
        for name, budget in self.budgets.items():
            if budget.price:
                total -= budget.price * uses[name]
        return total

    def allow(
        self, bounds: Mapping[str, Floats], expected: Mapping[str, Floats] | None = None
    ) -> NDArray[np.bool_]:
        """Models whose upper bounds fit every budget.

        With ``expected`` a model is also refused while a cheaper one fits, if taking it would leave less than
        the cheapest models are expected to use for the requests to come: that keeps later requests answered.
        """
        fits: NDArray[np.bool_] | None = None
        for name, budget in self.budgets.items():
            inside = bounds[name] <= budget.left
            fits = inside if fits is None else fits & inside
        if fits is None:
            raise ValueError("a controller without budgets has nothing to allow")
        if expected is not None and fits.any():
            for name, budget in self.budgets.items():
                ahead = max(budget.expected - budget.seen - 1, 0) * self._floor[name]
                careful = fits & (expected[name] + ahead <= budget.left)
                fits = careful if careful.any() else fits & (expected[name] <= expected[name][fits].min())
        return fits

    def reserve(self, bounds: Mapping[str, float]) -> bool:
        """Set upper bounds aside in every budget, or in none; whether it was done."""
        if any(bounds[name] > budget.left for name, budget in self.budgets.items()):
            return False
        for name, budget in self.budgets.items():
            budget.reserved += bounds[name]
        return True

    def settle(
        self,
        bounds: Mapping[str, float],
        used: Mapping[str, float],
        score: Floats,
        expected: Mapping[str, Floats],
    ) -> None:
        """Book what a request really used, and move the prices.

        Args:
            bounds: what was reserved for it.
            used: what it used, by budget; what isn't known counts with its bound.
            score: its expected scores by model.
            expected: its expected uses by budget and model.
        """
        for name, budget in self.budgets.items():
            amount = used.get(name, float("nan"))
            amount = amount if np.isfinite(amount) else bounds[name]
            pace = budget.pace
            budget.reserved = max(budget.reserved - bounds[name], 0.0)
            budget.spent += amount
            budget.seen += 1
            if pace > 0:
                at_stake = float(np.ptp(score)) / pace
                # A single request may use many times the pace; beyond twice it says no more.
                surprise = min(amount / pace, 2.0) - 1.0
                budget.price = max(budget.price + self._step * at_stake * surprise, 0.0)
        self._remember(score, expected)
        first = next(iter(self.budgets.values()))
        if self._solve_every and first.seen % self._solve_every == 0:
            self._solve()

    def _remember(self, score: Floats, expected: Mapping[str, Floats]) -> None:
        self._scores.append(np.asarray(score, float))
        for name, recent in self._uses.items():
            recent.append(np.asarray(expected[name], float))
        if self._plan is not None:
            self._plan.note(next(iter(self._uses.values()))[-1])

    def _ahead(self) -> tuple[Floats, dict[str, Floats], Floats] | None:
        """Requests to come: scores, uses, and how many each row stands for; None if nothing is known."""
        first = next(iter(self.budgets.values()))
        left = max(first.expected - first.seen, 1)
        share = 1.0
        rows: list[tuple[Floats, dict[str, Floats], Floats]] = []
        if self._plan is not None:
            share = self._plan.recent_share() if self._scores else 0.0
            weight = self._plan.weights()
            rows.append((self._plan.score, self._plan.uses, (1.0 - share) * left * weight / weight.sum()))
        elif len(self._scores) < LEAST_RECENT:
            return None
        if share > 0:
            count = len(self._scores)
            uses = {name: np.array(recent) for name, recent in self._uses.items()}
            rows.append((np.array(self._scores), uses, np.full(count, share * left / count)))
        scores = np.concatenate([row[0] for row in rows])
        uses = {name: np.concatenate([row[1][name] for row in rows]) for name in self.budgets}
        return scores, uses, np.concatenate([row[2] for row in rows])

    def _solve(self) -> None:
        """Solve each budget's price for what is left, the other prices held."""
        ahead = self._ahead()
        if ahead is None:
            return
        scores, uses, weight = ahead
        for name, budget in self.budgets.items():
            self._floor[name] = float(weight @ np.nanmin(uses[name], axis=1) / weight.sum())
            value = scores.copy()
            for other, held in self.budgets.items():
                if other != name and held.price:
                    value -= held.price * uses[other]
            answer = assign(value * weight[:, None], uses[name] * weight[:, None], budget.left)
            if np.isfinite(answer.price):
                budget.price = answer.price
            else:
                budget.price = max(budget.price, float(np.ptp(value)) / max(budget.pace, 1e-12))


class _Plan:
    """Earlier traffic as a plan of what comes, by size: the least that a request can use of the first."""

    def __init__(self, score: Floats, uses: dict[str, Floats], first: Budget) -> None:
        self.score, self.uses = np.asarray(score, float), uses
        size = np.nanmin(uses[first.name], axis=1)
        self._edges = np.quantile(size, np.arange(1, SIZES) / SIZES)
        self._size = np.searchsorted(self._edges, size)
        self._rows = np.bincount(self._size, minlength=SIZES).astype(float)
        self._planned = first.expected * self._rows / len(size)
        self._came = np.zeros(SIZES)

    def note(self, use: Floats) -> None:
        """A request came."""
        self._came[int(np.searchsorted(self._edges, np.nanmin(use)))] += 1

    def weights(self) -> Floats:
        """How many requests to come each row stands for, up to a factor."""
        left = np.maximum(self._planned - self._came, 1e-3 * self._planned + 1e-9)
        return np.asarray(left[self._size] / self._rows[self._size])

    def recent_share(self) -> float:
        """How far recent requests take the plan's place: as more of a size came than was planned."""
        excess = float(np.maximum(self._came - self._planned, 0.0).sum())
        return min(SURPRISE * excess / max(float(self._planned.sum()), 1.0), 1.0)
