"""A server that plays the providers, and followed clients whose rows can be read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from instrument.apis import Provider
from negajoule.instrument.clients import instrument_clients
from negajoule.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.instrument.clients import Instrumentation
    from negajoule.ledger import Activity


@pytest.fixture
def provider() -> Iterator[Provider]:
    """The server."""
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture
def followed() -> Iterator[Instrumentation]:
    """Clients are followed, and nothing may go wrong with the accounts."""
    with instrument_clients() as handle:
        yield handle
        assert handle.gaps == 0


@pytest.fixture
def rows(followed: Instrumentation) -> Callable[[], list[Activity]]:
    """The rows so far, oldest first."""

    def read() -> list[Activity]:
        followed.flush()
        with Ledger() as ledger:
            return ledger.latest(1000)[::-1]

    return read
