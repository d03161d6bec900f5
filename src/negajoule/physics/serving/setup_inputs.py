"""From a setup to the numbers that the physics needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.physics.accelerators import format_bytes, number_format
from negajoule.physics.serving.step_physics import Inputs

if TYPE_CHECKING:
    from negajoule.physics.serving.setup import ServingSetup

__all__ = ["inputs_of"]

_GRAPH_LIMIT = 512  # vLLM captures graphs of up to this many tokens, or twice max_num_seqs
_OLD_ENGINES = ("vllm-0.5",)
_USUAL_VOCABULARY = 151_936  # the median of the published configurations


def inputs_of(setup: ServingSetup) -> Inputs:
    """What the physics needs to know of a setup.

    Raises:
        CatalogError: (F101) if the accelerator is unknown.
        ConfigError: (C101) if a number format is unknown.
    """
    shape, hardware = setup.shape, setup.hardware
    form = number_format(setup.format)
    weight, kept = format_bytes(form), format_bytes(setup.kv_format)
    split = setup.attention_split
    # Experts are split over all accelerators; attention over those of one copy.
    dense = shape.step_parameters - shape.routed_parameters
    routed = shape.routed_parameters * shape.expert_share
    sixteen = format_bytes("bfloat16")
    return Inputs(
        dense_bytes=dense * (sixteen if form == "mxfp4" else weight) / split,
        expert_bytes=shape.routed_parameters * weight / setup.count,
        expert_share=shape.expert_share,
        kv_bytes=shape.kv_elements * kept / setup.kv_split,
        attention_layers=float(shape.attention_layers),
        window_layers=float(shape.window_layers),
        window=float(shape.window),
        state_bytes=shape.state_elements * sixteen / setup.count,
        token_flop=2.0 * (dense / setup.count + routed / setup.count),
        attention_flop=4.0 * shape.decode_width / setup.count,
        prompt_flop=4.0 * shape.attention_width / setup.count,
        vocabulary=float(shape.vocabulary or _USUAL_VOCABULARY),
        layers=float(shape.layers),
        hidden_bytes=shape.hidden * sixteen,
        linked=float(setup.count > 1),
        count=float(setup.count),
        replicas=float(setup.data_parallel),
        is_moe=float(shape.is_moe),
        is_hybrid=float(shape.is_hybrid),
        is_fp8=float(form == "fp8"),
        is_fp4=float(form == "mxfp4"),
        is_blackwell=float(hardware.generation == "blackwell"),
        is_ampere=float(hardware.generation == "ampere"),
        expert_layers=float(shape.expert_layers),
        is_block=float(form == "fp8" and shape.block_scales and shape.is_moe),
        graph_limit=_graph_limit(setup),
        is_old=float(setup.engine in _OLD_ENGINES),
        is_slow_host=float(setup.slow_host),
        bandwidth=hardware.bandwidth,
        compute=hardware.compute_16bit,
        power=hardware.power,
    )


def _graph_limit(setup: ServingSetup) -> float:
    """Tokens of the largest step that is replayed as a graph; vLLM's default."""
    if not setup.cuda_graphs:
        return 0.0
    return float(min(_GRAPH_LIMIT, 2 * (setup.batch_limit or _GRAPH_LIMIT)))
