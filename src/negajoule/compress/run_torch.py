"""Running a classifier in PyTorch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from negajoule.compress.artefact import Answers
from negajoule.compress.cutter import Cutter
from negajoule.compress.toolbox import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from negajoule.compress.artefact import Artefact

__all__ = ["TorchRunner", "open_torch"]


class TorchRunner:
    """A model in memory with its tokenizer.

    Args:
        model: of Transformers, with a head.
        folder: with the tokenizer.
        max_length: tokens after which a text is cut.
    """

    def __init__(self, model: Any, folder: Path, max_length: int) -> None:  # noqa: ANN401
        self.model = model.eval()
        self.cutter = Cutter(folder, max_length, model.config.pad_token_id or 0)

    def run(self, texts: Sequence[str]) -> Answers:
        """Scores of one batch."""
        start_s = time.process_time()
        numbers, mask = self.cutter.batch(self.cutter.cut(texts))
        cut_s = time.process_time()
        lib = torch()
        with lib.inference_mode():
            scores = self.model(
                input_ids=lib.from_numpy(numbers), attention_mask=lib.from_numpy(mask)
            ).logits.float()
        rows = scores.tolist()
        return Answers(rows, {"tokenise": cut_s - start_s, "compute": time.process_time() - cut_s})


def open_torch(folder: Path, about: Artefact, threads: int) -> TorchRunner:
    """Load an artefact of kind ``torch``."""
    from negajoule.compress.encoder import load_model

    torch().set_num_threads(threads)
    return TorchRunner(load_model(folder), folder, about.max_length)
