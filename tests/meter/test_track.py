from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.meter.track import CounterTrack, PowerTrack


def counter(**options):
    return CounterTrack("package-0", **{"ceiling_w": 500.0, "wrap_j": 1000.0, **options})


def test_first_value_is_only_a_start():
    track = counter()
    track.advance(700.0, 0.0)
    assert track.energy_j == 0.0
    track.advance(750.0, 1.0)
    assert track.energy_j == 50.0
    assert track.gap is None


def test_wrap_is_added_once():
    track = counter()
    track.advance(990.0, 0.0)
    track.advance(40.0, 1.0)
    assert track.energy_j == pytest.approx(50.0)
    assert track.gap is None
    assert not track.bridging


def test_accuracy_widens():
    track = counter(accuracy=0.05)
    track.advance(0.0, 0.0)
    track.advance(100.0, 1.0)
    assert (track.low_j, track.energy_j, track.high_j) == pytest.approx((95.0, 100.0, 105.0))


def test_reset_is_bridged_with_the_mean_and_flagged():
    track = counter(wrap_j=1e6)
    track.advance(500_000.0, 0.0)
    track.advance(500_100.0, 1.0)
    track.advance(3.0, 2.0)
    assert track.gap is not None
    assert track.gap.kind == "reset"
    assert track.energy_j == pytest.approx(200.0)
    assert track.low_j == pytest.approx(103.0)
    assert track.high_j == pytest.approx(600.0)
    track.advance(53.0, 3.0)
    assert track.gap is None
    assert track.energy_j == pytest.approx(250.0)


def test_failed_read_loses_nothing_once_the_counter_is_back():
    track = counter(wrap_j=None)
    for second, raw in enumerate((0.0, 100.0, None, None, 400.0)):
        track.advance(raw, float(second))
    assert track.energy_j == pytest.approx(400.0)
    assert track.low_j <= 400.0 <= track.high_j


def test_failed_read_is_never_a_silent_zero():
    track = counter(wrap_j=None)
    track.advance(0.0, 0.0)
    track.advance(100.0, 1.0)
    track.advance(None, 2.0)
    assert track.energy_j == pytest.approx(200.0)
    assert track.bridging
    assert track.gap.kind == "failed read"
    assert track.low_j == pytest.approx(100.0)
    assert track.high_j == pytest.approx(600.0)


def test_an_impossible_jump_makes_no_spike():
    track = counter(wrap_j=None)
    track.advance(0.0, 0.0)
    track.advance(100.0, 1.0)
    track.advance(1e12, 2.0)
    assert track.gap.kind == "jump"
    assert track.energy_j == pytest.approx(200.0)
    track.advance(1e12 + 100, 3.0)
    assert track.energy_j == pytest.approx(300.0)


def test_long_silence_may_hide_wraps_and_says_so():
    track = counter()
    track.advance(0.0, 0.0)
    track.advance(500.0, 10.0)
    assert track.gap.kind == "several wraps"
    assert track.energy_j == 500.0
    assert track.high_j >= 4500.0


def test_a_dead_counter_isn_t_believed():
    track = counter()
    for second in range(5):
        track.advance(0.0, float(second))
    assert track.gap.kind == "standstill"
    assert track.bridging
    assert track.high_j >= 1000.0


def test_a_clock_that_goes_back_adds_nothing():
    track = counter()
    track.advance(0.0, 10.0)
    track.advance(50.0, 11.0)
    track.advance(60.0, 5.0)
    assert track.gap.kind == "clock"
    assert track.energy_j <= 60.0


@pytest.mark.parametrize("bad", [nan, inf, -1.0])
def test_values_that_are_no_values_count_as_failed_reads(bad):
    track = counter(wrap_j=None)
    track.advance(0.0, 0.0)
    track.advance(100.0, 1.0)
    track.advance(bad, 2.0)
    track.advance(300.0, 3.0)
    assert track.energy_j == pytest.approx(300.0)


RAW = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 2000))


@given(st.lists(st.tuples(RAW, st.floats(-5, 100)), max_size=40), st.booleans())
def test_any_history_stays_bounded_and_rises(history, wraps):
    track = counter(wrap_j=1000.0 if wraps else None, accuracy=0.05)
    time_s = elapsed = 0.0
    last = 0.0
    for raw, step in history:
        time_s += step
        elapsed += max(step, 0.0)
        track.advance(raw, time_s)
        assert track.energy_j >= last
        last = track.energy_j
        assert track.low_j <= track.energy_j * (1 + 1e-12)
        assert track.energy_j <= track.high_j * (1 + 1e-12)
    assert track.energy_j <= 500.0 * (2 * elapsed + len(history) + 1)


@given(
    st.lists(st.floats(0.0, 400.0), min_size=2, max_size=30),
    st.sets(st.integers(1, 28)),
    st.floats(0, 999.9),
)
def test_truth_lies_between_the_bounds_whatever_reads_fail(powers, failing, start):
    track = counter()
    true_j = 0.0
    for second, power in enumerate(powers):
        if second:
            true_j += power
        last = second == len(powers) - 1
        raw = None if second in failing and not last else (start + true_j) % 1000.0
        track.advance(raw, float(second))
    longest = max((len(run) for run in _runs(failing, len(powers))), default=0)
    if longest <= 1:
        assert track.low_j <= true_j + 1e-6
        assert true_j <= track.high_j + 1e-6


def _runs(numbers, end):
    run = []
    for number in range(end):
        if number in numbers:
            run.append(number)
        elif run:
            yield run
            run = []
    if run:
        yield run


def power(**options):
    return PowerTrack("gpu 0", **{"ceiling_w": 700.0, **options})


def test_trapezoid_between_rectangles():
    track = power()
    track.advance(100.0, 0.0)
    track.advance(200.0, 2.0)
    assert (track.low_j, track.energy_j, track.high_j) == pytest.approx((200.0, 300.0, 400.0))


@pytest.mark.parametrize("bad", [None, nan, inf, -5.0, 1e9])
def test_bad_watts_are_bridged(bad):
    track = power()
    for second, watts in enumerate((100.0, 100.0, bad, 100.0, 100.0)):
        track.advance(watts, float(second))
        if second == 2:
            assert track.bridging
            assert track.gap is not None
    assert track.energy_j == pytest.approx(400.0)
    assert track.low_j == pytest.approx(200.0)
    assert track.high_j > 400.0


def test_samples_too_far_apart_are_a_gap():
    track = power(period_s=1.0)
    track.advance(100.0, 0.0)
    track.advance(100.0, 1.0)
    track.advance(100.0, 61.0)
    assert track.gap.kind == "unsampled"
    assert track.energy_j == pytest.approx(6100.0)
    assert track.low_j == pytest.approx(100.0)


@given(st.lists(st.tuples(RAW, st.floats(-1, 5)), max_size=30))
def test_power_stays_bounded(history):
    track = power()
    time_s, elapsed = 0.0, 0.0
    for watts, step in history:
        time_s += step
        elapsed += max(step, 0.0)
        track.advance(watts, time_s)
        assert 0.0 <= track.low_j <= track.energy_j * (1 + 1e-12)
        assert track.energy_j <= track.high_j * (1 + 1e-12)
    assert track.energy_j <= 700.0 * elapsed + 1e-6
