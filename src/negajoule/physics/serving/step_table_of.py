"""Writing a step table from predictions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from negajoule.catalog import lookup
from negajoule.errors import ConfigError
from negajoule.physics.serving.step_table import StepTable

if TYPE_CHECKING:
    from negajoule.physics.serving.predictor import Predictor
    from negajoule.physics.serving.setup import ServingSetup

__all__ = ["step_table_of"]


def step_table_of(
    predictor: Predictor,
    setup: ServingSetup,
    max_batch: int | None,
    context: float,
    sleep_w: float | None,
    extrapolate: bool,
) -> StepTable:
    """What ``Predictor.step_table`` documents."""
    limit = max_batch or setup.batch_limit or int(predictor.model.ranges["batch"][1])
    limit = min(limit, setup.max_sequences(1.0))
    if limit < 1:
        raise ConfigError(
            f"not one sequence of {setup.shape.name} fits beside its weights",
            code="C112",
            fix="more accelerators",
        )
    times, slopes, joules, joule_slopes = [0.0], [0.0], [0.0], [0.0]
    for batch in range(1, limit + 1):
        empty = predictor.predict(
            setup, batch=batch, tokens_in=0.0, tokens_out=1.0, context=0.0, extrapolate=extrapolate
        )
        full = predictor.predict(
            setup, batch=batch, tokens_in=0.0, tokens_out=1.0, context=context, extrapolate=extrapolate
        )
        times.append(empty.step_s)
        joules.append(empty.energy_per_step_j)
        slopes.append((full.step_s - empty.step_s) / (batch * context))
        joule_slopes.append((full.energy_per_step_j - empty.energy_per_step_j) / (batch * context))
    one = predictor.prompt_costs(setup)
    # Below the smallest measured batch the doubt grows further; ``predict`` tells by how much.
    least = min(limit, math.ceil(predictor.model.ranges["batch"][0]))
    wide = predictor.predict(setup, batch=least, tokens_in=1.0, tokens_out=1.0, extrapolate=True)
    idle_w = predictor.idle_power(setup)
    wake_s = setup.weight_bytes() / setup.count / lookup("serving.reload-rate").si_interval()[0]
    return StepTable(
        decode_s=tuple(times),
        decode_context_s=tuple(slopes),
        decode_j=tuple(joules),
        decode_context_j=tuple(joule_slopes),
        prefill_token_s=one.token_s,
        prefill_context_s=one.context_s,
        prefill_step_s=one.step_s,
        prefill_token_j=one.token_s * one.power_w,
        prefill_context_j=one.context_s * one.power_w,
        prefill_step_j=one.step_j,
        idle_w=idle_w,
        sleep_w=idle_w if sleep_w is None else sleep_w,
        wake_s=wake_s,
        wake_j=wake_s * idle_w,
        kv_tokens=int(setup.free_bytes() / max(setup.kv_bytes(context) / context, 1.0)),
        title=f"{setup.shape.name} in {setup.format} on {setup.count} x {setup.hardware.name}",
        basis="modelled",
        doubt=wide.energy_half_width,
    )
