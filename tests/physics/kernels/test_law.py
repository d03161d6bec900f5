"""The shipped laws: what they say of known accelerators, and what stands in for others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.kernels.hardware import family, hardware
from negajoule.physics.kernels.law import kernel_law

SHAPES = {
    "gemm": (64.0, 4096.0, 4096.0),
    "context_attention": (4.0, 1024.0, 32.0, 8.0, 128.0, 0.0),
    "generation_attention": (32.0, 2047.0, 32.0, 8.0, 128.0, 0.0),
    "moe": (128.0, 4096.0, 1536.0, 8.0, 128.0, 1.0, 1.0, 0.0),
}


@pytest.mark.parametrize("operator", SHAPES)
@pytest.mark.parametrize("accelerator", ["h200", "b200", "gb200", "a100"])
def test_one_call_is_what_many_are(accelerator, operator):
    law = kernel_law(accelerator, operator, "bfloat16")
    one = law.cost(SHAPES[operator])
    time, power = law.costs([np.array([value, 2.0 * value]) for value in SHAPES[operator]])
    assert (one.time_s, one.power_w) == pytest.approx((time[0], power[0]))
    assert one.energy_j == pytest.approx(one.time_s * one.power_w)


def test_measured_kernels_are_met():
    # Rows of the tables: 4096 x 4096 at m = 2048 takes 102 us at 692 W on H200, 51.6 us on B200.
    h200 = kernel_law("h200", "gemm", "bfloat16").cost((2048.0, 4096.0, 4096.0))
    assert h200.time_s == pytest.approx(102e-6, rel=0.1)
    assert h200.power_w == pytest.approx(692, rel=0.1)
    b200 = kernel_law("b200", "gemm", "bfloat16").cost((2048.0, 4096.0, 4096.0))
    assert b200.time_s == pytest.approx(51.6e-6, rel=0.1)


def test_an_accelerator_that_was_not_measured_has_the_law_of_its_generation_and_a_wider_interval():
    known, other = kernel_law("b200", "gemm", "nvfp4"), kernel_law("gb200", "gemm", "nvfp4")
    assert known.known
    assert not other.known
    assert "B200" in other.basis
    assert other.time_error > known.time_error
    assert other.energy_error > known.energy_error


def test_an_older_accelerator_is_slower_by_its_data_sheet():
    large = (8192.0, 8192.0, 8192.0)
    a100, h200 = (kernel_law(name, "gemm", "bfloat16").cost(large) for name in ("a100", "h200"))
    sheet = hardware("h200").compute_16bit / hardware("a100").compute_16bit
    assert a100.time_s / h200.time_s == pytest.approx(sheet, rel=0.2)
    assert a100.power_w < h200.power_w


def test_a_format_that_was_not_measured_has_a_wider_ones_law_and_no_block_kernels_wait():
    plain = kernel_law("b200", "gemm", "fp8")
    assert plain.basis == "kernels of B200, bfloat16"
    assert (
        plain.cost(SHAPES["gemm"]).time_s
        < kernel_law("b200", "gemm", "fp8_block").cost(SHAPES["gemm"]).time_s
    )


@given(
    tokens=st.floats(1, 32768),
    width=st.floats(32, 65536),
    accelerator=st.sampled_from(["h200", "b200", "gb300", "l40s"]),
    number_format=st.sampled_from(["bfloat16", "fp8", "fp8_block", "nvfp4"]),
)
@settings(max_examples=60)
def test_times_and_powers_can_be(tokens, width, accelerator, number_format):
    cost = kernel_law(accelerator, "gemm", number_format).cost((tokens, width, 4096.0))
    sheet = hardware(accelerator)
    least = 2.0 * tokens * width * 4096.0 / sheet.rate(number_format)
    assert cost.time_s > 0.8 * least
    assert 0.1 * sheet.power < cost.power_w < 1.15 * sheet.power


def test_more_work_takes_longer_at_large_sizes():
    law = kernel_law("h200", "gemm", "bfloat16")
    times = [law.cost((m, 8192.0, 8192.0)).time_s for m in (512.0, 2048.0, 8192.0, 32768.0)]
    assert times == sorted(times)


def test_unknown_names_are_refused():
    with pytest.raises(CatalogError):
        kernel_law("tpu-v9", "gemm", "bfloat16")
    with pytest.raises(ConfigError):
        kernel_law("h200", "convolution", "bfloat16")
    with pytest.raises(ConfigError):
        kernel_law("h200", "gemm", "ternary")


def test_names_of_formats_are_told_apart():
    names = ("float16", "fp8_block", "nvfp4", "int4_wo", "w4a16_mxfp4")
    assert [family(name) for name in names] == ["bfloat16", "fp8", "mxfp4", "mxfp4", "mxfp4"]
    b200 = hardware("b200")
    assert b200.rate("int4_wo") == b200.rate("w4a16_mxfp4") == b200.compute_16bit
    assert b200.rate("nvfp4") == b200.compute_4bit
    assert hardware("h200").rate("nvfp4") == hardware("h200").compute_8bit
