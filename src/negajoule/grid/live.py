"""The intensity of this moment for programs that must not wait: asked in the background, once an hour."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.grid.conductor import Grid
    from negajoule.grid.resolved import Resolved

__all__ = ["LiveIntensity"]

_HOUR_S = 3600.0
_AGAIN_S = 60.0


class LiveIntensity:
    """What one place's electricity emits now, and what it emitted over a span.

    ``now`` never waits: until the first answer is there it gives what is kept, or the catalogue's figure with
    a note that says so. ``over`` may wait for a source, so it's for the end of a piece of work.

    Args:
        grid: the conductor.
        zone: the place; ``None`` if it isn't known.
        clock: UTC seconds since 1970 [s].
    """

    def __init__(self, grid: Grid, zone: str | None, *, clock: Callable[[], float] = time.time) -> None:
        self._grid = grid
        self._zone = zone
        self._clock = clock
        self._lock = threading.Lock()
        self._held: Resolved | None = None
        self._held_until_s = 0.0
        self._asking: threading.Thread | None = None

    def now(self) -> Resolved:
        """The intensity of this moment, at once."""
        now_s = self._clock()
        held = self._held
        if held is not None and now_s < self._held_until_s:
            return held
        with self._lock:
            # A thread that was alive when the process forked is dead in the child, and says so.
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=self._ask, daemon=True, name="negajoule-grid")
                self._asking.start()
            if self._held is None:
                self._held = self._grid.resolve(self._zone, now_s, now_s, may_ask=False)
            return self._held

    def over(self, start_s: float, end_s: float) -> Resolved:
        """The mean of a span that has ended; waits for sources, each up to its deadline.

        Args:
            start_s: beginning, UTC seconds since 1970 [s].
            end_s: its end [s].
        """
        return self._grid.resolve(self._zone, start_s, end_s)

    def _ask(self) -> None:
        now_s = self._clock()
        resolved = self._grid.resolve(self._zone, now_s, now_s)
        next_hour_s = now_s // _HOUR_S * _HOUR_S + _HOUR_S
        with self._lock:
            self._held = resolved
            self._held_until_s = now_s + _AGAIN_S if resolved.is_fallback else next_hour_s
