from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.compress.four_bits import compensated, nearest, pack
from negajoule.errors import CompressError

gguf = pytest.importorskip("gguf")
np = pytest.importorskip("numpy")

Q4_0 = gguf.GGMLQuantizationType.Q4_0


def unpacked(packed):
    return gguf.quants.dequantize(packed, Q4_0)


def weights(seed, rows=8, inputs=96, spread=1.0):
    return np.random.default_rng(seed).normal(scale=spread, size=(rows, inputs)).astype("f4")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), spread=st.sampled_from([1e-4, 1.0, 50.0]))
def test_the_bytes_hold_the_values(seed, spread):
    found = nearest(weights(seed, spread=spread))
    np.testing.assert_array_equal(unpacked(pack(found)), found.values)
    assert found.codes.min() >= -8
    assert found.codes.max() <= 7


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_a_searched_scale_is_never_worse_than_the_plain_one(seed):
    original = weights(seed)
    plain = unpacked(gguf.quants.quantize(original, Q4_0))
    found = nearest(original).values
    blocks = (
        ((original - found) ** 2).reshape(-1, 32).sum(1),
        ((original - plain) ** 2).reshape(-1, 32).sum(1),
    )
    assert blocks[0].sum() <= blocks[1].sum()


def test_what_matters_is_kept_better():
    original = weights(3)
    importance = np.ones(96, "f4")
    importance[::7] = 100.0
    gap = [
        ((original - one.values) ** 2)[:, ::7].sum()
        for one in (nearest(original), nearest(original, importance))
    ]
    assert gap[1] < gap[0]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_compensation_keeps_the_answers(seed):
    original = weights(seed, rows=16)
    dice = np.random.default_rng(seed + 1000)
    inputs = dice.normal(size=(400, 96)) @ dice.normal(size=(96, 96))
    gram = inputs.T @ inputs

    def gap(found):
        return (((original - found.values) @ inputs.T) ** 2).sum()

    assert gap(compensated(original, gram)) < 0.8 * gap(nearest(original, np.diag(gram)))


def test_nothing_to_make_up_for_is_plain_rounding():
    original = weights(5)
    one, other = compensated(original, np.eye(96)), nearest(original)
    np.testing.assert_array_equal(one.codes, other.codes)


def test_zeros_stay_zeros_and_idle_inputs_do_no_harm():
    original = weights(7)
    original[:, :32] = 0.0
    gram = np.zeros((96, 96))
    gram[40:, 40:] = np.eye(56)
    found = compensated(original, gram).values
    assert not found[:, :32].any()
    assert np.isfinite(found).all()


def test_rows_that_make_no_blocks_are_refused():
    with pytest.raises(CompressError, match="40 inputs") as caught:
        nearest(weights(1, inputs=40))
    assert caught.value.code == "K101"


def test_inputs_that_are_no_numbers_are_refused():
    gram = np.eye(96)
    gram[3, 3] = np.nan
    with pytest.raises(CompressError, match="aren't numbers") as caught:
        compensated(weights(1), gram)
    assert caught.value.code == "K104"
