"""Kernel times of one pass through a model: a decode step, or a prompt. Bottom up, nothing fitted here.

A layer is four matrices of the model's width, an attention, the experts if it has any, and what its
accelerators send each other. Splits: ``tensor`` ranks share each matrix, ``copies`` attend to sequences of
their own (data parallel attention), ``expert`` ranks hold whole experts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from negajoule.errors import ConfigError
from negajoule.physics.kernels.hardware import hardware
from negajoule.physics.kernels.law import kernel_law

if TYPE_CHECKING:
    from negajoule.physics.serving.model_shape import ModelShape

__all__ = ["PassTimes", "Split", "decode_pass", "prompt_pass"]

_MATRICES = 4.0  # of a layer: into and out of attention, into and out of the rest
_CHOSEN = 8.0  # experts a token uses in most models; only their share is known of all
_ACTIVATION_BYTES = 2.0
_NARROWEST = 32.0  # the narrowest matrix that was measured
_DISPATCH_BYTES = 3.0  # of each number sent to an expert: 8 bits there, 16 back
_WIDEST_SPLIT = 4.0  # an expert split further with data parallel attention is taken as spread instead


class Split(NamedTuple):
    """How a replica is spread.

    Attributes:
        accelerators: of the replica.
        copies: data parallel copies of the attention; 1 for none.
        expert: accelerators that experts are spread over; 1 if each is split instead.
    """

    accelerators: float
    copies: float = 1.0
    expert: float = 1.0


class PassTimes(NamedTuple):
    """Times of the kernels of a pass, one after the other.

    Attributes:
        matrices_s: dense matrices [s].
        head_s: output layer [s].
        attention_s: attention [s].
        state_s: reading and writing recurrent states [s].
        experts_s: experts without what starting them takes [s].
        starts_s: starting the kernels of the experts [s].
        links_s: sending activations, at the links' full rate [s].
    """

    matrices_s: float
    head_s: float
    attention_s: float
    state_s: float
    experts_s: float
    starts_s: float
    links_s: float

    @property
    def total_s(self) -> float:
        """All of them [s]."""
        return sum(self)


def decode_pass(
    shape: ModelShape, accelerator: str, split: Split, formats: tuple[str, str], batch: float, context: float
) -> PassTimes:
    """One step that makes a token for each sequence of a batch.

    Args:
        shape: the model.
        accelerator: name, as the catalogue knows it.
        split: how the replica is spread.
        formats: number formats of the dense matrices and of the experts.
        batch: sequences on the replica.
        context: tokens that each attends to.

    Raises:
        CatalogError: (F101) if there's no data sheet of the accelerator.
        ConfigError: (C101) if a format isn't known or the links between accelerators aren't.
    """
    return _pass(shape, accelerator, split, formats, (batch, batch, context), "generation_attention")


def prompt_pass(
    shape: ModelShape, accelerator: str, split: Split, formats: tuple[str, str], prompts: float, tokens: float
) -> PassTimes:
    """Computing some prompts of the same length together; arguments and errors as of ``decode_pass``.

    Args:
        shape: the model.
        accelerator: name, as the catalogue knows it.
        split: how the replica is spread.
        formats: number formats of the dense matrices and of the experts.
        prompts: computed together on the replica.
        tokens: of each.
    """
    return _pass(shape, accelerator, split, formats, (prompts * tokens, prompts, tokens), "context_attention")


def _pass(
    shape: ModelShape,
    accelerator: str,
    split: Split,
    formats: tuple[str, str],
    work: tuple[float, float, float],
    attention: str,
) -> PassTimes:
    on = hardware(accelerator)
    tokens, sequences, context = work
    count, copies = split.accelerators, split.copies
    tensor = count / copies
    layers = float(shape.layers)
    own_tokens, own_sequences = max(1.0, tokens / copies), max(1.0, sequences / copies)

    head_size = shape.vocabulary * shape.hidden
    dense = (shape.step_parameters - shape.routed_parameters - head_size) / layers
    width = max(_NARROWEST, dense / (_MATRICES * shape.hidden) / tensor)
    matrices = kernel_law(on.name, "gemm", formats[0]).cost((own_tokens, width, shape.hidden))
    head = 0.0
    if shape.vocabulary:
        output = (own_sequences, max(_NARROWEST, shape.vocabulary / count), shape.hidden)
        head = kernel_law(on.name, "gemm", "bfloat16").cost(output).time_s

    size = shape.kv_elements / (2.0 * shape.kv_parts)  # of a head; MLA keeps one part that serves as both
    heads = max(1.0, shape.attention_width / size / tensor)
    kv_heads = min(heads, max(1.0, shape.kv_parts / tensor))
    law = kernel_law(on.name, attention, "bfloat16")
    attended = 0.0
    for number, window in ((shape.attention_layers, 0.0), (shape.window_layers, float(shape.window))):
        if number:
            attended += number * law.cost((own_sequences, context, heads, kv_heads, size, window)).time_s
    state = 2.0 * _ACTIVATION_BYTES * shape.state_elements * own_sequences / tensor / on.bandwidth

    experts, starts = _experts(shape, on.name, split, formats[1], tokens) if shape.is_moe else (0.0, 0.0)
    links = 0.0
    if count > 1:
        if on.link is None:
            raise ConfigError(f"the links between accelerators {on.name} aren't known", fix="count 1")
        if copies > 1 and shape.is_moe:
            sent = own_tokens * min(_CHOSEN, count - 1.0) * _DISPATCH_BYTES
        else:  # two sums over all ranks, each of which passes 2 (n - 1) / n of it on
            sent = 2.0 * tokens * _ACTIVATION_BYTES * 2.0 * (count - 1.0) / count
        links = layers * sent * shape.hidden / on.link
    return PassTimes(_MATRICES * layers * matrices.time_s, head, attended, state, experts, starts, links)


def _experts(
    shape: ModelShape, accelerator: str, split: Split, number_format: str, tokens: float
) -> tuple[float, float]:
    """Times of the experts of all layers and of starting their kernels [s]."""
    layers = float(shape.layers)
    number = _CHOSEN / shape.expert_share
    inner = shape.routed_parameters / (3.0 * shape.hidden * number * layers)
    spread = split.expert
    if split.copies > 1 and split.accelerators / spread > _WIDEST_SPLIT:
        spread = split.accelerators
    each = max(1.0, split.accelerators / spread)
    law = kernel_law(accelerator, "moe", number_format)
    if split.copies > 1:  # tokens are sent to the ranks of their experts, so a rank sees its own only
        own = (max(1.0, tokens / spread), shape.hidden, inner, _CHOSEN, max(1.0, number / spread))
        time = law.cost((*own, each, 1.0, 0.0)).time_s
    else:
        time = law.cost((tokens, shape.hidden, inner, _CHOSEN, number, each, spread, 0.0)).time_s
    start = min(law.coefficients.start_s, 0.9 * time)
    return layers * (time - start), layers * start
