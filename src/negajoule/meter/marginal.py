"""What one more token in the batch costs, as against its average share.

A step of a batching engine costs a fixed amount (the weights are read, the machine idles along) plus an
amount for each token in it. Over many windows

    energy = steps x fixed + tokens x marginal

and the two are told apart as soon as batches of different sizes have been seen: ordinary least squares with
forgetting (Haykin, Adaptive Filter Theory, chapter on recursive least squares). The average share answers
"who used the energy", the marginal one "what would be saved without this request".
"""

from __future__ import annotations

from math import sqrt

from negajoule.units import Energy

__all__ = ["MarginalCost"]

_FORGETTING = 0.998
_FEWEST_WINDOWS = 20.0
_WIDEST_RELATIVE = 1.0
_Z_90 = 1.645  # two-sided 90 % of a normal distribution


class MarginalCost:
    """Learns the marginal energy of a token from windows in which only decoding ran."""

    __slots__ = ("_count", "_ee", "_se", "_ss", "_st", "_te", "_tt")

    def __init__(self) -> None:
        self._count = 0.0
        self._ss = self._st = self._tt = self._se = self._te = self._ee = 0.0

    def learn(self, steps: int, tokens: float, energy_j: float) -> None:
        """Take one window in: its steps, the tokens of all sequences in it, its energy [J]."""
        keep = _FORGETTING
        self._count = self._count * keep + 1.0
        self._ss = self._ss * keep + steps * steps
        self._st = self._st * keep + steps * tokens
        self._tt = self._tt * keep + tokens * tokens
        self._se = self._se * keep + steps * energy_j
        self._te = self._te * keep + tokens * energy_j
        self._ee = self._ee * keep + energy_j * energy_j

    def of(self, tokens: float) -> Energy | None:
        """Marginal energy of that many tokens, boundary ``node``; ``None`` until it can be told.

        It can't be told before some twenty windows of different batch sizes, nor while its 90 % interval is
        wider than the value itself.
        """
        determinant = self._ss * self._tt - self._st * self._st
        if self._count < _FEWEST_WINDOWS or determinant <= 1e-9 * self._ss * self._tt:
            return None
        marginal = (self._ss * self._te - self._st * self._se) / determinant
        fixed = (self._tt * self._se - self._st * self._te) / determinant
        unexplained = max(0.0, self._ee - fixed * self._se - marginal * self._te)
        half = _Z_90 * sqrt(unexplained / max(1.0, self._count - 2.0) * self._ss / determinant)
        if marginal <= 0.0 or half > _WIDEST_RELATIVE * marginal:
            return None
        value, spread = marginal * tokens, half * tokens
        return Energy(value, max(0.0, value - spread), value + spread, "inferred", "node")
