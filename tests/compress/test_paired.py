"""Statistics of pairs, against textbook values and by simulation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.compress.paired import (
    discordant,
    macro_f1,
    mcnemar,
    median_interval,
    points_lost,
    quality,
    wilson,
)


def test_wilson_is_the_textbook_s():
    # Agresti and Coull, 1998: 10 of 10 gives 0.722 to 1.
    found = wilson(10, 10)
    assert found.low == pytest.approx(0.7225, abs=1e-4)
    assert found.high == 1.0


def test_mcnemar_is_the_exact_binomial_test():
    before, after = [True] * 10 + [False] * 90, [False] * 10 + [False] * 90
    assert mcnemar(discordant(before, after)) == pytest.approx(2 * 0.5**10)
    assert mcnemar(discordant(before, before)) == 1.0
    assert mcnemar(discordant([True, False], [False, True])) == 1.0


def test_points_are_lost_when_the_after_is_wrong():
    before, after = [True] * 1000, [True] * 950 + [False] * 50
    found = points_lost(discordant(before, after))
    assert found.value == pytest.approx(5.0)
    assert 3.5 < found.low < 5 < found.high < 6.5
    assert points_lost(discordant(after, before)).value == pytest.approx(-5.0)


def test_equal_answers_still_leave_room_for_a_loss():
    found = points_lost(discordant([True] * 100, [True] * 100))
    assert found.value == 0
    assert found.high == pytest.approx(3.0)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_intervals_hold_their_value(pairs):
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    found = points_lost(discordant(before, after))
    assert found.low <= found.value <= found.high
    share = wilson(sum(before), len(before))
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert 0 <= mcnemar(discordant(before, after)) <= 1


def test_macro_f1_counts_labels_alike():
    truth = [0] * 98 + [1] * 2
    assert macro_f1(truth, [0] * 100, 2).value == pytest.approx((2 * 98 / 198 + 0) / 2)
    assert macro_f1(truth, truth, 2).value == 1.0
    assert quality(truth, [0] * 100, 2).accuracy.value == 0.98


def test_a_label_outside_counts_as_wrong():
    found = quality([0, 1], [0, -1], 2)
    assert found.accuracy.value == 0.5
    assert found.macro_f1.value == 0.5


def test_few_rounds_have_no_interval():
    assert not median_interval([1.0] * 5).known
    assert median_interval([3, 1, 2, 4, 5, 6]).low == 1


def test_nine_rounds_drop_an_outlier_at_each_end():
    found = median_interval([0, 1, 2, 3, 4, 5, 6, 7, 1000])
    assert (found.low, found.value, found.high) == (1, 4, 7)


def test_the_median_s_interval_covers():
    dice = random.Random(3)
    hits = 0
    for _ in range(1000):
        found = median_interval([dice.lognormvariate(0, 1) for _ in range(9)])
        hits += found.low <= 1.0 <= found.high
    assert 0.94 <= hits / 1000 <= 0.985
