"""Traffic that is made: arrivals by a law, lengths by another, both by seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from negajoule.errors import ConfigError
from negajoule.simulate.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FixedLengths",
    "Lengths",
    "LengthsOf",
    "LognormalLengths",
    "bursts",
    "diurnal",
    "fixed",
    "markov_modulated",
    "poisson",
    "uniform",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_DAY_S = 86_400.0


class Lengths(Protocol):
    """Where lengths come from."""

    def draw(self, number: int, random: np.random.Generator) -> tuple[Integers, Integers]:
        """Lengths of that many prompts and answers, each at least 1 [tokens]."""
        ...


class LognormalLengths(msgspec.Struct, frozen=True):
    """Lognormal lengths.

    The means are those of the reference workload of ML.ENERGY's chat task for 8B models; a spread of 1 is
    what chat traces show.

    Attributes:
        prompt_mean: mean prompt [tokens].
        answer_mean: mean answer [tokens].
        spread: standard deviation of the logarithm.
        longest: longest prompt or answer; longer ones are cut [tokens].
    """

    prompt_mean: float = 391.0
    answer_mean: float = 230.0
    spread: float = 1.0
    longest: int = 8192

    def draw(self, number: int, random: np.random.Generator) -> tuple[Integers, Integers]:
        """See ``Lengths``."""

        def side(mean: float) -> Integers:
            drawn = random.lognormal(math.log(mean) - self.spread**2 / 2, self.spread, number)
            return np.clip(np.rint(drawn), 1, self.longest).astype(np.int64)

        return side(self.prompt_mean), side(self.answer_mean)


class FixedLengths(msgspec.Struct, frozen=True):
    """All prompts and all answers equally long [tokens]."""

    prompt: int
    answer: int

    def draw(self, number: int, random: np.random.Generator) -> tuple[Integers, Integers]:
        """See ``Lengths``."""
        return np.full(number, self.prompt, dtype=np.int64), np.full(number, self.answer, dtype=np.int64)


class LengthsOf:
    """Pairs of lengths drawn from a trace, with replacement."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def draw(self, number: int, random: np.random.Generator) -> tuple[Integers, Integers]:
        """See ``Lengths``."""
        rows = random.integers(0, len(self.trace), number)
        return (
            self.trace.prompt_tokens[rows].astype(np.int64),
            self.trace.answer_tokens[rows].astype(np.int64),
        )


def poisson(number: int, rate_per_s: float, lengths: Lengths, *, seed: int = 0) -> Trace:
    """Arrivals of many independent clients: exponential gaps.

    Raises:
        ConfigError: (C101) for less than one request or a rate that isn't positive; so do all here.
    """
    random = _random(number, rate_per_s, seed)
    gaps = random.exponential(1.0 / rate_per_s, number)
    return _made(np.cumsum(gaps), lengths, random, f"Poisson at {rate_per_s:g}/s")


def uniform(number: int, least_s: float, most_s: float, lengths: Lengths, *, seed: int = 0) -> Trace:
    """Gaps drawn evenly from an interval [s]."""
    if not 0 <= least_s <= most_s:
        raise ConfigError(f"gaps from {least_s:g} to {most_s:g} s are no interval")
    random = _random(number, 1.0, seed)
    gaps = random.uniform(least_s, most_s, number)
    return _made(np.cumsum(gaps), lengths, random, f"gaps of {least_s:g} to {most_s:g} s")


def fixed(number: int, gap_s: float, lengths: Lengths, *, seed: int = 0) -> Trace:
    """One request every ``gap_s``, the first at 0 [s]; 0 sends all at once."""
    if not gap_s >= 0:
        raise ConfigError(f"a gap of {gap_s:g} s can't be")
    random = _random(number, 1.0, seed)
    return _made(np.arange(number) * gap_s, lengths, random, f"one every {gap_s:g} s")


def bursts(number: int, size: int, gap_s: float, lengths: Lengths, *, seed: int = 0) -> Trace:
    """``size`` requests at one moment, every ``gap_s`` [s]."""
    if size < 1 or not gap_s >= 0:
        raise ConfigError(f"bursts of {size} every {gap_s:g} s can't be")
    random = _random(number, 1.0, seed)
    times = (np.arange(number) // size) * gap_s
    return _made(times, lengths, random, f"bursts of {size} every {gap_s:g} s")


def markov_modulated(
    number: int, rates_per_s: Sequence[float], stays_s: Sequence[float], lengths: Lengths, *, seed: int = 0
) -> Trace:
    """Poisson arrivals whose rate moves through states in turn, each for an exponential time of a given mean.

    Args:
        number: how many requests.
        rates_per_s: rate in each state, 0 allowed but not everywhere [1/s].
        stays_s: mean time in each state [s].
        lengths: where lengths come from.
        seed: of the random numbers.
    """
    sound = len(rates_per_s) == len(stays_s) and all(rate >= 0 for rate in rates_per_s)
    if not sound or not all(stay > 0 for stay in stays_s):
        raise ConfigError("each state needs a rate, 0 or more, and a positive mean time")
    random = _random(number, max(rates_per_s, default=0.0), seed)
    parts: list[Floats] = []
    count, start_s, state = 0, 0.0, 0
    while count < number:
        stay_s = random.exponential(stays_s[state])
        arrivals = start_s + np.sort(random.uniform(0.0, stay_s, random.poisson(rates_per_s[state] * stay_s)))
        parts.append(arrivals)
        count += arrivals.size
        start_s += stay_s
        state = (state + 1) % len(rates_per_s)
    rates = ", ".join(f"{rate:g}" for rate in rates_per_s)
    return _made(np.concatenate(parts)[:number], lengths, random, f"Poisson at {rates}/s in turn")


def diurnal(
    number: int, rate_per_s: float, swing: float, lengths: Lengths, *, peak_hour: float = 15.0, seed: int = 0
) -> Trace:
    """Poisson arrivals whose rate follows a cosine over the day, starting at midnight.

    Args:
        number: how many requests.
        rate_per_s: mean rate [1/s].
        swing: how far the rate rises at its peak and falls at its low, as a share of the mean, 0 to 1.
        lengths: where lengths come from.
        peak_hour: hour of the day when the rate is highest.
        seed: of the random numbers.
    """
    if not 0 <= swing <= 1:
        raise ConfigError(f"a swing of {swing:g} would make the rate negative")
    random = _random(number, rate_per_s, seed)
    highest = rate_per_s * (1 + swing)
    parts: list[Floats] = []
    count, start_s = 0, 0.0
    while count < number:
        times = start_s + np.cumsum(random.exponential(1.0 / highest, max(number, 1000)))
        phase = 2 * math.pi * (times - 3600.0 * peak_hour) / _DAY_S
        kept = times[random.uniform(0.0, highest, times.size) < rate_per_s * (1 + swing * np.cos(phase))]
        parts.append(kept)
        count += kept.size
        start_s = float(times[-1])
    title = f"Poisson at {rate_per_s:g}/s, by day {swing:.0%} up and down"
    return _made(np.concatenate(parts)[:number], lengths, random, title)


def _random(number: int, rate_per_s: float, seed: int) -> np.random.Generator:
    """Random numbers, after a check of what all generators share."""
    if number < 1:
        raise ConfigError(f"{number} requests are no traffic", fix="ask for at least one")
    if not (rate_per_s > 0 and math.isfinite(rate_per_s)):
        raise ConfigError(f"a rate of {rate_per_s:g} requests/s can't be", fix="give a positive rate")
    return np.random.default_rng(seed)


def _made(
    times: NDArray[np.floating[Any]], lengths: Lengths, random: np.random.Generator, title: str
) -> Trace:
    prompts, answers = lengths.draw(times.size, random)
    return Trace(times, prompts, answers, title=title)
