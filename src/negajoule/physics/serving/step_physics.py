"""The physics of a step: a roofline with the host, the links and the experts that a batch touches.

With B sequences decoding together on n accelerators, and S tokens of context each:

    read    = dense weights + experts x (1 - (1 - share)^(B^spread)) + B x (S x keys and values + state)
    compute = B x (2 x active parameters + attention over S)
    step    = (read^q + compute^q)^(1/q) + links + host
    power   = rated power x min'(base + reading x read / step + computing x compute / step)

read and compute in seconds. A prompt is computed at a rate of its own; the tokens of a batch wait for the
prompts that join it. The roofline is that of Williams, Waterman and Patterson (CACM 2009), the coverage of
experts is that of independent choices with a fitted skew. The numbers are fitted
(``fitting/serving_energy.py``).

Only operators are used, so one function serves plain floats (a prediction) and numpy arrays (the fit).
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Coefficients", "Inputs", "Step", "Terms", "prefill_of", "step_of", "terms_of"]

_SHARPNESS = 8.0  # how suddenly the power limit acts; a form, not a fact
_ROOF = 3.0  # how sharp the corner of the roofline is; a form, not a fact


class Inputs(NamedTuple):
    """What physics needs to know of a setup. Each may be a number or an array.

    Attributes:
        dense_bytes: weights outside routed experts that one accelerator reads in a step [B].
        expert_bytes: weights in routed experts, on one accelerator [B].
        expert_share: experts that a token uses / experts of a layer.
        kv_bytes: keys and values of one token in one layer, on one accelerator [B].
        attention_layers: layers that attend to the whole context.
        window_layers: layers that attend to a window.
        window: its length [tokens].
        state_bytes: state-space state of one sequence, on one accelerator [B].
        token_flop: operations of a token in matrices, on one accelerator.
        attention_flop: operations of a token for each token of context and layer, on one accelerator.
        layers: number of layers.
        hidden_bytes: activations of a token [B].
        linked: 1 if there's more than one accelerator, else 0.
        count: accelerators.
        replicas: data parallel copies.
        is_moe: 1 for a mixture of experts, else 0.
        is_hybrid: 1 for state-space hybrids, else 0.
        is_fp8: 1 for 8-bit weights, else 0.
        is_fp4: 1 for 4-bit weights, else 0.
        is_blackwell: 1 for that generation, else 0.
        is_ampere: 1 for that generation, else 0.
        is_old: 1 for the engine of 2024, else 0.
        is_eager: 1 if kernels are launched one by one, else 0.
        is_slow_host: 1 if the host is the slow one that was measured, else 0.
        bandwidth: of one accelerator's memory [B/s].
        compute: operations per second of one accelerator, in 16 bits [1/s].
        power: rated power of one accelerator [W].
    """

    dense_bytes: Any
    expert_bytes: Any
    expert_share: Any
    kv_bytes: Any
    attention_layers: Any
    window_layers: Any
    window: Any
    state_bytes: Any
    token_flop: Any
    attention_flop: Any
    layers: Any
    hidden_bytes: Any
    linked: Any
    count: Any
    replicas: Any
    is_moe: Any
    is_hybrid: Any
    is_fp8: Any
    is_fp4: Any
    is_blackwell: Any
    is_ampere: Any
    is_old: Any
    is_eager: Any
    is_slow_host: Any
    bandwidth: Any
    compute: Any
    power: Any


class Coefficients(NamedTuple):
    """The fitted numbers; all positive. Shares are of the data sheet's rate, times are seconds.

    A factor named after a kind applies to that kind beside the others.
    """

    read: float
    blackwell_read: float
    ampere_read: float
    expert_read: float
    fp8_read: float
    fp8_expert_read: float
    fp4_expert_read: float
    expert_spread: float
    compute: float
    blackwell_compute: float
    moe_compute: float
    fp8_compute: float
    prefill: float
    moe_prefill: float
    blackwell_prefill: float
    step_s: float
    layer_s: float
    blackwell_layer: float
    ampere_layer: float
    moe_layer_s: float
    fp8_layer_s: float
    hybrid_step_s: float
    hybrid_sequence_s: float
    sequence_s: float
    blackwell_sequence: float
    old_host: float
    old_sequence: float
    eager_layer_s: float
    slow_host_s: float
    link_s: float
    link_count_s: float
    link_rate: float
    replica_wait: float
    base: float
    reading: float
    computing: float
    prefilling: float
    linking: float
    blackwell_base: float
    blackwell_reading: float
    ampere_power: float
    moe_reading: float
    fp8_reading: float


class Terms(NamedTuple):
    """What a setup's step costs, apart from batch and context; ``step_of`` unpacks it in this order.

    Attributes:
        dense_s: reading the dense weights [s].
        expert_s: reading all experts [s].
        expert_rest: share of experts that one token doesn't use.
        expert_spread: exponent on the batch.
        context_s: keys and values of a token in the layers that attend to all [s].
        window_s: the same in those that attend to a window [s].
        window: its length [tokens].
        state_s: state of one sequence [s].
        compute_s: matrices of one token [s].
        attention_s: attention of a token over one token, all such layers [s].
        window_attention_s: the same in those that attend to a window [s].
        link_s: links of a step [s].
        link_token_s: links of a step for each sequence [s].
        host_s: host of a step [s].
        sequence_s: host of a step for each sequence [s].
        floor_s: least time that the host takes for a step [s].
        prefill_s: a prompt token [s].
        prefill_attention_s: attention of a prompt, for each squared token [s].
        power_w: rated power of all accelerators [W].
        base: share drawn all the time.
        reading: share added while reading.
        computing: share added while computing.
        linking: share added while waiting for links.
        prefill_share: share drawn while computing a prompt.
    """

    dense_s: Any
    expert_s: Any
    expert_rest: Any
    expert_spread: Any
    context_s: Any
    window_s: Any
    window: Any
    state_s: Any
    compute_s: Any
    attention_s: Any
    window_attention_s: Any
    link_s: Any
    link_token_s: Any
    host_s: Any
    sequence_s: Any
    floor_s: Any
    prefill_s: Any
    prefill_attention_s: Any
    power_w: Any
    base: Any
    reading: Any
    computing: Any
    linking: Any
    prefill_share: Any


class Step(NamedTuple):
    """A decode step.

    Attributes:
        time_s: of the step [s].
        host_s: part of it in which the accelerators wait for the host [s].
        power_w: of all accelerators [W].
        memory_share: reading as a share of reading and computing.
    """

    time_s: Any
    host_s: Any
    power_w: Any
    memory_share: Any


def terms_of(x: Inputs, c: Coefficients) -> Terms:
    """Work out what depends on neither batch nor context."""

    def on(factor: float, switch: Any) -> Any:  # noqa: ANN401 - number or array
        return factor**switch

    rate = x.bandwidth * c.read * on(c.blackwell_read, x.is_blackwell) * on(c.ampere_read, x.is_ampere)
    dense_rate = rate * on(c.fp8_read, x.is_fp8)
    expert_rate = rate / c.expert_read * on(c.fp8_expert_read, x.is_fp8) * on(c.fp4_expert_read, x.is_fp4)
    peak = x.compute * on(c.blackwell_compute, x.is_blackwell) * on(c.fp8_compute, x.is_fp8)
    compute_rate = peak * c.compute * on(c.moe_compute, x.is_moe)
    prefill_rate = (
        x.compute
        * c.prefill
        * on(c.moe_prefill, x.is_moe)
        * on(c.blackwell_prefill, x.is_blackwell)
        * on(c.fp8_compute, x.is_fp8)
        / x.replicas**c.replica_wait
    )
    layer_s = (
        c.layer_s * on(c.blackwell_layer, x.is_blackwell) * on(c.ampere_layer, x.is_ampere)
        + c.moe_layer_s * x.is_moe
        + c.fp8_layer_s * x.is_fp8
        + c.eager_layer_s * x.is_eager
    )
    attending = x.attention_layers * x.attention_flop
    return Terms(
        dense_s=x.dense_bytes / dense_rate,
        expert_s=x.expert_bytes / expert_rate,
        expert_rest=1.0 + 1e-9 - x.expert_share,
        expert_spread=c.expert_spread,
        context_s=x.attention_layers * x.kv_bytes / rate,
        window_s=x.window_layers * x.kv_bytes / rate,
        window=x.window,
        state_s=2.0 * x.state_bytes / rate,
        compute_s=x.token_flop / compute_rate,
        attention_s=attending / compute_rate,
        window_attention_s=x.window_layers * x.attention_flop / compute_rate,
        link_s=x.linked * x.layers * (c.link_s + c.link_count_s * x.count),
        link_token_s=x.linked * x.layers * x.hidden_bytes / c.link_rate,
        host_s=on(c.old_host, x.is_old) * (c.step_s + layer_s * x.layers + c.hybrid_step_s * x.is_hybrid),
        sequence_s=on(c.old_sequence, x.is_old) * c.sequence_s * on(c.blackwell_sequence, x.is_blackwell)
        + c.hybrid_sequence_s * x.is_hybrid,
        floor_s=c.slow_host_s * x.is_slow_host,
        prefill_s=x.token_flop / prefill_rate,
        prefill_attention_s=attending / (2.0 * prefill_rate),
        power_w=x.count * x.power,
        base=c.base * on(c.blackwell_base, x.is_blackwell) * on(c.ampere_power, x.is_ampere),
        reading=c.reading
        * on(c.blackwell_reading, x.is_blackwell)
        * on(c.ampere_power, x.is_ampere)
        * on(c.moe_reading, x.is_moe)
        * on(c.fp8_reading, x.is_fp8),
        computing=c.computing * on(c.ampere_power, x.is_ampere),
        linking=c.linking,
        prefill_share=c.prefilling * on(c.ampere_power, x.is_ampere),
    )


def step_of(terms: Terms, batch: Any, context: Any) -> Step:  # noqa: ANN401 - numbers or arrays
    """A decode step of a batch whose sequences have this context, window apart [tokens]."""
    (
        dense_s, expert_s, expert_rest, expert_spread, context_s, window_s, window, state_s, compute_s,
        attention_s, window_attention_s, link_s, link_token_s, host_s, sequence_s, floor_s, _, _, power_w,
        base, reading, computing, linking, _,
    ) = terms  # fmt: skip
    inside = (context + window - abs(context - window)) / 2.0  # the smaller of the two
    touched = 1.0 - expert_rest ** (batch**expert_spread)
    read = dense_s + expert_s * touched + batch * (context_s * context + window_s * inside + state_s)
    compute = batch * (compute_s + attention_s * context + window_attention_s * inside)
    busy = (read**_ROOF + compute**_ROOF) ** (1.0 / _ROOF)
    link = link_s + link_token_s * batch
    host = host_s + sequence_s * batch
    work = busy + link + host
    # A slow host prepares the next step beside this one: the longer of the two counts.
    time = (work**_SHARPNESS + floor_s**_SHARPNESS) ** (1.0 / _SHARPNESS)
    drawn = base + (reading * read + computing * compute + linking * link) / time
    return Step(time, time - busy - link, power_w * within_rating(drawn), read / (read + compute))


def prefill_of(terms: Terms, tokens: Any, kept: Any = 0.0) -> tuple[Any, Any]:  # noqa: ANN401
    """Time [s] and power [W] of computing a prompt of which a part is kept from before [tokens]."""
    time = terms.prefill_s * (tokens - kept) + terms.prefill_attention_s * (tokens * tokens - kept * kept)
    return time, terms.power_w * within_rating(terms.prefill_share)


def within_rating(drawn: Any) -> Any:  # noqa: ANN401 - number or array
    """Power as a share of the rating: an accelerator slows down before it draws more."""
    return drawn / (1.0 + drawn**_SHARPNESS) ** (1.0 / _SHARPNESS)
