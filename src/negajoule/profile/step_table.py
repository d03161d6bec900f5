"""A profile in the form that a simulation reads."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from negajoule.errors import ConfigError
from negajoule.physics.serving import StepTable

if TYPE_CHECKING:
    from negajoule.profile.profile import Profile

__all__ = ["step_table_of"]


def step_table_of(profile: Profile, format_: str | None = None) -> StepTable:
    """Costs of steps by the fitted laws, at every batch up to the largest measured one.

    Args:
        profile: of a model.
        format_: number format; may be left out if there is one.

    Raises:
        ConfigError: (C101) if the format is unknown or must be named, (C107) if energy or idle power is
            missing.
    """
    if format_ is None:
        if len(profile.formats) > 1:
            raise ConfigError(
                f"the profile of {profile.model} holds several formats",
                fix=f"name one of {', '.join(profile.formats)}",
            )
        format_ = profile.formats[0]
    energy = profile.energy_law(format_)
    time = profile.law(format_, "time")
    if profile.idle_w is None or time is None:
        raise ConfigError(
            f"the profile of {profile.model} holds no idle power", code="C107", tried=profile.energy_source
        )
    largest = profile.reach().batch
    low, high = profile.energy_span(format_, max(energy.prefill_error, energy.decode_error))
    return StepTable(
        decode_s=(0.0, *(time.step(batch) for batch in range(1, largest + 1))),
        decode_context_s=(0.0, *[time.decode_context] * largest),
        decode_j=(0.0, *(energy.step(batch) for batch in range(1, largest + 1))),
        decode_context_j=(0.0, *[energy.decode_context] * largest),
        prefill_token_s=time.prefill_token,
        prefill_context_s=time.prefill_context,
        prefill_step_s=time.prefill_step,
        prefill_token_j=energy.prefill_token,
        prefill_context_j=energy.prefill_context,
        prefill_step_j=energy.prefill_step,
        idle_w=profile.idle_w[0],
        sleep_w=profile.idle_w[0],
        wake_s=0.0,
        wake_j=0.0,
        kv_tokens=profile.engine.slots * profile.engine.context_tokens,
        title=f"{profile.model} {format_} on {profile.machine.cpu}, {profile.engine.name}; times measured",
        basis=profile.energy_basis or "assumed",
        doubt=log(high / max(low, 1 / high)) / 2,  # of a logarithm, like the predictor's
    )
