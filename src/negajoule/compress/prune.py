"""Pruning of layers and neurons, and of single weights, which is the counter-example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.compress.encoder import blocks, keep_layers, load_model, save_model
from negajoule.compress.toolbox import library, torch
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from negajoule.compress.artefact import Bench
    from negajoule.compress.steps import Layers, Neurons, Zeros

__all__ = ["prune_layers", "prune_neurons", "spread", "zero_weights"]


def spread(count: int, kept: int) -> list[int]:
    """Which layers stay: spread evenly, the first among them.

    Args:
        count: how many there are.
        kept: how many stay, at most all.
    """
    return [place * count // kept for place in range(kept)]


def prune_layers(step: Layers, bench: Bench) -> None:
    """Take layers out.

    Raises:
        CompressError: (K101) if more should stay than there are.
    """
    model = load_model(bench.source)
    count = len(blocks(model))
    if step.keep > count:
        raise CompressError(f"{step.keep} layers can't stay of {count}")
    keep_layers(model, spread(count, step.keep))
    save_model(bench, model, f"{step.keep} of {count} layers kept")


def prune_neurons(step: Neurons, bench: Bench) -> None:
    """Take the same share of feed-forward neurons out of every layer, by the norm of all weights they touch.

    Raises:
        CompressError: (K101) if none would be left.
    """
    pruning = library("torch_pruning", "take neurons out")
    model = load_model(bench.source)
    implementation, model.config._attn_implementation = model.config._attn_implementation, "eager"
    example = {
        "input_ids": torch().ones(1, 8, dtype=torch().long),
        "attention_mask": torch().ones(1, 8, dtype=torch().long),
    }
    graph = pruning.DependencyGraph().build_dependency(
        model, example_inputs=example, output_transform=lambda found: found.logits
    )
    importance = pruning.importance.MagnitudeImportance(p=2)
    width = 0
    for block in blocks(model):
        count = block.up.out_features
        gone = int(count * step.ratio)
        if gone >= count:
            raise CompressError("no neuron would be left", fix="ratio below 1")
        whole = graph.get_pruning_group(block.up, pruning.prune_linear_out_channels, idxs=list(range(count)))
        order = importance(whole).argsort().tolist()
        graph.get_pruning_group(block.up, pruning.prune_linear_out_channels, idxs=order[:gone]).prune()
        width = block.up.out_features
    model.config.intermediate_size = width
    model.config._attn_implementation = implementation
    save_model(bench, model, f"{step.ratio:.0%} of feed-forward neurons pruned")


def zero_weights(step: Zeros, bench: Bench) -> None:
    """Set the smallest weights of every linear map to zero, in place and without any saving."""
    model = load_model(bench.source)
    for block in blocks(model):
        for linear in block[:6]:
            _zero(linear, step.ratio)
    save_model(bench, model, f"{step.ratio:.0%} of single weights set to zero")


def _zero(linear: Any, ratio: float) -> None:  # noqa: ANN401
    lib = torch()
    flat = linear.weight.detach().abs().flatten()
    count = int(len(flat) * ratio)
    if count:
        with lib.no_grad():
            linear.weight[linear.weight.abs() <= flat.kthvalue(count).values] = 0.0
