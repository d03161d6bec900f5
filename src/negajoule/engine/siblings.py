"""The packaged model in other number formats: one model, several files, made once and checked by hash.

The package carries one file, mostly Q4_1. Its weights are taken back to 32 bits and written again as F16,
Q8_0 or Q4_0 with the package ``gguf``. As llama.cpp's own quantiser does, Q4_0 leaves the token embedding,
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
from negajoule.errors import ConfigError, EngineError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PACKAGED_FORMAT", "SIBLING_FORMATS", "file_sha256", "precision_sibling"]

SIBLING_FORMATS = ("F16", "Q8_0", "Q4_0")
"""Formats that can be made here; K-quants would need llama.cpp's own quantiser."""

PACKAGED_FORMAT = "Q4_1"
"""The format that the package carries."""

_OUTPUT_MATRIX = "token_embd.weight"
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
        format_: one of ``SIBLING_FORMATS``, or ``PACKAGED_FORMAT`` for the packaged file itself.
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
    if name not in SIBLING_FORMATS:
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
    try:
        reader = gguf.GGUFReader(source)
    except (ValueError, IndexError) as error:
        raise EngineError(f"{source} isn't a GGUF model file, or is damaged ({error})", code="E101") from None
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in _facts(reader):
        kinds = field.types
        writer.add_key_value(field.name, field.contents(), kinds[0], kinds[-1] if len(kinds) > 1 else None)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{format_}"])
    for tensor in reader.tensors:
        kind = _format_of(gguf, tensor, format_)
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        except (NotImplementedError, gguf.quants.QuantError) as error:
            raise EngineError(
                f"{source.name} can't be written as {format_}: {tensor.name}: {error}", code="E101"
            ) from None
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _facts(reader: Any) -> Iterator[Any]:  # noqa: ANN401 (an optional package)
    """What the head says, but for what the writer says itself."""
    for field in reader.fields.values():
        if field.name not in ("general.architecture", "general.file_type") and field.name[:5] != "GGUF.":
            yield field


def _format_of(gguf: Any, tensor: Any, format_: str) -> Any:  # noqa: ANN401 (an optional package)
    kinds = gguf.GGMLQuantizationType
    if len(tensor.shape) < 2:
        return kinds.F32
    if format_ == "Q4_0" and tensor.name == _OUTPUT_MATRIX:
        return kinds.Q8_0
    return kinds[format_]
