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
        self._tickets = 0
        self._trial = 0

    def state(self, now_s: float) -> State:
        """Closed while calls pass, open while none does, half-open while one may try."""
        if self._opened_s is None:
            return "closed"
        return "open" if now_s < self._opened_s + self._rest_s else "half-open"

    def wait_s(self, now_s: float) -> float:
        """How long until a call may try [s]; 0 where it may now, but for a trial under way."""
        return 0.0 if self._opened_s is None else max(0.0, self._opened_s + self._rest_s - now_s)

    def enter(self, now_s: float) -> int:
        """A ticket for a call that may go, 0 for one that may not.

        A call with a ticket must end in ``succeeded``, ``failed`` or ``released``, each with its ticket: what
        calls from before it opened have to tell mustn't be taken for how its trial went.
        """
        state = self.state(now_s)
        if state == "open" or (state == "half-open" and self._trial):
            return 0
        self._tickets += 1
        if state == "half-open":
            self._trial = self._tickets
        return self._tickets

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0
        self._rest_s = self._first_rest_s
        self._opened_s = None
        self._trial = 0

    def failed(self, now_s: float, ticket: int = 0) -> None:
        """The server didn't answer, or broke off."""
        self._failures += 1
        if ticket and ticket == self._trial:
            self._rest_s = min(self._longest_rest_s, 2 * self._rest_s)
            self._trial = 0
        elif self._opened_s is not None or self._failures < self._limit:
            return  # a call from before it opened says nothing new
        self._opened_s = now_s

    def released(self, ticket: int) -> None:
        """The call ended without telling anything of the server."""
        if ticket == self._trial:
            self._trial = 0
