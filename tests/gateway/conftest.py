"""A real server on loopback, with the labelled fake engine or a scripted upstream behind it."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
import uvicorn

from negajoule.dashboard import pages
from negajoule.gateway import Accounts, Metrics, create_app
from negajoule.gateway.limits import Limits
from negajoule.gateway.listener import uvicorn_options
from negajoule.instrument import find_here
from negajoule.ledger import Ledger, LedgerWriter
from negajoule.meter import Meter, PassingSplitter, RequestSplitter, Splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.gateway.backend import Backend

    MakeBackend = Callable[[Splitter, Accounts], Backend]


class Running(NamedTuple):
    """A server that answers, and what is behind it."""

    url: str
    ledger: Ledger
    writer: LedgerWriter
    splitter: Splitter
    meter: Meter


@contextlib.contextmanager
def serving(app, **options) -> Iterator[str]:
    """Run an application on a free loopback port; options go to uvicorn."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
        assert not thread.is_alive(), "the server must stop when asked"


@contextlib.contextmanager
def gateway(
    make_backend: MakeBackend,
    *,
    limits: Limits | None = None,
    more_pages=(),
    splitting: type[Splitter] = RequestSplitter,
    **options,
) -> Iterator[Running]:
    """Run our gateway with a fresh ledger; options go to ``create_app``."""
    limits = limits or Limits(max_body_bytes=1_000_000)
    here = find_here()
    with Ledger() as ledger:
        writer = LedgerWriter(ledger, retry_s=0.05, linger_s=0.1, journal=True)
        accounts = Accounts(here, writer, Metrics())
        meter = Meter.for_process()
        splitter = splitting(meter)

        class _Late:
            """The backend needs a running loop, which the server makes."""

            async def _made(self) -> Backend:
                if not hasattr(self, "backend"):
                    self.backend = make_backend(splitter, accounts)
                return self.backend

            async def models(self):
                return await (await self._made()).models()

            async def open(self, call):
                return await (await self._made()).open(call)

            async def close(self):
                await (await self._made()).close()

        app = create_app(
            backend=_Late(),
            accounts=accounts,
            splitter=splitter,
            ledger=ledger,
            pages=[*pages(ledger, here, "a test"), *more_pages],
            limits=limits,
            **options,
        )
        try:
            with serving(app, **uvicorn_options(lambda: app.limits)) as url:
                yield Running(url, ledger, writer, splitter, meter)
        finally:
            writer.close()
            meter.close()


passing_gateway = functools.partial(gateway, splitting=PassingSplitter)
"""One with upstreams behind."""


@pytest.fixture
def served(fresh_home) -> Iterator[Running]:
    """A gateway with the fake engine."""
    from negajoule.engine import FakeEngine
    from negajoule.gateway import EngineBackend

    with gateway(lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts)) as running:
        yield running
