"""Energy by batch, its marks, and what static batches waste."""

import json
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.advise import advise_batching, padding_waste
from negajoule.advise.chart import draw_batching
from negajoule.advise.padding import spread_lengths
from negajoule.errors import ConfigError
from negajoule.physics.serving import ServingSetup, load_predictor, shape_of


def setup_of(model="llama-3.1-8b", accelerator="h100", count=1, **more):
    return ServingSetup(shape=shape_of(model), accelerator=accelerator, count=count, **more)


@pytest.fixture(scope="module")
def advice():
    return advise_batching(setup_of(), 500, 300, batch=8)


def test_the_knee_is_the_first_batch_near_the_least(advice):
    predictor = load_predictor()

    def joules(batch):
        return predictor.predict(setup_of(), batch=batch, tokens_in=500, tokens_out=300).energy_per_token_j

    least = min(point.energy_per_token_j for point in advice.points)
    assert joules(advice.knee) <= 1.25 * least * 1.001
    assert joules(advice.knee / 2**0.25) > 1.25 * least


def test_the_curve_meets_the_measured_one(advice):
    # ML.ENERGY v3, Llama-3.1-8B on H100, chat: 0.455 J/token at 8, 0.119 at 64
    measured = {8: 0.4548, 64: 0.1186}
    for point in advice.points:
        if point.batch in measured:
            assert point.energy_per_token_j == pytest.approx(measured[point.batch], rel=0.15)


def test_the_ceiling_and_what_is_left(advice):
    first, least = advice.points[0], min(advice.points, key=lambda point: point.energy_per_token_j)
    assert advice.ceiling.value == pytest.approx(first.energy_per_token_j / least.energy_per_token_j)
    assert 1 < advice.left.low < advice.left.value < advice.ceiling.value
    assert 0 < advice.asymptote_j <= 1.1 * least.energy_per_token_j
    assert advice.decision.chosen == f"batch {advice.knee:g}"
    assert 0 < advice.decision.margin_low < advice.decision.margin < advice.decision.margin_high


def test_memory_ends_the_curve(advice):
    assert advice.kv_limit == setup_of().max_sequences(800)
    assert advice.limited_by == "memory"
    assert advice.points[-1].batch == advice.kv_limit


def test_a_limit_of_latency_ends_it_earlier(advice):
    tight = advise_batching(setup_of(), 500, 300, token_limit_s=0.012)
    assert tight.limited_by == "latency"
    assert tight.points[-1].token_s <= 0.012
    assert tight.points[-1].batch < advice.points[-1].batch
    with pytest.raises(ConfigError, match="can't be kept"):
        advise_batching(setup_of(), 500, 300, token_limit_s=1e-4)


def test_a_large_batch_is_left_alone():
    advice = advise_batching(setup_of(), 500, 300, batch=400)
    assert advice.decision.chosen == "batch 400"


def test_a_batch_limit_is_named():
    advice = advise_batching(setup_of(batch_limit=32), 500, 300)
    assert advice.limited_by == "batch limit"
    assert advice.points[-1].batch == 32


@pytest.mark.parametrize("batch", [0, -3, float("nan"), 1e6])
def test_batches_that_cannot_be(batch):
    with pytest.raises(ConfigError):
        advise_batching(setup_of(), 500, 300, batch=batch)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError) as caught:
        advise_batching(setup_of("llama-3.1-405b"), 500, 300)
    assert caught.value.code == "C112"


def test_a_knee_needs_a_share():
    with pytest.raises(ConfigError, match="knee"):
        advise_batching(setup_of(), 500, 300, within=0)


def test_the_picture_holds_curve_and_knee(advice, tmp_path):
    path = tmp_path / "curve.json"
    draw_batching(advice, "a test", path)
    layers = json.loads(path.read_text())["layer"]
    assert len(layers[0]["data"]["values"]) == len(advice.points)
    assert layers[-1]["data"]["values"] == [{"x": advice.knee}]


# padding


def test_equal_lengths_waste_nothing():
    assert padding_waste([100.0] * 10, 8).share == 0


def test_a_batch_of_one_wastes_nothing():
    assert padding_waste([10.0, 1000.0], 1).share == 0


def test_two_lengths_waste_what_counting_says():
    # of 2 drawn, half of the batches are unlike: 1100 of 2000 tokens are useful; the others waste nothing
    expected = 1 - (0.25 * 2000 + 0.25 * 200 + 0.5 * 1100) / (0.25 * 2000 + 0.25 * 200 + 0.5 * 2000)
    assert padding_waste([100.0, 1000.0], 2).share == pytest.approx(expected, abs=0.05)


@given(lengths=st.lists(st.floats(1, 1e4), min_size=1, max_size=50), batch=st.integers(1, 32))
@settings(max_examples=30, deadline=None)
def test_waste_is_a_share(lengths, batch):
    waste = padding_waste(lengths, batch)
    assert -1e-9 <= waste.low <= waste.high < 1
    assert waste.factor == pytest.approx(1 / (1 - waste.share))
    assert waste.share <= 1 - 1 / batch + 1e-9


def test_spread_lengths_have_the_mean_and_the_spread():
    lengths, source = spread_lengths(300)
    assert fmean(lengths) == pytest.approx(300, rel=0.06)
    assert fmean(length**2 for length in lengths) / fmean(lengths) ** 2 == pytest.approx(1.95, rel=0.15)
    assert "ML.ENERGY" in source


@pytest.mark.parametrize(
    ("lengths", "batch"), [([], 4), ([1.0], 0), ([1.0], 10**6), ([-1.0, 2.0], 2), ([0.0], 2)]
)
def test_padding_that_cannot_be(lengths, batch):
    with pytest.raises(ConfigError):
        padding_waste(lengths, batch)
