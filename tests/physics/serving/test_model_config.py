"""Shapes from configurations: counts against published ones, families, and what's missing or can't be."""

import json
from pathlib import Path

import pytest

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.model_size import find_model
from negajoule.physics.serving import known_shapes, shape_from_config, shape_of, shape_of_size

CONFIGS = json.loads((Path(known_shapes.__file__).parent / "model_configs.json").read_text(encoding="utf-8"))
SMALL = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_counts_are_the_published_ones(name: str) -> None:
    counted, listed = shape_of(name), find_model(name)
    # gemma 3 of 4 B: a tenth of the published count is its image encoder
    assert counted.parameters == pytest.approx(listed.total * 1e9, rel=0.10 if name == "gemma-3-4b" else 0.04)
    assert listed.layout is not None
    assert counted.layers == listed.layout.layers
    assert counted.attention_layers == listed.layout.attention_layers
    assert counted.window_layers == listed.layout.window_layers
    assert counted.kv_elements == listed.layout.kv_elements
    assert counted.expert_share == pytest.approx(listed.layout.expert_share)
    assert counted.kind == listed.kind
    assert counted.weight_format == (listed.precision or "bfloat16")
    assert counted.counted


def test_a_dense_model_by_hand() -> None:
    shape = shape_from_config(SMALL, "small")
    layer = 4 * 64 * 64 + 3 * 64 * 128
    assert shape.parameters == 4 * layer + 2 * 1000 * 64
    assert shape.step_parameters == shape.active_parameters == 4 * layer + 1000 * 64
    assert (shape.kv_elements, shape.kv_parts) == (2 * 64, 4)
    assert not shape.is_moe
    assert not shape.is_hybrid


def test_tied_embeddings_are_counted_once() -> None:
    assert shape_from_config(SMALL | {"tie_word_embeddings": True}).parameters == (
        shape_from_config(SMALL).parameters - 1000 * 64
    )


def test_the_language_part_of_a_model_that_sees() -> None:
    nested = {"model_type": "seer", "vision_config": {"hidden_size": 9}, "text_config": SMALL}
    assert shape_from_config(nested).parameters == shape_from_config(SMALL).parameters
    deeper = {"thinker_config": {"text_config": SMALL}}
    assert shape_from_config(deeper).parameters == shape_from_config(SMALL).parameters


def test_grouped_queries_keep_less() -> None:
    grouped = shape_from_config(SMALL | {"num_key_value_heads": 1})
    assert (grouped.kv_elements, grouped.kv_parts) == (2 * 16, 1)
    assert grouped.parameters < shape_from_config(SMALL).parameters


def test_experts_are_apart_from_the_rest() -> None:
    sparse = SMALL | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    shape = shape_from_config(sparse | {"mlp_only_layers": [0]})
    assert shape.routed_parameters == 3 * 8 * 3 * 64 * 32
    assert (shape.expert_share, shape.expert_layers, shape.kind) == (0.25, 3, "moe")
    assert shape.step_parameters - shape.active_parameters == pytest.approx(0.75 * shape.routed_parameters)


@pytest.mark.parametrize(
    ("fields", "full", "window"),
    [
        ({"sliding_window": 16}, 0, 4),
        ({"sliding_window": 16, "sliding_window_pattern": 2}, 2, 2),
        ({"sliding_window": 16, "use_sliding_window": False}, 4, 0),
        ({"layer_types": ["full_attention", *["sliding_attention"] * 3], "sliding_window": 16}, 1, 3),
        ({"attention_chunk_size": 16, "no_rope_layers": [1, 1, 1, 0]}, 1, 3),
    ],
)
def test_windows(fields: dict[str, object], full: int, window: int) -> None:
    shape = shape_from_config(SMALL | fields)
    assert (shape.attention_layers, shape.window_layers) == (full, window)
    assert shape.window == (16 if window else shape.window)


def test_layers_that_keep_a_state() -> None:
    mixed = SMALL | {
        "attn_layer_period": 4,
        "mamba_expand": 2,
        "mamba_d_state": 16,
        "num_hidden_layers": 8,
    }
    shape = shape_from_config(mixed)
    assert (shape.attention_layers, shape.kind) == (2, "hybrid")
    assert shape.state_elements == 6 * 2 * 64 * 16


@pytest.mark.parametrize("field", sorted(SMALL))
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ConfigError, match=field) as caught:
        shape_from_config({key: value for key, value in SMALL.items() if key != field})
    assert caught.value.code == "C106"


@pytest.mark.parametrize("value", [0, -3, "many", True, float("nan"), [1, 2], {}])
def test_a_size_that_is_none(value: object) -> None:
    with pytest.raises(ConfigError, match="hidden_size"):
        shape_from_config(SMALL | {"hidden_size": value})


def test_more_experts_chosen_than_there_are() -> None:
    with pytest.raises(ConfigError, match="only 4 in all"):
        shape_from_config(SMALL | {"num_experts": 4, "num_experts_per_tok": 8})


@pytest.mark.parametrize(("content", "message"), [("{", "isn't JSON"), ("[1]", "isn't a JSON object")])
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        shape_from_config(tmp_path)


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        shape_from_config(tmp_path)


@pytest.mark.parametrize(
    ("quantised", "form", "blocks"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", True),
        ({"quant_method": "fbgemm_fp8"}, "fp8", False),
        ({"quant_method": "mxfp4"}, "mxfp4", False),
        ({"quant_method": "gptq", "bits": 4}, "int4", False),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", False),
    ],
)
def test_formats_of_weights(quantised: dict[str, object], form: str, blocks: bool) -> None:
    shape = shape_from_config(SMALL | {"quantization_config": quantised})
    assert (shape.weight_format, shape.block_scales) == (form, blocks)


def test_a_model_known_by_size_only() -> None:
    with pytest.raises(CatalogError, match="only the size"):
        shape_of("gpt-4o")
    usual = shape_of_size("mine", 3e9, 30e9, "moe")
    assert not usual.counted
    assert usual.active_parameters == 3e9
    assert 0 < usual.routed_parameters < 30e9


@pytest.mark.parametrize(
    ("active", "total", "kind"), [(3e9, 1e9, "moe"), (0, 1e9, "dense"), (1e9, 1e9, "odd")]
)
def test_sizes_that_cannot_be(active: float, total: float, kind: str) -> None:
    with pytest.raises(ConfigError):
        shape_of_size("mine", active, total, kind)
