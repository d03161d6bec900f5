"""How large a model is: layouts of open models, cited sizes of others, intervals for closed ones.

Two tables stand beside this file. ``model_layouts.csv`` has layers, attention and experts of open models,
from their published configurations. ``model_sizes_MPL-2.0.csv`` has parameters only, from the model list of
EcoLogits; for closed models those are ranges that nobody has confirmed.

A name is looked up as people write it: with or without organisation or provider, date, ``-latest``, tag or
revision.
"""

from __future__ import annotations

import csv
import math
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import CatalogError
from negajoule.physics.decoding import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KINDS", "ModelSize", "all_layouts", "find_model", "model_names", "typical_layout"]

KINDS = ("dense", "moe", "hybrid", "moe-hybrid")
"""Families of layouts: one set of weights, experts, state-space layers, both."""

_FOLDER = Path(__file__).parent
_LAYOUTS = _FOLDER / "model_layouts.csv"
_SIZES = _FOLDER / "model_sizes_MPL-2.0.csv"

_PROVIDER = re.compile(
    r"^(?:[a-z]{2,6}\.)?(?:anthropic|meta|mistral|openai|qwen|deepseek|google|cohere|zai|moonshot)\."
)
_VENDOR = re.compile(r"^(?:meta|nvidia)-(?=llama|nemotron|nvidia)")
_TAIL = re.compile(r"(?:-v\d+:\d+|[:@].*)$")
_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{2}-\d{4}|\d{2}-\d{2})$")
_LABEL = re.compile(r"-(?:latest|preview|exp|beta|it|instruct|chat|hf)$")
_OTHER_MODEL = re.compile(
    r"\d[bm](?![a-z])|-(?:mini|nano|small|lite|flash|air|tiny|micro|multimodal)(?![a-z])"
)
_FORMATS = (
    ("mxfp4", re.compile(r"(?:mxfp4|nvfp4|fp4|int4|4bit|awq|gptq)(?![a-z0-9])")),
    ("fp8", re.compile(r"(?:fp8|int8|8bit|w8a8)(?![a-z0-9])")),
)


class ModelSize(msgspec.Struct, frozen=True):
    """Size of a model; an interval where its maker hasn't published it.

    Attributes:
        name: the name in the table.
        active_low: parameters used for one token, lower end [1e9].
        active_high: the same, upper end [1e9].
        total: all parameters [1e9].
        kind: ``dense``, ``moe``, ``hybrid`` or ``moe-hybrid``.
        layout: layers, attention and experts; ``None`` if only sizes are known.
        precision: number format that the name or the maker's weights imply; ``None`` if neither does.
        published: whether the maker has published the size.
        source: where the size comes from.
        licence: terms of the table that has it.
    """

    name: str
    active_low: float
    active_high: float
    total: float
    kind: str
    layout: Layout | None
    precision: str | None
    published: bool
    source: str
    licence: str

    @property
    def active(self) -> float:
        """The middle of the interval: its geometric mean [1e9]."""
        return math.sqrt(self.active_low * self.active_high)


@lru_cache(maxsize=1024)
def find_model(name: str) -> ModelSize:
    """The size of a model by name.

    Raises:
        CatalogError: (F101) with near matches if the tables don't have it.
    """
    slug = _slug(name)
    found = _by_layout(slug) or _by_size(slug)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(slug, model_names(), n=4, cutoff=0.5)
        raise CatalogError(
            f"no size is known for the model {name!r}",
            tried=f"model_layouts.csv and model_sizes_MPL-2.0.csv, as {slug!r}",
            fix=(f"near: {', '.join(near)}; or " if near else "")
            + "give active_parameters_b (and total_parameters_b for a mixture of experts)",
        )
    precision = next((form for form, pattern in _FORMATS if pattern.search(slug)), found.precision)
    return msgspec.structs.replace(found, precision=precision)


@cache
def model_names() -> tuple[str, ...]:
    """Every name in the tables, sorted."""
    return tuple(sorted({*_sizes(), *(name for name, _ in _layouts())}))


def all_layouts() -> tuple[ModelSize, ...]:
    """Every model whose layout is published, once."""
    return tuple({size.name: size for _, size in _layouts()}.values())


def typical_layout(
    active: float, total: float, kind: str, typical: Mapping[str, Sequence[float] | float]
) -> Layout:
    """The usual layout of a model of this size.

    Args:
        active: parameters used for one token [1e9].
        total: all parameters [1e9].
        kind: ``dense``, ``moe``, ``hybrid`` or ``moe-hybrid``.
        typical: ``layers`` and ``kv`` as factor and exponent, ``expert_share`` as a factor; fitted to the
            published layouts by ``fitting/hosted_llm.py``.
    """
    factor, exponent = typical["layers"]  # type: ignore[misc]
    layers = factor * total**exponent
    factor, exponent = typical["kv"]  # type: ignore[misc]
    is_moe = "moe" in kind and active < total
    return Layout(
        active=active,
        total=total if is_moe else active,
        layers=layers,
        attention_layers=layers,
        window_layers=0.0,
        window=0.0,
        kv_elements=factor * active**exponent / layers,
        expert_share=typical["expert_share"] * active / total if is_moe else 1.0,  # type: ignore[operator]
        is_moe=float(is_moe),
        is_hybrid=float("hybrid" in kind),
    )


def _slug(name: str) -> str:
    slug = name.strip().lower().rpartition("/")[2]
    slug = _PROVIDER.sub("", _TAIL.sub("", slug))
    return slug.replace("gpt-35-", "gpt-3.5-").replace("_", "-").replace(" ", "-")


def _by_layout(slug: str) -> ModelSize | None:
    while (shorter := _VENDOR.sub("", slug)) != slug:
        slug = shorter
    for name, size in _layouts():
        rest = slug[len(name) :]
        if slug.startswith(name) and (not rest or rest[0] == "-") and not _OTHER_MODEL.search(rest):
            return size
    return None


def _by_size(slug: str) -> ModelSize | None:
    sizes = _sizes()
    while True:
        if slug in sizes:
            return sizes[slug]
        shorter = _LABEL.sub("", slug) if _LABEL.search(slug) else _DATE.sub("", slug)
        if shorter == slug:
            return None
        slug = shorter


@cache
def _layouts() -> tuple[tuple[str, ModelSize], ...]:
    """Names with their model, the longest first, so that the most special one matches."""
    found = []
    with _LAYOUTS.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            experts = float(row["experts"] or 0)
            active, total = float(row["active_b"]), float(row["total_b"])
            layout = Layout(
                active=active,
                total=total,
                layers=float(row["layers"]),
                attention_layers=float(row["attention_layers"]),
                window_layers=float(row["window_layers"]),
                window=float(row["window_tokens"] or 0),
                kv_elements=float(row["kv_elements_per_layer"]),
                expert_share=float(row["experts_per_token"]) / experts if experts else 1.0,
                is_moe=float("moe" in row["kind"]),
                is_hybrid=float("hybrid" in row["kind"]),
            )
            precision = None if row["precision"] == "bfloat16" else row["precision"]
            size = ModelSize(
                row["model"],
                active,
                active,
                total,
                row["kind"],
                layout,
                precision,
                True,
                row["source"],
                "facts",
            )
            found += [(name, size) for name in row["names"].split(";")]
    return tuple(sorted(found, key=lambda pair: -len(pair[0])))


@cache
def _sizes() -> dict[str, ModelSize]:
    """Models by full name, by name without organisation, and by that without its date."""
    found: dict[str, ModelSize] = {}
    with _SIZES.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        low, high = float(row["active_low_b"]), float(row["active_high_b"])
        size = ModelSize(
            row["name"],
            low,
            high,
            float(row["total_b"] or math.sqrt(low * high)),
            row["kind"],
            None,
            None,
            row["released"] == "yes",
            row["source"],
            "MPL-2.0 (EcoLogits 0.11.3)",
        )
        found[_slug(row["name"])] = size
    for name, size in list(found.items()):
        found.setdefault(_DATE.sub("", name), size)
    return found
