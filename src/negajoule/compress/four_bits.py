"""Rounding to four bits: blocks of 32 weights share a scale, each weight is one of 16 multiples of it (Q4_0).

Two ways to find the numbers. ``nearest`` weighs errors by how much each input matters, and searches the
scale. ``compensated`` goes through the inputs one by one and lets those that are still to come make up
for the error, by what the inputs have in common (Frantar et al., GPTQ, arXiv 2210.17323, after Hassibi
and Stork, 1993). The layer's answers stay closer to what they were, though single weights stray further.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from negajoule.errors import CompressError

__all__ = ["BITS_PER_WEIGHT", "BLOCK", "FourBits", "compensated", "nearest", "pack"]

BLOCK = 32
BITS_PER_WEIGHT = 4.5
"""Four bits, and a scale of 16 for each block [bit]."""

_LOWEST, _HIGHEST = -8, 7
_REACHES = (-9.0, -8.5, -8.0, -7.5, -7.0, -6.5, 6.5, 7.0, 7.5, 8.0)
"""Multiples of the scale at which a block's widest weight is tried; the negative side has one step more."""


class FourBits(NamedTuple):
    """A rounded matrix; rows are outputs.

    Attributes:
        codes: whole numbers from -8 to 7.
        scales: one for each block, as 16 bits hold them.
    """

    codes: Any
    scales: Any

    @property
    def values(self) -> Any:  # noqa: ANN401 (numpy array)
        """The weights that an engine will compute with."""
        rows, inputs = self.codes.shape
        blocks = self.codes.reshape(rows, inputs // BLOCK, BLOCK).astype("f4")
        return (blocks * self.scales[..., None].astype("f4")).reshape(rows, inputs)


def nearest(weights: Any, importance: Any = None) -> FourBits:  # noqa: ANN401 (numpy arrays)
    """Round every weight by itself.

    Args:
        weights: rows are outputs.
        importance: for each input, the mean of its squares; all alike by default.

    Raises:
        CompressError: (K101) if rows can't be cut into blocks.
    """
    import numpy as np

    blocks = _blocks(weights)
    matter = np.ones(weights.shape[1], "f4") if importance is None else np.asarray(importance, "f4")
    scales = np.empty(blocks.shape[:2], np.float16)
    codes = np.empty(blocks.shape, np.int8)
    for number in range(blocks.shape[1]):
        block = blocks[:, number]
        scale = _scale(block, matter[number * BLOCK : (number + 1) * BLOCK])
        scales[:, number] = scale
        codes[:, number] = _codes(block, scale[:, None])
    return FourBits(codes.reshape(weights.shape), scales)


def compensated(weights: Any, gram: Any, damping: float = 0.01) -> FourBits:  # noqa: ANN401
    """Round input by input, and let the rest make up for it.

    Args:
        weights: rows are outputs.
        gram: sum over tokens of the outer product of the layer's input with itself.
        damping: added to its diagonal, as a share of the diagonal's mean [1].

    Raises:
        CompressError: (K101) if rows can't be cut into blocks, (K104) if the inputs aren't numbers.
    """
    import numpy as np

    left = _blocks(weights).reshape(weights.shape).astype("f8")
    rows, inputs = left.shape
    steady = np.array(gram, "f8")
    if not np.isfinite(steady).all():
        raise CompressError("the calibration texts give inputs that aren't numbers", code="K104")
    idle = np.diag(steady) == 0
    steady[idle, idle] = 1.0
    steady[np.diag_indices(inputs)] += damping * np.mean(np.diag(steady))
    # Row j tells how an error at input j spreads over the inputs after it.
    spread = np.linalg.cholesky(np.linalg.inv(steady)).T
    own = np.diag(spread)
    scales = np.empty((rows, inputs // BLOCK), np.float16)
    codes = np.empty((rows, inputs), np.int8)
    for start in range(0, inputs, BLOCK):
        end = start + BLOCK
        scale = _scale(left[:, start:end].astype("f4"), (own[start:end] ** -2).astype("f4"))
        scales[:, start // BLOCK] = scale
        errors = np.empty((rows, BLOCK))
        for place in range(start, end):
            code = _codes(left[:, place], scale)
            codes[:, place] = code
            error = (left[:, place] - code * scale.astype("f8")) / own[place]
            errors[:, place - start] = error
            left[:, place:end] -= error[:, None] * spread[place, place:end]
        left[:, end:] -= errors @ spread[start:end, end:]
    return FourBits(codes, scales)


def pack(found: FourBits) -> Any:  # noqa: ANN401 (numpy array)
    """The bytes of Q4_0: for each block its scale, then 16 bytes with weights j and j + 16."""
    import numpy as np

    rows, inputs = found.codes.shape
    plain = (found.codes.reshape(rows, inputs // BLOCK, 2, BLOCK // 2) - _LOWEST).astype(np.uint8)
    nibbles = plain[:, :, 0] | plain[:, :, 1] << 4
    scales = found.scales.astype("<f2")[..., None].view(np.uint8)
    return np.concatenate([scales, nibbles], axis=-1).reshape(rows, -1)


def _blocks(weights: Any) -> Any:  # noqa: ANN401
    rows, inputs = weights.shape
    if inputs % BLOCK:
        raise CompressError(
            f"a matrix of {inputs} inputs can't be cut into blocks of {BLOCK}",
            fix="this model can't have the format Q4_0",
        )
    return weights.reshape(rows, inputs // BLOCK, BLOCK)


def _codes(weights: Any, scale: Any) -> Any:  # noqa: ANN401
    import numpy as np

    wide = scale.astype("f4")
    inverse = np.divide(1.0, wide, out=np.zeros_like(wide), where=wide != 0)
    return np.clip(np.rint(weights * inverse), _LOWEST, _HIGHEST)


def _scale(block: Any, matter: Any) -> Any:  # noqa: ANN401
    """For each row of a block the scale with the least weighted squared error, among a few, each refitted."""
    import numpy as np

    widest = np.take_along_axis(block, np.abs(block).argmax(1)[:, None], 1)[:, 0]
    best, least = widest.astype(np.float16), np.full(len(block), np.inf, "f4")
    for reach in _REACHES:
        codes = _codes(block, (widest / reach)[:, None])
        weighted = codes * matter
        squares = (weighted * codes).sum(1)
        products = (weighted * block).sum(1)
        scale = np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
        scale = scale.astype(np.float16)
        gaps = block - _codes(block, scale[:, None]) * scale[:, None].astype("f4")
        error = (matter * gaps * gaps).sum(1)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best
