"""Texts to tokens, the same way for every artefact: cut at one length, padded to the longest of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.compress.toolbox import tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["TOKENIZER", "Cutter"]

TOKENIZER = "tokenizer.json"


class Cutter:
    """A tokenizer with its length.

    Args:
        folder: with ``tokenizer.json``.
        max_length: tokens after which a text is cut.
        pad: the number of the padding token.
    """

    def __init__(self, folder: Path, max_length: int, pad: int = 0) -> None:
        self._tokenizer = tokenizers().Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self.pad = pad

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return int(self._tokenizer.get_vocab_size())

    def cut(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts))]

    def batch(self, ids: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Numbers and mask of a batch, as arrays of texts x longest."""
        import numpy as np

        longest = max(map(len, ids))
        numbers = np.full((len(ids), longest), self.pad, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, found in enumerate(ids):
            numbers[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return numbers, mask
