"""The writer keeps every row that it was handed, whatever the disk does."""

from __future__ import annotations

import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.examples import activity
from negajoule.errors import LedgerError
from negajoule.ledger import Ledger, LedgerWriter
from negajoule.ledger.writer import merge_rescued, rescue_path
from strategies import activities

PATIENCE_S = 10.0  # far more than needed; a test that waits this long has failed


class Failing:
    """Stands before a ledger and fails as often as told; counts the batches that reach it."""

    def __init__(self, ledger: Ledger, failures: float = 0) -> None:
        self.path = ledger.path
        self.failures = failures
        self.batches: list[int] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self._ledger = ledger

    def append(self, activities) -> int:
        rows = list(activities)
        if rows:
            self.batches.append(len(rows))
        self.may_write.wait(PATIENCE_S)
        if self.failures > 0:
            self.failures -= 1
            raise LedgerError("no space left on device")
        return self._ledger.append(rows)


@pytest.fixture
def ledger():
    with Ledger() as ledger:
        yield ledger


def wait_until(condition) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.001)


def rescued(ledger, rows) -> None:
    """Put rows into the rescue file, the way a writer does whose disk is full."""
    writer = LedgerWriter(Failing(ledger, failures=9999), retry_s=PATIENCE_S)
    written = [writer.append(row) for row in rows]
    writer.close()
    assert [one.result(0) for one in written] == [False] * len(rows)


class TestWriting:
    def test_a_row_is_in_the_file_when_its_future_is_done(self, fresh_home, ledger):
        writer = LedgerWriter(ledger)
        row = activity()
        assert writer.append(row).result(PATIENCE_S) is True
        with Ledger(fresh_home / "ledger.sqlite", read_only=True) as other:
            assert other.get(row.id) == row
        assert (writer.pending, writer.failures) == (0, 0)
        writer.close()

    def test_rows_that_wait_together_share_a_commit(self, ledger):
        slow = Failing(ledger)
        writer = LedgerWriter(slow)
        slow.may_write.clear()
        writer.append(activity())
        wait_until(lambda: slow.batches)
        waiting = [writer.append(activity()) for _ in range(700)]
        assert writer.pending == 701
        slow.may_write.set()
        assert all(one.result(PATIENCE_S) for one in waiting)
        assert slow.batches == [1, 512, 188]
        writer.close()

    def test_a_row_may_wait_for_others_but_not_for_the_end(self, ledger):
        gate = Failing(ledger)
        writer = LedgerWriter(gate, linger_s=PATIENCE_S)
        for number in range(20):
            writer.append(activity(id=f"row {number}"))
            time.sleep(0.001)
        started_s = time.monotonic()
        writer.close()
        assert gate.batches == [20]
        assert time.monotonic() - started_s < PATIENCE_S / 2
        assert ledger.count() == 20

    def test_rows_of_many_threads_are_all_written_once(self, ledger):
        writer = LedgerWriter(ledger)
        rows = [[activity() for _ in range(25)] for _ in range(8)]
        written = []
        threads = [
            threading.Thread(target=lambda mine=mine: written.extend(map(writer.append, mine)))
            for mine in rows
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
        assert [one.result(0) for one in written] == [True] * 200
        assert {one.id for one in ledger.latest(999)} == {one.id for mine in rows for one in mine}

    def test_closing_writes_what_waits(self, ledger):
        slow = Failing(ledger)
        writer = LedgerWriter(slow)
        slow.may_write.clear()
        written = [writer.append(activity()) for _ in range(600)]
        closing = threading.Thread(target=writer.close)
        closing.start()
        slow.may_write.set()
        closing.join(PATIENCE_S)
        assert [one.result(0) for one in written] == [True] * 600
        assert (writer.pending, ledger.count()) == (0, 600)
        assert not rescue_path(ledger).exists()

    def test_closing_twice_does_nothing_more(self, ledger):
        writer = LedgerWriter(ledger)
        writer.close()
        writer.close()

    def test_a_caller_that_stops_waiting_stops_nothing(self, ledger):
        slow = Failing(ledger)
        writer = LedgerWriter(slow)
        slow.may_write.clear()
        abandoned = writer.append(activity())
        assert abandoned.cancel() is False
        slow.may_write.set()
        assert writer.append(activity()).result(PATIENCE_S) is True
        assert abandoned.result(0) is True
        writer.close()


class TestRetrying:
    def test_a_failed_write_is_tried_again_and_told_once(self, ledger):
        told = []
        writer = LedgerWriter(Failing(ledger, failures=3), retry_s=0.001, report=told.append)
        row = activity()
        assert writer.append(row).result(PATIENCE_S) is True
        assert writer.failures == 3
        assert [error.message for error in told] == ["no space left on device"]
        assert ledger.latest(9) == [row]
        writer.close()

    def test_rows_wait_in_memory_while_the_disk_is_full(self, ledger):
        full = Failing(ledger, failures=float("inf"))
        writer = LedgerWriter(full, retry_s=0.001)
        waiting = [writer.append(activity()) for _ in range(50)]
        wait_until(lambda: writer.failures > 3)
        assert writer.pending == 50
        full.failures = 0
        assert all(one.result(PATIENCE_S) for one in waiting)
        assert (writer.pending, ledger.count()) == (0, 50)
        writer.close()

    def test_closing_does_not_wait_for_the_next_try(self, ledger):
        writer = LedgerWriter(Failing(ledger, failures=float("inf")), retry_s=3600.0)
        waiting = writer.append(activity())
        wait_until(lambda: writer.failures)
        writer.close()
        assert waiting.result(0) is False


class TestRescue:
    @settings(max_examples=15)
    @given(st.lists(activities(), min_size=1, max_size=3, unique_by=lambda one: one.id))
    def test_rescued_rows_come_back_as_they_were_and_once(self, tmp_path_factory, rows):
        with Ledger(tmp_path_factory.mktemp("home") / "ledger.sqlite") as ledger:
            rescued(ledger, rows)
            assert ledger.count() == 0
            LedgerWriter(ledger).close()
            assert ledger.latest(9) == rows[::-1]
            assert not rescue_path(ledger).exists()
            assert merge_rescued(ledger) == 0

    def test_a_merge_that_was_cut_short_counts_nothing_twice(self, ledger):
        rows = [activity(), activity()]
        rescued(ledger, rows)
        saved = rescue_path(ledger).read_bytes()
        assert merge_rescued(ledger) == 2
        rescue_path(ledger).write_bytes(saved)  # as if killed before the file was removed
        merge_rescued(ledger)
        assert ledger.latest(9) == rows[::-1]

    def test_a_torn_line_is_put_aside_and_spoils_neither_those_before_nor_after(self, ledger):
        writer = LedgerWriter(ledger)
        writer.close()
        path = rescue_path(ledger)
        writer.append(activity(label="before"))
        writer.append(activity(label="torn"))
        path.write_bytes(path.read_bytes()[:-20])
        writer.append(activity(label="after"))
        assert merge_rescued(ledger) == 2
        assert [one.label for one in ledger.latest(9)] == ["after", "before"]
        assert not path.exists()
        assert b'"torn"' in path.with_suffix(".unread.jsonl").read_bytes()

    @pytest.mark.parametrize(
        "line", [b"null", b"[]", b"[1, 2]", b'["{}", []]', b"{", b"\xff\xfe", b"", b"\r"]
    )
    def test_a_line_that_makes_no_sense_stops_nothing(self, ledger, line):
        row = activity()
        rescued(ledger, [row])
        path = rescue_path(ledger)
        path.write_bytes(line + b"\n" + path.read_bytes() + line)
        LedgerWriter(ledger).close()
        assert ledger.latest(9) == [row]
        assert not path.exists()

    def test_the_rescue_file_stays_while_the_ledger_fails(self, ledger):
        rescued(ledger, [activity()])
        saved = rescue_path(ledger).read_bytes()
        with pytest.raises(LedgerError):
            merge_rescued(Failing(ledger, failures=1))
        assert rescue_path(ledger).read_bytes() == saved

    def test_rows_that_come_after_the_end_are_rescued(self, ledger):
        writer = LedgerWriter(ledger)
        writer.close()
        row = activity()
        assert writer.append(row).result(0) is False
        assert writer.pending == 0
        assert merge_rescued(ledger) == 1
        assert ledger.latest(9) == [row]

    def test_rows_that_can_be_written_nowhere_are_told(self, ledger):
        told = []
        rescue_path(ledger).mkdir()
        writer = LedgerWriter(Failing(ledger, failures=float("inf")), retry_s=3600.0, report=told.append)
        lost = [writer.append(activity()) for _ in range(3)]
        writer.close()
        assert [one.result(0) for one in lost] == [False] * 3
        counts = [re.match(r"(\d+) rows could be written nowhere", error.message) for error in told]
        assert sum(int(count[1]) for count in counts if count) == 3


class TestJournal:
    def journals(self, ledger):
        return sorted(ledger.path.parent.glob("*.journal"))

    def killed(self, ledger, rows) -> list[bytes]:
        """What the journals of a writer hold that is killed before its commit."""
        writer = LedgerWriter(ledger, linger_s=PATIENCE_S, journal=True)
        assert all(writer.append(row).result(0) for row in rows)
        paths = self.journals(ledger)
        kept = [path.read_bytes() for path in paths]
        writer.close()
        assert self.journals(ledger) == []
        ledger._db.executescript("DROP TRIGGER activity_is_never_deleted; DELETE FROM activity")
        for path, content in zip(paths, kept, strict=True):
            path.write_bytes(content)
        return kept

    def test_a_row_is_safe_at_once_and_in_the_file_when_somebody_reads(self, ledger):
        writer = LedgerWriter(ledger, linger_s=PATIENCE_S, journal=True)
        rows = [activity() for _ in range(3)]
        started_s = time.monotonic()
        assert all(writer.append(row).done() for row in rows)
        assert ledger.latest(9) == rows[::-1]
        assert ledger.get(rows[0].id) == rows[0]
        assert time.monotonic() - started_s < PATIENCE_S / 2
        assert sum(path.stat().st_size for path in self.journals(ledger)) == 0
        writer.close()

    @settings(max_examples=15, deadline=None)
    @given(st.lists(activities(), min_size=1, max_size=4, unique_by=lambda one: one.id))
    def test_a_killed_writers_rows_come_back_as_they_were_and_once(self, tmp_path_factory, rows):
        with Ledger(tmp_path_factory.mktemp("home") / "ledger.sqlite") as ledger:
            kept = self.killed(ledger, rows)
            assert ledger.count() == 0
            LedgerWriter(ledger).close()
            assert ledger.latest(9) == rows[::-1]
            assert self.journals(ledger) == []
            ledger.path.with_name("ledger.again.journal").write_bytes(b"".join(kept))
            LedgerWriter(ledger).close()  # as if killed between the commit and the journal's end
            assert ledger.latest(9) == rows[::-1]

    def test_a_torn_last_line_is_put_aside(self, ledger):
        rows = [activity(), activity()]
        (kept,) = filter(None, self.killed(ledger, rows))
        for path in self.journals(ledger):
            path.write_bytes(kept[:-9] if path.stat().st_size else b"")
        assert merge_rescued(ledger) == 1
        assert ledger.latest(9) == rows[:1]
        assert rescue_path(ledger).with_suffix(".unread.jsonl").read_bytes()[:20] == kept.split(b"\n")[2][:20]

    def test_a_living_writers_journal_is_left_alone(self, ledger):
        writer = LedgerWriter(ledger, linger_s=PATIENCE_S, journal=True)
        writer.append(activity())
        with Ledger(ledger.path) as other:
            assert merge_rescued(other) == 0
            assert len(self.journals(ledger)) == 2
            assert other.count() == 0
        writer.close()
        assert ledger.count() == 1

    def test_rows_that_can_be_written_nowhere_else_stay_in_it(self, ledger):
        rescue_path(ledger).mkdir()
        failing = Failing(ledger, failures=float("inf"))
        writer = LedgerWriter(failing, retry_s=3600.0, journal=True)
        rows = [activity(), activity()]
        assert all(writer.append(row).result(0) for row in rows)
        writer.close()
        rescue_path(ledger).rmdir()
        assert merge_rescued(ledger) == 2
        assert ledger.latest(9) == rows[::-1]

    def test_where_the_journal_fails_a_row_is_safe_with_its_commit(self, ledger, monkeypatch):
        writer = LedgerWriter(ledger, linger_s=0.05, journal=True)
        monkeypatch.setattr("negajoule.ledger.journal.os.write", lambda *_: 0)
        written = writer.append(activity())
        assert not written.done()
        assert written.result(PATIENCE_S) is True
        monkeypatch.undo()
        assert writer.append(activity()).done()
        writer.close()
        assert ledger.count() == 2

    def test_who_reads_does_not_wait_for_a_disk_that_fails(self, ledger):
        writer = LedgerWriter(Failing(ledger, failures=1), retry_s=3600.0, linger_s=PATIENCE_S, journal=True)
        writer.append(activity())
        started_s = time.monotonic()
        assert writer.flush(PATIENCE_S) is False
        assert time.monotonic() - started_s < PATIENCE_S / 2
        writer.close()
        assert merge_rescued(ledger) == 1
