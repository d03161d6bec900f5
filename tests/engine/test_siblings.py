from __future__ import annotations

import sys

import pytest

from negajoule.engine import SIBLING_FORMATS, precision_sibling
from negajoule.engine.gguf import read_head
from negajoule.errors import ConfigError, EngineError, ExtraMissingError

gguf = pytest.importorskip("gguf")
numpy = pytest.importorskip("numpy")


@pytest.fixture
def source(tmp_path):
    """A GGUF file of one block's shapes, random weights."""
    random = numpy.random.default_rng(1)
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_license("apache-2.0")
    writer.add_array("general.languages", ["en"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, shape in (("token_embd.weight", (96, 64)), ("blk.0.ffn_up.weight", (128, 64))):
        writer.add_tensor(name, random.normal(size=shape).astype("f4"))
    writer.add_tensor("blk.0.attn_norm.weight", random.normal(size=64).astype("f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def kinds(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("format_", ["F32", *SIBLING_FORMATS])
def test_a_sibling_keeps_the_head_and_the_values(source, tmp_path, format_):
    path = precision_sibling(format_.lower(), folder=tmp_path / "made", source=source)
    head, before = read_head(path), read_head(source)
    assert (head.quantisation, head.parameters) == (format_, before.parameters)
    assert (head.licence, head.kv_values_per_token) == ("apache-2.0", 1 * 2 * 2 * 16)
    assert kinds(path)["blk.0.attn_norm.weight"] == "F32"
    tolerance = {"F32": 0, "F16": 2e-3, "Q8_0": 2e-2, "Q4_0": 0.5}[format_]
    for old, new in zip(gguf.GGUFReader(source).tensors, gguf.GGUFReader(path).tensors, strict=True):
        numpy.testing.assert_allclose(
            gguf.quants.dequantize(new.data, new.tensor_type), old.data, atol=tolerance
        )


def test_four_bits_leave_the_output_matrix_in_eight(source, tmp_path):
    made = kinds(precision_sibling("Q4_0", folder=tmp_path, source=source))
    assert (made["token_embd.weight"], made["blk.0.ffn_up.weight"]) == ("Q8_0", "Q4_0")


def test_it_is_made_once_and_again_when_it_is_damaged(source, tmp_path):
    folder = tmp_path / "made"
    path = precision_sibling("Q8_0", folder=folder, source=source)
    content, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert precision_sibling("Q8_0", folder=folder, source=source) == path
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    precision_sibling("Q8_0", folder=folder, source=source)
    assert path.read_bytes() == content
    assert sorted(item.suffix for item in folder.iterdir()) == [".gguf", ".json"]


def test_it_is_made_again_of_another_source(source, tmp_path):
    folder = tmp_path / "made"
    before = precision_sibling("F16", folder=folder, source=source).read_bytes()
    source.write_bytes(source.read_bytes()[:-4] + b"\0\0\x80\x3f")
    assert precision_sibling("F16", folder=folder, source=source).read_bytes() != before


def test_the_packaged_format_is_the_packaged_file(monkeypatch, tmp_path):
    monkeypatch.setattr("negajoule.engine.siblings.packaged_model", lambda: tmp_path / "packaged.gguf")
    assert precision_sibling("q4_1") == tmp_path / "packaged.gguf"


def test_unknown_formats_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="'Q2_K' can't be made") as caught:
        precision_sibling("Q2_K", folder=tmp_path)
    assert "Q8_0" in caught.value.fix


def test_a_damaged_source_is_named(tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    with pytest.raises(EngineError, match="bad") as caught:
        precision_sibling("F16", folder=tmp_path / "made", source=bad)
    assert caught.value.code == "E101"
    with pytest.raises(EngineError, match="can't be read"):
        precision_sibling("F16", folder=tmp_path, source=tmp_path / "absent.gguf")


def test_a_folder_that_cannot_be_written_is_an_error_of_the_user(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't write") as caught:
        precision_sibling("F16", folder=tmp_path / "file", source=source)
    assert caught.value.code == "C106"


def test_without_the_package_the_error_names_the_extra(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ExtraMissingError, match="gguf"):
        precision_sibling("F16", folder=tmp_path / "made", source=source)
