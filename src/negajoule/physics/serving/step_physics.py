"""The physics of a step: a roofline with the host, the links and the experts that a batch touches.

In a step B sequences decode, with S tokens of context each, and n prompt tokens are computed beside them, on
as many accelerators as the setup has:

    read    = dense weights + experts x (1 - (1 - share)^((B + n)^spread)) + B x (S x keys and values + state)
    compute = (B + n) x 2 x active parameters + attention of B over S and of the prompt over itself
    step    = (read^q + compute^q)^(1/q) + links + host
    power   = rated power x min'(base + reading x read / step + computing x compute / step)

read and compute in seconds. At a steady batch B / length sequences end in a step, and as many prompts join; a
share exp(-B / length) of the steps has no prompt in it. The roofline is that of Williams, Waterman and
Patterson (CACM 2009), the coverage of experts is that of independent choices with a fitted skew. The numbers
are fitted (``fitting/serving_energy.py``).

Only operators are used, so one function serves plain floats (a prediction) and numpy arrays (the fit).
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Coefficients", "Inputs", "Steady", "Step", "Terms", "steady_of", "step_of", "terms_of"]

_SHARPNESS = 8.0  # how suddenly the power limit acts; a form, not a fact
_GATE = 48.0  # how suddenly a step is too large for a graph; a form, not a fact
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
        attention_flop: operations of a decoded token for each token of context and layer, on one accelerator.
        prompt_flop: the same of a prompt token.
        vocabulary: entries of the output layer.
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
        expert_layers: layers that have experts.
        is_block: 1 for 8-bit weights with scales by blocks, else 0.
        graph_limit: tokens of the largest step that's replayed as a graph; 0 without graphs.
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
    prompt_flop: Any
    vocabulary: Any
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
    expert_layers: Any
    is_block: Any
    graph_limit: Any
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
    block_read: float
    fp8_expert_read: float
    block_expert_read: float
    fp4_expert_read: float
    expert_spread: float
    compute: float
    blackwell_compute: float
    moe_compute: float
    fp8_compute: float
    fp4_compute: float
    attention_compute: float
    prompt: float
    hybrid_prompt: float
    step_s: float
    layer_s: float
    blackwell_layer: float
    ampere_layer: float
    moe_layer_s: float
    block_layer_s: float
    hybrid_layer_s: float
    hybrid_sequence_s: float
    sequence_s: float
    sample_s: float
    prompt_step_s: float
    prompt_layer_s: float
    old_host: float
    old_sequence: float
    old_prompt: float
    eager_layer_s: float
    slow_host_s: float
    link_s: float
    link_count_s: float
    link_rate: float
    replica_wait: float
    base: float
    reading: float
    computing: float
    linking: float
    launching: float
    blackwell_base: float
    blackwell_reading: float
    ampere_power: float
    moe_reading: float
    fp8_reading: float
    prompting: float


class Terms(NamedTuple):
    """What a setup's step costs, apart from batch and lengths; ``step_of`` unpacks it in this order.

    Attributes:
        dense_s: reading the dense weights [s].
        expert_s: reading all experts [s].
        expert_rest: share of experts that one token doesn't use.
        expert_spread: exponent on the tokens.
        context_s: keys and values of a token in the layers that attend to all [s].
        window_s: the same in those that attend to a window [s].
        window: length of that window [tokens].
        state_s: state of one sequence [s].
        compute_s: matrices of a decoded token [s].
        attention_s: attention of a decoded token over one token, layers that attend to all [s].
        window_attention_s: the same in those that attend to a window [s].
        link_s: links of a step [s].
        link_token_s: links of a step for each token [s].
        launch_s: latencies of a step's kernels [s].
        host_s: host of a step [s].
        sequence_s: host and sampler of a step for each sequence [s].
        floor_s: least time that the host takes for a step [s].
        prompt_s: matrices of a prompt token [s].
        prompt_attention_s: attention of a prompt, for each squared token [s].
        eager_s: launching a step's kernels one by one [s].
        graph_limit: tokens beyond which that happens.
        prompt_host_s: what the host takes besides for a step with a prompt in it [s].
        prompt_launch_s: launching the parts of such a step as several graphs [s].
        power_w: rated power of all accelerators [W].
        base: share drawn all the time.
        reading: share added while reading.
        computing: share added while computing.
        linking: share added while waiting for links.
        launching: share added in the latencies of kernels.
        prompting: factor on what's added while computing a prompt.
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
    launch_s: Any
    host_s: Any
    sequence_s: Any
    floor_s: Any
    prompt_s: Any
    prompt_attention_s: Any
    eager_s: Any
    graph_limit: Any
    prompt_host_s: Any
    prompt_launch_s: Any
    power_w: Any
    base: Any
    reading: Any
    computing: Any
    linking: Any
    launching: Any
    prompting: Any


class Step(NamedTuple):
    """A step.

    Attributes:
        time_s: of the step [s].
        wait_s: part of it in which the accelerators wait for the host and the links [s].
        power_w: of all accelerators [W].
        reading_share: reading as a share of reading and computing.
    """

    time_s: Any
    wait_s: Any
    power_w: Any
    reading_share: Any


class Steady(NamedTuple):
    """The steps of a steady batch.

    Attributes:
        decode: a step without a prompt in it.
        mixed: a step with the prompts that join it.
        with_prompt: share of the steps that have prompts in them.
    """

    decode: Step
    mixed: Step
    with_prompt: Any


def terms_of(x: Inputs, c: Coefficients) -> Terms:
    """Work out what depends on neither batch nor lengths."""
    rate = x.bandwidth * c.read * c.blackwell_read**x.is_blackwell * c.ampere_read**x.is_ampere
    block, row = x.is_block, x.is_fp8 - x.is_block
    dense_rate = rate * c.fp8_read**row * c.block_read**block
    expert_rate = rate / c.expert_read * c.fp8_expert_read**row * c.block_expert_read**block
    expert_rate = expert_rate * c.fp4_expert_read**x.is_fp4
    peak = x.compute * c.compute * c.blackwell_compute**x.is_blackwell * c.fp8_compute**x.is_fp8
    compute_rate = peak * c.moe_compute**x.is_moe * c.fp4_compute**x.is_fp4
    attention_rate = peak * c.attention_compute
    prompt_rate = compute_rate * c.prompt * c.hybrid_prompt**x.is_hybrid / x.replicas**c.replica_wait
    layer_s = (
        c.layer_s * c.blackwell_layer**x.is_blackwell * c.ampere_layer**x.is_ampere
        + c.moe_layer_s * x.expert_layers / x.layers
        + c.block_layer_s * block
        + c.hybrid_layer_s * x.is_hybrid
    )
    old = c.old_host**x.is_old
    return Terms(
        dense_s=x.dense_bytes / dense_rate,
        expert_s=x.expert_bytes / expert_rate,
        expert_rest=1.0 + 1e-9 - x.expert_share,
        expert_spread=c.expert_spread,
        context_s=x.attention_layers * x.kv_bytes / rate,
        window_s=x.window_layers * x.kv_bytes / rate,
        window=x.window,
        state_s=2.0 * x.state_bytes / rate + c.hybrid_sequence_s * x.is_hybrid,
        compute_s=x.token_flop / compute_rate,
        attention_s=x.attention_layers * x.attention_flop / attention_rate,
        window_attention_s=x.window_layers * x.attention_flop / attention_rate,
        link_s=x.linked * x.layers * (c.link_s + c.link_count_s * x.count),
        link_token_s=x.linked * x.layers * x.hidden_bytes / c.link_rate,
        launch_s=old * layer_s * x.layers,
        host_s=old * c.step_s,
        sequence_s=c.old_sequence**x.is_old * (c.sequence_s + c.sample_s * x.vocabulary),
        floor_s=c.slow_host_s * x.is_slow_host,
        prompt_s=x.token_flop / prompt_rate,
        prompt_attention_s=x.attention_layers * x.prompt_flop / (2.0 * prompt_rate),
        eager_s=old * c.eager_layer_s * x.layers,
        graph_limit=1.1 * x.graph_limit,
        prompt_host_s=c.old_prompt**x.is_old * c.prompt_step_s,
        prompt_launch_s=c.old_prompt**x.is_old * c.prompt_layer_s * x.layers,
        power_w=x.count * x.power,
        base=c.base * c.blackwell_base**x.is_blackwell * c.ampere_power**x.is_ampere,
        reading=c.reading
        * c.blackwell_reading**x.is_blackwell
        * c.ampere_power**x.is_ampere
        * c.moe_reading**x.is_moe
        * c.fp8_reading**x.is_fp8,
        computing=c.computing * c.ampere_power**x.is_ampere,
        linking=c.linking,
        launching=c.launching * c.blackwell_base**x.is_blackwell,
        prompting=c.prompting,
    )


def step_of(
    terms: Terms,
    batch: Any,  # noqa: ANN401 - here and below: numbers or arrays
    context: Any,  # noqa: ANN401
    prompts: Any = 0.0,  # noqa: ANN401
    length: Any = 0.0,  # noqa: ANN401
    kept: Any = 0.0,  # noqa: ANN401
) -> Step:
    """A step in which a batch decodes and prompts are computed.

    Args:
        terms: the setup.
        batch: sequences that decode.
        context: mean tokens in front of those being made [tokens].
        prompts: prompts computed in the step; 0 for none.
        length: of each prompt, what isn't kept from before [tokens].
        kept: of each prompt, what is [tokens].
    """
    (
        dense_s, expert_s, expert_rest, expert_spread, context_s, window_s, window, state_s, compute_s,
        attention_s, window_attention_s, link_s, link_token_s, launch_s, host_s, sequence_s, floor_s,
        prompt_s, prompt_attention_s, eager_s, graph_limit, prompt_host_s, prompt_launch_s, power_w, base,
        reading, computing, linking, launching, prompting,
    ) = terms  # fmt: skip
    tokens = prompts * length
    inside = (context + window - abs(context - window)) / 2.0  # the smaller of the two
    touched = 1.0 - expert_rest ** ((batch + tokens) ** expert_spread)
    read = dense_s + expert_s * touched + batch * (context_s * context + window_s * inside + state_s)
    decoding = batch * (compute_s + attention_s * context + window_attention_s * inside)
    prefilling = tokens * (prompt_s + prompt_attention_s * (length + 2.0 * kept))
    compute = decoding + prefilling
    busy = (read**_ROOF + compute**_ROOF) ** (1.0 / _ROOF)
    link = link_s + link_token_s * (batch + tokens)
    has_prompt = tokens / (tokens + 1e-9)
    eager = 1.0 / (1.0 + (graph_limit / (1.0 + batch + tokens)) ** _GATE)
    launch = launch_s + eager_s * eager + prompt_launch_s * has_prompt * (1.0 - eager)
    work = busy + link + launch + host_s + sequence_s * batch + prompt_host_s * has_prompt
    # A slow host prepares the next step beside this one: the longer of the two counts.
    time = (work**_SHARPNESS + floor_s**_SHARPNESS) ** (1.0 / _SHARPNESS)
    active = reading * read + computing * (decoding + prompting * prefilling)
    drawn = base + (active + linking * link + launching * launch) / time
    return Step(time, time - busy, power_w * within_rating(drawn), read / (read + compute))


def steady_of(
    terms: Terms,
    batch: Any,  # noqa: ANN401 - here and below: numbers or arrays
    context: Any,  # noqa: ANN401
    tokens_in: Any,  # noqa: ANN401
    tokens_out: Any,  # noqa: ANN401
    exp: Any,  # noqa: ANN401
    kept: Any = 0.0,  # noqa: ANN401
) -> Steady:
    """The steps of a batch that prompts join as answers end.

    Args:
        terms: the setup.
        batch: sequences that decode.
        context: mean tokens in front of those being made [tokens].
        tokens_in: of a prompt, what isn't kept from before [tokens].
        tokens_out: mean length of an answer [tokens].
        exp: the exponential function of numbers, or of arrays.
        kept: of a prompt, what is kept from before [tokens].
    """
    joining = batch / tokens_out
    with_prompt = 1.0 - exp(-joining)
    mixed = step_of(terms, batch, context, joining / with_prompt, tokens_in, kept)
    return Steady(step_of(terms, batch, context), mixed, with_prompt)


def within_rating(drawn: Any) -> Any:  # noqa: ANN401 - number or array
    """Power as a share of the rating: an accelerator slows down before it draws more."""
    return drawn / (1.0 + drawn**_SHARPNESS) ** (1.0 / _SHARPNESS)
