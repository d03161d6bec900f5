"""Requests and answers of embeddings: what must hold, and the two encodings.

Format: OpenAI API reference, "Create embeddings": at most 2,048 inputs; ``base64`` is the vector's 32-bit
floats in little-endian order. The official Python client asks for ``base64`` unless told otherwise.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from negajoule.errors import RequestError
from negajoule.gateway.adapters.reading import malformed, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.gateway.adapters.usage import Usage

__all__ = ["EmbeddingsBody", "EmbeddingsCall", "embeddings_answer", "in_encoding", "parse_embeddings"]

Encoding = Literal["float", "base64"]

_INPUTS_AT_MOST = 2048
_FLOAT_BYTES = 4


class EmbeddingsBody(msgspec.Struct):
    """A request for embeddings; fields that aren't named here pass through."""

    model: Annotated[str, msgspec.Meta(max_length=256)]
    input: str | list[str | int | list[int]]
    encoding_format: Encoding = "float"
    dimensions: int | None = None


_DECODER = msgspec.json.Decoder(EmbeddingsBody)


class EmbeddingsCall(msgspec.Struct, frozen=True):
    """A request for embeddings that has passed the checks.

    Attributes:
        model: the model asked for.
        inputs: what is to be embedded, one a vector: texts or token ids.
        encoding: how the client wants its vectors.
        dimensions: how long it wants them; ``None`` for as long as they are.
        raw: the body as it came.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    encoding: Encoding
    dimensions: int | None
    raw: bytes


def parse_embeddings(raw: bytes) -> EmbeddingsCall:
    """Check a request's body.

    Raises:
        RequestError: R101 if it isn't JSON, R102 if a field is missing, empty or of the wrong type.
    """
    try:
        body = _DECODER.decode(raw)
        msgspec.json.decode(raw)  # fields that the checks skip must be JSON too, or ``Call.body`` would fail
    except msgspec.ValidationError as error:
        raise RequestError(str(error), param="input" if "input" in str(error) else None) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestError(f"the body isn't valid JSON: {error}", code="R101") from None
    if not body.model:
        refuse("model", "must not be empty")
    if body.dimensions is not None and body.dimensions < 1:
        refuse("dimensions", "must be at least 1")
    inputs = _inputs(body.input)
    if len(inputs) > _INPUTS_AT_MOST:
        refuse("input", f"has {len(inputs)} entries; at most {_INPUTS_AT_MOST} go into one request")
    if not inputs or not all(inputs):
        refuse("input", "must not be empty, nor hold anything empty")
    return EmbeddingsCall(body.model, inputs, body.encoding_format, body.dimensions, raw)


def embeddings_answer(
    vectors: Sequence[Sequence[float]], *, model: str, encoding: Encoding, usage: Usage
) -> dict[str, Any]:
    """The answer that holds these vectors, in the order of the inputs.

    Args:
        vectors: one an input.
        model: who embedded.
        encoding: as the client asked.
        usage: what was counted; nothing was produced.
    """
    answer: dict[str, Any] = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if encoding == "base64" else list(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": model,
    }
    if usage.prompt is not None:
        answer["usage"] = {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt}
    return answer


def in_encoding(answer: dict[str, Any], encoding: Encoding) -> dict[str, Any]:
    """An upstream's answer with its vectors in the encoding that was asked for; else as it is.

    Many servers know one encoding only.

    Raises:
        EngineError: E104 if it holds no embeddings.
    """
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise malformed("OpenAI", "it holds no list of embeddings")
    return {
        **answer,
        "data": [{**entry, "embedding": _encoded(entry.get("embedding"), encoding)} for entry in data],
    }


def _inputs(given: str | list[Any]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(given, str):
        return (given,)
    kinds = {type(entry) for entry in given}
    if len(kinds) > 1:
        refuse("input", "must hold texts only, token ids only or lists of token ids only")
    if kinds == {int}:
        return (tuple(given),)
    return tuple(entry if isinstance(entry, str) else tuple(entry) for entry in given)


def _encoded(vector: object, encoding: Encoding) -> str | list[float]:
    if isinstance(vector, str):
        return vector if encoding == "base64" else _unpacked(vector)
    if not isinstance(vector, list) or not all(
        isinstance(value, int | float) and isfinite(value) for value in vector
    ):
        raise malformed("OpenAI", "an embedding is neither numbers nor base64")
    return _packed(vector) if encoding == "base64" else vector


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(_little_endian(array("f", vector)).tobytes()).decode()


def _unpacked(packed: str) -> list[float]:
    try:
        data = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise malformed("OpenAI", "an embedding isn't base64") from None
    if len(data) % _FLOAT_BYTES:
        raise malformed("OpenAI", "an embedding isn't made of 32-bit floats")
    values = array("f")
    values.frombytes(data)
    return _little_endian(values).tolist()


def _little_endian(values: array[float]) -> array[float]:
    if sys.byteorder == "big":
        values.byteswap()
    return values
