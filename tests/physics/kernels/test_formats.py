"""What number formats do at kernel level, by number of tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.kernels.formats import format_ratio


def test_block_scaled_8_bit_is_slower_at_decode_sizes_and_faster_for_prompts():
    for accelerator in ("h200", "b200"):
        assert format_ratio(accelerator, "fp8", 64).time > 1.5
        assert format_ratio(accelerator, "fp8", 8192).time < 0.75
        assert format_ratio(accelerator, "fp8", 8192).energy < 0.8


def test_nvfp4_gains_in_both_regimes():
    for tokens in (1, 64, 8192):
        ratio = format_ratio("b200", "nvfp4", tokens)
        assert ratio.time < 0.8
        assert ratio.energy < 0.8
        assert ratio.measured


def test_bfloat16_beside_itself_is_one():
    ratio = format_ratio("h200", "bf16", 64)
    assert (ratio.time, ratio.energy) == (1.0, 1.0)


def test_a_given_layer_has_a_narrower_interval_than_all_layers():
    layer, layers = format_ratio("h200", "fp8", 64, 8192, 8192), format_ratio("h200", "fp8", 64)
    assert layer.time_high / layer.time_low < layers.time_high / layers.time_low


def test_an_accelerator_that_was_not_measured_says_so_and_knows_less():
    measured, other = format_ratio("b200", "nvfp4", 64), format_ratio("gb200", "nvfp4", 64)
    assert not other.measured
    assert "B200" in other.evidence
    assert other.time_high / other.time_low > measured.time_high / measured.time_low


@given(tokens=st.floats(1, 1e5), number_format=st.sampled_from(["fp8", "fp8_block", "bf16"]))
@settings(max_examples=30)
def test_intervals_hold_their_middle(tokens, number_format):
    ratio = format_ratio("h200", number_format, tokens)
    assert ratio.time_low <= ratio.time <= ratio.time_high
    assert ratio.energy_low <= ratio.energy <= ratio.energy_high


def test_what_was_not_measured_is_refused():
    with pytest.raises(ConfigError) as refusal:
        format_ratio("h200", "nvfp4", 64)
    assert refusal.value.code == "C113"
    for tokens in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="tokens"):
            format_ratio("h200", "fp8", tokens)
    with pytest.raises(ConfigError):
        format_ratio("h200", "ternary", 64)
    with pytest.raises(CatalogError):
        format_ratio("abacus", "fp8", 64)
