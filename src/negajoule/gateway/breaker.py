"""A circuit breaker: a server that keeps failing is left alone for a while, then tried with one call.

Pattern: M. Nygard, "Release It!" (2018), chapter 5. No clock of its own: whoever asks tells the time.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["Breaker"]

State = Literal["closed", "open", "half-open"]


class Breaker:
    """The breaker of one server.

    Args:
        failures: failures in a row that open it.
        rest_s: how long it stays open at first; twice as long after each trial that fails [s].
        longest_rest_s: the longest it stays open [s].
    """

    def __init__(self, *, failures: int = 5, rest_s: float = 2.0, longest_rest_s: float = 60.0) -> None:
        self._limit = failures
        self._first_rest_s = rest_s
        self._longest_rest_s = longest_rest_s
        self._failures = 0
        self._rest_s = rest_s
        self._opened_s: float | None = None
        self._trial = False

    def state(self, now_s: float) -> State:
        """Closed while calls pass, open while none does, half-open while one may try."""
        if self._opened_s is None:
            return "closed"
        return "open" if now_s < self._opened_s + self._rest_s else "half-open"

    def wait_s(self, now_s: float) -> float:
        """How long until a call may try [s]; 0 where it may now, but for a trial under way."""
        return 0.0 if self._opened_s is None else max(0.0, self._opened_s + self._rest_s - now_s)

    def enter(self, now_s: float) -> bool:
        """Whether a call may go; one that may must end in ``succeeded``, ``failed`` or ``released``."""
        state = self.state(now_s)
        if state == "closed":
            return True
        if state == "open" or self._trial:
            return False
        self._trial = True
        return True

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0
        self._rest_s = self._first_rest_s
        self._opened_s = None
        self._trial = False

    def failed(self, now_s: float) -> None:
        """The server didn't answer, or broke off."""
        self._failures += 1
        if self._trial:
            self._rest_s = min(self._longest_rest_s, 2 * self._rest_s)
        elif self._opened_s is not None or self._failures < self._limit:
            return  # a call from before it opened says nothing new
        self._trial = False
        self._opened_s = now_s

    def released(self) -> None:
        """The call ended without telling anything of the server."""
        self._trial = False
