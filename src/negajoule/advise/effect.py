"""What a change does: ratios with intervals, and what can be claimed of them."""

from __future__ import annotations

from math import exp, hypot, log

import msgspec

__all__ = ["IN_USE", "Effect", "Span", "Verdict"]


class Span(msgspec.Struct, frozen=True):
    """A ratio to the unchanged, with its 90 % interval. Below 1, it saves."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, half_width: float) -> Span:
        """A ratio whose logarithm may be off by this much."""
        return cls(value, value / exp(half_width), value * exp(half_width))

    @property
    def saves(self) -> bool:
        """Whether the whole interval saves."""
        return self.high < 1.0

    @property
    def costs(self) -> bool:
        """Whether the whole interval costs."""
        return self.low > 1.0

    @property
    def half_width(self) -> float:
        """Half of the interval, as a logarithm."""
        return 0.5 * log(self.high / self.low)

    def wider(self, by: float) -> Span:
        """This ratio with a further, independent error of its logarithm."""
        return Span(
            self.value,
            self.value / exp(hypot(log(self.value / self.low), by)),
            self.value * exp(hypot(log(self.high / self.value), by)),
        )

    @property
    def inverse(self) -> Span:
        """The ratio of the unchanged to the changed."""
        return Span(1.0 / self.value, 1.0 / self.high, 1.0 / self.low)

    def over(self, other: Span) -> Span:
        """This ratio divided by another, their errors independent."""
        return Span.around(self.value / other.value, hypot(self.half_width, other.half_width))

    def part(self, share: float) -> Span:
        """The ratio of a whole of which only this share changes (Amdahl)."""
        return Span(
            1.0 + share * (self.value - 1.0), 1.0 + share * (self.low - 1.0), 1.0 + share * (self.high - 1.0)
        )


Verdict = str
"""``saves``, ``costs``, ``inside noise``, ``unknown`` or ``in use``."""

IN_USE = "in use"
"""Evidence and verdict of the format that the others are beside."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a number format does, beside the format that is used now.

    Attributes:
        format: the format.
        fits: whether weights and the batch fit the memory; None if the memory is not known.
        memory_gb: weights of all accelerators; None if not known [GB].
        energy: of a request; None if nothing is known.
        time: of a request; None if nothing is known.
        prefill_energy: of the prompt; None if unknown.
        decode_energy: of the answer; None if unknown.
        quality: what it loses, in words, with its source; empty if nothing is known.
        evidence: what the ratios rest on; empty if there are none.
        note: what else a reader must know.
    """

    format: str
    fits: bool | None
    memory_gb: float | None
    energy: Span | None = None
    time: Span | None = None
    prefill_energy: Span | None = None
    decode_energy: Span | None = None
    quality: str = ""
    evidence: str
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """What can be claimed of its energy."""
        if self.evidence == IN_USE:
            return IN_USE
        if self.energy is None:
            return "unknown"
        if self.energy.saves:
            return "saves"
        return "costs" if self.energy.costs else "inside noise"
