"""The calendar windows of budgets, in UTC: numbered, so that a window can only ever move on.

Fixed windows and no rolling ones: a fixed window has a stated moment of reset that a refusal can name, it
needs one sum instead of a history, and what it allows doesn't depend on who asks when.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, get_args

__all__ = ["WINDOWS", "Window", "window_at", "window_end", "window_start"]

Window = Literal["hour", "day", "week", "month", "total"]
"""An hour, a day, a week from Monday, a month, or for ever; all in UTC."""

WINDOWS: tuple[Window, ...] = get_args(Window)

_SECONDS: dict[Window, int] = {"hour": 3_600, "day": 86_400, "week": 604_800}
_OFFSET_S: dict[Window, int] = {"hour": 0, "day": 0, "week": 3 * 86_400}  # 1970-01-01 was a Thursday
_LATEST_S = datetime(9000, 1, 1, tzinfo=UTC).timestamp()


def window_at(window: Window, now_s: float) -> int:
    """Number of the window that holds a moment.

    Args:
        window: the kind.
        now_s: seconds since the epoch [s]; times before 1970 or after the year 9000 count as those.
    """
    if window == "total":
        return 0
    now_s = min(max(now_s, 0.0), _LATEST_S)
    if window == "month":
        moment = datetime.fromtimestamp(now_s, UTC)
        return moment.year * 12 + moment.month - 1
    return int((now_s + _OFFSET_S[window]) // _SECONDS[window])


def window_start(window: Window, number: int) -> float | None:
    """When a window begins, seconds since the epoch [s]; ``None`` for one that has no begin."""
    if window == "total":
        return None
    if window == "month":
        return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp()
    return float(number * _SECONDS[window] - _OFFSET_S[window])


def window_end(window: Window, number: int) -> float | None:
    """When a window ends and the next one begins [s]; ``None`` for one without end."""
    return window_start(window, number + 1)
