"""What operators compute and read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import ConfigError
from negajoule.physics.kernels.operators import OPERATORS, operator_named

HEADS = (8.0, 2.0, 128.0)


def test_a_matrix_product_is_two_operations_a_cell_and_reads_both_sides_once():
    work = OPERATORS["gemm"].work((64.0, 512.0, 256.0), 1.0)
    assert work.flops == 2 * 64 * 512 * 256
    assert work.bytes == 512 * 256 + 64 * 256 + 2 * 64 * 512


def test_a_window_bounds_what_a_token_sees():
    decode = OPERATORS["generation_attention"]
    near = decode.work((4.0, 127.0, *HEADS, 128.0), 2.0)
    far = decode.work((4.0, 8191.0, *HEADS, 128.0), 2.0)
    everything = decode.work((4.0, 8191.0, *HEADS, 0.0), 2.0)
    assert far == near
    assert everything.flops == 64 * far.flops


def test_a_prompt_under_its_window_is_computed_as_without_one():
    prompt = OPERATORS["context_attention"]
    assert prompt.work((1.0, 512.0, *HEADS, 4096.0), 2.0) == prompt.work((1.0, 512.0, *HEADS, 0.0), 2.0)
    windowed = prompt.work((1.0, 8192.0, *HEADS, 512.0), 2.0).flops
    assert windowed < prompt.work((1.0, 8192.0, *HEADS, 0.0), 2.0).flops / 7


@given(tokens=st.floats(1, 1e5), experts=st.sampled_from([8.0, 64.0, 512.0]))
@settings(max_examples=30)
def test_no_more_experts_are_read_than_there_are_nor_than_are_chosen(tokens, experts):
    hidden, inner, chosen = 64.0, 32.0, 2.0
    matrices = 3 * hidden * inner
    work = OPERATORS["moe"].work((tokens, hidden, inner, chosen, experts, 1.0, 1.0, 0.0), 1.0)
    between = 2.0 * tokens * chosen * (3 * hidden + 4 * inner)
    read = (work.bytes - between) / matrices
    assert read <= min(experts, tokens * chosen) * (1 + 1e-6)
    assert work.flops == pytest.approx(2 * tokens * chosen * matrices)


def test_an_operator_that_was_not_measured_is_refused():
    with pytest.raises(ConfigError, match="convolution"):
        operator_named("convolution")
