"""Watches that a promise is kept live, and stops holding when it isn't."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from negajoule.shape.promise import Promise

__all__ = ["Guard"]

_SEEN = 200  # latest answers that count
_FEW = 30  # answers below which nothing is concluded
_NORMAL = 1.645  # 95 % quantile of the normal distribution
_DRIFT = 1.25  # a predicted quantile may be passed by this much; the predictor's times are within 20 % or so
_REST_S = 600.0  # time at once after an alarm, before holding is tried again


class Guard:
    """Holds a promise against what is measured.

    Two things raise an alarm: more answers are late than the promise allows, beyond chance; or more than that
    are slower than predicted, so that the plan was made for other traffic or another machine. Nobody is held
    for ten minutes then.

    Args:
        promise: what was promised.
        predicted_s: the promised quantile as the simulation foresaw it; None if it wasn't simulated [s].
    """

    def __init__(self, promise: Promise, predicted_s: float | None = None) -> None:
        self.promise = promise
        self.predicted_s = predicted_s
        self.alarms = 0
        self.reason = ""
        self._times: deque[float] = deque(maxlen=_SEEN)
        self._until_s = -math.inf

    def note(self, time_s: float, now_s: float) -> bool:
        """Take an answer's time into account.

        Args:
            time_s: what was promised about: latency or time to the first token [s].
            now_s: the time [s].

        Returns:
            Whether this one raised an alarm.
        """
        self._times.append(time_s)
        if len(self._times) < _FEW or not self.holds(now_s):
            return False
        reason = self._broken()
        if reason is None:
            return False
        self.reason = reason
        self.alarms += 1
        self._until_s = now_s + _REST_S
        self._times.clear()
        return True

    def holds(self, now_s: float) -> bool:
        """Whether requests may be held now."""
        return now_s >= self._until_s

    def reached_s(self) -> float | None:
        """The promised quantile of the latest answers; None if there are few [s]."""
        if len(self._times) < _FEW:
            return None
        ordered = sorted(self._times)
        return ordered[min(len(ordered) - 1, math.ceil(self.promise.quantile * len(ordered)) - 1)]

    def _broken(self) -> str | None:
        if self._too_many_beyond(self.promise.limit_s):
            return f"{self.promise} isn't kept"
        if self.predicted_s is not None and self._too_many_beyond(_DRIFT * self.predicted_s):
            return (
                f"answers are slower than the plan foresaw: p{100 * self.promise.quantile:g} was to be "
                f"{self.predicted_s:.3g} s"
            )
        return None

    def _too_many_beyond(self, limit_s: float) -> bool:
        number, allowed = len(self._times), 1.0 - self.promise.quantile
        late = sum(time_s > limit_s for time_s in self._times)
        return late > allowed * number + _NORMAL * math.sqrt(number * allowed * (1.0 - allowed))
