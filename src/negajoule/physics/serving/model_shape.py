"""What a model stores, reads and computes for a token: from its ``config.json`` or from the catalogue.

Parameters are counted from the shapes of the matrices, the way the published implementations build them, so
that a format, a batch or a number of experts changes the part that it changes in the real model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.hosted_setting import fitted
from negajoule.physics.model_size import KINDS, find_model, typical_layout

if TYPE_CHECKING:
    from negajoule.physics.decoding import Layout

__all__ = ["ModelShape", "shape_of", "shape_of_size"]

_MLA_ELEMENTS = 576  # rank 512 and 64 rotary numbers: every published model with latent attention
_HEAD_ELEMENTS = 256  # keys and values of a head of 128, the usual size


class ModelShape(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes that decide time and energy.

    Attributes:
        name: the model.
        kind: ``dense``, ``moe``, ``hybrid`` or ``moe-hybrid``.
        parameters: all parameters, those of an image or sound encoder left out.
        active_parameters: parameters that one token is multiplied with.
        step_parameters: parameters that a step with every expert reads: all but the input embedding.
        routed_parameters: parameters in experts that a router chooses, all of them.
        layers: number of blocks that hold attention, a state-space mixer or a linear attention.
        attention_layers: layers that attend to the whole context.
        window_layers: layers that attend to a window or a chunk.
        window: length of that window [tokens].
        hidden: width of the residual stream.
        attention_width: query heads times their size: what attention computes with.
        kv_elements: numbers kept for each token and attending layer.
        kv_parts: into how many parts keys and values can be split over accelerators: their heads, 1 for MLA.
        state_elements: numbers kept for each sequence, all state-space and linear-attention layers together.
        expert_share: routed experts that a token uses / routed experts of a layer; 1 for a dense model.
        vocabulary: entries of the output layer; 0 if unknown.
        weight_format: number format of the published weights.
        counted: whether the sizes were counted from a configuration; if not, widths are a transformer's
            usual proportions.
    """

    name: str
    kind: str
    parameters: float
    active_parameters: float
    step_parameters: float
    routed_parameters: float
    layers: int
    attention_layers: int
    window_layers: int
    window: int
    hidden: float
    attention_width: float
    kv_elements: float
    kv_parts: float
    state_elements: float = 0.0
    expert_share: float = 1.0
    vocabulary: int = 0
    weight_format: str = "bfloat16"
    counted: bool = True

    @property
    def is_moe(self) -> bool:
        """Whether a router chooses experts."""
        return self.routed_parameters > 0

    @property
    def is_hybrid(self) -> bool:
        """Whether some layers keep a state instead of keys and values."""
        return "hybrid" in self.kind


def shape_of(name: str) -> ModelShape:
    """The shape of a model of the catalogue, by name.

    Widths follow from the parameters of the layers outside routed experts by parameters = 12 x layers x
    width^2, a transformer's usual proportions; everything else is the published configuration.

    Raises:
        CatalogError: (F101) if the model is unknown, or known by its size only.
    """
    size = find_model(name)
    layout = size.layout
    if layout is None:
        raise CatalogError(
            f"of {size.name!r} only the size is known, not its layers",
            tried="model_layouts.csv",
            fix="give the model's config.json",
        )
    return _from_layout(size.name, size.kind, layout, size.precision)


def shape_of_size(name: str, active: float, total: float, kind: str) -> ModelShape:
    """The usual shape of a model of which only sizes are known.

    Args:
        name: what to call it.
        active: parameters used for one token.
        total: all parameters.
        kind: ``dense``, ``moe``, ``hybrid`` or ``moe-hybrid``.

    Raises:
        ConfigError: (C101) if the kind is unknown or the sizes can't be.
    """
    if kind not in KINDS:
        raise ConfigError(f"a model of the kind {kind!r} isn't known", fix=f"one of {', '.join(KINDS)}")
    if not 1e6 <= active <= total <= 1e14:
        raise ConfigError(
            f"{active:g} active of {total:g} parameters can't be",
            fix="numbers of parameters, active <= total",
        )
    layout = typical_layout(active / 1e9, total / 1e9, kind, fitted().unlisted)
    return _from_layout(name, kind, layout, None)


def _from_layout(name: str, kind: str, layout: Layout, precision: str | None) -> ModelShape:
    share, moe = layout.expert_share, bool(layout.is_moe)
    active, total = layout.active * 1e9, layout.total * 1e9
    width = math.sqrt(active / (12.0 * layout.layers))
    return ModelShape(
        name=name,
        kind=kind,
        parameters=total,
        active_parameters=active,
        step_parameters=total,
        routed_parameters=(total - active) / (1.0 - share) if moe else 0.0,
        layers=max(1, round(layout.layers)),
        attention_layers=round(layout.attention_layers),
        window_layers=round(layout.window_layers),
        window=round(layout.window),
        hidden=width,
        attention_width=width,
        kv_elements=layout.kv_elements,
        kv_parts=1.0
        if layout.kv_elements == _MLA_ELEMENTS
        else max(1.0, layout.kv_elements // _HEAD_ELEMENTS),
        expert_share=share if moe else 1.0,
        weight_format=precision or "bfloat16",
        counted=False,
    )
