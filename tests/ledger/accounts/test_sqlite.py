"""The store in a file: what isn't ours is left alone, and many processes may open a new one at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from negajoule.errors import ConfigError, LedgerError
from negajoule.ledger import Ledger, default_path
from negajoule.ledger.accounts import SqliteStore, Terms, default_accounts_path, open_store

TERMS = Terms.checked("key", "alice", "J", "day")


def test_a_budget_outlives_its_process(fresh_home):
    store = SqliteStore()
    made = store.create(TERMS, 5.0)
    identity = store.identity
    store.close()
    again = open_store()
    assert again.accounts() == [made]
    assert again.identity == identity
    again.close()
    assert default_accounts_path() == fresh_home / "accounts.sqlite"


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_kept_and_named(tmp_path, content):
    path = tmp_path / "accounts.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerError) as refused:
        SqliteStore(path)
    assert refused.value.code == "L102"
    assert f"mv {path}" in refused.value.fix
    assert path.read_bytes() == content


def test_other_programs_databases_are_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious (x)")
    other.close()
    with pytest.raises(LedgerError, match="another program"):
        SqliteStore(path)
    Ledger().close()
    with pytest.raises(LedgerError, match="another program"):
        SqliteStore(default_path())


def test_a_newer_schema_is_not_touched(tmp_path):
    path = tmp_path / "accounts.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE budget_store SET schema_version = 99")
    db.close()
    with pytest.raises(LedgerError) as refused:
        SqliteStore(path)
    assert refused.value.code == "L103"


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError) as refused:
        SqliteStore(tmp_path / "file" / "accounts.sqlite")
    assert refused.value.code == "L101"


def test_a_database_locked_for_too_long_is_one_message(tmp_path, monkeypatch):
    store = SqliteStore(tmp_path / "accounts.sqlite")
    store._db.execute("PRAGMA busy_timeout = 10")
    hog = sqlite3.connect(store.path, isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError) as refused:
        store.create(TERMS, 5.0)
    assert refused.value.code == "L101"
    hog.execute("ROLLBACK")
    hog.close()
    assert store.create(TERMS, 5.0).limit == 5_000_000
    store.close()


def test_the_journal_is_append_only(tmp_path):
    store = SqliteStore(tmp_path / "accounts.sqlite")
    store.create(TERMS, 5.0)
    for change in ("DELETE FROM budget_entry", "UPDATE budget_entry SET amount = 0"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store._db.execute(change)
    store.close()


def test_a_book_that_was_tampered_with_is_noticed(tmp_path):
    store = SqliteStore(tmp_path / "accounts.sqlite")
    account = store.create(TERMS, 5.0)
    with_slice = store.standings("w", [account.id]).standings[account.id]
    store._db.execute(
        "INSERT INTO budget_period (account, window_number, allowed, highest, claimed) "
        "VALUES (?, ?, 5, 5, 9)",
        (account.id, with_slice.window),
    )
    wrong_sum, too_much = store.check()
    assert "the journal says 0" in wrong_sum
    assert "9 claimed of 5" in too_much
    store.close()


@pytest.mark.slow
def test_many_processes_may_make_the_file_at_one_moment(fresh_home):
    code = "from negajoule.ledger.accounts import open_store; print(open_store().identity)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(6)
    ]
    identities = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert len(identities) == 1


def test_places_that_are_none_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="mysql"):
        open_store("mysql://localhost/accounts")
    store = open_store(str(tmp_path / "elsewhere.sqlite"))
    assert store.path == tmp_path / "elsewhere.sqlite"
    store.close()
