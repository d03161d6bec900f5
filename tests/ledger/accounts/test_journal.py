"""What a killed worker leaves behind: whole, torn, of another boot or another store, on a full disk."""

from __future__ import annotations

import errno
import os

import msgspec
import pytest

from budget_world import Clock, Worker
from negajoule.ledger.accounts import MemoryStore, SqliteStore, Terms, reconcile
from negajoule.ledger.accounts import journal as journals
from negajoule.ledger.accounts.journal import read_testament

J = 10**6


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    store = MemoryStore(clock.wall)
    store.create(Terms.checked("key", "alice", "J", "total"), 100.0)
    store.create(Terms.checked("global", "", "EUR", "total"), 100.0)
    return store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "workers"


@pytest.fixture
def worker(store, folder, clock):
    return Worker(store, folder, clock)


def ask(worker, joules):
    teller = worker.teller
    return teller.reserve(f'r"{joules}\n', {"J": joules, "EUR": 1.0}, teller.accounts_for(key="alice"))


def work(worker):
    """Three requests: one settled, one released, one still running."""
    worker.teller.settle(ask(worker, 10.0), {"J": 4.0, "EUR": 0.5})
    worker.teller.release(ask(worker, 5.0))
    ask(worker, 7.0)
    return worker.teller._journal.path


def test_a_dead_worker_is_closed_by_its_journal_to_the_unit(store, worker, folder):
    path = work(worker)
    assert reconcile(store, folder) == 0  # it lives: its lock is held
    worker.kill(lose_disk=False)
    testament = read_testament(path.read_bytes())
    assert testament.in_flight == ('r"7.0\n',)
    assert reconcile(store, folder) == 1
    joules, euros = store.usage()
    assert (joules.charged, joules.spent, joules.requests) == (11 * J, 11 * J, 2)
    assert (euros.spent, euros.held) == (15 * 10**8, 0)
    assert not path.exists()
    assert reconcile(store, folder) == 0


def test_the_next_worker_to_start_or_tend_closes_the_dead(store, worker, folder, clock):
    neighbour = Worker(store, folder, clock)
    work(worker)
    worker.kill(lose_disk=False)
    neighbour.teller.tend()
    assert store.usage()[0].charged == 11 * J


def test_a_torn_last_line_is_a_request_that_was_never_sent(store, worker, folder):
    path = work(worker)
    ask(worker, 20.0)
    worker.kill(lose_disk=False)
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        torn = read_testament(whole[:-cut])
        assert sum(s.spent for s in torn.statements if s.account == 1) == 11 * J
    path.write_bytes(whole[:-3])
    reconcile(store, folder)
    assert store.usage()[0].charged == 11 * J


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: text.replace(b'["settle"', b'["setle"'),
        lambda text: text.replace(b'["purse",1', b'["purse",9'),
        lambda text: text.replace(b"negajoule.accounts.journal/1", b"negajoule.accounts.journal/9"),
        lambda text: b"\x00" * len(text),
        lambda text: text.replace(b'["settle",1,[', b'["settle",1,[["a"],'),
        lambda text: text.replace(b'["release",2]', b'["release",77]'),
    ],
)
def test_a_journal_that_is_not_whole_is_not_believed(store, worker, folder, spoil):
    path = work(worker)
    charged = store.usage()[0].charged
    worker.kill(lose_disk=False)
    path.write_bytes(spoil(path.read_bytes()))
    reconcile(store, folder)
    (joules, _) = store.usage()
    assert joules.charged == joules.forfeited + joules.spent == charged


def test_a_journal_of_an_earlier_boot_is_not_believed(store, worker, folder, monkeypatch):
    work(worker)
    charged = store.usage()[0].charged
    worker.kill(lose_disk=False)
    monkeypatch.setattr(journals, "boot_id", lambda: "another boot")
    assert reconcile(store, folder) == 1
    (joules, _) = store.usage()
    assert joules.forfeited > 0
    assert joules.forfeited + joules.spent == charged
    assert list(folder.iterdir()) == []


def test_where_boots_have_no_name_no_journal_is_believed(store, folder, clock, monkeypatch):
    monkeypatch.setattr(journals, "boot_id", lambda: "")
    worker = Worker(store, folder, clock)
    work(worker)
    worker.kill(lose_disk=False)
    reconcile(store, folder)
    assert store.usage()[0].forfeited > 0


def test_journals_of_another_store_are_left_alone(store, worker, folder, clock):
    path = work(worker)
    worker.kill(lose_disk=False)
    other = MemoryStore(clock.wall)
    assert reconcile(other, folder) == 0
    assert path.exists()
    path.write_bytes(b"unreadable")
    assert reconcile(other, folder) == 0
    assert path.exists()


def test_a_file_that_was_replaced_meanwhile_says_nothing(store, worker, folder, monkeypatch):
    path = work(worker)
    worker.kill(lose_disk=False)
    lock = journals.fcntl.flock

    def replace_then_lock(file, how):
        path.rename(folder / "old")
        path.write_bytes(b"new")
        lock(file, how)

    monkeypatch.setattr(journals.fcntl, "flock", replace_then_lock)
    assert reconcile(store, folder) == 0
    assert path.exists()


@pytest.mark.parametrize("how", ["error", "short"])
def test_a_full_disk_ends_the_journal_and_not_the_request(store, worker, folder, clock, monkeypatch, how):
    path = work(worker)
    write = os.write

    def full(file, data):
        if how == "error":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:5])

    monkeypatch.setattr(os, "write", full)
    found = ask(worker, 1.0)
    assert worker.teller.settle(found, {"J": 1.0, "EUR": 0.0}).outcome == "settled"
    assert worker.teller.journal_error
    assert not path.exists()
    worker.teller.tend()
    assert worker.teller.journal_error
    monkeypatch.undo()
    worker.teller.tend()  # there is room again: the journal is written anew
    assert worker.teller.journal_error == ""
    ask(worker, 2.0)
    worker.kill(lose_disk=False)
    assert reconcile(store, folder) == 1
    assert store.usage()[0].charged == (4 + 7 + 1 + 2) * J


def test_a_long_journal_is_written_anew_and_says_the_same(store, worker, folder, monkeypatch):
    path = work(worker)
    monkeypatch.setattr(journals, "COMPACT_BYTES", 1000)
    for _ in range(20):
        worker.teller.settle(ask(worker, 1.0), {"J": 1.0, "EUR": 0.0})
    long = path.stat().st_size
    before = read_testament(path.read_bytes())
    worker.teller.tend()
    assert path.stat().st_size < long
    after = read_testament(path.read_bytes())
    assert sorted(after.statements) == sorted(before.statements)
    assert after.in_flight == before.in_flight
    worker.kill(lose_disk=False)
    reconcile(store, folder)
    assert store.usage()[0].charged == 31 * J


def test_nobody_else_can_read_which_requests_ran(worker):
    path = work(worker)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_lines_are_json(worker):
    for line in work(worker).read_bytes().splitlines():
        assert msgspec.json.decode(line)


def test_slices_that_the_store_forgot_are_not_told_again(tmp_path, folder, clock):
    store = SqliteStore(tmp_path / "accounts.sqlite", clock=clock.wall)
    store.create(Terms.checked("key", "alice", "J", "hour"), 100.0)
    worker = Worker(store, folder, clock)
    for _ in range(3):
        worker.teller.settle(ask(worker, 90.0), {"J": 80.0})
        clock.passed_s += 3600.0
        worker.teller.tend()
    worker.teller.tend()
    ask(worker, 5.0)
    worker.kill(lose_disk=False)
    reconcile(store, folder)
    usages = store.usage(windows=9)
    assert [usage.charged for usage in usages] == [5 * J, 80 * J, 80 * J, 80 * J]
    assert [usage.requests for usage in usages] == [1, 1, 1, 1]
    assert store.check() == []
    store.close()
