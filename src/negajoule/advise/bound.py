"""Whether a phase waits for arithmetic or for memory, and by how much.

    intensity = operations of a step / bytes that it reads        ridge = compute rate / bandwidth

Above the ridge a step is compute-bound, below it memory-bound (Williams, Waterman and Patterson,
Communications of the ACM 52(4), 2009). Both are of the data sheet; what an engine reaches of each is in the
predictor, whose reading share stands beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import ConfigError
from negajoule.physics.serving.setup_inputs import inputs_of

if TYPE_CHECKING:
    from negajoule.physics.serving import Prediction, ServingSetup

__all__ = ["PhaseBound", "phase_bounds"]


class PhaseBound(msgspec.Struct, frozen=True, kw_only=True):
    """What a phase waits for.

    Attributes:
        phase: ``prefill`` or ``decode``.
        bound: ``compute`` or ``memory``.
        by: how many times the intensity is above the ridge, or below it.
        intensity: operations for each byte [FLOP/B].
        ridge: of the accelerator in this format [FLOP/B].
        reading_share: predicted share of reading in reading and computing; None in prefill.
        host_share: predicted share of the time in which the accelerators wait for host and links.
    """

    phase: str
    bound: str
    by: float
    intensity: float
    ridge: float
    reading_share: float | None
    host_share: float


def phase_bounds(setup: ServingSetup, prediction: Prediction) -> tuple[PhaseBound, PhaseBound]:
    """What prefill and decode wait for.

    Args:
        setup: the model on its accelerators.
        prediction: of that setup, with batch and lengths.

    Raises:
        ConfigError: (C101) for a prompt without tokens.
    """
    if prediction.tokens_in < 1:
        raise ConfigError("a prompt of no tokens has no prefill", fix="--prompt 1 or more")
    x, hardware = inputs_of(setup), setup.hardware
    rate = hardware.compute_16bit if setup.format == "bfloat16" else hardware.compute_8bit
    ridge = rate / hardware.bandwidth
    batch, prompt = prediction.batch, prediction.tokens_in
    context = prompt + 0.5 * prediction.tokens_out

    def weights(tokens: float) -> float:
        touched = 1.0 - (1.0 - x.expert_share) ** tokens if x.expert_bytes else 0.0
        return float(x.dense_bytes + x.expert_bytes * touched)

    def kept(length: float) -> float:
        window = min(length, x.window) if x.window else length
        return float(x.kv_bytes * (x.attention_layers * length + x.window_layers * window))

    prefill = prompt * (x.token_flop + 0.5 * x.attention_layers * x.prompt_flop * prompt)
    prefill /= weights(prompt) + kept(prompt)
    decode = batch * (x.token_flop + (x.attention_layers + x.window_layers) * x.attention_flop * context)
    decode /= weights(batch) + batch * (kept(context) + x.state_bytes)
    step_s = prediction.decode.time_s + prediction.host.time_s
    waits = prediction.host.time_s / step_s
    return (
        _bound("prefill", prefill, ridge, None, 0.0),
        _bound("decode", decode, ridge, prediction.reading_share, waits),
    )


def _bound(phase: str, intensity: float, ridge: float, reading: float | None, host: float) -> PhaseBound:
    above = intensity >= ridge
    return PhaseBound(
        phase=phase,
        bound="compute" if above else "memory",
        by=intensity / ridge if above else ridge / intensity,
        intensity=intensity,
        ridge=ridge,
        reading_share=reading,
        host_share=host,
    )
