"""What serving one request costs the accelerators: a roofline of the decode step and of the prefill.

A decode step makes one token for each sequence of the batch. It reads the weights that the batch touches and
every sequence's keys and values, it computes, and it waits for launches, the sampler and the links:

    time   = sqrt(read^2 + compute^2) + overhead
    energy = accelerators x rated power x (base x time + reading x read + computing x compute)

A prefill computes the prompt once. Power stays within the rating. The shape is the roofline of Williams,
Waterman and Patterson (CACM 2009); the numbers of ``Coefficients`` are fitted (``fitting/hosted_llm.py``).

Only operators are used, so one function serves plain floats (an estimate) and numpy arrays (the fit).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Coefficients", "Cost", "Deployment", "Layout", "Served", "deploy", "request_cost"]

_SHARPNESS = 8.0  # how suddenly the limit acts; a form, not a fact
_KV_BYTES = 2.0  # keys and values are kept as 16-bit numbers, by definition of the layouts' element counts


class Layout(NamedTuple):
    """What a model reads and computes for each token.

    Attributes:
        active: parameters used for one token [1e9].
        total: all parameters [1e9].
        layers: number of layers.
        attention_layers: layers that attend to the whole context.
        window_layers: layers that attend to a window only.
        window: length of that window [tokens].
        kv_elements: numbers kept for each token and attending layer.
        expert_share: experts used for one token / experts in a layer; 1 for a dense model.
        is_moe: 1 for a mixture of experts, else 0.
        is_hybrid: 1 if most layers are state-space or linear attention, else 0.
    """

    active: float
    total: float
    layers: float
    attention_layers: float
    window_layers: float
    window: float
    kv_elements: float
    expert_share: float
    is_moe: float
    is_hybrid: float


class Served(NamedTuple):
    """A layout on hardware.

    Attributes:
        layout: the model.
        batch: sequences decoded together, at least 1.
        accelerators: number of them that hold one copy of the model.
        replicas: copies of the attention part among them (data parallel attention); usually 1.
        linked: 1 if there's more than one accelerator, else 0.
        weight_bytes: bytes of one parameter.
        read_rate: bandwidth of one accelerator by its data sheet, times generation and format [B/s].
        compute_rate: operations per second and accelerator of the format, by the data sheet.
        power: rated power of one accelerator [W].
        power_factor: what its generation draws beside others, within the rated power.
        host_factor: factor on the host's share of the step.
    """

    layout: Layout
    batch: float
    accelerators: float
    replicas: float
    linked: float
    weight_bytes: float
    read_rate: float
    compute_rate: float
    power: float
    power_factor: float
    host_factor: float


class Coefficients(NamedTuple):
    """The fitted numbers. Shares are of rated power, times are seconds.

    Attributes:
        read_efficiency: of the bandwidth in the data sheet.
        compute_efficiency: of the compute rate in the data sheet, when decoding.
        prefill_efficiency: the same for prompts.
        expert_read: how much longer reading experts takes than reading dense weights.
        expert_spread: exponent on the batch: below 1, sequences choose alike.
        context_share: context that a decoded token sees on average, in output lengths.
        step_s: overhead of a step.
        layer_s: overhead of a layer.
        sequence_s: overhead of a sequence.
        moe_s: further overhead of a step with experts.
        hybrid_s: further overhead of a step with state-space layers.
        link_s: overhead of a layer that's split over accelerators.
        replica_wait: exponent on the replicas: 1 if all wait while one computes a prompt, 0 if none does.
        base: power that's drawn all the time.
        reading: power added while reading.
        computing: power added while computing.
    """

    read_efficiency: float
    compute_efficiency: float
    prefill_efficiency: float
    expert_read: float
    expert_spread: float
    context_share: float
    step_s: float
    layer_s: float
    sequence_s: float
    moe_s: float
    hybrid_s: float
    link_s: float
    replica_wait: float
    base: float
    reading: float
    computing: float


class Deployment(NamedTuple):
    """A served model with everything worked out that no request changes. Times are those of one decode step.

    ``request_cost`` unpacks it in this order.

    Attributes:
        batch: sequences decoded together.
        accelerators: number of them.
        weights_s: reading the weights.
        context_s: reading keys and values for each token of context, in layers that attend to all of it.
        window_s: the same in layers that attend to a window.
        window: length of that window [tokens].
        context_share: context that a decoded token sees of the answer, in lengths of the answer.
        compute_s: computing.
        overhead_s: launches, sampler and links.
        power: rated power of all accelerators [W].
        base: share of it drawn all the time.
        reading: share added while reading.
        computing: share added while computing.
        prefill_s: computing one prompt token.
        attention_s: computing attention, for each squared prompt token.
        prefill_power: share of the rated power drawn by a prefill.
    """

    batch: float
    accelerators: float
    weights_s: float
    context_s: float
    window_s: float
    window: float
    context_share: float
    compute_s: float
    overhead_s: float
    power: float
    base: float
    reading: float
    computing: float
    prefill_s: float
    attention_s: float
    prefill_power: float


class Cost(NamedTuple):
    """What one request costs.

    Attributes:
        prefill_j: energy of computing the prompt [J].
        decode_j: energy of making the output [J].
        prefill_s: time of one prefill [s].
        step_s: time of one decode step, without the prefills that interrupt it [s].
        accelerator_s: accelerator-seconds that the request takes, its share of the batch [s].
    """

    prefill_j: float
    decode_j: float
    prefill_s: float
    step_s: float
    accelerator_s: float


def deploy(served: Served, coefficients: Coefficients) -> Deployment:
    """Work out what doesn't depend on a request."""
    model, c, batch = served.layout, coefficients, served.batch

    # Experts that at least one sequence chooses: 1 - (1 - share)^batch if sequences choose independently.
    routed = (model.total - model.active) * 1e9 / (1.0 + 1e-9 - model.expert_share)
    touched = 1.0 - (1.0 - model.expert_share) ** (batch**c.expert_spread)
    weights = (model.total * 1e9 - routed * (1.0 - touched)) * served.weight_bytes
    slower = 1.0 + (c.expert_read - 1.0) * model.is_moe
    read_rate = served.accelerators * served.read_rate * c.read_efficiency
    kept = batch * model.kv_elements * _KV_BYTES / read_rate

    operations = 2e9 * model.active
    compute_rate = served.accelerators * served.compute_rate
    host_s = (
        c.step_s
        + c.layer_s * model.layers
        + c.sequence_s * batch
        + c.moe_s * model.is_moe
        + c.hybrid_s * model.is_hybrid
    )
    # Causal attention of a prompt: 2 x layers x width x tokens^2 operations; the width follows from
    # parameters = 12 x layers x width^2, a transformer's usual proportions.
    width = (model.active * 1e9 / (12.0 * model.layers)) ** 0.5
    prefill_rate = compute_rate * c.prefill_efficiency / served.replicas**c.replica_wait
    return Deployment(
        batch=batch,
        accelerators=served.accelerators,
        weights_s=weights * slower / read_rate,
        context_s=model.attention_layers * kept,
        window_s=model.window_layers * kept,
        window=model.window,
        context_share=c.context_share,
        compute_s=batch * operations / (compute_rate * c.compute_efficiency),
        overhead_s=served.host_factor * host_s + c.link_s * model.layers * served.linked,
        power=served.accelerators * served.power,
        base=served.power_factor * c.base,
        reading=served.power_factor * c.reading,
        computing=served.power_factor * c.computing,
        prefill_s=operations / prefill_rate,
        attention_s=2.0 * model.attention_layers * width / prefill_rate,
        prefill_power=_within_rating(served.power_factor * (c.base + c.computing)),
    )


def request_cost(deployment: Deployment, tokens_in: float, tokens_out: float, cached: float = 0.0) -> Cost:
    """Energy and time that one request takes of the accelerators.

    Args:
        deployment: model, hardware and batch; the batch's other requests are taken to be like this one.
        tokens_in: length of the prompt, cached part included [tokens].
        tokens_out: length of the answer [tokens].
        cached: part of the prompt whose keys and values are kept from before [tokens].

    Returns:
        the request's share: its own prefill, and a share of each decode step.
    """
    (
        batch, accelerators, weights_s, context_s, window_s, window, context_share, compute_s,
        overhead_s, power, base, reading, computing, token_s, attention_s, prefill_power,
    ) = deployment  # fmt: skip
    context = tokens_in + context_share * tokens_out
    inside = (context + window - abs(context - window)) / 2.0  # the smaller of the two
    read = weights_s + context_s * context + window_s * inside
    step = (read * read + compute_s * compute_s) ** 0.5 + overhead_s
    drawn = base + (reading * read + computing * compute_s) / step
    steps = tokens_out / batch
    prefill = token_s * (tokens_in - cached) + attention_s * (tokens_in * tokens_in - cached * cached)
    return Cost(
        power * prefill_power * prefill,
        power * _within_rating(drawn) * step * steps,
        prefill,
        step,
        accelerators * (step * steps + prefill),
    )


def _within_rating(drawn: float) -> float:
    """Power as a share of the rating: an accelerator slows down before it draws more."""
    limited: float = drawn / (1.0 + drawn**_SHARPNESS) ** (1.0 / _SHARPNESS)
    return limited
