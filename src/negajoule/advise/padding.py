"""What static batches waste: prompts are padded to the longest, and all wait for the longest answer.

Of a batch that computes ``size x longest`` tokens, those beyond each sequence's own length are waste. Engines
that batch continuously waste none of it.
"""

from __future__ import annotations

import random
from math import log, sqrt
from statistics import fmean, quantiles
from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog import lookup
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PaddingWaste", "padding_waste", "spread_lengths"]

_BATCHES = 400
_LARGEST = 4096


class PaddingWaste(msgspec.Struct, frozen=True, kw_only=True):
    """Share of computed tokens that are padding.

    Attributes:
        batch: sequences in a static batch.
        share: padding in all tokens computed, over many batches.
        low: of single batches, 5 % have less.
        high: of single batches, 5 % have more.
        factor: tokens computed for each useful one.
        source: where the lengths come from.
    """

    batch: int
    share: float
    low: float
    high: float
    factor: float
    source: str


def spread_lengths(mean: float, *, seed: int = 0, number: int = 4096) -> tuple[list[float], str]:
    """Lengths around a mean, lognormal, with the spread of measured answers [tokens].

    Raises:
        ConfigError: (C101) for a mean below 1.
    """
    if not 1.0 <= mean < 1e8:
        raise ConfigError(f"a mean length of {mean!r} tokens can't be", fix="1 or more")
    fact = lookup("advise.length-spread")
    sigma = sqrt(log(fact.value))
    draw = random.Random(seed)
    lengths = [draw.lognormvariate(log(mean) - 0.5 * sigma**2, sigma) for _ in range(number)]
    return lengths, f"lognormal, mean square over squared mean {fact.value:g} ({fact.source.split(':')[0]})"


def padding_waste(
    lengths: Sequence[float], batch: int, *, source: str = "trace", seed: int = 0
) -> PaddingWaste:
    """What static batches of requests of these lengths waste, in random order.

    Args:
        lengths: of the prompts, or of the answers [tokens].
        batch: sequences in a batch.
        source: where the lengths come from, in words.
        seed: of the order.

    Raises:
        ConfigError: (C101) for a batch that can't be or lengths below 0, (C106) for no lengths.
    """
    if not 1 <= batch <= _LARGEST:
        raise ConfigError(f"a static batch of {batch!r} can't be", fix=f"1 to {_LARGEST}")
    if not lengths:
        raise ConfigError("there are no lengths", code="C106", fix="give a trace with requests")
    if min(lengths) < 0 or max(lengths) <= 0:
        raise ConfigError("lengths can't be below 0, nor all 0", fix="tokens of each request")
    draw = random.Random(seed)
    useful, computed, shares = 0.0, 0.0, []
    for _ in range(_BATCHES):
        chosen = draw.choices(lengths, k=batch)
        longest = max(chosen) * batch
        if longest:
            useful += sum(chosen)
            computed += longest
            shares.append(1.0 - sum(chosen) / longest)
    ends = quantiles(shares, n=20) if len(shares) > 1 else [fmean(shares)] * 19
    return PaddingWaste(
        batch=batch,
        share=1.0 - useful / computed,
        low=ends[0],
        high=ends[-1],
        factor=computed / useful,
        source=source,
    )
