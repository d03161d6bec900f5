"""Requests over time: when each came, how long its prompt and its answer are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Trace"]

_LONGEST_S = 3.2e9  # a century: beyond it, times are in other units

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


class Trace:
    """Requests, sorted by arrival.

    Args:
        arrival_s: when each request came, from the trace's start [s].
        prompt_tokens: length of each prompt, at least 1.
        answer_tokens: length of each answer, at least 1.
        kept_tokens: leading tokens of each prompt that occurred before, so that a prefix cache has them.
        kind: each request's class, as an index into ``classes``.
        classes: names of the classes.
        title: where the requests come from, in words.
        notes: what was changed or left out on the way, in words.

    Raises:
        ConfigError: (C106) for a trace without requests, or with lengths or times that can't be.
    """

    def __init__(
        self,
        arrival_s: ArrayLike,
        prompt_tokens: ArrayLike,
        answer_tokens: ArrayLike,
        *,
        kept_tokens: ArrayLike | None = None,
        kind: ArrayLike | None = None,
        classes: tuple[str, ...] = ("all",),
        title: str = "requests",
        notes: tuple[str, ...] = (),
    ) -> None:
        arrival = np.asarray(arrival_s, dtype=np.float64)
        if arrival.ndim != 1 or arrival.size == 0:
            raise ConfigError(
                f"{title}: there are no requests", code="C106", fix="give a trace with at least one request"
            )
        bad = np.flatnonzero(~np.isfinite(arrival) | (arrival < 0) | (arrival > _LONGEST_S))
        if bad.size:
            raise ConfigError(
                f"{title}: request {bad[0] + 1} arrives at {arrival[bad[0]]:g} s", code="C106",
                fix="count times from the trace's start, in seconds",
            )  # fmt: skip
        self.arrival_s: Floats = arrival
        self.prompt_tokens = _whole(prompt_tokens, arrival.size, 1, f"{title}: prompt of request")
        self.answer_tokens = _whole(answer_tokens, arrival.size, 1, f"{title}: answer of request")
        none = np.zeros(arrival.size, dtype=np.int32)
        kept = none if kept_tokens is None else kept_tokens
        self.kept_tokens = _whole(kept, arrival.size, 0, f"{title}: kept part of request")
        self.kind = _whole(none if kind is None else kind, arrival.size, 0, f"{title}: class of request")
        if int(self.kind.max()) >= len(classes):
            raise ConfigError(
                f"{title}: a request is of class {int(self.kind.max())}, but only {len(classes)} have names",
                code="C106",
            )
        self.classes = classes
        self.title = title
        self.notes = notes
        late = int(np.count_nonzero(np.diff(arrival) < 0))
        if late:
            order = np.argsort(arrival, kind="stable")
            self.arrival_s = arrival[order]
            self.prompt_tokens = self.prompt_tokens[order]
            self.answer_tokens = self.answer_tokens[order]
            self.kept_tokens = self.kept_tokens[order]
            self.kind = self.kind[order]
            self.notes = (*notes, f"sorted by time: {late} requests came before the one above them")

    def __len__(self) -> int:
        return int(self.arrival_s.size)

    def __repr__(self) -> str:
        return f"Trace({self.title}: {len(self)} requests over {self.span_s:g} s)"

    @property
    def span_s(self) -> float:
        """Time from the first arrival to the last [s]."""
        return float(self.arrival_s[-1] - self.arrival_s[0])

    @property
    def rate_per_s(self) -> float | None:
        """Mean rate of arrivals [1/s]; None if all came at once."""
        return (len(self) - 1) / self.span_s if self.span_s > 0 else None

    def first(self, number: int) -> Trace:
        """The first so many requests."""
        return self._part(slice(0, number))

    def only(self, which: NDArray[np.bool_], note: str) -> Trace:
        """The requests marked, with a note that says so.

        Raises:
            ConfigError: (C106) if none is.
        """
        part = self._part(which)
        part.notes = (*part.notes, note)
        return part

    def between(self, start_s: float, end_s: float) -> Trace:
        """The requests of a span, their times counted from its start [s].

        Raises:
            ConfigError: (C106) if there are none.
        """
        low, high = np.searchsorted(self.arrival_s, (start_s, end_s))
        part = self._part(slice(int(low), int(high)))
        part.arrival_s = part.arrival_s - start_s
        return part

    def at_rate(self, rate_per_s: float) -> Trace:
        """The same requests in the same order, time stretched so that they come at this mean rate [1/s].

        Raises:
            ConfigError: (C101) for a rate that isn't positive, or a trace whose requests all came at once.
        """
        if not rate_per_s > 0 or self.rate_per_s is None:
            raise ConfigError(
                f"{self.title} can't be stretched to {rate_per_s:g} requests/s",
                fix="give a positive rate, and a trace that spans some time",
            )
        part = self._part(slice(None))
        part.arrival_s = part.arrival_s * (self.rate_per_s / rate_per_s)
        part.notes = (*self.notes, f"time stretched to {rate_per_s:g} requests/s")
        return part

    def _part(self, which: slice | NDArray[np.bool_]) -> Trace:
        return Trace(
            self.arrival_s[which],
            self.prompt_tokens[which],
            self.answer_tokens[which],
            kept_tokens=self.kept_tokens[which],
            kind=self.kind[which],
            classes=self.classes,
            title=self.title,
            notes=self.notes,
        )


def _whole(values: ArrayLike, size: int, least: int, what: str) -> Integers:
    """Whole numbers of one column, checked."""
    given = np.asarray(values, dtype=np.float64)
    if given.shape != (size,):
        raise ConfigError(f"{what}: {given.size} values for {size} requests", code="C106")
    bad = np.flatnonzero(~(given >= least) | (given >= 2**31) | (given != np.floor(given)))
    if bad.size:
        raise ConfigError(
            f"{what} {bad[0] + 1} is {given[bad[0]]:g}; it must be a whole number of at least {least}",
            code="C106",
            fix="correct or leave out the row",
        )
    return given.astype(np.int32)
