"""Series keep their integrals through every change of grid, and refuse what is malformed."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import UnitError
from negajoule.units.series import Kind, Series, align, utc_seconds

KINDS: tuple[Kind, ...] = get_args(Kind)


@st.composite
def series(draw, *kinds: Kind) -> Series:
    """Series of given kinds or any, near the start of the epoch or near today."""
    gaps = draw(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=12))
    times_s = draw(st.floats(0, 2e9)) + np.cumsum([0.0, *gaps])
    kind = draw(st.sampled_from(kinds or KINDS))
    numbers = st.floats(0, 1e5) if kind == "counter" else st.floats(-1e5, 1e5)
    values = draw(st.lists(numbers, min_size=times_s.size, max_size=times_s.size))
    return Series(times_s, np.cumsum(values) if kind == "counter" else values, kind)


@st.composite
def times_in(draw, one: Series, count: int) -> list[float]:
    """Rising times inside a series, its ends and samples among the likely ones."""
    start, end = float(one.times_s[0]), float(one.times_s[-1])
    some = st.sampled_from(one.times_s.tolist()) | st.floats(start, end)
    return sorted(draw(st.lists(some, min_size=count, max_size=count, unique=True)))


def close_to(number: float, one: Series):
    """Equal within float error of the series' largest area."""
    height, width = float(np.abs(one.values).max()), float(one.times_s[-1] - one.times_s[0])
    return pytest.approx(number, rel=1e-9, abs=1e-9 * height * max(width, 1.0) + 1e-300)


def integral_by_hand(one: Series, start_s: float, end_s: float) -> float:
    """The definition, without running sums: numpy's trapezoid for readings, rectangles for steps."""
    inside = one.times_s[(one.times_s > start_s) & (one.times_s < end_s)]
    edges = np.array([start_s, *inside, end_s])
    if one.kind == "sampled":
        return float(np.trapezoid(np.interp(edges, one.times_s, one.values), edges))
    if one.kind == "counter":
        return float(np.diff(np.interp([start_s, end_s], one.times_s, one.values))[0])
    holds = one.values[np.searchsorted(one.times_s, edges[:-1], side="right") - 1]
    return float((holds * np.diff(edges)).sum())


class TestIntegrals:
    @given(st.data(), series())
    def test_any_span_agrees_with_the_definition(self, data, one):
        start_s, end_s = data.draw(times_in(one, 2))
        assert one.integrate(start_s, end_s) == close_to(integral_by_hand(one, start_s, end_s), one)

    @given(series("sampled"))
    def test_the_whole_of_readings_agrees_with_numpy(self, one):
        assert one.integrate() == close_to(float(np.trapezoid(one.values, one.times_s)), one)

    @given(st.data(), series())
    def test_two_spans_add_up_to_the_whole_of_them(self, data, one):
        first, middle, last = data.draw(times_in(one, 3))
        assert one.integrate(first, middle) + one.integrate(middle, last) == close_to(
            one.integrate(first, last), one
        )

    def test_a_step_holds_until_the_next_sample(self):
        assert Series([0, 10, 20], [5, 1, 99], "step").integrate(5, 15) == 30.0

    def test_readings_are_joined_by_straight_lines(self):
        assert Series([0, 10], [0, 10], "sampled").integrate(5, 10) == 37.5

    def test_a_counter_gives_its_increase(self):
        assert Series([0, 10, 30], [100, 150, 150], "counter").integrate(5, 30) == 25.0

    def test_a_span_without_length_holds_nothing(self):
        assert Series([0, 1], [5, 5], "sampled").integrate(0.5, 0.5) == 0.0

    def test_no_times_give_no_integrals(self):
        assert Series([0, 1], [5, 5], "sampled").accumulated([]).size == 0


class TestResampling:
    @given(st.data(), series(), st.integers(2, 8))
    def test_every_bin_keeps_its_integral(self, data, one, count):
        edges = data.draw(times_in(one, count))
        binned = one.resample(edges)
        assert binned.kind == "step"
        assert binned.times_s.tolist() == edges
        for start_s, end_s in pairwise(edges):
            assert binned.integrate(start_s, end_s) == close_to(one.integrate(start_s, end_s), one)

    @given(series("step"))
    def test_a_step_series_on_its_own_grid_is_unchanged(self, one):
        same = one.resample(one.times_s)
        assert same.values[:-1] == pytest.approx(one.values[:-1], rel=1e-6, abs=1e-3)

    @pytest.mark.parametrize("edges", [[], [1.0], [1.0, 1.0], [2.0, 1.0], [0.0, math.nan]])
    def test_bins_that_do_not_rise_are_refused(self, edges):
        with pytest.raises(UnitError) as caught:
            Series([0, 10], [1, 1], "step").resample(edges)
        assert caught.value.code == "U104"


class TestAlignment:
    @settings(max_examples=50)
    @given(st.data(), series(), st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    def test_all_share_one_grid_and_keep_their_integrals(self, data, first, kinds):
        start, end = float(first.times_s[0]), float(first.times_s[-1])
        several = [first]
        for kind in kinds:
            times = np.array([start - 1.0, *data.draw(times_in(first, 2)), end + 1.0])
            several.append(Series(times, [1.0, 2.0, 5.0, 7.0], kind))
        aligned = align(*several)
        assert len(aligned) == len(several)
        for before, after in zip(several, aligned, strict=True):
            assert after.times_s.tolist() == aligned[0].times_s.tolist()
            assert after.integrate() == close_to(before.integrate(start, end), before)
            inside = before.times_s[(before.times_s >= start) & (before.times_s <= end)]
            assert set(inside) <= set(after.times_s)

    @pytest.mark.parametrize("start", [1.0, 5.0])
    def test_series_that_never_meet_are_refused(self, start):
        with pytest.raises(UnitError, match="share no span") as caught:
            align(Series([0, 1], [1, 1], "step"), Series([start, start + 1], [1, 1], "step"))
        assert caught.value.code == "U104"


class TestRefusals:
    @pytest.mark.parametrize(
        ("times", "values"),
        [
            ([], []),
            ([0], [1]),
            ([0, 1], [1]),
            ([0, 1], [1, 2, 3]),
            ([[0, 1], [2, 3]], [[0, 1], [2, 3]]),
            ([0, 0], [1, 1]),
            ([1, 0], [1, 1]),
            ([0, 2, 1], [1, 1, 1]),
            ([0, math.nan], [1, 1]),
            ([0, math.inf], [1, 1]),
            ([0, 1], [1, math.nan]),
            ([0, 1], [1, -math.inf]),
            ([0, 1], [1, None]),
            ([0, 1], [1, "many"]),
            ([0, 1], [[1, 2], [3]]),
            ([0, 1], 5),
        ],
    )
    @pytest.mark.parametrize("kind", KINDS)
    def test_malformed_series_are_refused(self, times, values, kind):
        with pytest.raises(UnitError) as caught:
            Series(times, values, kind)
        assert caught.value.code == "U104"

    def test_only_a_counter_must_not_fall(self):
        with pytest.raises(UnitError, match="counter falls") as caught:
            Series([0, 1, 2], [5, 6, 4], "counter")
        assert caught.value.code == "U104"
        assert Series([0, 1, 2], [5, 6, 4], "sampled").values[2] == 4.0

    def test_the_first_time_that_does_not_rise_is_named(self):
        with pytest.raises(UnitError, match="after sample 1"):
            Series([0, 1, 1, 2], [1, 1, 1, 1], "step")

    @pytest.mark.parametrize("times", [[-0.1], [10.1], [math.nan], [5.0, math.inf]])
    def test_nothing_is_known_outside(self, times):
        for kind in KINDS:
            with pytest.raises(UnitError) as caught:
                Series([0, 10], [1, 1], kind).accumulated(times)
            assert caught.value.code == "U104"

    def test_a_span_that_ends_before_it_starts_is_refused(self):
        with pytest.raises(UnitError, match="must not end before it starts"):
            Series([0, 10], [1, 1], "step").integrate(6, 5)

    def test_any_row_of_numbers_will_do(self):
        whole = Series((t for t in (0, 1, 2)), range(3), "sampled")
        assert whole.integrate() == 2.0


class TestUtc:
    @given(
        st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),
        st.integers(-14 * 60, 14 * 60),
    )
    def test_a_time_with_a_zone_is_read_exactly(self, naive, minutes):
        moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
        assert utc_seconds(moment.isoformat()) == moment.timestamp()

    def test_z_means_utc(self):
        moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
        assert utc_seconds("2026-01-31T12:00:00Z") == moment.timestamp()

    @pytest.mark.parametrize("text", ["2026-01-31T12:00:00", "2026-01-31", "2026-01-31 12:00"])
    def test_local_times_are_refused(self, text):
        with pytest.raises(UnitError, match="names no time zone") as caught:
            utc_seconds(text)
        assert caught.value.code == "U104"

    @given(st.text())
    def test_any_other_text_is_refused_and_not_misread(self, text):
        with pytest.raises(UnitError) as caught:
            utc_seconds(text)
        assert caught.value.code == "U104"

    @pytest.mark.parametrize(
        "text", ["", "yesterday", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "1769860800"]
    )
    def test_what_is_no_time_is_refused(self, text):
        with pytest.raises(UnitError):
            utc_seconds(text)
