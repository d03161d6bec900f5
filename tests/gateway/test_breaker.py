"""The circuit breaker and retries: for every order of events."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.gateway.breaker import Breaker
from negajoule.gateway.retry import Retry, passing, retry_after_s

EVENTS = st.lists(st.tuples(st.sampled_from(["good", "bad", "gone"]), st.floats(0.0, 10.0)), max_size=60)


@given(EVENTS)
def test_a_breaker_lets_calls_pass_until_so_many_fail_in_a_row_then_rests(events):
    breaker, now_s = Breaker(failures=3, rest_s=2.0, longest_rest_s=8.0), 0.0
    row, opened_s, rest_s = 0, None, 2.0
    for kind, wait_s in events:
        now_s += wait_s
        resting = opened_s is not None and now_s < opened_s + rest_s
        ticket = breaker.enter(now_s)
        assert bool(ticket) is not resting
        assert (breaker.state(now_s) == "open") is resting
        assert (breaker.wait_s(now_s) > 0) is resting
        if resting:
            continue
        if kind == "good":
            breaker.succeeded()
            row, opened_s, rest_s = 0, None, 2.0
        elif kind == "bad":
            breaker.failed(now_s, ticket)
            row += 1
            if opened_s is not None:
                opened_s, rest_s = now_s, min(8.0, 2 * rest_s)
            elif row >= 3:
                opened_s = now_s
        else:
            breaker.released(ticket)


@given(st.integers(1, 20))
def test_one_call_only_tries_a_server_that_has_rested(callers):
    breaker = Breaker(failures=1, rest_s=1.0)
    breaker.failed(0.0, breaker.enter(0.0))
    assert not breaker.enter(0.5)
    assert breaker.state(1.0) == "half-open"
    trial, *others = [breaker.enter(1.0) for _ in range(callers)]
    assert trial
    assert not any(others)
    breaker.released(trial)
    assert breaker.enter(1.0)


@pytest.mark.parametrize("late", ["failed", "released"])
def test_calls_from_before_it_opened_end_no_trial(late):
    breaker = Breaker(failures=2, rest_s=1.0)
    tickets = [breaker.enter(0.0) for _ in range(4)]
    for ticket in tickets[:2]:
        breaker.failed(0.0, ticket)
    trial = breaker.enter(1.0)
    assert trial
    for ticket in tickets[2:]:
        breaker.failed(1.0, ticket) if late == "failed" else breaker.released(ticket)
    assert breaker.state(1.0) == "half-open"
    assert not breaker.enter(1.5)
    breaker.failed(1.5, trial)
    assert breaker.state(3.4) == "open"
    assert breaker.enter(3.5)


def test_failures_of_calls_from_before_it_opened_dont_lengthen_the_rest():
    breaker = Breaker(failures=2, rest_s=1.0)
    tickets = [breaker.enter(0.0) for _ in range(9)]
    assert all(tickets)
    for ticket in tickets:
        breaker.failed(0.0, ticket)
    assert breaker.enter(1.0)


def test_what_may_pass_by_itself_is_tried_again():
    assert [status for status in range(200, 600) if passing(status)] == [
        429,
        500,
        *range(502, 505),
        *range(506, 600),
    ]


@given(st.integers(1, 9), st.floats(0.0, 1.0), st.integers(200, 599))
def test_waits_are_bounded_and_tries_too(tried, chance, status):
    retry = Retry(tries=4, first_s=0.5, bound_s=3.0)
    wait_s = retry.wait_s(tried, status, None, chance)
    if tried >= 4 or status == 504 or not passing(status):
        assert wait_s is None
    else:
        assert wait_s is not None
        assert 0.0 <= wait_s <= min(3.0, 0.5 * 2 ** (tried - 1))


@given(st.floats(0.0, 100.0), st.floats(0.0, 1.0))
def test_a_server_that_asks_for_time_gets_it_or_isnt_asked_again(asked_s, chance):
    retry = Retry(tries=3, patience_s=10.0)
    wait_s = retry.wait_s(1, 429, asked_s, chance)
    assert (wait_s is None) is (asked_s > 10.0)
    assert wait_s is None or wait_s >= asked_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("3", 3.0),
        (" 3 ", 3.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        (formatdate(1010.0, usegmt=True), 10.0),
        (formatdate(10.0, usegmt=True), 0.0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after_s(value, 1000.0) == seconds
