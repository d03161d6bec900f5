"""Times of loaded engines, from kernels up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.kernels.hardware import hardware
from negajoule.physics.kernels.latency import Deployed, factors_of, latency_of, shipped_latency
from negajoule.physics.kernels.passes import Split, decode_pass, prompt_pass
from negajoule.physics.serving import shape_of

LLAMA = shape_of("llama-3-70b")
DEEPSEEK = shape_of("deepseek-v3")
FP8 = ("fp8", "fp8")


def _deployed(**changes):
    usual = Deployed(LLAMA, "h200", "vllm", FP8, 32.0, 1024.0, 512.0, Split(2.0))
    return usual._replace(**changes)


def test_a_step_takes_at_least_the_time_to_read_the_weights_and_a_prompt_that_to_compute_it():
    on = hardware("h200")
    step = decode_pass(LLAMA, "h200", Split(2.0), FP8, 1.0, 1000.0)
    assert step.total_s > LLAMA.step_parameters / 2 / on.bandwidth * 0.95
    prompt = prompt_pass(LLAMA, "h200", Split(2.0), FP8, 1.0, 8192.0)
    assert prompt.total_s > 2 * (LLAMA.active_parameters - 1e9) * 8192 / 2 / on.compute_8bit
    assert step.experts_s == step.starts_s == step.state_s == 0.0


def test_more_accelerators_share_the_work_and_add_links():
    one, four = (decode_pass(LLAMA, "b200", Split(n), FP8, 64.0, 1000.0) for n in (1.0, 4.0))
    assert one.links_s == 0.0 < four.links_s
    assert four.total_s < one.total_s / 2


def test_a_mixture_reads_more_experts_the_larger_the_batch():
    times = [decode_pass(DEEPSEEK, "h200", Split(8.0), FP8, b, 1000.0).experts_s for b in (1.0, 8.0, 64.0)]
    assert times == sorted(times)
    assert times[2] > 5 * times[0]


def test_copies_of_the_attention_send_tokens_to_experts_instead_of_summing():
    both = [Split(8.0, 1.0, 8.0), Split(8.0, 8.0, 8.0)]
    summed, sent = (decode_pass(DEEPSEEK, "b200", split, FP8, 256.0, 4000.0) for split in both)
    assert sent.attention_s != summed.attention_s
    assert sent.experts_s < summed.experts_s


@given(st.integers(0, 8), st.sampled_from(["vllm", "sglang", "trtllm"]))
@settings(max_examples=20)
def test_a_heavier_load_waits_longer_for_both(power, engine):
    light, heavy = (
        latency_of(_deployed(engine=engine, sequences=float(n))) for n in (2**power, 2 ** (power + 2))
    )
    assert heavy.ttft_s > light.ttft_s
    assert heavy.tpot_s > light.tpot_s
    assert heavy.prompt_s == light.prompt_s


def test_a_longer_prompt_delays_the_first_token():
    times = [latency_of(_deployed(prompt_tokens=tokens)).ttft_s for tokens in (128.0, 1024.0, 8192.0)]
    assert times == sorted(times)


def test_shorter_answers_are_interrupted_more():
    short, long = (latency_of(_deployed(answer_tokens=tokens)) for tokens in (64.0, 4096.0))
    assert short.tpot_s > long.tpot_s


def test_a_pool_for_prompts_spares_the_decoding_ones_and_queues_when_it_is_small():
    together = latency_of(_deployed(sequences=256.0))
    apart = latency_of(_deployed(sequences=256.0, prompt=Split(2.0), prompt_workers=4.0))
    small = latency_of(_deployed(sequences=256.0, prompt=Split(2.0), prompt_workers=1.0))
    assert apart.tpot_s < together.tpot_s
    assert small.ttft_s > 2 * apart.ttft_s


def test_unknown_workers_widen_the_interval():
    known = latency_of(_deployed(prompt=Split(2.0), prompt_workers=4.0))
    unknown = latency_of(_deployed(prompt=Split(2.0), prompt_workers=None))
    assert unknown.ttft_high_s / unknown.ttft_s > known.ttft_high_s / known.ttft_s


def test_an_answer_adds_up_and_lies_in_its_interval():
    found = latency_of(_deployed())
    assert found.request_s == pytest.approx(found.ttft_s + 511 * found.tpot_s)
    assert found.ttft_low_s < found.ttft_s < found.ttft_high_s
    assert found.tpot_low_s < found.tpot_s < found.tpot_high_s
    assert found.measured
    assert not latency_of(_deployed(accelerator="a100", formats=("bfloat16", "bfloat16"))).measured


def test_one_measured_point_draws_it_nearer_and_moves_the_others_along():
    before = latency_of(_deployed(), (1.0, 1.0))
    ttft, tpot = 2.0 * before.ttft_s, 0.5 * before.tpot_s
    factors = factors_of(_deployed(), ttft, tpot)
    there = latency_of(_deployed(), factors)
    assert before.ttft_s < there.ttft_s < ttft
    assert tpot < there.tpot_s < before.tpot_s
    more = latency_of(_deployed(sequences=64.0), factors)
    plain = latency_of(_deployed(sequences=64.0), (1.0, 1.0))
    assert more.tpot_s / plain.tpot_s == pytest.approx(factors[1])
    with pytest.raises(ConfigError, match="ttft_s"):
        factors_of(_deployed(), 0.0, 0.02)


def test_the_shipped_coefficients_are_possible():
    model = shipped_latency()
    assert all(value > 0 for value in model.coefficients.values())
    assert 0.5 < model.coefficients["matrices"] < 2.0  # kernels need no large factor
    assert len(model.data) == 64
    assert all(0.2 < factor < 10 for both in model.pairs.values() for factor in both)


def test_what_cannot_be_is_refused():
    for changes in (
        {"engine": "ollama"},
        {"sequences": 0.0},
        {"prompt_tokens": float("nan")},
        {"answer_tokens": -1.0},
        {"formats": ("ternary", "fp8")},
        {"accelerator": "mi300x"},  # its links aren't known
    ):
        with pytest.raises(ConfigError):
            latency_of(_deployed(**changes))
    with pytest.raises(CatalogError):
        latency_of(_deployed(accelerator="abacus"))
