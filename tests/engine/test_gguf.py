"""The head of a GGUF file is read right, and no damage to it gets further than one clear error."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from negajoule.engine.gguf import read_head
from negajoule.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {
    "general.architecture": "llama",
    "general.license": "apache-2.0",
    "general.file_type": 3,
    "general.quantization_version": 2,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["a", "bc", "é"],
    "tokenizer.ggml.token_type": [1, 2, 3],
    "tokenizer.chat_template": "{{ messages }}",
    "llama.context_length": 512,
}


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def typed(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    head, items = (8, [text(item) for item in value]) if isinstance(value[0], str) else (4, None)
    raw = b"".join(items) if items else struct.pack(f"<{len(value)}I", *value)
    return struct.pack("<IIQ", 9, head, len(value)) + raw


def gguf(facts: dict[str, Any], shapes: list[list[int]] | None = None) -> bytes:
    shapes = [[4, 8], [16]] if shapes is None else shapes
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(facts))
    pairs = b"".join(text(key) + typed(value) for key, value in facts.items())
    tensors = b"".join(
        text(f"t{place}") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)
        for place, shape in enumerate(shapes)
    )
    return head + pairs + tensors


def test_a_head_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(FACTS))
    head = read_head(path)
    assert head.architecture == "llama"
    assert head.context_tokens == 512
    assert head.parameters == 4 * 8 + 16
    assert head.quantisation == "Q4_1"
    assert head.licence == "apache-2.0"
    assert head.chat_template == "{{ messages }}"
    assert not head.embedding


def test_what_the_file_does_not_say_is_none(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({"general.architecture": "bert", "bert.context_length": 8, "bert.pooling_type": 1}))
    head = read_head(path)
    assert head.quantisation is head.licence is head.chat_template is None
    assert head.embedding


def test_the_packaged_model_says_what_it_is(model_path: Path) -> None:
    head = read_head(model_path)
    assert (head.architecture, head.context_tokens) == ("llama", 8192)
    assert (head.parameters, head.quantisation, head.licence) == (134_515_008, "Q4_1", "apache-2.0")


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"not a model at all" * 9,
        b"GGUF",
        b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
        b"GGUF" + b"\xff" * 64,
        gguf({"general.architecture": "llama"}),
        gguf({**FACTS, "llama.context_length": "long"}),
        gguf({**FACTS, "llama.context_length": 0}),
        gguf({**FACTS, "general.architecture": 5}),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(damaged)
    with pytest.raises(EngineError) as caught:
        read_head(path)
    assert caught.value.code == "E101"
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", ["absent.gguf", "."])
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match="can't be read") as caught:
        read_head(tmp_path / name)
    assert caught.value.code == "E101"


same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
WHOLE = gguf(FACTS)


@same_folder
@given(st.integers(0, len(WHOLE) - 13))
def test_a_head_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(EngineError):
        read_head(path)


@same_folder
@given(st.integers(0, len(WHOLE) - 9), st.binary(min_size=1, max_size=8))
def test_a_damaged_head_reads_or_is_refused(tmp_path: Path, place: int, damage: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(WHOLE[:place] + damage + WHOLE[place + len(damage) :])
    with contextlib.suppress(EngineError):
        assert read_head(path).context_tokens >= 1
