"""Shapes of models by name: from published configurations, from the catalogue's layouts, or from a size.

``model_configs.json`` has the fields of published configurations that decide a shape; the parameters that
they give are within some percent of the published ones. For the catalogue's other models widths follow from
the parameters by parameters = 12 x layers x width^2, a transformer's usual proportions.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.hosted_setting import fitted
from negajoule.physics.model_size import KINDS, find_model, typical_layout
from negajoule.physics.serving.model_config import shape_from_config
from negajoule.physics.serving.model_shape import ModelShape

if TYPE_CHECKING:
    from negajoule.physics.decoding import Layout

__all__ = ["shape_of", "shape_of_size"]

_CONFIGS = Path(__file__).parent / "model_configs.json"
_MLA_ELEMENTS = 576  # rank 512 and 64 rotary numbers: every published model with latent attention
_HEAD_ELEMENTS = 256  # keys and values of a head of 128, the usual size


def shape_of(name: str) -> ModelShape:
    """The shape of a model of the catalogue, by name.

    Raises:
        CatalogError: (F101) if the model is unknown, or known by its size only.
    """
    size = find_model(name)
    config = _configs().get(size.name)
    if config is not None:
        shape = shape_from_config(config, size.name)
        return msgspec.structs.replace(shape, weight_format=size.precision or shape.weight_format)
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
    return msgspec.structs.replace(_from_layout(name, kind, layout, None), guessed=True)


@cache
def _configs() -> dict[str, dict[str, Any]]:
    configs: dict[str, dict[str, Any]] = msgspec.json.decode(_CONFIGS.read_bytes())
    return configs


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
        decode_width=width,
        kv_elements=layout.kv_elements,
        kv_parts=1.0
        if layout.kv_elements == _MLA_ELEMENTS
        else max(1.0, layout.kv_elements // _HEAD_ELEMENTS),
        expert_share=share if moe else 1.0,
        expert_layers=max(1, round(layout.layers)) if moe else 0,
        block_scales=moe,
        weight_format=precision or "bfloat16",
        counted=False,
    )
