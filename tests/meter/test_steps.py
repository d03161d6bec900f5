"""Steps are told apart by who reports again."""

from __future__ import annotations

import pytest

from negajoule.meter.steps import Steps


def told(*reports) -> list[bool]:
    """Which of some reports (sequence, kind, moment) open another step."""
    steps = Steps()
    return [steps.report(sequence, kind, 1.0, moment_s) for sequence, kind, moment_s in reports]


def test_the_first_report_of_all_opens_a_step():
    assert told(("a", "decode", 1.0)) == [True]


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_who_reports_again_opens_another_step(kind):
    assert told(("a", kind, 1.0), ("b", kind, 1.0), ("b", kind, 1.1), ("a", kind, 1.1)) == [
        True,
        False,
        True,
        False,
    ]


def test_the_first_token_comes_with_the_last_of_the_prompt():
    reports = [("a", "prefill", 1.0), ("a", "prefill", 1.1), ("a", "decode", 1.1), ("a", "decode", 1.2)]
    assert told(*reports) == [True, True, False, True]


def test_a_sequence_that_is_a_little_late_belongs_to_the_step():
    reports = [("a", "decode", 1.0), ("a", "decode", 1.1), ("b", "decode", 1.104), ("a", "decode", 1.2)]
    assert told(*reports) == [True, True, False, True]


def test_a_newcomer_after_half_a_step_opens_the_next():
    reports = [("a", "decode", 1.0), ("a", "decode", 1.1), ("b", "prefill", 1.6), ("a", "decode", 1.6)]
    assert told(*reports) == [True, True, True, False]


def test_steps_shorter_than_a_late_thread_are_not_torn_apart():
    reports = [("a", "decode", 1.0), ("a", "decode", 1.002), ("b", "decode", 1.0045), ("a", "decode", 1.005)]
    assert told(*reports) == [True, True, False, True]


def test_outstanding_is_what_the_step_before_lets_expect():
    steps = Steps()
    for moment_s in (1.0, 1.1):
        steps.report("a", "decode", 1.0, moment_s)
        assert steps.outstanding({"a", "b", "c"}) == (0.0 if moment_s == 1.0 else 128.0 + 3.0)
        if moment_s == 1.0:
            steps.report("b", "prefill", 128.0, moment_s)
            steps.report("c", "decode", 3.0, moment_s)
    assert steps.outstanding({"a", "c"}) == 3.0
    steps.report("c", "decode", 3.0, 1.1)
    assert steps.outstanding({"a", "b", "c"}) == 128.0


def test_after_a_pause_nothing_is_outstanding():
    steps = Steps()
    steps.report("a", "decode", 1.0, 1.0)
    steps.report("b", "decode", 1.0, 1.0)
    steps.restart(9.0)
    assert steps.report("a", "decode", 1.0, 9.1)
    assert steps.outstanding({"a", "b"}) == 0.0
