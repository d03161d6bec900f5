"""When to leave a failing source alone: an open circuit with exponential back-off, kept across processes.

Without it every ``negajoule run`` on a machine without a way out would wait for the same time-out again. The
n-th failure in a row opens the circuit for 15 s x 2^(n-1), at most 15 min, times a random factor of 0.5 to
1.5, so that many machines don't come back at one moment; a longer ``Retry-After`` is honoured up to a day.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from negajoule.grid.cache import replace_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Circuit", "State"]

_FIRST_S = 15.0
_LONGEST_S = 900.0
_LONGEST_ASKED_S = 86_400.0


class State(msgspec.Struct, frozen=True):
    """A source that failed.

    Attributes:
        failures: how often in a row.
        open_until_s: no question before this, UTC seconds since 1970 [s].
        reason: how it failed the last time.
    """

    failures: int
    open_until_s: float
    reason: str


class Circuit:
    """Which sources are left alone until when.

    Args:
        folder: where states are kept, one file a source; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._states: dict[str, State | None] = {}

    def opened(self, source: str, now_s: float) -> State | None:
        """Its state, if it's to be left alone now."""
        state = self._state(source)
        # A clock that was set back must not keep a circuit open for years.
        is_open = state is not None and now_s < state.open_until_s <= now_s + 2 * _LONGEST_ASKED_S
        return state if is_open else None

    def failed(self, source: str, now_s: float, reason: str, retry_after_s: float | None = None) -> None:
        """Open the circuit after a failure."""
        before = self._state(source)
        failures = (before.failures if before else 0) + 1
        wait_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.5)
        if retry_after_s is not None:
            wait_s = max(wait_s, min(retry_after_s, _LONGEST_ASKED_S))
        state = self._states[source] = State(failures, now_s + wait_s, reason)
        with suppress(OSError):
            replace_file(self._path(source), msgspec.json.encode(state))

    def succeeded(self, source: str) -> None:
        """Close the circuit."""
        if self._state(source) is not None:
            self._states[source] = None
            with suppress(OSError):
                self._path(source).unlink(missing_ok=True)

    def _state(self, source: str) -> State | None:
        try:
            return msgspec.json.decode(self._path(source).read_bytes(), type=State)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return self._states.get(source)

    def _path(self, source: str) -> Path:
        return self._folder / f"{source}.json"
