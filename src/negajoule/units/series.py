"""Time series in UTC: integrate, resample, align, exactly and on numpy arrays.

Times are seconds since 1970-01-01T00:00Z. Three kinds of series differ in what happens between two samples:

- ``sampled``: the value moves in a straight line (power readings); the last sample ends the series
- ``step``: the value holds until the next sample (prices, hourly intensities)
- ``counter``: the value is a total that grows; its increase is what happened (energy counters)
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from negajoule.errors import UnitError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Kind", "Series", "align", "utc_seconds"]

Kind = Literal["sampled", "step", "counter"]
_Floats = NDArray[np.float64]


class Series:
    """A series of one quantity.

    Args:
        times_s: rising times, seconds since the epoch [s], shape (n,), n >= 2.
        values: one value a time, shape (n,).
        kind: what holds between samples.

    Raises:
        UnitError: (U104) if shapes differ, times don't rise, a value isn't finite, or a counter falls.
    """

    __slots__ = ("_total", "kind", "times_s", "values")

    def __init__(self, times_s: Iterable[float], values: Iterable[float], kind: Kind) -> None:
        self.times_s = _floats(times_s)
        self.values = _floats(values)
        self.kind = kind
        if self.times_s.ndim != 1 or self.times_s.shape != self.values.shape or self.times_s.size < 2:
            raise UnitError(
                f"a series needs two or more times and as many values, got shapes "
                f"{self.times_s.shape} and {self.values.shape}",
                code="U104",
            )
        if not (np.isfinite(self.times_s).all() and np.isfinite(self.values).all()):
            raise UnitError("a series holds a time or value that isn't finite", code="U104")
        widths = np.diff(self.times_s)
        if not (widths > 0).all():
            at = int(np.argmin(widths > 0))
            raise UnitError(f"times of a series must rise; they don't after sample {at}", code="U104")
        if kind == "counter" and (np.diff(self.values) < 0).any():
            raise UnitError("a counter falls; correct wraps and resets before making a series", code="U104")
        self._total = self._cumulate(widths)

    def _cumulate(self, widths: _Floats) -> _Floats:
        if self.kind == "counter":
            return np.asarray(self.values - self.values[0])
        height = self.values[:-1] if self.kind == "step" else (self.values[:-1] + self.values[1:]) / 2
        return np.asarray(np.concatenate(([0.0], np.cumsum(height * widths))))

    def __repr__(self) -> str:
        span = self.times_s[-1] - self.times_s[0]
        return f"Series({self.kind}, {self.times_s.size} samples over {span:g} s)"

    def accumulated(self, times_s: Iterable[float]) -> _Floats:
        """Integral from the series' start to each time: [unit x s], or the counter's unit.

        Raises:
            UnitError: (U104) for a time outside the series: nothing is known there.
        """
        at = _floats(times_s)
        if at.size and not (at.min() >= self.times_s[0] and at.max() <= self.times_s[-1]):
            raise UnitError(
                f"the series knows {self.times_s[0]:.3f} to {self.times_s[-1]:.3f}; "
                f"{at.min():.3f} to {at.max():.3f} was asked for",
                code="U104",
            )
        if self.kind != "sampled":
            return np.asarray(np.interp(at, self.times_s, self._total))
        left = np.clip(np.searchsorted(self.times_s, at, side="right") - 1, 0, self.times_s.size - 2)
        passed = at - self.times_s[left]
        width = self.times_s[left + 1] - self.times_s[left]
        slope = (self.values[left + 1] - self.values[left]) / width
        return self._total[left] + (self.values[left] + slope * passed / 2) * passed

    def integrate(self, start_s: float | None = None, end_s: float | None = None) -> float:
        """Integral over a span, by default the whole series: watts in, joules out.

        Raises:
            UnitError: (U104) if the span leaves the series or ends before it starts.
        """
        start = float(self.times_s[0]) if start_s is None else start_s
        end = float(self.times_s[-1]) if end_s is None else end_s
        if end < start:
            raise UnitError(f"a span must not end before it starts: {start} to {end}", code="U104")
        low, high = self.accumulated([start, end])
        return float(high - low)

    def resample(self, edges_s: Iterable[float]) -> Series:
        """Mean rate in each bin as a ``step`` series; integrals over whole bins are kept exactly.

        Args:
            edges_s: rising bin edges inside the series [s], shape (m + 1,).
        """
        edges = _floats(edges_s)
        widths = np.diff(edges)
        if edges.size < 2 or not (widths > 0).all():
            raise UnitError("bins need two or more rising edges", code="U104")
        means = np.diff(self.accumulated(edges)) / widths
        return Series(edges, np.append(means, means[-1]), "step")


def align(*series: Series) -> tuple[Series, ...]:
    """Bring step series and rates onto the union of their times within their common span.

    Raises:
        UnitError: (U104) if the series share no span.
    """
    start = max(float(one.times_s[0]) for one in series)
    end = min(float(one.times_s[-1]) for one in series)
    if not start < end:
        raise UnitError("these series share no span of time", code="U104")
    times = np.unique(np.concatenate([one.times_s for one in series] + [np.array([start, end])]))
    edges = times[(times >= start) & (times <= end)]
    return tuple(one.resample(edges) for one in series)


def utc_seconds(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time that says its zone.

    Raises:
        UnitError: (U104) if the text isn't a time or names no zone: local times are refused.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UnitError(f"{text!r} isn't an ISO 8601 time", code="U104") from None
    if moment.tzinfo is None:
        raise UnitError(f"{text!r} names no time zone; write 2026-01-31T12:00:00Z", code="U104")
    return moment.timestamp()


def _floats(values: Iterable[float]) -> _Floats:
    try:
        return np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UnitError(f"a series needs a row of numbers: {error}", code="U104") from None
