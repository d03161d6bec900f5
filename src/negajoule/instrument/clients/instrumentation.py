"""One call that follows every client library, and the handle that ends it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from negajoule.instrument.clients.account import Account
from negajoule.instrument.clients.genai import instrument_google
from negajoule.instrument.clients.patches import Patches
from negajoule.instrument.clients.stainless import instrument_anthropic, instrument_openai

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from negajoule.instrument.clients.cost import Estimator
    from negajoule.instrument.telemetry.mapping import Exporter

__all__ = ["Instrumentation", "instrument_clients"]


class Instrumentation:
    """Clients that are followed until ``undo``; also a context manager. Made by ``instrument_clients``."""

    def __init__(self, account: Account, *, ask_for_usage: bool) -> None:
        self._account = account
        self._patches = Patches(account.gap)
        instrument_openai(self._patches, account, ask_for_usage=ask_for_usage)
        instrument_anthropic(self._patches, account)
        instrument_google(self._patches, account)

    @property
    def requests(self) -> int:
        """Requests booked so far."""
        return self._account.requests

    @property
    def gaps(self) -> int:
        """How often something couldn't be accounted for; the first time there was a warning."""
        return self._account.gaps

    def flush(self) -> None:
        """Wait until every row is in the ledger."""
        self._account.settle()

    def undo(self) -> None:
        """Put the clients' own functions back and write what waits; streams under way are still booked."""
        global _active
        with _LOCK:
            self._account.active = False
            self._patches.undo()
            if _active is self:
                _active = None
        self._account.settle()

    def __enter__(self) -> Instrumentation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


_LOCK = threading.RLock()
_active: Instrumentation | None = None


def instrument_clients(
    *,
    zone: str | None = None,
    ledger: Path | None = None,
    record: bool = True,
    estimator: Estimator | None = None,
    exporters: Sequence[Exporter] = (),
    ask_for_usage: bool = False,
) -> Instrumentation:
    """Follow every request of the ``openai``, ``anthropic`` and ``google-genai`` clients.

    Each request becomes a row of the ledger and each answer gets a ``footprint``. A library that isn't
    imported yet is followed once it is. Called again without arguments this gives the same handle; with
    arguments the new ones replace the old. Nothing is ever wrapped twice.

    Args:
        zone: where the models are served, if you know; otherwise any grid is in the interval.
        ledger: file of the ledger; by default the user's.
        record: whether the ledger keeps the requests.
        estimator: works out the cost of requests instead of ``HostedCost``.
        exporters: telemetry that is told of every request.
        ask_for_usage: ask OpenAI-style servers for token counts in streams that wouldn't tell them. That adds
            ``stream_options`` to such requests, which a few servers refuse; the extra chunk is hidden.

    Raises:
        CatalogError: (F101) if the zone doesn't exist.
    """
    global _active
    given = (
        zone is not None
        or ledger is not None
        or not record
        or estimator is not None
        or bool(exporters)
        or ask_for_usage
    )
    with _LOCK:
        if _active is not None and not given:
            return _active
        account = Account(zone=zone, ledger=ledger, record=record, estimator=estimator, exporters=exporters)
        if _active is not None:
            _active.undo()
        _active = Instrumentation(account, ask_for_usage=ask_for_usage)
        return _active
