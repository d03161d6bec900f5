"""From a request's share of the meter to its footprint, its row in the ledger and the counters."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from negajoule.gateway.caller import CALLER
from negajoule.ledger import Activity, new_id

if TYPE_CHECKING:
    from concurrent.futures import Future

    from negajoule.gateway.caller import Caller
    from negajoule.gateway.metrics import Metrics
    from negajoule.instrument import Here
    from negajoule.ledger import LedgerWriter, Status
    from negajoule.meter import Share
    from negajoule.units import Energy, Footprint

__all__ = ["Accounts", "Tokens", "Watcher", "until_safe"]


_LEDGER_PATIENCE_S = 1.0


async def until_safe(written: Future[bool]) -> None:
    """Wait until a row is safe, unless the disk is slow: then the answer goes first."""
    if not written.done():
        await asyncio.wait([asyncio.wrap_future(written)], timeout=_LEDGER_PATIENCE_S)


class Tokens(NamedTuple):
    """Token counts of a request; ``None`` where nobody told."""

    prompt: int | None = None
    cached: int | None = None
    output: int | None = None

    def larger(self, other: Tokens) -> Tokens:
        """What to believe of two counts of one answer: the larger ones, and fewer out of a cache."""
        cached = [count for count in (self.cached, other.cached) if count is not None]
        return Tokens(
            max((count for count in (self.prompt, other.prompt) if count is not None), default=None),
            min(cached, default=None),
            max((count for count in (self.output, other.output) if count is not None), default=None),
        )


class Watcher(Protocol):
    """Hears how each call ended."""

    def booked(
        self, request_id: str, model: str, status: Status, tokens: Tokens, cost: Footprint, own: Footprint
    ) -> None:
        """A call was booked; ``own`` is this machine's share of its cost."""
        ...

    def dropped(self, request_id: str) -> None:
        """A call ended before anything ran."""
        ...


class Accounts:
    """Keeps the accounts of a server.

    Args:
        here: the machine and its place.
        writer: writes the ledger.
        metrics: the counters that are scraped.

    Attributes:
        watcher: hears how each call ended, if somebody wants to.
    """

    def __init__(self, here: Here, writer: LedgerWriter, metrics: Metrics) -> None:
        self.here = here
        self.writer = writer
        self.metrics = metrics
        self.watcher: Watcher | None = None

    def book_request(
        self,
        *,
        request_id: str,
        model: str,
        status: Status,
        started_s: float,
        tokens: Tokens,
        cpu_seconds: float,
        cost: Footprint,
        own: Footprint | None = None,
        avoided: Energy | None = None,
        caller: Caller | None = None,
    ) -> Future[bool]:
        """Write a request's row; the future is done when the row is safe.

        ``own`` is this machine's share of the cost, by default all of it; ``avoided`` what an answer out of a
        cache would have taken to make [J]; ``caller`` who asked, by default the caller of the moment.
        """
        caller = CALLER.get() if caller is None else caller
        if self.watcher is not None:
            self.watcher.booked(request_id, model, status, tokens, cost, cost if own is None else own)
        return self._book(
            Activity(
                id=request_id,
                started_s=started_s,
                seconds=max(0.0, time.time() - started_s),
                kind="request",
                stage="inference",
                status=status,
                model=model,
                host=self.here.host.host_id,
                zone=self.here.factors.zone,
                tokens_in=tokens.prompt,
                tokens_cached=tokens.cached,
                tokens_out=tokens.output,
                cpu_seconds=cpu_seconds,
                caller=caller.name,
                team=caller.team,
                project=caller.project,
                footprint=cost,
                avoided=avoided,
            )
        )

    def drop_request(self, request_id: str) -> None:
        """Say of a call that it ended before anything ran."""
        if self.watcher is not None:
            self.watcher.dropped(request_id)

    def book_idle(self, share: Share, *, since_s: float) -> Future[bool] | None:
        """Write the idle time since the last call; ``None`` if there was none."""
        if share.node_seconds <= 0.0:
            return None
        cost = self.here.cost(share.parts, share.node_seconds)
        return self._book(
            Activity(
                id=new_id("idle"),
                started_s=since_s,
                seconds=max(0.0, time.time() - since_s),
                kind="idle",
                stage="inference",
                label="waiting for requests",
                host=self.here.host.host_id,
                zone=self.here.factors.zone,
                cpu_seconds=share.cpu_seconds,
                footprint=cost,
            )
        )

    def _book(self, activity: Activity) -> Future[bool]:
        self.metrics.count(activity)
        return self.writer.append(activity)
