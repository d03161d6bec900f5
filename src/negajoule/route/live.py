"""A budget of live traffic, per request or per window: the controller's price for as long as it lasts.

How many requests a window will bring isn't known. It is reckoned from how many came so far in it, or came in
the window before. A budget per request is one of 200 requests that begins anew, what was overspent deducted.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from negajoule.route.control import Budget, OnlineController

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LiveBudget"]

PLANNED = 200
FEW = 20
PROHIBITIVE = 1e9


class LiveBudget:
    """One soft budget: it sets a price and refuses nothing.

    Args:
        unit: ``J`` or ``gCO2e``.
        amount: a request or a window may use as much [unit].
        window_s: length of the window; ``None`` for an amount per request [s].
        clock: monotonic [s].
    """

    def __init__(
        self, unit: str, amount: float, window_s: float | None, *, clock: Callable[[], float]
    ) -> None:
        self.unit, self.amount, self.window_s = unit, amount, window_s
        self._clock = clock
        self._began_s = clock()
        self._before: float | None = None
        limit = amount * PLANNED if window_s is None else amount
        self._budget = Budget(unit, limit, PLANNED)
        self._controller = OnlineController([self._budget])

    @property
    def price(self) -> float:
        """Score per unit now."""
        self._roll()
        return self._budget.price if self._budget.left > 0 else PROHIBITIVE

    @property
    def pace(self) -> float:
        """What the next request may use on average [unit]."""
        self._roll()
        return self._budget.pace

    @property
    def spent(self) -> float:
        """What was used in this window [unit]."""
        return self._budget.spent

    def settle(self, used: float, score: Floats, expected: Floats) -> None:
        """Book a request.

        Args:
            used: what it used; NaN takes the last of ``expected`` [unit].
            score: expected scores of its candidates, always of the same number.
            expected: their expected uses, the model's that answered last [unit].
        """
        bound = {self.unit: float(expected[-1])}
        self._controller.settle(bound, {self.unit: used}, score, {self.unit: expected})

    def book(self, used: float) -> None:
        """Book a request of which nothing was expected [unit]."""
        self._budget.spent += used
        self._budget.seen += 1

    def _roll(self) -> None:
        budget = self._budget
        if self.window_s is None:
            if budget.seen >= budget.expected:
                self._begin(max(budget.spent - budget.limit, 0.0))
            return
        now_s = self._clock()
        gone_s = now_s - self._began_s
        if gone_s >= self.window_s:
            self._before = budget.seen / gone_s
            self._began_s += self.window_s * (gone_s // self.window_s)
            self._begin(0.0)
            gone_s = now_s - self._began_s
        rate = budget.seen / gone_s if budget.seen >= FEW and gone_s > 0 else self._before
        if rate is not None:
            budget.expected = budget.seen + max(ceil(rate * (self.window_s - gone_s)), 1)
        else:
            budget.expected = budget.seen + PLANNED

    def _begin(self, debt: float) -> None:
        self._budget.spent, self._budget.seen = debt, 0
