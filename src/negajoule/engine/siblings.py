"""The packaged model in other number formats: one model, several files, made once and checked by hash.

The package carries one file, mostly Q4_1. Its weights are taken back to 32 bits and written again as F32,
F16, Q8_0 or Q4_0 with the package ``gguf``. As llama.cpp's quantiser does, Q4_0 leaves the token embedding,
which is the output matrix too, in Q8_0; vectors stay F32. What Q4_1 has lost, no sibling brings back: the
siblings compare formats on one model, and aren't the files that its makers would publish.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.config import home
from negajoule.engine.packaged import PACKAGED_MODEL_ID, packaged_model
from negajoule.engine.rewrite import rewrite
from negajoule.errors import ConfigError, EngineError
from negajoule.extras import require

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OUTPUT_MATRIX", "PACKAGED_FORMAT", "SIBLING_FORMATS", "file_sha256", "precision_sibling"]

SIBLING_FORMATS = ("F16", "Q8_0", "Q4_0")
"""Formats that can be made here, each for somebody's use; K-quants would need llama.cpp's own quantiser."""

_WIDEST = "F32"
"""Made too, but only to compare with."""

PACKAGED_FORMAT = "Q4_1"
"""The format that the package carries."""

OUTPUT_MATRIX = "token_embd.weight"
"""The token embedding; the output matrix too in models that tie the two."""

_RULES = 1
"""Raised when the same source would give other files than before."""


class _Receipt(msgspec.Struct, frozen=True, tag_field="schema", tag="negajoule.sibling/1"):
    """Written beside a sibling: what it was made of and what it must be."""

    source_sha256: str
    sha256: str
    rules: int


def precision_sibling(format_: str, *, folder: Path | None = None, source: Path | None = None) -> Path:
    """The packaged model in another format; made on first use, which takes some 5 s of CPU time.

    Args:
        format_: one of ``SIBLING_FORMATS``, "F32", or ``PACKAGED_FORMAT`` for the packaged file itself.
        folder: where siblings are kept; by default ``models`` in the data folder.
        source: another GGUF file to make the sibling of.

    Raises:
        ConfigError: (C101) if the format can't be made, (C106) if the folder can't be written.
        EngineError: (E101) if the packaged model is absent or damaged.
        ExtraMissingError: (X101) if it must be made and ``gguf`` isn't installed.
    """
    name = format_.upper()
    if name == PACKAGED_FORMAT and source is None:
        return packaged_model()
    if name not in (*SIBLING_FORMATS, _WIDEST):
        raise ConfigError(
            f"the format {format_!r} can't be made here",
            fix=f"use one of {', '.join((*SIBLING_FORMATS, PACKAGED_FORMAT))}, or a GGUF file of your own",
        )
    origin = packaged_model() if source is None else source
    stem = PACKAGED_MODEL_ID if source is None else source.stem.lower()
    path = (home() / "models" if folder is None else folder) / f"{stem}-{name.lower()}.gguf"
    source_sha256 = file_sha256(origin)
    if not _is_sound(path, source_sha256):
        fresh = path.with_suffix(f".{os.getpid()}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(origin, fresh, name)
            receipt = _Receipt(source_sha256, file_sha256(fresh), _RULES)
            fresh.replace(path)
            _receipt_path(path).write_bytes(msgspec.json.encode(receipt))
        except OSError as error:
            raise ConfigError(
                f"can't write {path}: {error.strerror}",
                code="C106",
                fix="make room or mend the folder's permissions, or set NEGAJOULE_HOME",
            ) from None
        finally:
            with suppress(OSError):
                fresh.unlink()
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        EngineError: (E101) if it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineError(f"the model file {path} can't be read: {error.strerror}", code="E101") from None


def _receipt_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_sound(path: Path, source_sha256: str) -> bool:
    """Whether the file is there, whole, and made of this source by these rules."""
    try:
        receipt = msgspec.json.decode(_receipt_path(path).read_bytes(), type=_Receipt)
    except (OSError, msgspec.DecodeError):
        return False
    known = (receipt.source_sha256, receipt.rules) == (source_sha256, _RULES)
    return known and path.is_file() and file_sha256(path) == receipt.sha256


def _write(source: Path, target: Path, format_: str) -> None:
    gguf = require("gguf", extra="profile", purpose="make a model's siblings in other formats")

    def encode(name: str, values: Any) -> tuple[Any, str]:  # noqa: ANN401 (arrays of numpy)
        kind = _format_of(name, values.ndim, format_)
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind]), kind

    rewrite(source, target, format_, encode)


def _format_of(name: str, dimensions: int, format_: str) -> str:
    if dimensions < 2:
        return "F32"
    return "Q8_0" if format_ == "Q4_0" and name == OUTPUT_MATRIX else format_
