"""What the predictor answers: time, power and energy of a batch's requests, by phase, with intervals."""

from __future__ import annotations

from math import exp

import msgspec

from negajoule.units import Duration, Energy, Power

__all__ = ["Phase", "Prediction"]


class Phase(msgspec.Struct, frozen=True):
    """What a part of a request takes.

    Attributes:
        energy_j: of all accelerators, this request's share [J].
        time_s: accelerators' time, this request's share [s].
    """

    energy_j: float
    time_s: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Costs of one of a batch of like requests, at a steady batch. Bare numbers are best estimates.

    The four phases sum to the request: ``idle`` is what the accelerators would have drawn with the weights
    resident and nothing to do, all the while; the others came on top of it. The boundary is the accelerators.

    Attributes:
        step_s: a decode step, no prompt in it [s].
        token_s: mean time from token to token, other requests' prompts included [s].
        prefill_s: computing the prompt alone [s].
        request_s: from the prompt's start to the last token [s].
        power_w: mean of all accelerators [W].
        energy_per_step_j: a decode step, no prompt in it, the whole batch [J].
        energy_per_token_j: an output token, its share of the prompt included [J].
        energy_per_request_j: a request [J].
        prefill: computing the prompt.
        decode: reading and computing in decode steps.
        host: accelerators waiting for the host and the links.
        idle: what they'd draw anyway.
        reading_share: reading as a share of reading and computing in a decode step: 1 is memory-bound.
        batch: sequences that decode together.
        tokens_in: length of the prompt [tokens].
        tokens_out: length of the answer [tokens].
        energy_half_width: of the 90 % interval of every energy, as a logarithm.
        time_half_width: the same of every time.
        power_half_width: the same of the power.
        group: whose residuals the intervals come from.
        notes: what widened them, in words.
    """

    step_s: float
    token_s: float
    prefill_s: float
    request_s: float
    power_w: float
    energy_per_step_j: float
    energy_per_token_j: float
    energy_per_request_j: float
    prefill: Phase
    decode: Phase
    host: Phase
    idle: Phase
    reading_share: float
    batch: float
    tokens_in: float
    tokens_out: float
    energy_half_width: float
    time_half_width: float
    power_half_width: float
    group: str
    notes: tuple[str, ...] = ()

    def energy(self, value_j: float | None = None) -> Energy:
        """An energy of this prediction with its 90 % interval; default the request's [J]."""
        value = self.energy_per_request_j if value_j is None else value_j
        wide = exp(self.energy_half_width)
        return Energy(value, value / wide, value * wide, "modelled", "accelerator")

    def time(self, value_s: float | None = None) -> Duration:
        """A time of this prediction with its 90 % interval; default the request's [s]."""
        value = self.request_s if value_s is None else value_s
        wide = exp(self.time_half_width)
        return Duration(value, value / wide, value * wide, "modelled")

    def power(self) -> Power:
        """The power of all accelerators with its 90 % interval [W]."""
        wide = exp(self.power_half_width)
        return Power(self.power_w, self.power_w / wide, self.power_w * wide, "modelled", "accelerator")
