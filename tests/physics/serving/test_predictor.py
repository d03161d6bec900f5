"""Predictions: sums, monotony, the same numbers as the fit's arrays, intervals, notes and refusals."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.serving import ModelShape, Predictor, ServingSetup, load_predictor, shape_of
from negajoule.physics.serving.residuals import features_of
from negajoule.physics.serving.setup_inputs import inputs_of
from negajoule.physics.serving.step_physics import Coefficients, Inputs, steady_of, step_of, terms_of

SETUPS = {
    "dense": {"shape": shape_of("llama-3.1-8b"), "accelerator": "h100"},
    "experts": {
        "shape": shape_of("qwen3-235b-a22b"),
        "accelerator": "b200",
        "count": 4,
        "expert_parallel": 4,
    },
    "blocks": {"shape": shape_of("deepseek-v3"), "accelerator": "b200", "count": 8, "expert_parallel": 8},
    "hybrid": {"shape": shape_of("nemotron-nano-12b-v2"), "accelerator": "h100"},
    "window": {"shape": shape_of("gpt-oss-20b"), "accelerator": "b200"},
    "unseen": {"shape": shape_of("qwen2.5-14b"), "accelerator": "h200"},
    "old": {"shape": shape_of("llama-3-8b"), "accelerator": "a100-40gb", "engine": "vllm-0.5"},
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_predictor()


def setup_of(name: str, **more: Any) -> ServingSetup:
    return ServingSetup(**(SETUPS[name] | more))


names = st.sampled_from(sorted(SETUPS))
batches = st.floats(1.0, 2000.0)
lengths = st.floats(1.0, 8000.0)


@settings(max_examples=60, deadline=None)
@given(names, batches, lengths, lengths)
def test_phases_sum_to_the_request(name: str, batch: float, tokens_in: float, tokens_out: float) -> None:
    found = load_predictor().predict(
        setup_of(name), batch=batch, tokens_in=tokens_in, tokens_out=tokens_out, extrapolate=True
    )
    phases = (found.prefill, found.decode, found.host, found.idle)
    assert all(phase.energy_j >= 0 for phase in phases)
    assert math.isclose(sum(phase.energy_j for phase in phases), found.energy_per_request_j, rel_tol=1e-9)
    assert math.isclose(
        found.energy_per_token_j, found.power_w * found.token_s / batch, rel_tol=1e-9
    )  # what's measured: power over output rate
    assert found.power_w <= setup_of(name).count * setup_of(name).hardware.power * (1 + 1e-9)
    assert found.time().low <= found.request_s <= found.time().high
    assert found.energy().low < found.energy_per_request_j < found.energy().high


@settings(max_examples=60, deadline=None)
@given(names, batches, lengths, lengths, st.floats(1.01, 3.0), st.booleans())
def test_more_tokens_never_cost_less(
    name: str, batch: float, tokens_in: float, tokens_out: float, factor: float, longer_prompt: bool
) -> None:
    def energy(more_in: float, more_out: float) -> tuple[float, float]:
        found = load_predictor().predict(
            setup_of(name),
            batch=batch,
            tokens_in=tokens_in * more_in,
            tokens_out=tokens_out * more_out,
            extrapolate=True,
        )
        return found.energy_per_request_j, found.request_s

    short = energy(1.0, 1.0)
    long = energy(factor, 1.0) if longer_prompt else energy(1.0, factor)
    assert long[0] >= short[0] * (1 - 1e-9)
    assert long[1] >= short[1] * (1 - 1e-9)


@settings(max_examples=30, deadline=None)
@given(names, batches, st.floats(100.0, 8000.0), lengths, st.floats(0.0, 1.0))
def test_a_kept_prompt_costs_less(
    name: str, batch: float, tokens_in: float, tokens_out: float, share: float
) -> None:
    setup = setup_of(name)

    def energy(cached: float) -> float:
        return (
            load_predictor()
            .predict(
                setup,
                batch=batch,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                cached=cached,
                extrapolate=True,
            )
            .energy_per_request_j
        )

    assert energy(share * tokens_in) <= energy(0.0) * (1 + 1e-9)


def test_arrays_and_numbers_give_the_same(predictor: Predictor) -> None:
    coefficients = Coefficients(**predictor.model.coefficients)
    setups = [setup_of(name) for name in sorted(SETUPS)]
    many = Inputs(*(np.array(field) for field in zip(*(inputs_of(setup) for setup in setups), strict=True)))
    batch, context = np.linspace(3.0, 900.0, len(setups)), np.linspace(100.0, 4000.0, len(setups))
    together = steady_of(terms_of(many, coefficients), batch, context, 300.0, 500.0, np.exp)
    for index, setup in enumerate(setups):
        alone = steady_of(
            terms_of(inputs_of(setup), coefficients),
            float(batch[index]),
            float(context[index]),
            300.0,
            500.0,
            math.exp,
        )
        assert alone.decode.time_s == pytest.approx(together.decode.time_s[index], rel=1e-12)
        assert alone.mixed.power_w == pytest.approx(together.mixed.power_w[index], rel=1e-12)
        assert alone.with_prompt == pytest.approx(together.with_prompt[index], rel=1e-12)


def test_reading_takes_at_least_what_the_memory_allows(predictor: Predictor) -> None:
    setup = setup_of("dense")
    found = predictor.predict(setup, batch=1.0, tokens_in=10.0, tokens_out=10.0)
    least = (setup.shape.step_parameters * 2) / setup.hardware.bandwidth
    assert least < found.step_s < 3 * least
    assert found.reading_share > 0.95  # one sequence waits for memory
    full = predictor.predict(setup, batch=2000.0, tokens_in=10.0, tokens_out=100.0)
    assert full.reading_share < found.reading_share


def test_a_batch_shares_the_reading(predictor: Predictor) -> None:
    setup = setup_of("dense")
    tokens = [
        predictor.predict(setup, batch=batch, tokens_in=200.0, tokens_out=400.0).energy_per_token_j
        for batch in (1.0, 8.0, 64.0, 256.0)
    ]
    assert tokens == sorted(tokens, reverse=True)
    assert tokens[0] > 5 * tokens[2]


def test_launching_kernels_one_by_one_takes_longer_and_is_less_sure(predictor: Predictor) -> None:
    asked = {"batch": 8.0, "tokens_in": 200.0, "tokens_out": 400.0}
    graphs = predictor.predict(setup_of("dense"), **asked)
    eager = predictor.predict(setup_of("dense", cuda_graphs=False), **asked)
    assert eager.step_s > graphs.step_s
    assert eager.energy_half_width > graphs.energy_half_width
    assert any("graphs" in note for note in eager.notes)


def test_a_slow_host_sets_the_pace(predictor: Predictor) -> None:
    asked = {"batch": 8.0, "tokens_in": 200.0, "tokens_out": 400.0}
    fast = predictor.predict(setup_of("dense", accelerator="b200"), **asked)
    slow = predictor.predict(setup_of("dense", accelerator="b200", slow_host=True), **asked)
    assert slow.step_s > 2 * fast.step_s
    assert slow.host.time_s > slow.decode.time_s
    assert slow.power_w < fast.power_w


@pytest.mark.parametrize(
    ("batch", "tokens_in", "tokens_out", "cached"),
    [
        (0.0, 10.0, 10.0, 0.0),
        (0.5, 10.0, 10.0, 0.0),
        (math.nan, 10.0, 10.0, 0.0),
        (math.inf, 10.0, 10.0, 0.0),
        (8.0, -1.0, 10.0, 0.0),
        (8.0, 10.0, 0.0, 0.0),
        (8.0, 10.0, 10.0, 11.0),
        (8.0, math.nan, 10.0, 0.0),
    ],
)
def test_numbers_that_cannot_be(
    predictor: Predictor, batch: float, tokens_in: float, tokens_out: float, cached: float
) -> None:
    with pytest.raises(ConfigError) as caught:
        predictor.predict(
            setup_of("dense"), batch=batch, tokens_in=tokens_in, tokens_out=tokens_out, cached=cached
        )
    assert caught.value.code == "C101"


@pytest.mark.parametrize(("field", "value"), [("batch", 20_000.0), ("tokens_in", 50_000.0)])
def test_far_outside_what_was_measured_is_refused(predictor: Predictor, field: str, value: float) -> None:
    asked = {"batch": 8.0, "tokens_in": 200.0, "tokens_out": 400.0} | {field: value}
    with pytest.raises(ConfigError, match=field) as caught:
        predictor.predict(setup_of("dense"), **asked)
    assert caught.value.code == "C113"
    found = predictor.predict(setup_of("dense"), **asked, extrapolate=True)
    assert any(note.startswith(field) for note in found.notes)
    usual = predictor.predict(setup_of("dense"), batch=8.0, tokens_in=200.0, tokens_out=400.0)
    assert found.energy_half_width > usual.energy_half_width


def test_a_little_outside_is_wider_and_says_so(predictor: Predictor) -> None:
    high = predictor.model.ranges["batch"][1]
    inside = predictor.predict(setup_of("dense"), batch=high, tokens_in=200.0, tokens_out=400.0)
    outside = predictor.predict(setup_of("dense"), batch=1.5 * high, tokens_in=200.0, tokens_out=400.0)
    assert inside.notes == ()
    assert len(outside.notes) == 1
    assert outside.energy_half_width > inside.energy_half_width
    one = predictor.predict(setup_of("dense"), batch=1.0, tokens_in=200.0, tokens_out=400.0)
    assert "batch 1 is outside" in one.notes[0]


@pytest.mark.parametrize(
    ("name", "more", "word"),
    [
        ("unseen", {}, "h200"),
        ("dense", {"engine": "sglang-0.5"}, "sglang-0.5"),
        ("dense", {"accelerator": "a100", "weight_format": "fp8"}, "a100"),
    ],
)
def test_what_was_never_measured_is_wider_and_says_so(
    predictor: Predictor, name: str, more: dict[str, Any], word: str
) -> None:
    asked = {"batch": 16.0, "tokens_in": 200.0, "tokens_out": 400.0}
    found = predictor.predict(setup_of(name, **more), **asked)
    assert any(word in note for note in found.notes)
    assert found.energy_half_width > predictor.predict(setup_of("dense"), **asked).energy_half_width


def test_unknown_accelerators_and_formats_are_refused(predictor: Predictor) -> None:
    asked = {"batch": 16.0, "tokens_in": 200.0, "tokens_out": 400.0}
    with pytest.raises(CatalogError, match="potato"):
        predictor.predict(setup_of("dense", accelerator="potato"), **asked)
    with pytest.raises(ConfigError, match="fp17"):
        predictor.predict(setup_of("dense", weight_format="fp17"), **asked)
    with pytest.raises(ConfigError, match="doesn't fit"):
        predictor.predict(setup_of("blocks", count=1, expert_parallel=1), **asked)


def test_a_giant_is_far_from_what_was_measured(predictor: Predictor) -> None:
    shape = shape_of("llama-3.1-405b")
    giant = ModelShape(
        **{name: getattr(shape, name) for name in shape.__struct_fields__}
        | {"name": "giant", "active_parameters": 1.5e12}
    )
    found = predictor.predict(
        ServingSetup(shape=giant, accelerator="b200", count=8), batch=8.0, tokens_in=10.0, tokens_out=10.0
    )
    assert any("billion" in note for note in found.notes)


def test_the_correction_fades_away_from_measured_setups(predictor: Predictor) -> None:
    residuals = predictor.model.residuals
    known = residuals.correction(features_of(inputs_of(setup_of("dense"))))
    strange = list(features_of(inputs_of(setup_of("dense"))))
    strange[0] += 20.0
    far = residuals.correction(tuple(strange))
    assert max(map(abs, known.energy)) > 0.01
    assert far.factors(3.0) == (1.0, 1.0)
    assert known.factors(1e3) == pytest.approx(known.factors(10.0), rel=0.01)


def test_step_tables_are_the_predictions(predictor: Predictor) -> None:
    setup = setup_of("experts")
    table = predictor.step_table(setup, 64, context=1000.0)
    assert table.max_batch == 64
    assert table.decode_s[0] == table.decode_j[0] == 0.0
    found = predictor.predict(setup, batch=40, tokens_in=0.0, tokens_out=1.0, context=1000.0)
    assert table.decode_s[40] + table.decode_context_s[40] * 40 * 1000 == pytest.approx(found.step_s)
    assert table.decode_j[40] + table.decode_context_j[40] * 40 * 1000 == pytest.approx(
        found.energy_per_step_j
    )
    assert all(one >= 0 for one in (*table.decode_context_s, *table.decode_context_j))
    assert table.idle_w == table.sleep_w == predictor.idle_power(setup)
    assert table.kv_tokens > 64 * 1000
    assert table.prefill_token_s > 0
    assert table.wake_s > 1.0
    assert predictor.step_table(setup_of("dense", batch_limit=5)).max_batch == 5
    assert predictor.step_table(setup, 4, sleep_w=10.0).sleep_w == 10.0


def test_a_table_sums_to_a_request_alone(predictor: Predictor) -> None:
    setup = setup_of("dense")
    table = predictor.step_table(setup, 16, context=512.0)
    prompt = 512.0
    linear = table.prefill_token_s * prompt + table.prefill_context_s * prompt**2
    terms = terms_of(inputs_of(setup), Coefficients(**predictor.model.coefficients))
    correction = predictor.model.residuals.correction(features_of(inputs_of(setup)))
    mixed = step_of(terms, 16.0, prompt, 1.0, prompt).time_s * correction.factors(math.log(16.0))[0]
    decode = table.decode_s[16] + table.decode_context_s[16] * 16 * prompt
    assert decode + linear == pytest.approx(mixed, rel=1e-6)
