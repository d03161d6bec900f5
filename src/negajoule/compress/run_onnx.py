"""Running a classifier in ONNX Runtime."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from negajoule.compress.artefact import Answers
from negajoule.compress.cutter import Cutter
from negajoule.compress.toolbox import onnxruntime
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from negajoule.compress.artefact import Artefact

__all__ = ["MODEL", "OnnxRunner", "open_onnx", "session"]

MODEL = "model.onnx"


class OnnxRunner:
    """A session with its tokenizer.

    Args:
        run: the session.
        folder: with the tokenizer.
        about: what the artefact is.
    """

    def __init__(self, run: Any, folder: Path, about: Artefact) -> None:  # noqa: ANN401
        self._session = run
        self.cutter = Cutter(folder, about.max_length, about.pad)

    def run(self, texts: Sequence[str]) -> Answers:
        """Scores of one batch."""
        start_s = time.process_time()
        numbers, mask = self.cutter.batch(self.cutter.cut(texts))
        cut_s = time.process_time()
        scores = self._session.run(None, {"input_ids": numbers, "attention_mask": mask})[0]
        return Answers(scores.tolist(), {"tokenise": cut_s - start_s, "compute": time.process_time() - cut_s})


def session(file: Path, threads: int) -> Any:  # noqa: ANN401
    """A session of ONNX Runtime on the processor.

    Raises:
        CompressError: (K101) if the file doesn't load.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its types are built at run time and have no common name
        raise CompressError(f"ONNX Runtime can't load {file}: {error}") from None


def open_onnx(folder: Path, about: Artefact, threads: int) -> OnnxRunner:
    """Load an artefact of kind ``onnx``."""
    return OnnxRunner(session(folder / MODEL, threads), folder, about)
