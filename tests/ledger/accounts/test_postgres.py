"""The store of many hosts, over a real PostgreSQL: broken lines, one clock, and what isn't there."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from negajoule.errors import ExtraMissingError, LedgerError
from negajoule.ledger.accounts import Reservation, Teller, Terms, open_store

TERMS = Terms.checked("key", "alice", "J", "total")

pytestmark = pytest.mark.slow


@pytest.fixture
def url(postgres):
    return postgres.fresh_database()


@pytest.fixture
def store(url):
    store = open_store(url)
    yield store
    store.close()


def cut_lines(url):
    """End every connection of negajoule from the server's side."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='negajoule'"
        )


def test_a_cut_line_is_taken_up_again(url, store):
    store.create(TERMS, 100.0)
    cut_lines(url)
    with Teller(store) as teller:
        accounts = teller.accounts_for(key="alice")
        cut_lines(url)
        found = teller.reserve("r", {"J": 5.0}, accounts)
        assert isinstance(found, Reservation)
        cut_lines(url)
        teller.settle(found, {"J": 2.0})
        teller.tend()
    (usage,) = store.usage()
    assert (usage.charged, usage.spent, usage.requests) == (2_000_000, 2_000_000, 1)
    assert store.check() == []


def test_the_databases_clock_is_the_clock(store):
    now_s = store.standings("w", []).now_s
    assert abs(now_s - time.time()) < 60.0


def test_hosts_open_one_store(url, store):
    other = open_store(url)
    assert other.identity == store.identity
    other.close()


def test_hosts_that_make_the_tables_at_one_moment_share_them(postgres):
    url = postgres.fresh_database()
    identities = []

    def make():
        store = open_store(url)
        identities.append(store.identity)
        store.close()

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(identities) == 6
    assert len(set(identities)) == 1


def test_a_newer_schema_is_not_touched(url, store):
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute("UPDATE budget_store SET schema_version = 99")
    with pytest.raises(LedgerError) as refused:
        open_store(url)
    assert refused.value.code == "L103"


def test_the_journal_is_append_only(url, store):
    import psycopg

    store.create(TERMS, 100.0)
    with psycopg.connect(url, autocommit=True) as db:
        for change in ("DELETE FROM budget_entry", "UPDATE budget_entry SET amount = 0"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                db.execute(change)


def test_a_server_that_is_not_there_is_one_message_without_the_password():
    pytest.importorskip("psycopg")
    with pytest.raises(LedgerError) as refused:
        open_store("postgresql://me:secret@127.0.0.1:9/accounts")
    assert refused.value.code == "L101"
    assert "secret" not in str(refused.value)
    assert "me:...@127.0.0.1" in refused.value.tried


def test_a_user_who_may_not_make_tables_is_told(url):
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP ROLE IF EXISTS visitor")
        db.execute("CREATE ROLE visitor LOGIN")
        db.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(LedgerError, match="permission denied"):
        open_store(url.replace("negajoule@", "visitor@"))


def test_without_psycopg_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ExtraMissingError, match="psycopg"):
        open_store("postgresql://localhost/accounts")
