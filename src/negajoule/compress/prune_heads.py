"""Pruning of whole attention heads, which Transformers no longer does: index-select on four matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.compress.artefact import read_artefact
from negajoule.compress.encoder import blocks, head_size, keep_heads, load_model, note_heads, save_model
from negajoule.compress.run_torch import TorchRunner
from negajoule.compress.toolbox import torch
from negajoule.compress.training import outputs, seed_all
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from negajoule.compress.artefact import Bench
    from negajoule.compress.steps import Heads

__all__ = ["head_importance", "prune_heads"]

BATCH = 32


def prune_heads(step: Heads, bench: Bench) -> None:
    """Take the least important heads out, the same share of each layer.

    Raises:
        CompressError: (K101) if a layer would lose all its heads.
    """
    seed_all(bench.seed, bench.threads)
    model = load_model(bench.source)
    about = read_artefact(bench.source)
    size = head_size(model.config)
    runner = TorchRunner(model, bench.source, about.max_length)
    sample = bench.texts.train.first(step.texts)
    number = {label: index for index, label in enumerate(about.labels)}
    truth = [number[bench.texts.labels[label]] for label in sample.labels]
    importance = head_importance(runner, sample.texts, truth, size)
    kept_of = ""
    for block, scores in zip(blocks(model), importance, strict=True):
        count = len(scores)
        stay = count - int(count * step.ratio)
        if not stay:
            raise CompressError("a layer would lose all its heads", fix="ratio below 1")
        best = sorted(range(count), key=lambda head: scores[head], reverse=True)[:stay]
        keep_heads(block, sorted(best), size)
        kept_of = f"{stay} of {count}"
    note_heads(model)
    save_model(bench, model, f"{kept_of} heads a layer kept")


def head_importance(
    runner: TorchRunner, texts: tuple[str, ...], truth: list[int], size: int
) -> list[list[float]]:
    """How much the loss would change without a head: sum of |activation x gradient| (Michel et al., 2019).

    Args:
        runner: the model.
        texts: to judge on.
        truth: their labels.
        size: width of a head.

    Returns:
        A list for each layer, with a number for each head.
    """
    lib = torch()
    layers = blocks(runner.model)
    totals = [[0.0] * (block.out.in_features // size) for block in layers]
    seen: list[Any] = []

    def keep(_: Any, inputs: tuple[Any, ...]) -> None:  # noqa: ANN401
        inputs[0].retain_grad()
        seen.append(inputs[0])

    hooks = [block.out.register_forward_pre_hook(keep) for block in layers]
    ids = runner.cutter.cut(texts)
    try:
        for start in range(0, len(ids), BATCH):
            seen.clear()
            numbers, mask = runner.cutter.batch(ids[start : start + BATCH])
            found = outputs(runner.model, numbers, mask)
            lib.nn.functional.cross_entropy(found.logits, lib.tensor(truth[start : start + BATCH])).backward()
            for total, values in zip(totals, seen, strict=True):
                parts = (values * values.grad).detach().abs().sum((0, 1)).view(-1, size).sum(1)
                for head, part in enumerate(parts.tolist()):
                    total[head] += part
    finally:
        for hook in hooks:
            hook.remove()
        runner.model.zero_grad()
    return totals
