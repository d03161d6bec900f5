"""Read the head of a GGUF file: what model it holds, without loading it.

The format is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (MIT). Only the head is
read: typed key-value pairs, then the shape of every tensor, whose products add up to the number of weights.
"""

from __future__ import annotations

import struct
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec

from negajoule.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["WeightsHead", "read_head"]

_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_STRING, _ARRAY = 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_LONGEST_STRING_BYTES = 1 << 24
_MOST_ITEMS = 1 << 24
_FILE_TYPES = {  # general.file_type, as llama.cpp numbers them
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    32: "BF16",
}


class WeightsHead(msgspec.Struct, frozen=True):
    """What the head of a GGUF file says.

    Attributes:
        architecture: "llama", "qwen2", ...
        context_tokens: the longest context the model was trained for.
        parameters: number of weights, counted from the tensors' shapes.
        quantisation: the format most weights have; ``None`` if the file doesn't say.
        licence: as written in the file.
        chat_template: the Jinja text that turns messages into a prompt.
        embedding: whether it is an embedding model.
        kv_values_per_token: keys and values kept for a token of context, in all layers; ``None`` if the file
            doesn't give one number of heads for all of them.
    """

    architecture: str
    context_tokens: Annotated[int, msgspec.Meta(ge=1)]
    parameters: int
    quantisation: str | None
    licence: str | None
    chat_template: str | None
    embedding: bool
    kv_values_per_token: int | None


def read_head(path: Path) -> WeightsHead:
    """Read what model a file holds.

    Raises:
        EngineError: E101 if the file is absent, unreadable or no GGUF file.
    """
    try:
        with path.open("rb") as file:
            facts, shapes = _read(file)
            architecture = facts["general.architecture"]
            return msgspec.convert(
                {
                    "architecture": architecture,
                    "context_tokens": facts[f"{architecture}.context_length"],
                    "parameters": sum(map(prod, shapes)),
                    "quantisation": _FILE_TYPES.get(facts.get("general.file_type", -1)),
                    "licence": facts.get("general.license"),
                    "chat_template": facts.get("tokenizer.chat_template"),
                    "embedding": f"{architecture}.pooling_type" in facts,
                    "kv_values_per_token": _kv_values(facts, architecture),
                },
                WeightsHead,
            )
    except OSError as error:
        raise EngineError(
            f"the model file {path} can't be read: {error.strerror}",
            code="E101",
            fix="give the path of a GGUF file",
        ) from error
    except (struct.error, ValueError, KeyError, msgspec.ValidationError) as error:
        raise EngineError(
            f"{path} isn't a GGUF model file, or is damaged ({error})",
            code="E101",
            fix="give the path of a GGUF file; download it again if it should be one",
        ) from error


def _kv_values(facts: Mapping[str, Any], architecture: str) -> int | None:
    layers, width, heads, kv_heads = (
        facts.get(f"{architecture}.{name}")
        for name in ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv")
    )
    if not (layers and width and heads and kv_heads):
        return None
    key = facts.get(f"{architecture}.attention.key_length") or width // heads
    value = facts.get(f"{architecture}.attention.value_length") or width // heads
    return int(layers * kv_heads * (key + value))


def _read(file: BinaryIO) -> tuple[Mapping[str, Any], list[list[int]]]:
    if file.read(4) != b"GGUF":
        raise ValueError("it doesn't begin with 'GGUF'")
    version = _one(file, _U32)
    if version not in (2, 3):
        raise ValueError(f"version {version} is unknown")
    tensors, pairs = _one(file, _U64), _one(file, _U64)
    if tensors > _MOST_ITEMS or pairs > _MOST_ITEMS:
        raise ValueError("impossible counts")
    facts = {_string(file): _value(file, _one(file, _U32)) for _ in range(pairs)}
    shapes = []
    for _ in range(tensors):
        _string(file)
        dimensions = _one(file, _U32)
        shapes.append([_one(file, _U64) for _ in range(min(dimensions, 8))])
        file.seek(_U32.size + _U64.size, 1)  # format and offset
    return facts, shapes


def _one(file: BinaryIO, kind: struct.Struct) -> Any:  # noqa: ANN401 (a number of that kind)
    return kind.unpack(file.read(kind.size))[0]


def _length(file: BinaryIO) -> int:
    length: int = _one(file, _U64)
    if length > _LONGEST_STRING_BYTES:
        raise ValueError("impossible length of a text")
    return length


def _string(file: BinaryIO) -> str:
    length = _length(file)
    text = file.read(length)
    if len(text) < length:
        raise ValueError("it ends inside its head")
    return text.decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:  # noqa: ANN401 (any GGUF value)
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        _skip_array(file)
        return None
    return _one(file, _SCALARS[kind])


def _skip_array(file: BinaryIO) -> None:
    kind, count = _one(file, _U32), _one(file, _U64)
    if count > _MOST_ITEMS:
        raise ValueError("impossible length of a list")
    if kind == _STRING:
        for _ in range(count):
            file.seek(_length(file), 1)
    else:
        file.seek(_SCALARS[kind].size * count, 1)
