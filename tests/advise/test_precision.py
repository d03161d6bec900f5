"""The choice of a number format: verdicts, their evidence, and what is refused."""

import json
from math import log

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_profiles
from negajoule.advise import Span, advise_precision, advise_precision_from, eager_law, eager_ratio, eager_rows
from negajoule.advise.engine_formats import engine_formats, format_name, in_format
from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.serving import ServingSetup, load_predictor, shape_from_config, shape_of
from negajoule.profile import load_profile


def setup_of(model="llama-3.1-8b", accelerator="h100", count=1, **more):
    return ServingSetup(shape=shape_of(model), accelerator=accelerator, count=count, **more)


def effect(advice, name):
    return next(one for one in advice.effects if one.format == name)


def test_prefill_computes_and_decode_reads():
    prefill, decode = advise_precision(setup_of(), 8, 1000, 200).phases
    assert (prefill.phase, prefill.bound) == ("prefill", "compute")
    assert (decode.phase, decode.bound) == ("decode", "memory")
    # a step of 8 sequences does some 2 x 8 operations for each weight of 2 bytes
    assert decode.intensity == pytest.approx(8, rel=0.15)
    assert decode.ridge == pytest.approx(295, rel=0.01)
    assert decode.by == pytest.approx(decode.ridge / decode.intensity)
    assert decode.reading_share > 0.9


def test_block_scales_in_decode_are_not_advised():
    for model, accelerator, count in (("llama-3.1-8b", "h200", 1), ("qwen3-235b-a22b", "b200", 4)):
        advice = advise_precision(setup_of(model, accelerator, count), 8, 200, 400)
        assert advice.decision.chosen != "fp8_block"
        assert effect(advice, "fp8_block").decode_energy.high > 1.0


def test_block_scales_without_graphs_cost_for_certain():
    advice = advise_precision(setup_of(accelerator="b200", cuda_graphs=False), 8, 50, 400)
    assert effect(advice, "fp8_block").verdict == "costs"


def test_four_bits_on_blackwell_save_where_matrices_are_most_of_a_step():
    advice = advise_precision(setup_of("llama-3.1-70b", "b200", 2), 64, 500, 300)
    assert advice.decision.chosen == "nvfp4"
    assert 0 < advice.decision.margin_low < advice.decision.margin < advice.decision.margin_high < 0.75
    assert "points lost" in effect(advice, "nvfp4").quality


def test_amdahl_leaves_the_rest_unchanged():
    wide = advise_precision(setup_of("llama-3.1-70b", "b200", 2), 64, 500, 300)
    small = advise_precision(setup_of("llama-3.1-8b", "b200"), 64, 500, 300)
    kernels = 0.36  # the most that nvfp4 kernels gain
    for advice in (wide, small):
        assert kernels < effect(advice, "nvfp4").decode_energy.value < 1
    # host and attention are more of a small model's step
    assert effect(small, "nvfp4").decode_energy.value > effect(wide, "nvfp4").decode_energy.value


def test_no_claim_where_the_interval_spans_one():
    advice = advise_precision(setup_of(), 256, 500, 300)
    assert effect(advice, "fp8").verdict == "inside noise"
    assert not advice.change
    assert advice.decision.reason.startswith("do not quantise")


def test_an_accelerator_that_was_not_run_widens_and_says_so():
    known = effect(advise_precision(setup_of(), 8, 500, 300), "fp8").energy
    other = effect(advise_precision(setup_of(accelerator="h200"), 8, 500, 300), "fp8")
    assert other.energy.half_width > 1.2 * known.half_width
    assert "no run on h200 was measured" in other.note


def test_no_eight_bits_on_an_accelerator_without_them():
    assert engine_formats(setup_of(accelerator="a100")) == ("bf16",)
    assert "nvfp4" not in engine_formats(setup_of())


def test_a_model_that_does_not_fit_is_given_the_widest_format_that_does():
    advice = advise_precision(setup_of("llama-3.1-70b", "h200"), 8, 500, 300)
    assert advice.decision.chosen == "fp8"
    assert "doesn't fit" in advice.decision.reason
    with pytest.raises(ConfigError, match="doesn't fit") as caught:
        advise_precision(setup_of("llama-3.1-405b"), 8, 500, 300)
    assert caught.value.code == "C112"


def test_block_scales_in_use_are_not_said_to_be_left_with_profit():
    setup = in_format(setup_of(), "fp8_block")
    back, forth = advise_precision(setup, 64, 500, 300), advise_precision(setup_of(), 64, 500, 300)
    assert back.used == "fp8_block"
    assert not back.change
    assert effect(back, "bf16").energy.value == pytest.approx(1 / effect(forth, "fp8_block").energy.value)
    assert effect(back, "fp8").verdict == "unknown"


def test_what_is_not_known_of_quality_is_said():
    advice = advise_precision(setup_of("qwen3-235b-a22b", "b200", 4), 64, 500, 300)
    assert advice.decision.chosen == "mxfp4"
    assert "not known" in advice.decision.reason
    assert "only gpt-oss" in effect(advice, "mxfp4").note


def test_a_published_narrow_format_is_kept():
    advice = advise_precision(setup_of("gpt-oss-120b", "b200"), 64, 500, 300)
    assert advice.used == "mxfp4"
    assert advice.decision.reason.startswith("keep mxfp4")
    assert effect(advice, "bf16").fits is False


@pytest.mark.parametrize("name", ["bf16", "fp8", "fp8_block", "mxfp4"])
def test_formats_have_names(name):
    assert format_name(in_format(setup_of(), name)) == name


@pytest.mark.parametrize("batch", [0, -1, 0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_batches_that_cannot_be(batch, engine):
    with pytest.raises(ConfigError) as caught:
        advise_precision(setup_of(), batch, 500, 300, engine=engine)
    assert caught.value.code == "C101"


def test_far_outside_is_refused():
    with pytest.raises(ConfigError) as caught:
        advise_precision(setup_of(), 1e5, 500, 300)
    assert caught.value.code == "C112"
    with pytest.raises(ConfigError) as caught:
        advise_precision(setup_of("qwen3-235b-a22b", "b200", 8), 20_000, 10, 20)
    assert caught.value.code == "C113"


def test_unknown_names():
    with pytest.raises(CatalogError, match="data sheet"):
        advise_precision(setup_of(accelerator="abacus"), 8, 500, 300)
    with pytest.raises(CatalogError, match="data sheet"):
        advise_precision(setup_of(accelerator="abacus"), 1, 500, 300, engine="transformers")
    with pytest.raises(ConfigError, match="engine"):
        advise_precision(setup_of(), 8, 500, 300, engine="abacus")


def test_a_configuration_with_missing_fields(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", "hidden_size": 4096}))
    with pytest.raises(ConfigError):
        shape_from_config(path)


# eager kernels


def test_int8_never_saved():
    rows = [row for row in eager_rows() if row.method == "int8"]
    assert len(rows) == 14
    assert min(row.ratio for row in rows) > 1


def test_the_law_finds_crossovers_near_those_published():
    law = eager_law("nf4")
    assert 1.5 < law.crossover(("RTX 4090", "2026-07")) < 4
    assert 3 < law.crossover(("RTX 5090", "2026-01")) < 6
    assert law.crossover(("RTX 5090", "2026-09")) < 2.5


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_intervals_hold_boards_that_were_left_out(method):
    held = total = 0
    for row in eager_rows():
        if row.method != method:
            continue
        law = eager_law(method, leave_out=row.accelerator)
        far = max(law.smallest / row.parameters, row.parameters / law.largest, 1)
        centre = law.middle + law.slope * log(row.parameters)
        width = 1.645 * (law.within**2 + law.between_new**2) ** 0.5 + abs(law.slope) * log(far)
        held += abs(log(row.ratio) - centre) <= width
        total += 1
    assert held / total > 0.88


def test_small_models_lose_by_weight_only_kernels():
    advice = advise_precision(setup_of("qwen2.5-0.5b", "rtx 4090"), 1, 300, 200, engine="transformers")
    assert effect(advice, "nf4").verdict == "costs"
    assert effect(advice, "int8").verdict == "costs"
    assert advice.decision.reason.startswith("do not quantise: every format measured costs more")
    assert advice.phases == ()


def test_beyond_one_request_nothing_is_known_of_eager_kernels():
    advice = advise_precision(setup_of(), 16, 500, 300, engine="transformers")
    assert [one.verdict for one in advice.effects] == ["in use", "unknown", "unknown"]
    assert "nothing is known" in advice.decision.reason
    assert len(advice.phases) == 2


def test_eager_sizes_far_outside_are_refused():
    with pytest.raises(ConfigError) as caught:
        eager_ratio("nf4", "H100", 400)
    assert caught.value.code == "C113"
    assert effect(advise_precision(setup_of("llama-3.1-70b", "h100", 4), 1, 500, 300, engine="transformers"),
                  "nf4").verdict == "unknown"  # fmt: skip


def test_eager_kernels_may_be_what_fits():
    advice = advise_precision(setup_of("llama-3.1-70b", "h100"), 1, 500, 300, engine="transformers")
    assert advice.decision.chosen in ("int8", "nf4")
    assert "doesn't fit" in advice.decision.reason


def test_an_unmeasured_board_has_a_wider_interval():
    own, _ = eager_ratio("int8", "A800", 8)
    other, words = eager_ratio("int8", "H100", 8)
    assert other.half_width > own.half_width
    assert words.startswith("not measured on H100")


# profiles


def test_a_profile_decides_by_what_was_measured():
    profile = made_profiles.made_profile({"F16": made_profiles.SLOW, "Q8_0": made_profiles.FAST})
    advice = advise_precision_from(profile, 4, 64, 32)
    assert advice.decision.chosen == "Q8_0"
    assert advice.change
    assert any(note.startswith("prefill: ") for note in advice.notes)


def test_a_profile_that_cannot_tell_changes_nothing():
    profile = made_profiles.made_profile({"F16": made_profiles.FAST, "Q8_0": made_profiles.FAST}, noise=0.05)
    advice = advise_precision_from(profile, 4, 64, 32)
    assert not advice.change
    assert any("inside noise" in note for note in advice.notes)


def test_a_profile_of_another_version(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"schema": "negajoule.profile/99"}))
    with pytest.raises(ConfigError):
        load_profile(str(path))


# spans


@given(value=st.floats(0.1, 10), width=st.floats(0, 1), share=st.floats(0, 1), by=st.floats(0, 1))
@settings(max_examples=60)
def test_spans_keep_their_order(value, width, share, by):
    span = Span.around(value, width)
    part, wider = span.part(share), span.wider(by)
    assert part.low <= part.value <= part.high
    assert abs(part.value - 1) <= abs(value - 1) + 1e-12
    assert wider.low <= span.low * (1 + 1e-9)
    assert wider.high >= span.high * (1 - 1e-9)
    assert wider.half_width == pytest.approx((width**2 + by**2) ** 0.5, abs=1e-9)


def test_energies_join_from_phases():
    advice = advise_precision(setup_of("llama-3.1-70b", "b200", 2), 64, 500, 300)
    for one in advice.effects:
        low, high = sorted((one.prefill_energy.value, one.decode_energy.value))
        assert low - 1e-9 <= one.energy.value <= high + 1e-9


def test_advice_is_the_predictors_own_ratio():
    setup = setup_of("qwen3-235b-a22b", "b200", 4)
    advice = advise_precision(setup, 32, 500, 300)
    costs = [
        load_predictor().predict(one, batch=32, tokens_in=500, tokens_out=300).energy_per_request_j
        for one in (in_format(setup, "fp8_block"), msgspec.structs.replace(setup, weight_format="bfloat16"))
    ]
    assert effect(advice, "fp8_block").energy.value == pytest.approx(costs[0] / costs[1])
