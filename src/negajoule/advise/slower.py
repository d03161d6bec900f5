"""Energy and time at lower clocks, by a model, where no curve was measured.

    power in a phase = drawn x (fixed + (1 - fixed) x clock^exponent)
    step             = host + ((reading^3 + (computing / clock)^3)^(1/3))
    prompt           = prompt at full clock / clock

``clock`` is a share of the highest. Reading doesn't slow down while memory keeps its own clock, which holds
down to some share; below that the model doesn't speak. A power cap acts through the clock, and only where
more would be drawn: the cap is met by the clock at which the power falls to it. The shares are catalogue rows
with wide ranges, since no curve was measured; every curve says so.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog import lookup
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from negajoule.physics.serving import Prediction, ServingSetup

__all__ = ["CurvePoint", "Phases", "phases_of", "slower_curve"]

_ROOF = 3.0  # how sharp the corner of the roofline is, as in ``physics.serving.step_physics``
_STEPS = 21


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One setting.

    Attributes:
        setting: share of the highest clock, or limit of power or clock, in ``unit``.
        unit: ``share``, ``MHz`` or ``W`` of an accelerator.
        energy_j: of a request or command [J].
        low_j: lower end of its interval [J].
        high_j: upper end [J].
        time_s: of a request or command [s].
        token_s: from token to token; None if not known [s].
        prefill_s: to the first token, no queue; None if not known [s].
        clock: share of the highest clock; None if not known.
        ratio_low: lower end of the energy over that at full clock; None if not known.
        ratio_high: upper end of it.
    """

    setting: float
    unit: str
    energy_j: float
    low_j: float
    high_j: float
    time_s: float
    token_s: float | None = None
    prefill_s: float | None = None
    clock: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


class Phases(msgspec.Struct, frozen=True, kw_only=True):
    """A request at full clock, as the model needs it.

    Attributes:
        step_s: a decode step [s].
        wait_s: part of it in which the host and the links work [s].
        reading_share: reading in reading and computing.
        step_w: power in decode, of all accelerators [W].
        prompt_s: accelerators' time for the prompt, this request's share [s].
        prompt_w: power in it, of all accelerators [W].
        first_s: from the prompt's start to the first token [s].
        steps: decode steps of an answer.
        batch: sequences that share a step.
        token_s: from token to token, others' prompts included [s].
        width: half of the interval of energies, as a logarithm.
        count: accelerators.
        rated_w: power of all of them [W].
    """

    step_s: float
    wait_s: float
    reading_share: float
    step_w: float
    prompt_s: float
    prompt_w: float
    first_s: float
    steps: float
    batch: float
    token_s: float
    width: float
    count: int
    rated_w: float


def phases_of(setup: ServingSetup, one: Prediction) -> Phases:
    """What the model needs to know of a predicted request."""
    decode_s, prompt_s = one.decode.time_s + one.host.time_s, one.prefill.time_s
    idle_w = one.idle.energy_j / (decode_s + prompt_s)
    rated_w = setup.count * setup.hardware.power
    return Phases(
        step_s=one.step_s,
        wait_s=one.step_s * one.host.time_s / decode_s,
        reading_share=one.reading_share,
        step_w=(one.decode.energy_j + one.host.energy_j) / decode_s + idle_w,
        prompt_s=prompt_s,
        prompt_w=min(rated_w, one.prefill.energy_j / prompt_s + idle_w) if prompt_s > 0 else idle_w,
        first_s=one.prefill_s,
        steps=one.tokens_out,
        batch=one.batch,
        token_s=one.token_s,
        width=one.energy_half_width,
        count=setup.count,
        rated_w=rated_w,
    )


def slower_curve(at_full: Phases, *, lever: str = "clock") -> tuple[CurvePoint, ...]:
    """The curve of a lever, from the lowest setting for which the model speaks to none.

    Args:
        at_full: a request at full clock.
        lever: ``clock`` (a share of the highest) or ``power`` (a cap on each accelerator [W]).

    Raises:
        ConfigError: (C101) for another lever.
    """
    lowest = lookup("advise.clock.lowest").value
    if lever == "clock":
        shares = [lowest + (1.0 - lowest) * step / (_STEPS - 1) for step in range(_STEPS)]
        return tuple(_at(at_full, share, share, share, "share") for share in shares)
    if lever != "power":
        raise ConfigError(f"the lever {lever!r} isn't known", fix="clock or power")
    caps = [at_full.rated_w * (0.4 + 0.6 * step / (_STEPS - 1)) for step in range(_STEPS)]
    points = []
    for cap in caps:
        step, prompt = (_clock_at(cap, drawn) for drawn in (at_full.step_w, at_full.prompt_w))
        if min(step, prompt) >= lowest:
            points.append(_at(at_full, step, prompt, cap / at_full.count, "W"))
    return tuple(points)


def _clock_at(cap_w: float, drawn_w: float) -> float:
    """Share of the clock at which a phase draws no more than a cap; 0 if none does."""
    if drawn_w <= cap_w:
        return 1.0
    fixed, exponent = lookup("advise.clock.fixed-share").value, lookup("advise.clock.exponent").value
    rest = (cap_w / drawn_w - fixed) / (1.0 - fixed)
    return float(rest ** (1.0 / exponent)) if rest > 0 else 0.0


def _at(full: Phases, decode: float, prefill: float, setting: float, unit: str) -> CurvePoint:
    busy = full.step_s - full.wait_s
    read = full.reading_share / (full.reading_share**_ROOF + (1 - full.reading_share) ** _ROOF) ** (1 / _ROOF)
    compute = (1.0 - read**_ROOF) ** (1.0 / _ROOF) if read < 1.0 else 0.0
    slower = busy * (read**_ROOF + (compute / decode) ** _ROOF) ** (1.0 / _ROOF)
    step_s = full.wait_s + slower
    prompt_s = full.prompt_s / prefill

    def energy(fixed: float, exponent: float) -> float:
        step_w = full.step_w * (fixed + (1.0 - fixed) * decode**exponent)
        prompt_w = full.prompt_w * (fixed + (1.0 - fixed) * prefill**exponent)
        return float(step_w * step_s * full.steps / full.batch + prompt_w * prompt_s)

    fixed, exponent = lookup("advise.clock.fixed-share"), lookup("advise.clock.exponent")
    value = energy(fixed.value, exponent.value)
    ends = [
        energy(share, power) for share in (fixed.low, fixed.high) for power in (exponent.low, exponent.high)
    ]
    whole = _full(full)
    low, high = min(value, *ends), max(value, *ends)
    wide = exp(full.width)
    token_s = full.token_s - full.step_s + step_s + full.batch * (prompt_s - full.prompt_s) / full.steps
    return CurvePoint(
        setting=setting,
        unit=unit,
        energy_j=value,
        low_j=low / wide,
        high_j=high * wide,
        time_s=full.first_s / prefill + token_s * (full.steps - 1.0),
        token_s=token_s,
        prefill_s=full.first_s / prefill,
        clock=decode,
        ratio_low=low / whole,
        ratio_high=high / whole,
    )


def _full(full: Phases) -> float:
    """Energy of a request at full clock [J]."""
    return full.step_w * full.step_s * full.steps / full.batch + full.prompt_w * full.prompt_s
