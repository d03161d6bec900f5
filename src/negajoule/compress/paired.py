"""Statistics of pairs: the same texts before and after, the same rounds before and after.

Accuracy: Wilson's interval (1927); the difference of two models on the same texts by McNemar's exact test
(1947) and a bootstrap over texts. Energy: the median over rounds of what is saved, with the interval of
order statistics, which assumes no distribution: with 9 rounds the second smallest and the second largest hold
the median with 96 %.
"""

from __future__ import annotations

import math
from statistics import NormalDist, median
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CONFIDENCE",
    "Interval",
    "Quality",
    "discordant",
    "macro_f1",
    "mcnemar",
    "median_interval",
    "points_lost",
    "quality",
    "wilson",
]

CONFIDENCE = 0.95
DRAWS = 4000
SEED = 20_261_123


class Interval(msgspec.Struct, frozen=True):
    """A value between two bounds; the bounds are ``None`` where there's too little to tell them."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return self.low is not None and self.high is not None


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How right a classifier is.

    Attributes:
        texts: how many were judged.
        accuracy: share of right answers, with Wilson's interval [1].
        macro_f1: mean over the labels of F1, with a bootstrap interval [1].
    """

    texts: int
    accuracy: Interval
    macro_f1: Interval


class Pair(NamedTuple):
    """Texts on which two models differ."""

    lost: int
    won: int
    texts: int


def wilson(right: int, texts: int, confidence: float = CONFIDENCE) -> Interval:
    """The share of right answers with Wilson's interval."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = right / texts
    middle = (share + z * z / (2 * texts)) / (1 + z * z / texts)
    half = z / (1 + z * z / texts) * math.sqrt(share * (1 - share) / texts + z * z / (4 * texts * texts))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def discordant(before: Sequence[bool], after: Sequence[bool]) -> Pair:
    """On how many texts only the one or the other is right."""
    lost = sum(was and not now for was, now in zip(before, after, strict=True))
    won = sum(now and not was for was, now in zip(before, after, strict=True))
    return Pair(lost, won, len(before))


def mcnemar(pair: Pair) -> float:
    """Two-sided exact p value that both are equally often right."""
    count, fewer = pair.lost + pair.won, min(pair.lost, pair.won)
    if not count:
        return 1.0
    return min(1.0, 2 * _below(fewer, count))


def points_lost(pair: Pair, confidence: float = CONFIDENCE) -> Interval:
    """Accuracy lost, in percentage points, with a bootstrap interval over texts.

    Args:
        pair: on which texts they differ.
        confidence: of the interval.
    """
    import numpy as np

    shares = [pair.lost / pair.texts, pair.won / pair.texts]
    dice = np.random.default_rng(SEED)
    drawn = dice.multinomial(pair.texts, [*shares, 1 - sum(shares)], size=DRAWS)
    lost = np.sort((drawn[:, 0] - drawn[:, 1]) * 100 / pair.texts)
    value = (pair.lost - pair.won) * 100 / pair.texts
    tail = (1 - confidence) / 2
    low, high = (float(lost[round(share * (DRAWS - 1))]) for share in (tail, 1 - tail))
    if not pair.lost + pair.won:
        # No text of n differed: by the rule of three up to 3 of n may (Hanley and Lippman-Hand, 1983).
        low, high = -300 / pair.texts, 300 / pair.texts
    return Interval(value, min(low, value), max(high, value))


def quality(truth: Sequence[int], answers: Sequence[int], labels: int) -> Quality:
    """Accuracy and F1 of answers.

    Args:
        truth: numbers of the true labels.
        answers: numbers of the answered labels.
        labels: how many there are.
    """
    right = sum(one == other for one, other in zip(truth, answers, strict=True))
    return Quality(
        texts=len(truth),
        accuracy=wilson(right, len(truth)),
        macro_f1=macro_f1(truth, answers, labels),
    )


def macro_f1(truth: Sequence[int], answers: Sequence[int], labels: int, draws: int = 400) -> Interval:
    """Mean F1 over the labels that occur, with a bootstrap interval over texts."""
    import numpy as np

    wide = labels + 1  # a column more, for answers that are none of the labels
    given = np.asarray(answers)
    cells = np.asarray(truth) * wide + np.where(given < 0, labels, given)
    counts = np.bincount(cells, minlength=labels * wide)
    dice = np.random.default_rng(SEED)
    drawn = dice.multinomial(len(cells), counts / len(cells), size=draws)
    tables = np.concatenate([counts[None], drawn]).reshape(-1, labels, wide)
    hits = np.einsum("nii->ni", tables[:, :, :labels])
    uses = tables[:, :, :labels].sum(1) + tables.sum(2)
    scores = np.where(uses > 0, 2 * hits / np.maximum(uses, 1), 0.0).sum(1) / np.maximum(1, (uses > 0).sum(1))
    value, others = float(scores[0]), np.sort(scores[1:])
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(others[round(share * (draws - 1))]) for share in (tail, 1 - tail))
    return Interval(value, min(low, value), max(high, value))


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Median with the interval of order statistics; without bounds for fewer than six values."""
    ordered = sorted(values)
    count, place = len(ordered), 0
    while place < count // 2 and 1 - 2 * _below(place, count) >= confidence:
        place += 1
    middle = median(ordered)
    if not place:
        return Interval(middle)
    return Interval(middle, ordered[place - 1], ordered[count - place])


def _below(most: int, count: int) -> float:
    """Probability of at most so many heads in ``count`` throws."""
    return float(sum(math.comb(count, heads) for heads in range(most + 1)) / 2**count)
