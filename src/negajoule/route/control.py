"""Budgets online: a price per budget that keeps the pace, above a reserve that can't be overdrawn.

Each budget has a price in units of score. A request takes the model with the highest expected score less
prices times uses. After it the price rises if more was used than the pace allows and falls if less; the step is
scaled by the score at stake per unit of budget, so that it means the same for joules, grams and euros. From
time to time the price is solved anew on recent requests for what is left of the budget, which corrects what
steps drift to.

Prices can be wrong; ``allow`` can't: before a request is sent its sure upper bound is reserved, and a model
whose bound doesn't fit isn't offered. In the gateway the ledger's accounts do this; here it is the same rule in
memory, for replays and tests.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from negajoule.route.assign import assign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Budget", "OnlineController"]

STEP = 0.02
RECENT = 400
SOLVE_EVERY = 25
LEAST_RECENT = 20


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

    def warm_start(self, score: Floats, uses: Mapping[str, Floats]) -> None:
        """Set prices by a batch solve on earlier requests.

        Args:
            score: expected scores, requests x models.
            uses: expected uses by budget, requests x models.
        """
        for row in range(max(0, len(score) - RECENT), len(score)):
            self._remember(score[row], {name: uses[name][row] for name in self.budgets})
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
            uses = np.asarray(expected[name], float)
            recent.append(uses)
            count = len(recent)
            least = float(np.nanmin(uses)) if np.isfinite(uses).any() else 0.0
            self._floor[name] += (least - self._floor[name]) / min(count, RECENT)

    def _solve(self) -> None:
        """Solve each budget's price on recent requests, the other prices held."""
        if len(self._scores) < LEAST_RECENT:
            return
        scores = np.array(self._scores)
        uses = {name: np.array(recent) for name, recent in self._uses.items()}
        for name, budget in self.budgets.items():
            value = scores.copy()
            for other, held in self.budgets.items():
                if other != name and held.price:
                    value -= held.price * uses[other]
            answer = assign(value, uses[name], budget.pace * len(value))
            if np.isfinite(answer.price):
                budget.price = answer.price
            else:
                budget.price = max(budget.price, float(np.ptp(value)) / max(budget.pace, 1e-12))
