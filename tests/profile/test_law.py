from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_profiles import FAST, STEP_TOKENS, Truth, made_profile
from negajoule.errors import ConfigError
from negajoule.profile.law import CostTable, Reach, fit_nonnegative


def law_of(truth, cost="time", **shape):
    return CostTable.of(made_profile({"Q8_0": truth}, **shape).samples, cost, STEP_TOKENS).fit()


SECONDS = st.floats(1e-4, 1e-1)


@settings(max_examples=25)
@given(SECONDS, SECONDS, st.floats(0, 1e-4), st.floats(1e-5, 1e-2), st.floats(0, 1e-6), st.floats(0, 1e-1))
def test_a_law_without_noise_is_found_again(one, more, context, token, square, step):
    truth = Truth({1: one, 4: one + more}, context, token, square, step)
    law = law_of(truth, batches=(1, 4))
    for batch, prompt, output in ((1, 64, 16), (4, 300, 64), (4, 500, 32)):
        assert law.request(batch, prompt, output) == pytest.approx(
            truth.request(batch, prompt, output), rel=1e-6
        )
    assert law.prefill_error < 1e-6
    assert law.decode_error < 1e-6


def test_a_batch_between_measured_ones_lies_on_the_line():
    law = law_of(FAST, batches=(1, 8))
    assert law.step(4.5) == pytest.approx((FAST.steps[1] + FAST.steps[8]) / 2)
    assert law.step(15) == pytest.approx(2 * FAST.steps[8] - FAST.steps[1])


def test_one_length_of_prompts_gives_the_cost_of_a_token_and_no_more():
    law = law_of(FAST, batches=(1,), prompts=(128,))
    assert (law.prefill_step, law.prefill_context, law.decode_context) == (0.0, 0.0, 0.0)
    assert law.prefill(1, 128) == pytest.approx(FAST.prefill(1, 128))
    assert law.request(1, 128, 32) == pytest.approx(FAST.request(1, 128, 32))


def test_a_cost_that_was_not_measured_has_no_law():
    profile = made_profile({"Q8_0": FAST}, energy=False, cpu=False)
    assert CostTable.of(profile.samples, "energy", STEP_TOKENS) is None
    assert CostTable.of(profile.samples, "cpu", STEP_TOKENS) is None
    assert CostTable.of(profile.samples, "time", STEP_TOKENS) is not None


def test_a_resample_uses_its_own_rounds_only():
    samples = made_profile({"Q8_0": FAST}, rounds=2, noise=0.3).samples
    first = CostTable.of([one for one in samples if one.repeat == 0], "time", STEP_TOKENS).fit()
    table = CostTable.of(samples, "time", STEP_TOKENS)
    assert table.fit([0, 0]) == first
    assert table.fit([1, 1]) != first


def test_no_coefficient_is_negative():
    falling = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    found = fit_nonnegative(falling, np.array([3.0, 2.0, 1.0]))
    assert list(found) == [pytest.approx(2.0), 0.0]
    assert not fit_nonnegative(falling, -np.ones(3)).any()


REACH = Reach(batch=8, prompt_tokens=256, context_tokens=288)


def test_what_lies_outside_is_said_and_what_lies_far_outside_refused():
    assert REACH.beyond(8, 256, 32) == ""
    assert REACH.beyond(16, 256, 32) == "beyond what was measured: batch 16 (measured to 8)"
    for work, name in (((17, 64, 32), "batch"), ((1, 513, 1), "prompt"), ((1, 256, 400), "context")):
        with pytest.raises(ConfigError, match=name) as caught:
            REACH.beyond(*work)
        assert caught.value.code == "C113"


@pytest.mark.parametrize("work", [(0, 64, 32), (float("nan"), 64, 32), (1, 0, 32), (1, 64, 0), (-2, 64, 32)])
def test_impossible_questions_are_refused(work):
    with pytest.raises(ConfigError) as caught:
        REACH.beyond(*work)
    assert caught.value.code == "C101"
