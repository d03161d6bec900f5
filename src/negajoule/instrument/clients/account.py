"""Where requests are booked: cost, ledger, telemetry. Nothing in here ever reaches the measured program.

What goes wrong is a gap: it is counted, and the first one is told by a warning.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from negajoule.errors import NegajouleError
from negajoule.instrument.clients.cost import HostedCost, unknown_cost
from negajoule.ledger import Ledger, LedgerWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from negajoule.instrument.clients.answers import Said
    from negajoule.instrument.clients.cost import Estimator
    from negajoule.instrument.telemetry.mapping import Exporter, Finished
    from negajoule.units import Footprint

__all__ = ["Account"]

_LINGER_S = 0.2
"""Rows of requests share a commit: writing each by itself would cost more than working it out."""


class Account:
    """Books the requests of this process.

    Args:
        zone: where the models are served, if that's known.
        ledger: file of the ledger; ``None`` for the default place.
        record: whether a ledger is kept at all.
        estimator: works out the cost instead of ``HostedCost``.
        exporters: telemetry that is told of every request.

    Raises:
        CatalogError: (F101) if the zone doesn't exist.
    """

    def __init__(
        self,
        *,
        zone: str | None = None,
        ledger: Path | None = None,
        record: bool = True,
        estimator: Estimator | None = None,
        exporters: Sequence[Exporter] = (),
    ) -> None:
        self.gaps = 0
        """Requests or rows that couldn't be accounted for."""
        self.requests = 0
        """Requests that were booked."""
        self.active = True
        """Whether new requests are taken on."""
        self._estimate: Estimator = HostedCost(zone) if estimator is None else estimator
        self._path = ledger
        self._record = record
        self._exporters = tuple(exporters)
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None
        self._writer: LedgerWriter | None = None
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._later: deque[Callable[[], None]] = deque()
        _ACCOUNTS.add(self)

    def cost(self, model: str, said: Said, url: str) -> Footprint:
        """What a request cost; without figures, and with the reason, where that can't be told."""
        if said.tokens_in is None or said.tokens_out is None:
            missing = "prompt" if said.tokens_in is None else "answer"
            return unknown_cost(f"the server didn't tell how many tokens the {missing} has")
        for name in dict.fromkeys(name for name in (said.model, model) if name):
            try:
                return self._estimate(name, said.tokens_in, said.tokens_out, said.tokens_cached, url)
            except NegajouleError as error:
                reason = error.message
            except Exception as error:
                self.gap(error)
                return unknown_cost(f"the estimator failed: {type(error).__name__}")
        return unknown_cost(f"can't be estimated: {reason}" if said.model or model else "no model was named")

    def book(self, finished: Finished) -> None:
        """Write a request's row and tell the exporters; each failure is a gap of its own."""
        with self._lock:
            self.requests += 1
        if self._record:
            self.guarded(lambda: self._writing().append(finished.activity))
        for exporter in self._exporters:
            self.guarded(lambda exporter=exporter: exporter.observe(finished))  # type: ignore[misc]

    def guarded(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 (whatever the work gives)
        """Do accounting work; an error in it becomes a gap and ``None``."""
        try:
            return work()
        except Exception as error:
            self.gap(error)
            return None

    def gap(self, error: Exception) -> None:
        """Count what couldn't be accounted for; warn the first time."""
        with self._lock:
            self.gaps += 1
            first = self.gaps == 1
        if not first:
            return
        try:
            warnings.warn(
                f"negajoule: a request couldn't be accounted for ({type(error).__name__}: {error}); "
                "requests go on, further gaps are only counted",
                RuntimeWarning,
                stacklevel=3,
            )
        except RuntimeWarning:
            return  # warnings are errors here, but the program that asked must not fail for our books

    def opened(self, call: object) -> None:
        """A request is under way; if the program ends before it does, it is booked then."""
        self.catch_up()
        self._open.add(call)

    def later(self, work: Callable[[], None]) -> None:
        """Do accounting work at the next request, flush or exit.

        For finalisers: the garbage collector may call them in the midst of anything, even of our own booking
        with its locks held, so they only leave a message here.
        """
        self._later.append(work)

    def catch_up(self) -> None:
        """Do what finalisers have left."""
        while self._later:
            try:
                work = self._later.popleft()
            except IndexError:  # another thread was faster
                return
            self.guarded(work)

    def abandon(self) -> None:
        """Book what is still under way as cancelled."""
        for call in list(self._open):
            call.abandon()

    def settle(self) -> None:
        """Write what waits and let the ledger go; a later request opens it again."""
        self.catch_up()
        with self._lock:
            writer, ledger = self._writer, self._ledger
            self._writer = self._ledger = None
        if writer is not None:
            writer.close()
        if ledger is not None:
            ledger.close()

    def _writing(self) -> LedgerWriter:
        with self._lock:
            if self._writer is None:
                self._ledger = Ledger(self._path)
                self._writer = LedgerWriter(self._ledger, linger_s=_LINGER_S, report=self.gap)
            return self._writer

    def after_fork(self) -> None:
        """A forked child has no writing thread and must not touch its parent's open file: begin anew."""
        _INHERITED.append((self._ledger, self._writer))
        self._lock = threading.Lock()
        self._ledger = self._writer = None
        self._open = weakref.WeakSet()
        self._later = deque()


_ACCOUNTS: weakref.WeakSet[Account] = weakref.WeakSet()
_INHERITED: list[Any] = []


def _after_fork() -> None:
    for account in list(_ACCOUNTS):
        account.after_fork()


@atexit.register
def _at_exit() -> None:
    for account in list(_ACCOUNTS):
        account.guarded(account.abandon)
        account.settle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
