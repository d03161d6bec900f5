"""From kernel times to the time to the first token and the time between tokens of a loaded engine.

    step    = kernels + links + host                              of a decode step
    tpot    = step + prompts of others / answer, if one pool does both
    ttft    = engine + steps waited for + own prompt + prompts ahead of it

The load is closed: N sequences at a time, each followed by the next. What's ahead grows with N, since equal
answers end together; in a pool for prompts alone, N sequences queue for it with mean waiting R that solves

    R = s (1 + (N - 1) R / (R + Z)),   Z = answer x tpot

for service time s (Schweitzer's approximation of mean value analysis, 1979). Only operators are used, so one
function serves plain floats and numpy arrays. The coefficients are fitted (``fitting/kernel_latency.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Load", "Timing", "timing"]


class Load(NamedTuple):
    """A loaded deployment. Each may be a number or an array; kinds are 1 or 0.

    Attributes:
        matrices_s: of a decode step, dense matrices and output layer [s].
        attention_s: of a decode step [s].
        state_s: of a decode step [s].
        experts_s: of a decode step [s].
        starts_s: of a decode step [s].
        links_s: of a decode step [s].
        prompt_kernels_s: kernels of one prompt computed alone [s].
        prompt_links_s: links of one prompt computed alone [s].
        shared_kernels_s: kernels of one prompt among as many as an engine computes together [s].
        shared_links_s: links of it [s].
        layers: number of layers.
        answer: tokens of an answer.
        sequences: at a time, all workers together.
        rank_sequences: at a time on one copy of the attention.
        workers: replicas that compute prompts, if they do only that.
        is_split_pool: 1 if prompts have a pool of their own.
        is_described: 0 if the numbers of workers aren't known, else 1.
        is_linked: 1 if a replica has more than one accelerator.
        is_moe: experts.
        is_hybrid: most layers keep a state.
        is_latent: attention to latent keys and values (MLA).
        is_blackwell: that generation.
        is_dense8: 8-bit dense matrices.
        is_dense4: 4-bit dense matrices.
        is_expert8: 8-bit experts, or dense matrices if there are none.
        is_expert4: 4-bit experts, likewise.
        is_stored4: weights stored in 4 bits and computed in 16.
        is_vllm: engine.
        is_sglang: engine.
        is_trtllm: engine.
    """

    matrices_s: Any
    attention_s: Any
    state_s: Any
    experts_s: Any
    starts_s: Any
    links_s: Any
    prompt_kernels_s: Any
    prompt_links_s: Any
    shared_kernels_s: Any
    shared_links_s: Any
    layers: Any
    answer: Any
    sequences: Any
    rank_sequences: Any
    workers: Any
    is_split_pool: Any
    is_described: Any
    is_linked: Any
    is_moe: Any
    is_hybrid: Any
    is_latent: Any
    is_blackwell: Any
    is_dense8: Any
    is_dense4: Any
    is_expert8: Any
    is_expert4: Any
    is_stored4: Any
    is_vllm: Any
    is_sglang: Any
    is_trtllm: Any


class Timing(NamedTuple):
    """Times of a loaded deployment [s].

    Attributes:
        ttft_s: time to the first token, waiting included.
        tpot_s: mean time between tokens, interruptions by prompts included.
        step_s: a decode step alone.
        prompt_s: one prompt alone.
    """

    ttft_s: Any
    tpot_s: Any
    step_s: Any
    prompt_s: Any


def timing(x: Load, c: Mapping[str, float]) -> Timing:
    """All times of a loaded deployment.

    Args:
        x: the deployment.
        c: coefficients, named as in ``fitting/kernel_latency.py``.
    """

    def engine(name: str) -> Any:  # noqa: ANN401 (number or array)
        return (
            x.is_vllm * c[f"{name} vllm"]
            + x.is_sglang * c[f"{name} sglang"]
            + x.is_trtllm * c[f"{name} trtllm"]
        )

    formats = c["dense 8-bit"] ** x.is_dense8 * c["dense 4-bit"] ** x.is_dense4
    widths = c["experts 8-bit"] ** x.is_expert8 * c["experts 4-bit"] ** x.is_expert4
    kernels = (
        c["matrices"] * formats * x.matrices_s
        + c["attention"] * c["attention latent"] ** x.is_latent * x.attention_s
        + x.state_s
        + c["experts"] * widths * c["stored 4-bit"] ** x.is_stored4 * x.experts_s
        + c["starts"] * x.starts_s
        + c["links"] * x.links_s
    )
    per_layer = (
        c["layer_s"] + c["expert layer_s"] * x.is_moe + 2.0 * c["link_s"] * x.is_linked
    )  # two sums a layer
    host = (
        engine("host")
        * c["host blackwell"] ** x.is_blackwell
        * (c["step_s"] + x.layers * per_layer + c["sequence_s"] * x.rank_sequences)
    )
    kinds = c["step hybrid"] ** x.is_hybrid * c["step split pool"] ** x.is_split_pool
    # Where workers aren't known, sequences are spread over more of them the more there are.
    known = x.sequences ** ((c["spread"] - 1.0) * (1.0 - x.is_described))
    step = engine("step") * c["step blackwell"] ** x.is_blackwell * kinds * known * (kernels + host)

    prefill = (
        engine("prompt")
        * c["prompt"]
        * c["prompt experts"] ** x.is_moe
        * c["prompt blackwell"] ** x.is_blackwell
        * c["prompt 8-bit"] ** x.is_expert8
        * c["prompt 4-bit"] ** x.is_expert4
        * c["prompt hybrid"] ** x.is_hybrid
    )
    alone = prefill * (x.prompt_kernels_s + c["links"] * x.prompt_links_s) + x.layers * c["prompt layer_s"]
    shared = prefill * (x.shared_kernels_s + c["links"] * x.shared_links_s)

    one_pool = 1.0 - x.is_split_pool
    interruptions = engine("interruption") * c["interruption"] * x.sequences * shared / x.answer
    tpot = step + one_pool * interruptions
    decoding = x.answer * tpot

    together = (
        c["engine_s"] * engine("engine")
        + c["steps waited"] * step
        + c["own prompt"] * engine("own prompt") * alone
        + c["ahead"] * engine("ahead") * shared * x.sequences ** c["ahead power"]
        + _waiting(c["one pool"] * shared, x.sequences, decoding)
    )
    # Unknown workers are taken as enough of them.
    enough = 1.2 * x.sequences * shared / decoding
    unknown = (enough + 1.0 + abs(enough - 1.0)) / 2.0
    workers = x.is_described * x.workers + (1.0 - x.is_described) * unknown
    each = shared / workers * c["pool unknown"] ** (1.0 - x.is_described)
    apart = (
        c["pool_s"]
        + c["pool prompt"] * alone
        + _waiting(c["pool"] * each, x.sequences, decoding)
        + c["ahead"] * shared / workers * x.sequences
    )
    return Timing(one_pool * together + x.is_split_pool * apart, tpot, step, alone)


def _waiting(service: Any, sequences: Any, elsewhere: Any) -> Any:  # noqa: ANN401 (number or array)
    """Time at a queue that N sequences share, its service included (see the head of this module)."""
    surplus = service * sequences - elsewhere
    return (surplus + (surplus * surplus + 4.0 * service * elsewhere) ** 0.5) / 2.0
