from __future__ import annotations

import pytest

from made_profiles import FAST, SLOW, Truth, made_profile
from negajoule.errors import ConfigError
from negajoule.profile import best_precision, is_tie
from negajoule.profile.choice import width_bits


@pytest.mark.parametrize("part", ["request", "prefill", "decode"])
@pytest.mark.parametrize("cost", ["energy", "cpu", "time"])
def test_the_cheaper_format_is_chosen_with_its_true_margin(part, cost):
    decision = best_precision(made_profile({"F16": SLOW, "Q4_0": FAST}), 2, 100, 20, cost=cost, part=part)
    assert (decision.chosen, decision.runner_up) == ("Q4_0", "F16")
    assert not is_tie(decision)
    assert decision.margin_low <= decision.margin <= decision.margin_high
    if part == "request":
        truth = 1 - FAST.request(2, 100, 20) / SLOW.request(2, 100, 20)
        assert decision.margin == pytest.approx(truth, rel=1e-6)


def test_the_format_depends_on_the_phase():
    reader = Truth({1: 0.01, 8: 0.08}, token=4e-3)
    computer = Truth({1: 0.02, 8: 0.16}, token=1e-3)
    profile = made_profile({"Q4_0": reader, "F16": computer}, batches=(1, 8))
    assert best_precision(profile, 1, 400, 2).chosen == "F16"
    assert best_precision(profile, 1, 32, 60).chosen == "Q4_0"
    assert best_precision(profile, 1, 200, 32, part="prefill").chosen == "F16"
    assert best_precision(profile, 1, 200, 32, part="decode").chosen == "Q4_0"


def test_formats_that_noise_hides_are_a_tie_and_the_widest_is_taken():
    close = Truth({batch: step * 0.99 for batch, step in FAST.steps.items()})
    decision = best_precision(made_profile({"Q4_0": close, "F16": FAST}, noise=0.1), 4, 100, 20)
    assert is_tie(decision)
    assert (decision.chosen, decision.runner_up) == ("F16", "Q4_0")
    assert "tie of F16, Q4_0" in decision.reason


def test_noise_widens_the_margin_and_does_not_hide_a_large_one():
    quiet = best_precision(made_profile({"F16": SLOW, "Q4_0": FAST}, noise=0.01), 2, 100, 20)
    noisy = best_precision(made_profile({"F16": SLOW, "Q4_0": FAST}, noise=0.1), 2, 100, 20)
    assert noisy.margin_high - noisy.margin_low > 2 * (quiet.margin_high - quiet.margin_low)
    assert noisy.chosen == "Q4_0"


def test_the_interval_holds_the_truth_most_of_the_time():
    truth = 1 - FAST.request(2, 100, 20) / SLOW.request(2, 100, 20)
    inside = 0
    for start in range(10):
        profile = made_profile(
            {"F16": SLOW, "Q4_0": FAST}, batches=(1, 2), prompts=(32, 200), noise=0.08, seed=start
        )
        decision = best_precision(profile, 2, 100, 20)
        inside += decision.margin_low <= truth <= decision.margin_high
    assert inside >= 7


def test_one_round_gives_no_interval_and_says_so():
    decision = best_precision(made_profile({"F16": SLOW, "Q4_0": FAST}, rounds=1), 2, 100, 20)
    assert (decision.chosen, decision.margin_low, decision.margin_high) == ("Q4_0", None, None)
    assert "single round" in decision.reason
    assert not is_tie(decision)


def test_one_format_is_no_choice():
    decision = best_precision(made_profile({"Q8_0": FAST}), 2, 100, 20)
    assert (decision.chosen, decision.runner_up) == ("Q8_0", None)


def test_what_was_not_measured_is_not_chosen_by():
    profile = made_profile({"F16": SLOW, "Q4_0": FAST}, energy=False, cpu=False)
    assert "machine time" in best_precision(profile, 2, 100, 20).reason
    with pytest.raises(ConfigError, match="no energy") as caught:
        best_precision(profile, 2, 100, 20, cost="energy")
    assert caught.value.code == "C107"


def test_beyond_the_profile_it_says_so_or_refuses():
    profile = made_profile({"F16": SLOW, "Q4_0": FAST})
    assert best_precision(profile, 12, 100, 20).reason.endswith("batch 12 (measured to 8)")
    with pytest.raises(ConfigError, match="too far"):
        best_precision(profile, 17, 100, 20)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("F16", 16), ("bfloat16", 16), ("float32", 32), ("Q8_0", 8), ("Q4_K_M", 4), ("fp8", 8), ("served", 0)],
)
def test_the_width_is_read_off_the_name(name, bits):
    assert width_bits(name) == bits
