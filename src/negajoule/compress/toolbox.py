"""The optional libraries of this room, each loaded when it is first needed."""

from __future__ import annotations

from typing import Any

from negajoule.extras import require

__all__ = ["EXTRA", "library", "onnx", "onnxruntime", "tokenizers", "torch", "transformers"]

EXTRA = "compress"


def library(module: str, purpose: str) -> Any:  # noqa: ANN401 (untyped third parties)
    """Import a library of the extra ``compress``.

    Args:
        module: dotted name.
        purpose: what it is needed for, to complete "... is needed to".

    Raises:
        ExtraMissingError: (X101) if it isn't installed.
    """
    return require(module, extra=EXTRA, purpose=purpose)


def torch() -> Any:  # noqa: ANN401
    """PyTorch."""
    return library("torch", "train, prune and run encoders")


def transformers() -> Any:  # noqa: ANN401
    """Transformers, with its progress bars and advice off."""
    module = library("transformers", "load models of Hugging Face")
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    return module


def tokenizers() -> Any:  # noqa: ANN401
    """Tokenizers."""
    return library("tokenizers", "cut texts into tokens")


def onnx() -> Any:  # noqa: ANN401
    """The ONNX format."""
    return library("onnx", "write ONNX files")


def onnxruntime() -> Any:  # noqa: ANN401
    """ONNX Runtime."""
    return library("onnxruntime", "run and quantise ONNX files")
