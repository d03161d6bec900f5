"""Energy of an answer before it is given: phases times tokens, corrected by what requests really used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["NORMAL_90", "EnergyCorrection", "expected_energy_j"]

MEMORY = 100.0
PRIOR_REQUESTS = 3.0
NORMAL_90 = 1.2816


def expected_energy_j(
    in_tokens: Floats, log_tokens: Floats, spread: Floats, input_j: Floats, output_j: Floats
) -> Floats:
    """Mean energy [J]: tokens of the prompt and of the answer at their own price.

    The answer's length is taken for log-normal, so its mean is exp(mean + variance / 2).

    Args:
        in_tokens: tokens of the prompt; the last axis is models or 1.
        log_tokens: expected logarithm of the answer's tokens, last axis models.
        spread: standard deviation of that logarithm, by model.
        input_j: energy of a token of the prompt [J], by model.
        output_j: energy of a token of the answer [J], by model.
    """
    return np.asarray(in_tokens * input_j + np.exp(log_tokens + spread**2 / 2) * output_j)


class EnergyCorrection:
    """A factor per model and route: used over expected, recent requests counting most.

    It is a ratio of fading sums and no mean of ratios, so that totals come out right: budgets are totals. A
    few imagined requests of factor 1 keep the first real one from deciding alone.
    """

    def __init__(self, *, memory: float = MEMORY) -> None:
        self._keep = float(np.exp(-1.0 / memory))
        self._sums: dict[tuple[str, str], tuple[float, float]] = {}
        self._seen: dict[str, tuple[float, int]] = {}  # by route: sum of log factors, models

    def factor(self, model: str, route: str = "") -> float:
        """What expectations of a model on a route are to be multiplied with.

        A model that wasn't seen there gets what the others were off by, since a shift of traffic lengthens
        the answers of all; 1 before anything was seen.
        """
        own = self._sums.get((model, route))
        if own is not None:
            return own[0] / own[1]
        total, count = self._seen.get(route, (0.0, 0))
        return float(np.exp(total / count)) if count else 1.0

    def observe(self, model: str, expected_j: float, used_j: float, route: str = "") -> None:
        """Learn from one answer: what was expected without correction, and what was used [J].

        Values that aren't finite or expectations of nothing are ignored.
        """
        if not (np.isfinite(expected_j) and np.isfinite(used_j)) or expected_j <= 0 or used_j <= 0:
            return
        prior = PRIOR_REQUESTS * expected_j
        known = (model, route) in self._sums
        used, expected = self._sums.get((model, route), (prior, prior))
        before = np.log(used / expected) if known else 0.0
        used, expected = used * self._keep + used_j, expected * self._keep + expected_j
        self._sums[model, route] = (used, expected)
        total, count = self._seen.get(route, (0.0, 0))
        self._seen[route] = (total + float(np.log(used / expected)) - before, count + (not known))
