"""The steps of a batching engine, told apart by what its sequences report.

Steps aren't announced, but in each of them a sequence decodes one token or computes one slice of its prompt:
when one that has reported reports again, another step has ended. The last slice of a prompt and the first
token come out of one step. A sequence that hasn't reported yet either is late with the step whose reports
come in, or is the first of the next one; it is taken for the first of the next when more than half the length
of a step has passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Container, Hashable

__all__ = ["Steps", "Work"]

Work = Literal["prefill", "decode"]

_LATE_S = 0.005  # a thread may be this late whatever the length of a step


class Steps:
    """Follows the reports of all sequences, in the order in which they come in."""

    __slots__ = ("_before", "_first_report_s", "_length_s", "_reported", "_work")

    def __init__(self) -> None:
        self.restart(0.0)

    def restart(self, now_s: float) -> None:
        """Forget everything: nothing ran until now [s]."""
        self._first_report_s = now_s
        self._length_s = 0.0
        self._reported: dict[Hashable, Work] = {}
        self._work: dict[Hashable, float] = {}
        self._before: dict[Hashable, float] = {}

    def report(self, sequence: Hashable, kind: Work, weight: float, now_s: float) -> bool:
        """Take in a report; returns whether it is the first of another step.

        Args:
            sequence: whose it is.
            kind: what was computed.
            weight: how much.
            now_s: monotonic clock [s].
        """
        last = self._reported.get(sequence)
        if last is None:
            patience_s = max(_LATE_S, self._length_s / 2)
            another = not self._reported or now_s - self._first_report_s > patience_s
        else:
            another = last in ("decode", kind)
        if another:
            self._length_s = now_s - self._first_report_s
            self._first_report_s = now_s
            self._reported.clear()
            self._before, self._work = self._work, {}
        self._reported[sequence] = kind
        self._work[sequence] = self._work.get(sequence, 0.0) + weight
        return another

    def outstanding(self, running: Container[Hashable]) -> float:
        """Weight that is still to be reported of this step, if it is like the one before."""
        return sum(
            weight
            for sequence, weight in self._before.items()
            if sequence in running and sequence not in self._reported
        )
