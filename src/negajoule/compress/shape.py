"""A shape with random weights: for what a shape costs, never for what it knows."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from negajoule.compress.encoder import load_model, save_model
from negajoule.compress.toolbox import transformers
from negajoule.compress.training import seed_all

if TYPE_CHECKING:
    from negajoule.compress.artefact import Bench
    from negajoule.compress.steps import Shape

__all__ = ["random_shape"]


def random_shape(step: Shape, bench: Bench) -> None:
    """Write a model of the source's kind in another shape."""
    seed_all(bench.seed, bench.threads)
    config = copy.deepcopy(load_model(bench.source).config)
    config.num_hidden_layers, config.hidden_size = step.layers, step.hidden
    config.num_attention_heads, config.intermediate_size = step.heads, step.neurons
    model = transformers().AutoModelForSequenceClassification.from_config(config).float()
    save_model(bench, model, f"random weights, {step.layers} x {step.hidden}")
