"""Steps: what a recipe may do to a model, each with its parameters.

A step takes the folder of one artefact and writes the next. ``HOMES`` tells which function does it; it is
loaded in a worker, so that a recipe can be read without any of the libraries.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "HOMES",
    "Bag",
    "Distil",
    "FourBit",
    "Heads",
    "Int8",
    "Layers",
    "Neurons",
    "Onnx",
    "Recover",
    "Shape",
    "Step",
    "TorchInt8",
    "Vocabulary",
    "Zeros",
]


class Distil(msgspec.Struct, frozen=True, tag_field="do", tag="distil"):
    """Teach a smaller model the teacher's answers, and its last hidden states where they have one width.

    Attributes:
        layers: how many layers the student has.
        hidden: its width; ``None`` keeps the teacher's width and starts from the teacher's layers.
        heads: its attention heads; ``None`` keeps the size of a head.
        neurons: its feed-forward neurons; ``None`` keeps their ratio to the width.
        epochs: how often it sees the training texts.
        rate: learning rate; ``None`` picks one by how it starts.
        temperature: softens both answers (Hinton et al., 2015).
        labels: weight of the true labels against the teacher's answers [1].
        states: weight of the last hidden states.
        batch: texts a step.
    """

    layers: int = 3
    hidden: int | None = None
    heads: int | None = None
    neurons: int | None = None
    epochs: int = 3
    rate: float | None = None
    temperature: float = 2.0
    labels: float = 0.3
    states: float = 1.0
    batch: int = 32


class Recover(msgspec.Struct, frozen=True, tag_field="do", tag="recover"):
    """Train what pruning left on the teacher's answers.

    Attributes:
        epochs: how often it sees the training texts.
        rate: learning rate.
        batch: texts a step.
    """

    epochs: int = 1
    rate: float = 3e-5
    batch: int = 32


class Bag(msgspec.Struct, frozen=True, tag_field="do", tag="bag"):
    """Teach a bag of embeddings: means of vectors of tokens and pairs of tokens, and a linear layer.

    Attributes:
        width: of a vector.
        pairs: rows of the hashed table of neighbouring pairs; 0 for none.
        epochs: how often it sees the training texts.
        rate: learning rate.
        labels: weight of the true labels against the teacher's answers [1].
    """

    width: int = 32
    pairs: int = 32_768
    epochs: int = 12
    rate: float = 0.01
    labels: float = 0.5


class Layers(msgspec.Struct, frozen=True, tag_field="do", tag="layers"):
    """Take whole layers out.

    Attributes:
        keep: how many stay, spread evenly, the first among them.
    """

    keep: int = 3


class Heads(msgspec.Struct, frozen=True, tag_field="do", tag="heads"):
    """Take whole attention heads out, the least important first (Michel et al., 2019).

    Attributes:
        ratio: which share of each layer's heads goes [1].
        texts: training texts on which importance is judged.
    """

    ratio: float = 0.5
    texts: int = 256


class Neurons(msgspec.Struct, frozen=True, tag_field="do", tag="neurons"):
    """Take feed-forward neurons out, the smallest first.

    Attributes:
        ratio: which share of each layer's neurons goes [1].
    """

    ratio: float = 0.5


class Vocabulary(msgspec.Struct, frozen=True, tag_field="do", tag="vocabulary"):
    """Take tokens out that the training texts hardly use; words then fall apart into smaller pieces.

    Attributes:
        fewest: a token stays if the training texts have it at least so often.
    """

    fewest: int = 1


class Zeros(msgspec.Struct, frozen=True, tag_field="do", tag="zeros"):
    """Set single weights to zero, the counter-example: dense kernels multiply zeros too.

    Attributes:
        ratio: which share of the weights of linear layers [1].
    """

    ratio: float = 0.5


class Shape(msgspec.Struct, frozen=True, tag_field="do", tag="shape"):
    """Random weights in a given shape: what a shape costs doesn't depend on its weights. It answers nonsense.

    Attributes:
        layers: how many.
        hidden: width.
        heads: attention heads.
        neurons: feed-forward neurons of a layer.
    """

    layers: int
    hidden: int
    heads: int
    neurons: int


class Onnx(msgspec.Struct, frozen=True, tag_field="do", tag="onnx"):
    """Change the engine to ONNX Runtime and nothing else."""


class Int8(msgspec.Struct, frozen=True, tag_field="do", tag="int8"):
    """Quantise to 8 bits for ONNX Runtime.

    Attributes:
        ranges: activations' ranges found while it runs, or beforehand on training texts.
        per_channel: a scale for each column of a weight.
        texts: training texts for ``static``.
    """

    ranges: Literal["dynamic", "static"] = "dynamic"
    per_channel: bool = False
    texts: int = 128


class FourBit(msgspec.Struct, frozen=True, tag_field="do", tag="int4"):
    """Quantise weights of linear layers to 4 bits for ONNX Runtime.

    Attributes:
        block: weights that share a scale.
    """

    block: int = 32


class TorchInt8(msgspec.Struct, frozen=True, tag_field="do", tag="torch-int8"):
    """Quantise linear layers to 8 bits within PyTorch, activations while it runs."""


Step = (
    Distil
    | Recover
    | Bag
    | Layers
    | Heads
    | Neurons
    | Vocabulary
    | Zeros
    | Shape
    | Onnx
    | Int8
    | FourBit
    | TorchInt8
)

HOMES: dict[type, str] = {
    Distil: "negajoule.compress.distil:distil",
    Recover: "negajoule.compress.distil:recover",
    Bag: "negajoule.compress.bag:teach_bag",
    Layers: "negajoule.compress.prune:prune_layers",
    Heads: "negajoule.compress.prune_heads:prune_heads",
    Neurons: "negajoule.compress.prune:prune_neurons",
    Vocabulary: "negajoule.compress.vocabulary:prune_vocabulary",
    Zeros: "negajoule.compress.prune:zero_weights",
    Shape: "negajoule.compress.shape:random_shape",
    Onnx: "negajoule.compress.onnx_files:to_onnx",
    Int8: "negajoule.compress.onnx_files:to_int8",
    FourBit: "negajoule.compress.onnx_files:to_four_bits",
    TorchInt8: "negajoule.compress.torch_int8:to_torch_int8",
}
"""The function behind each step: ``(step, bench) -> None``."""
