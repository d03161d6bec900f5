"""Setups: what can't be, what doesn't fit, and how many sequences do."""

from typing import Any

import pytest

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.serving import ServingSetup, load_predictor, shape_of
from negajoule.physics.serving.setup_inputs import inputs_of


def setup_of(model: str = "llama-3.1-8b", **fields: Any) -> ServingSetup:
    return ServingSetup(**({"shape": shape_of(model), "accelerator": "h100"} | fields))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"count": 0}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": True}, "count"),
        ({"count": 4, "tensor_parallel": 3}, "tensor_parallel"),
        ({"count": 4, "data_parallel": 3}, "data_parallel"),
        ({"count": 4, "expert_parallel": 8}, "expert_parallel"),
        ({"batch_limit": 0}, "batch_limit"),
        ({"memory_share": 0.0}, "memory_share"),
        ({"memory_share": 1.1}, "memory_share"),
    ],
)
def test_numbers_that_cannot_be(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        setup_of(**fields)
    assert caught.value.code == "C101"


def test_an_unknown_accelerator_is_named_with_the_known_ones() -> None:
    with pytest.raises(CatalogError, match="tpu-v9"):
        _ = setup_of(accelerator="tpu-v9").hardware


def test_weights_that_do_not_fit_say_how_many_would_do() -> None:
    with pytest.raises(ConfigError, match="doesn't fit") as caught:
        setup_of("llama-3.1-405b", count=8).free_bytes()
    assert caught.value.code == "C112"
    assert "at least 12 of them" in caught.value.fix
    assert setup_of("llama-3.1-405b", count=12).free_bytes() > 0


def test_keys_and_values_by_hand() -> None:
    setup = setup_of()
    assert setup.kv_bytes(1000.0) == 32 * 2048 * 2 * 1000
    free = 0.9 * 80e9 - setup.weight_bytes()
    assert setup.free_bytes() == pytest.approx(free)
    assert setup.max_sequences(1000.0) == int(free / setup.kv_bytes(1000.0))
    assert setup_of(batch_limit=7).max_sequences(1000.0) == 7


def test_a_batch_that_does_not_fit_names_the_largest() -> None:
    setup = setup_of()
    most = setup.max_sequences(4000.0)
    setup.require_fit(most, 4000.0)
    with pytest.raises(ConfigError, match="don't fit") as caught:
        setup.require_fit(most + 1, 4000.0)
    assert caught.value.code == "C112"
    assert f"at most {most}" in caught.value.fix


def test_a_window_bounds_what_is_kept() -> None:
    windowed = setup_of("gemma-3-27b")
    grown = windowed.kv_bytes(9000.0) - windowed.kv_bytes(8000.0)
    assert grown == 10 * 4096 * 2 * 1000  # only the layers that attend to all of it


def test_a_state_does_not_grow() -> None:
    hybrid = setup_of("nemotron-nano-12b-v2")
    assert hybrid.kv_bytes(1.0) > hybrid.shape.state_elements
    assert hybrid.kv_bytes(2000.0) - hybrid.kv_bytes(1000.0) == 6 * 2048 * 2 * 1000


def test_heads_that_cannot_be_split_are_copied() -> None:
    one = setup_of("qwen3-235b-a22b", accelerator="b200", count=4).kv_bytes(100.0)
    assert setup_of("qwen3-235b-a22b", accelerator="b200", count=8).kv_bytes(100.0) == 2 * one


def test_latent_attention_with_spread_experts_keeps_one_copy() -> None:
    spread = setup_of("deepseek-v3", accelerator="b200", count=8, expert_parallel=8)
    split = setup_of("deepseek-v3", accelerator="b200", count=8)
    assert split.kv_bytes(100.0) == 8 * spread.kv_bytes(100.0)


def test_replicas_of_attention_hold_it_each() -> None:
    shape = shape_of("qwen3-30b-a3b")
    one, four = setup_of("qwen3-30b-a3b", count=4), setup_of("qwen3-30b-a3b", count=4, data_parallel=4)
    shared = shape.parameters - shape.routed_parameters
    assert four.weight_bytes() - one.weight_bytes() == pytest.approx(3 * shared * 2)
    assert inputs_of(four).dense_bytes == pytest.approx(4 * inputs_of(one).dense_bytes)


def test_formats_halve_what_is_read() -> None:
    sixteen, eight = inputs_of(setup_of()), inputs_of(setup_of(weight_format="fp8"))
    assert eight.dense_bytes == sixteen.dense_bytes / 2
    assert (eight.is_fp8, eight.is_block) == (1.0, 0.0)
    assert inputs_of(setup_of("qwen3-30b-a3b", weight_format="fp8")).is_block == 1.0


def test_a_dense_model_with_block_scales_is_told_and_widened() -> None:
    """The kernels' waits were fitted on experts; taken for a dense model they'd multiply its energy."""
    block, row = (setup_of(name, weight_format="fp8") for name in ("qwen3-8b", "llama-3.1-8b"))
    asked = {"batch": 16, "tokens_in": 300, "tokens_out": 300}
    told, plain = load_predictor().predict(block, **asked), load_predictor().predict(row, **asked)
    assert any("scales by rows stand in" in note for note in told.notes)
    assert told.energy_half_width > plain.energy_half_width
    assert told.energy_per_token_j < 2.0 * plain.energy_per_token_j


def test_graphs_reach_as_far_as_the_engine_captures() -> None:
    assert inputs_of(setup_of()).graph_limit == 512
    assert inputs_of(setup_of(batch_limit=8)).graph_limit == 16
    assert inputs_of(setup_of(cuda_graphs=False)).graph_limit == 0
