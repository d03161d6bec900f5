"""Embeddings: what a request must hold, and vectors in both encodings."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from negajoule.errors import EngineError, RequestError
from negajoule.gateway.adapters import Usage, embeddings_answer, in_encoding, parse_embeddings

from .conversations import at_most, json_objects

vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8)


def parse(**fields):
    return parse_embeddings(json.dumps({"model": "m", "input": "x", **fields}).encode())


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("text", ("text",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_every_shape_of_input_is_a_row_of_inputs(given, inputs):
    call = parse(input=given, encoding_format="base64", dimensions=4, unknown=1)
    assert (call.inputs, call.encoding, call.dimensions) == (inputs, "base64", 4)
    assert json.loads(call.raw)["unknown"] == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"model": ""}, "model"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, None),
    ],
)
def test_bad_input_is_refused_by_name(fields, param):
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    assert (caught.value.code, caught.value.param) == ("R102", param)


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b'{"model":"m"}', b"\xff", b"[" * 100_000])
def test_what_isnt_a_request_is_said_to_be(raw):
    with pytest.raises(RequestError) as caught:
        parse_embeddings(raw)
    assert caught.value.code in ("R101", "R102")


@given(json_objects)
def test_any_json_is_parsed_or_refused(body):
    with at_most("R101", "R102"):
        parse_embeddings(json.dumps(body).encode())


@given(st.lists(vectors, min_size=1, max_size=3))
def test_both_encodings_hold_the_same_vectors(rows):
    packed = embeddings_answer(rows, model="m", encoding="base64", usage=Usage(prompt=5))
    for entry, row in zip(packed["data"], rows, strict=True):
        data = base64.b64decode(entry["embedding"])
        assert list(struct.unpack(f"<{len(row)}f", data)) == row
    plain = embeddings_answer(rows, model="m", encoding="float", usage=Usage(prompt=5))
    assert in_encoding(packed, "float") == plain
    assert in_encoding(plain, "base64") == packed
    assert in_encoding(plain, "float") == plain
    assert in_encoding(packed, "base64") == packed
    CreateEmbeddingResponse.model_validate(plain)


def test_usage_isnt_made_up():
    assert "usage" not in embeddings_answer([[1.0]], model="m", encoding="float", usage=Usage())
    counted = embeddings_answer([[1.0]], model="m", encoding="float", usage=Usage(prompt=5))
    assert counted["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


@pytest.mark.parametrize(
    "data",
    [None, "x", [1], [{}], [{"embedding": "***"}], [{"embedding": "AAA="}], [{"embedding": [1, "x"]}]],
)
def test_an_upstreams_nonsense_is_e104(data):
    with pytest.raises(EngineError) as caught:
        in_encoding({"data": data}, "float")
    assert caught.value.code == "E104"
