"""One thread a process that looks after measurements which last, so that short ones cost nothing.

The thread starts with the first measurement and ends when it finds none running. It wakes every
``PERIOD_S``, and passes over measurements younger than ``YOUNGEST_S``: they are not worth a file. Together
the two are shorter than a heartbeat of the journal (10 s), the most that a kill may cost.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Protocol

__all__ = ["HEARTBEAT", "Heartbeat", "Lasting"]

PERIOD_S = 7.0
YOUNGEST_S = 2.0


class Lasting(Protocol):
    """Something that may go on for long."""

    def beat(self) -> None:
        """Called now and then from another thread while it goes on; must not raise."""


class Heartbeat:
    """Calls everybody's ``beat``.

    Args:
        period_s: how often [s].
        youngest_s: how long something must have gone on to be called [s].
    """

    def __init__(self, period_s: float = PERIOD_S, youngest_s: float = YOUNGEST_S) -> None:
        self._period_s, self._youngest_s = period_s, youngest_s
        self._lock = threading.Lock()
        self._since_s: dict[int, tuple[Lasting, float]] = {}
        self._thread: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def add(self, one: Lasting) -> None:
        """Begin to call it; start the thread if there is none."""
        with self._lock:
            self._since_s[id(one)] = (one, time.monotonic())
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="negajoule-heartbeat", daemon=True)
                # Refused while the interpreter shuts down; the measurement itself needs no thread.
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def remove(self, one: Lasting) -> None:
        """Call it no more."""
        with self._lock:
            self._since_s.pop(id(one), None)

    def _run(self) -> None:
        while True:
            time.sleep(self._period_s)
            with self._lock:
                if not self._since_s:
                    self._thread = None
                    return
                born_s = time.monotonic() - self._youngest_s
                lasting = [one for one, since_s in self._since_s.values() if since_s <= born_s]
            for one in lasting:
                one.beat()

    def _forget(self) -> None:
        """A forked child has neither the thread nor a say in its parent's measurements."""
        self._lock = threading.Lock()
        self._since_s = {}
        self._thread = None


HEARTBEAT = Heartbeat()
"""This process's."""
