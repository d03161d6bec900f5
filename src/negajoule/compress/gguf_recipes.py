"""What may be done to a GGUF file: write it in another format, plainly or calibrated.

gguf:Q8_0               8 bits
gguf:Q4_0               4 bits, each weight rounded by itself; token embedding and output stay in 8
gguf:Q4_0:throughout    4 bits for those two as well
gguf:Q4_0:calibrated    as gguf:Q4_0, rounded by what calibration texts do to each layer; values stay in 8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.compress.four_bits import FourBits, compensated, pack
from negajoule.engine import OUTPUT_MATRIX, open_weights, precision_sibling, rewrite, values_of
from negajoule.errors import CompressError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["KNOWN", "PREFIX", "GgufRecipe", "bits_per_weight", "is_gguf_recipe", "make_gguf"]

PREFIX = "gguf:"
_FORMATS = ("F32", "F16", "Q8_0", "Q4_0")
_CALIBRATED, _THROUGHOUT = "calibrated", "throughout"


class GgufRecipe(msgspec.Struct, frozen=True):
    """A format, and how it is come by.

    Attributes:
        format: of the layers' matrices.
        way: how it is come by where there are several; empty for the plain one.
    """

    format: str
    way: str = ""

    @classmethod
    def parse(cls, text: str) -> GgufRecipe:
        """Read ``gguf:FORMAT``, or ``gguf:Q4_0:WAY``.

        Raises:
            CompressError: (K103) if it is malformed.
        """
        format_, _, way = text.removeprefix(PREFIX).partition(":")
        found = cls(format_.upper(), way)
        if not text.startswith(PREFIX) or found not in KNOWN:
            known = ", ".join(recipe.text for recipe in KNOWN)
            raise CompressError(f"{text!r} is no recipe for a GGUF file", code="K103", fix=f"one of {known}")
        return found

    @property
    def calibrated(self) -> bool:
        """Whether texts shape it."""
        return self.way == _CALIBRATED

    @property
    def name(self) -> str:
        """How results call it; also a file name."""
        return f"{self.format}-{self.way}" if self.way else self.format

    @property
    def text(self) -> str:
        """As ``parse`` reads it."""
        return PREFIX + ":".join(filter(None, (self.format, self.way)))


_DELICATE = ".attn_v."
"""Matrices of values: a thirtieth of the layers' weights, whose rounding loses most."""

KNOWN = (
    *(GgufRecipe(name) for name in _FORMATS),
    GgufRecipe("Q4_0", _THROUGHOUT),
    GgufRecipe("Q4_0", _CALIBRATED),
)
"""All recipes there are."""


def is_gguf_recipe(text: str) -> bool:
    """Whether a recipe is for GGUF files."""
    return text.startswith(PREFIX)


def make_gguf(
    recipe: GgufRecipe,
    source: Path,
    folder: Path,
    calibration: Sequence[Sequence[int]] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write a file by a recipe, unless it is there.

    Args:
        recipe: what to do.
        source: a GGUF file.
        folder: where to write.
        calibration: tokens of texts; only for calibrated recipes.
        say: told how far it is.

    Raises:
        CompressError: (K101) if the model isn't of a kind that can be calibrated, (K102) without texts,
            (K105) if the file reads differently from what was written.
        EngineError: (E101) if the source is damaged.
        ExtraMissingError: (X101) without gguf, or torch and transformers to calibrate.
    """
    if not recipe.way:
        return precision_sibling(recipe.format, folder=folder, source=source)
    target = folder / f"{source.stem.lower()}-{recipe.name.lower()}.gguf"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    found = _calibrated(source, calibration, say) if recipe.calibrated else {}
    others = "Q8_0" if recipe.calibrated else recipe.format
    gguf = require("gguf", extra="profile", purpose="write a model in another format")

    def encode(name: str, values: Any) -> tuple[Any, str]:  # noqa: ANN401 (numpy arrays)
        if name in found:
            return pack(found[name]), recipe.format
        kind = "F32" if values.ndim < 2 else others
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind]), kind

    fresh = target.with_suffix(".new")
    try:
        rewrite(source, fresh, recipe.format, encode)
        _check_written(fresh, found)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return target


def _check_written(file: Path, found: Mapping[str, FourBits]) -> None:
    """Compare what a file gives when it is read with what was meant to be in it."""
    for tensor in open_weights(file).tensors:
        if tensor.name in found and (values_of(tensor) != found[tensor.name].values).any():
            raise CompressError(
                f"{tensor.name} reads differently from what was written",
                code="K105",
                fix="this file must not be used; please report the version of gguf",
            )


def _calibrated(
    source: Path, calibration: Sequence[Sequence[int]], say: Callable[[str], None]
) -> dict[str, FourBits]:
    if not calibration:
        raise CompressError(
            "there are no texts to calibrate on", code="K102", fix="give --data with more texts"
        )
    from negajoule.compress.calibration import rounded_layers

    return rounded_layers(source, calibration, compensated, lambda name: _DELICATE in name, say)


def bits_per_weight(file: Path) -> tuple[float, float]:
    """Mean bits of a weight of the layers' matrices, and of all weights.

    The first leaves token embedding and output matrix out: they stay in 8 bits where the layers have 4.
    """
    bits = weights = layer_bits = layer_weights = 0
    for tensor in open_weights(file).tensors:
        size, count = 8 * int(tensor.n_bytes), int(tensor.n_elements)
        bits, weights = bits + size, weights + count
        if len(tensor.shape) > 1 and tensor.name not in (OUTPUT_MATRIX, "output.weight"):
            layer_bits, layer_weights = layer_bits + size, layer_weights + count
    return layer_bits / max(1, layer_weights), bits / max(1, weights)
