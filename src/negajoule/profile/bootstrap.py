"""Intervals from repeats: medians of resampled rounds.

Rounds are resampled, not samples, and one draw serves every cell and format: what a noisy minute did to all
formats alike cancels where they are compared (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 6 and 13).
"""

from __future__ import annotations

import random
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CONFIDENCE", "DRAWS", "interval", "median_interval", "resampled_rounds"]

CONFIDENCE = 0.9
"""Of every interval in this room."""

DRAWS = 400


def resampled_rounds(rounds: Sequence[int], *, draws: int = DRAWS) -> list[list[int]]:
    """As many rounds as there are, drawn with replacement; the same for the same rounds.

    Args:
        rounds: their numbers.
        draws: how many resamples.
    """
    generator = random.Random(len(rounds))
    return [generator.choices(rounds, k=len(rounds)) for _ in range(draws)]


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle part of some values, by linear interpolation between them.

    Args:
        values: at least one.
        confidence: how much of them lies inside [1].
    """
    ordered = sorted(values)
    tail = (1 - confidence) / 2
    return _quantile(ordered, tail), _quantile(ordered, 1 - tail)


def median_interval(by_round: Mapping[int, float]) -> tuple[float, float, float]:
    """Median over rounds, with its interval; the interval of a single round is that value.

    Args:
        by_round: a value for each round.
    """
    draws = [median(by_round[number] for number in draw) for draw in resampled_rounds(sorted(by_round))]
    low, high = interval(draws)
    middle = median(by_round.values())
    return middle, min(low, middle), max(high, middle)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
