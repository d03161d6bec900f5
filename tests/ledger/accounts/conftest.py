"""Stores to test: in memory, in a file, and in a real PostgreSQL where one is installed."""

from __future__ import annotations

import pytest

from negajoule.ledger.accounts import MemoryStore, SqliteStore
from postgres_server import postgres_server, why_not


@pytest.fixture(scope="session")
def postgres():
    """A running server, one for the session."""
    if why_not():
        pytest.skip(why_not())
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def make_store(request, tmp_path):
    """Make a store, given a clock."""
    made = []

    def make(clock):
        if request.param == "memory":
            store = MemoryStore(clock)
        elif request.param == "sqlite":
            store = SqliteStore(tmp_path / "accounts.sqlite", clock=clock)
        else:
            from negajoule.ledger.accounts.postgres import PostgresStore

            url = request.getfixturevalue("postgres").fresh_database()
            store = PostgresStore(url, clock=clock)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()
