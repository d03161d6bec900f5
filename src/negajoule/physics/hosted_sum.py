"""Many requests to one hosted model together, whose lengths may themselves be estimates.

Sums take the ends of all intervals together: the requests share model, batch and place, so their errors
don't cancel. Within one request, doubts about its length are causes like the others, independent of them, so
that half-widths add as squares of logarithms (as in ``hosted``).
"""

from __future__ import annotations

from math import exp, hypot, inf, log
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from negajoule.errors import ConfigError
from negajoule.physics.decoding import request_cost
from negajoule.physics.hosted import Contributor, HostedEstimate, estimate
from negajoule.physics.hosted_setting import setting_of
from negajoule.units import Duration, Energy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from negajoule.physics.decoding import Deployment
    from negajoule.units import Factor

__all__ = ["Doubt", "EstimateSum", "HostedSum", "Lengths", "estimate_request"]

_Q = TypeVar("_Q", Energy, Duration)
_KNOWLEDGE = (
    "batch",
    "accelerator",
    "accelerators",
    "precision",
    "replicas",
    "active_parameters_b",
    "total_parameters_b",
    "kind",
)


class Lengths(NamedTuple):
    """Tokens of a request.

    Attributes:
        prompt: length of the prompt, cached part included.
        answer: length of what was generated, hidden reasoning included.
        cached: part of the prompt that came out of a cache.
    """

    prompt: float
    answer: float
    cached: float = 0.0


class Doubt(NamedTuple):
    """Something about a request's lengths that isn't known.

    Attributes:
        name: what.
        low: the lengths at its lower end, everything else at its likely value.
        high: the same at its upper end.
    """

    name: str
    low: Lengths
    high: Lengths


class EstimateSum:
    """Adds estimates up, of one model or of several."""

    def __init__(self) -> None:
        self._sums: tuple[Energy, Energy, Duration, Duration] | None = None
        self._prefill_j = 0.0
        self._causes: dict[str, list[float]] = {}
        self._factors: dict[Factor, None] = {}
        self._notes: dict[str, None] = {}
        self._known = True
        self._name = ""

    def include(self, found: HostedEstimate) -> None:
        """Add an estimate."""
        joules = found.it_energy.value
        each = (found.energy, found.it_energy, found.accelerator_time, found.reserved_time)
        sums = self._sums
        self._sums = (
            each
            if sums is None
            else (sums[0] + each[0], sums[1] + each[1], sums[2] + each[2], sums[3] + each[3])
        )
        self._prefill_j += found.prefill * found.energy.value
        for name, low, high in found.contributors:
            ends = self._causes.setdefault(name, [0.0, 0.0])
            ends[0] += joules * (low - 1.0)
            ends[1] += joules * (high - 1.0)
        self._factors |= dict.fromkeys(found.factors)
        self._notes |= dict.fromkeys(found.notes)
        self._known = self._known and found.known
        self._name = found.model if self._name in ("", found.model) else "several models"

    def result(self) -> HostedEstimate:
        """All of them as one estimate.

        Raises:
            ConfigError: (C101) if there were none.
        """
        if self._sums is None:
            raise ConfigError("no request was added, so there is nothing to sum up")
        energy, it_energy, time, reserved = self._sums
        joules = it_energy.value
        return HostedEstimate(
            self._name,
            energy,
            it_energy,
            time,
            reserved,
            self._prefill_j / energy.value,
            tuple(
                Contributor(name, 1.0 + low / joules, 1.0 + high / joules)
                for name, (low, high) in self._causes.items()
            ),
            tuple(self._factors),
            self._known,
            tuple(self._notes),
        )


class HostedSum(EstimateSum):
    """Adds requests to one model up.

    Args:
        model: the model's name; ``None`` if its parameters are given.
        knowledge: what else is known, as for ``hosted.estimate``.

    Raises:
        CatalogError: (F101) if the model isn't known.
        ConfigError: (C101) if a number is out of place.
    """

    def __init__(self, model: str | None, **knowledge: Any) -> None:  # noqa: ANN401 (passed on)
        super().__init__()
        _likely(model, knowledge)
        self._model = model
        self._knowledge = knowledge

    def add(self, lengths: Lengths, doubts: Sequence[Doubt] = ()) -> None:
        """Add a request.

        Args:
            lengths: its tokens, as likely.
            doubts: what isn't known of them.

        Raises:
            ConfigError: (C101) if a length is negative, not finite, or nothing was computed.
        """
        self.include(estimate_request(self._model, lengths, doubts, **self._knowledge))


def estimate_request(
    model: str | None,
    lengths: Lengths,
    doubts: Sequence[Doubt] = (),
    **knowledge: Any,  # noqa: ANN401 (passed on)
) -> HostedEstimate:
    """Estimate one request whose lengths may themselves be estimates.

    Args:
        model: the model's name; ``None`` if its parameters are given.
        lengths: its tokens, as likely.
        doubts: what isn't known of them.
        knowledge: what else is known, as for ``hosted.estimate``.

    Raises:
        CatalogError: (F101) if the model isn't known.
        ConfigError: (C101) if a number is out of place, or nothing was computed.
    """
    found = estimate(model, lengths.prompt, lengths.answer, cached_tokens=lengths.cached, **knowledge)
    if not doubts:
        return found
    likely = _likely(model, knowledge)
    joules, seconds = found.energy.value, found.accelerator_time.value
    causes, spans = [*found.contributors], [0.0, 0.0, 0.0, 0.0]
    for name, low, high in doubts:
        low_j, low_s = _cost(likely, low)
        high_j, high_s = _cost(likely, high)
        ends = (min(low_j / joules, 1.0), max(high_j / joules, 1.0))
        causes.append(Contributor(name, *ends))
        times = (min(low_s / seconds, 1.0), max(high_s / seconds, 1.0))
        spans = [hypot(span, _span(end)) for span, end in zip(spans, (*ends, *times), strict=True)]
    down, up, faster, slower = spans
    return msgspec.structs.replace(
        found,
        energy=_widened(found.energy, down, up),
        it_energy=_widened(found.it_energy, down, up),
        accelerator_time=_widened(found.accelerator_time, faster, slower),
        reserved_time=_widened(found.reserved_time, faster, slower),
        contributors=tuple(causes),
    )


def _likely(model: str | None, knowledge: Mapping[str, Any]) -> Deployment:
    options = {"replicas": 1, **knowledge}
    return setting_of(model, *map(options.get, _KNOWLEDGE)).likely


def _cost(likely: Deployment, lengths: Lengths) -> tuple[float, float]:
    cost = request_cost(likely, *lengths)
    return cost.prefill_j + cost.decode_j, cost.accelerator_s


def _span(factor: float) -> float:
    """Half-width of a factor, as a logarithm; infinite if the end is zero."""
    return abs(log(factor)) if factor > 0 else inf


def _widened(quantity: _Q, down: float, up: float) -> _Q:
    """The quantity with a further cause of width; half-widths as logarithms."""
    value, low, high = quantity.value, quantity.low, quantity.high
    if down and low > 0:
        low = value * exp(-hypot(log(value / low), down))
    if up:
        high = value * exp(hypot(log(high / value), up))
    return quantity.__class__(value, low, high, quantity.basis, quantity.boundary)
