"""Write a GGUF file again with its tensors in other number formats; all else stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.errors import EngineError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["open_weights", "rewrite", "values_of"]


def open_weights(path: Path) -> Any:  # noqa: ANN401 (a reader of an optional package)
    """Open a GGUF file for reading its tensors.

    Raises:
        EngineError: (E101) if it is no GGUF file, or damaged.
        ExtraMissingError: (X101) without the package ``gguf``.
    """
    gguf = require("gguf", extra="profile", purpose="read a model's weights")
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise EngineError(f"{path} isn't a GGUF model file, or is damaged ({error})", code="E101") from None


def values_of(tensor: Any) -> Any:  # noqa: ANN401 (numpy arrays)
    """A tensor's weights in 32 bits, exactly as every engine reads them; rows are outputs."""
    gguf = require("gguf", extra="profile", purpose="read a model's weights")
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def rewrite(
    source: Path, target: Path, file_type: str, encode: Callable[[str, Any], tuple[Any, str]]
) -> None:
    """Write a model's tensors in other formats.

    Args:
        source: a GGUF file.
        target: the file to write.
        file_type: the format that most of its weights will have, e.g. "Q8_0".
        encode: given a tensor's name and its weights in 32 bits, its bytes and the name of their format.

    Raises:
        EngineError: (E101) if the source is damaged, or a tensor can't be had in that format.
        ExtraMissingError: (X101) without the package ``gguf``.
    """
    gguf = require("gguf", extra="profile", purpose="write a model in another format")
    reader = open_weights(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in _facts(reader):
        kinds = field.types
        writer.add_key_value(field.name, field.contents(), kinds[0], kinds[-1] if len(kinds) > 1 else None)
    whole = "ALL" if file_type == "F32" else "MOSTLY"
    writer.add_file_type(gguf.LlamaFileType[f"{whole}_{file_type}"])
    for tensor in reader.tensors:
        try:
            data, kind = encode(tensor.name, values_of(tensor))
        except (NotImplementedError, gguf.quants.QuantError) as error:
            raise EngineError(
                f"{source.name} can't be written as {file_type}: {tensor.name}: {error}", code="E101"
            ) from None
        writer.add_tensor(tensor.name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _facts(reader: Any) -> Iterator[Any]:  # noqa: ANN401 (an optional package)
    """What the head says, but for what the writer says itself."""
    for field in reader.fields.values():
        if field.name not in ("general.architecture", "general.file_type") and field.name[:5] != "GGUF.":
            yield field
