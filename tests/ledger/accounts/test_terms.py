"""Windows, amounts and terms: what a budget may say, and what a number means."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.errors import ConfigError
from negajoule.ledger.accounts import WINDOWS, Account, Terms, amount_of, amount_text, parse_limit
from negajoule.ledger.accounts.amounts import LARGEST_AMOUNT, limit_units, scale_of, units_of
from negajoule.ledger.accounts.windows import window_at, window_end, window_start

moments = st.floats(0, datetime(8999, 1, 1, tzinfo=UTC).timestamp())
indicators = st.sampled_from(("J", "gCO2e", "L", "EUR"))


def at(text):
    return datetime.fromisoformat(text).timestamp()


@given(st.sampled_from(WINDOWS), moments)
def test_a_window_holds_its_moment_and_ends_where_the_next_begins(window, now_s):
    number = window_at(window, now_s)
    start_s, end_s = window_start(window, number), window_end(window, number)
    if window == "total":
        assert (start_s, end_s) == (None, None)
    else:
        assert start_s <= now_s < end_s
        assert window_at(window, end_s) == number + 1


@given(st.sampled_from(WINDOWS), moments, moments)
def test_later_moments_are_in_the_same_window_or_a_later_one(window, one_s, other_s):
    early_s, late_s = sorted((one_s, other_s))
    assert window_at(window, early_s) <= window_at(window, late_s)


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        ("hour", "2026-11-23T16:00:00Z", "2026-11-23T17:00:00Z"),
        ("day", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
        ("week", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),  # a Monday
        ("month", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
    ],
)
def test_windows_are_those_of_the_calendar_in_utc(window, start, end):
    number = window_at(window, at("2026-11-23T16:30:00Z"))
    assert (window_start(window, number), window_end(window, number)) == (at(start), at(end))
    assert window_at(window, at(end) - 0.001) == number


@pytest.mark.parametrize("now_s", [-1e12, -1.0, 1e15, 1e300])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_clock_gone_mad_breaks_nothing(window, now_s):
    assert window_at(window, now_s) >= 0


@given(indicators, st.floats(0, 1e6))
def test_amounts_of_requests_are_rounded_up(indicator, amount):
    scale = scale_of(indicator)
    exact = Fraction(amount) * scale
    last_digit = exact / 2**52  # of the float that the product is
    assert -last_digit <= units_of(scale, amount) - exact < 1 + last_digit


@given(indicators, st.floats(0, 1e6), st.floats(0, 1e6))
def test_rounding_keeps_the_order(indicator, one, other):
    low, high = sorted((one, other))
    assert units_of(scale_of(indicator), low) <= units_of(scale_of(indicator), high)


@pytest.mark.parametrize("amount", [None, -1e-300 - 1, float("nan"), float("inf"), 1e30, "12", [], {}])
def test_what_is_no_amount_is_none(amount):
    assert units_of(10**6, amount) is None


def test_the_largest_amount_still_is_one():
    assert units_of(1, LARGEST_AMOUNT) == LARGEST_AMOUNT
    assert units_of(1, LARGEST_AMOUNT + 2) is None


@pytest.mark.parametrize("limit", [0.29, 0.1, 1.1, 2.675])
def test_limits_are_exact_in_decimal(limit):
    assert limit_units("EUR", limit) == Fraction(str(limit)) * 10**9


@pytest.mark.parametrize("limit", [-1.0, float("nan"), float("inf"), 1e300, "much"])
def test_what_is_no_limit_is_refused(limit):
    with pytest.raises(ConfigError, match="isn't a limit"):
        limit_units("J", limit)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("2 kWh", ("J", 7.2e6)),
        ("2kWh", ("J", 7.2e6)),
        ("500 J", ("J", 500.0)),
        ("50 gCO2e", ("gCO2e", 50.0)),
        ("1.5 L", ("L", 1.5)),
        ("20 EUR", ("EUR", 20.0)),
        ("1e3 USD", ("USD", 1000.0)),
    ],
)
def test_limits_are_read_with_their_unit(text, limit):
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["", "2", "kWh", "2 parsecs", "1.2.3 J", "-1 J", "2 eur", "nan J", "2 W"])
def test_a_limit_without_number_or_unit_is_refused(text):
    with pytest.raises(ConfigError) as refused:
        parse_limit(text)
    assert refused.value.code == "C101"


def test_amounts_are_written_in_readable_units():
    assert amount_text("J", 7_200_000 * 10**6) == "2 kWh"
    assert amount_text("EUR", 12_500_000_000) == "12.5 EUR"
    assert amount_of("J", 1_500_000) == 1.5


@pytest.mark.parametrize(
    "terms",
    [
        ("user", "alice", "J", "day"),
        ("key", "alice", "kWh", "day"),
        ("key", "alice", "euro", "day"),
        ("key", "alice", "J", "fortnight"),
        ("key", "", "J", "day"),
        ("global", "all", "J", "day"),
        ("key", "a\nb", "J", "day"),
        ("key", "x" * 201, "J", "day"),
    ],
)
def test_terms_that_make_no_sense_are_refused(terms):
    with pytest.raises(ConfigError):
        Terms.checked(*terms)


def test_terms_and_accounts_read_as_sentences():
    terms = Terms.checked("team", "search", "gCO2e", "month")
    assert str(terms) == "gCO2e of team search, by month"
    assert str(Terms.checked("global", "", "EUR", "total")) == "EUR of all requests, in total"
    assert str(Account(3, terms, 5 * 10**11)) == "500 gCO2e of budget 3 (gCO2e of team search, by month)"
