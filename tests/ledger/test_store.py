"""What is appended comes back unchanged, counts once, adds up, and can't be altered."""

from __future__ import annotations

import math
import sqlite3
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.examples import FOOTPRINT, activity, filled
from negajoule.errors import LedgerError
from negajoule.ledger import Ledger, new_id
from negajoule.ledger.migrations import APPLICATION_ID, MIGRATIONS
from negajoule.ledger.rows import COLUMNS, to_context, to_row
from negajoule.units import INDICATORS, Energy, Footprint
from strategies import activities

few = settings(max_examples=30)  # an activity is large to make up
GROUPS = ("kind", "model", "stage", "label", "zone", "host")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One ledger for many examples, each of which brings fresh ids."""
    with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def ledger():
    with Ledger() as ledger:
        yield ledger


class TestRoundTrip:
    @few
    @given(made=activities())
    def test_any_activity_comes_back_as_it_went_in(self, shared, made):
        made = msgspec.structs.replace(made, id=new_id())
        assert shared.append([made]) == 1
        assert shared.get(made.id) == made
        assert shared.latest(1) == [made]

    def test_a_label_that_is_no_text_is_kept_as_escapes(self, ledger):
        made = activity(label="run caf\udce9")
        ledger.append([made])
        assert ledger.get(made.id).label == r"run caf\udce9"

    @pytest.mark.parametrize("label", ["", "\x00", "a\nb", "'; DROP TABLE activity; --", "能量 🔋"])
    def test_odd_labels_are_kept(self, ledger, label):
        made = activity(label=label)
        ledger.append([made])
        assert ledger.get(made.id) == made

    def test_the_largest_counts_are_kept(self, ledger):
        made = activity(tokens_in=2**63 - 1, tokens_out=0)
        ledger.append([made])
        assert ledger.get(made.id) == made

    def test_an_unknown_id_gives_nothing(self, ledger):
        assert ledger.get("nobody") is None

    def test_the_latest_come_first_and_by_kind(self, ledger):
        rows = [activity(kind=kind) for kind in ("run", "idle", "run", "request")]
        ledger.append(rows)
        assert ledger.latest(3) == rows[:0:-1]
        assert ledger.latest(5, kind="run") == [rows[2], rows[0]]
        assert ledger.latest(5, kind="window") == []


class TestIdempotence:
    @few
    @given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 12))
    def test_an_id_counts_once_however_often_it_is_written(self, order, cut):
        rows = [activity(seconds=float(number)) for number in range(6)]
        batch = [rows[number] for number in order]
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
            new = ledger.append(batch[:cut]) + ledger.append(batch[cut:])
            assert new == ledger.count() == len(set(order))
            assert set(ledger.latest(99)) == set(batch)

    def test_the_first_writing_of_an_id_stays(self, ledger):
        first = activity(label="first")
        assert ledger.append([first, msgspec.structs.replace(first, label="second")]) == 1
        assert ledger.append([msgspec.structs.replace(first, label="third")]) == 0
        assert ledger.get(first.id).label == "first"

    def test_a_batch_that_breaks_off_leaves_nothing(self, ledger):
        def broken():
            yield activity()
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            ledger.append(broken())
        assert ledger.count() == 0
        assert ledger.append([activity()]) == 1

    def test_an_empty_batch_is_nothing(self, ledger):
        assert ledger.append([]) == 0


class TestAppendOnly:
    @pytest.mark.parametrize("table", ["activity", "context"])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET id = 'forged'", "DELETE FROM {}"])
    def test_sqlite_itself_refuses_to_change_or_delete(self, fresh_home, statement, table):
        rows = filled(fresh_home / "ledger.sqlite", 3)
        connection = sqlite3.connect(fresh_home / "ledger.sqlite")
        try:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement.format(table))
        finally:
            connection.close()
        with Ledger() as ledger:
            assert ledger.latest(9) == rows[::-1]

    def test_a_read_only_ledger_refuses_to_append(self, fresh_home):
        filled(fresh_home / "ledger.sqlite", 1)
        with Ledger(read_only=True) as ledger, pytest.raises(LedgerError) as caught:
            ledger.append([activity()])
        assert caught.value.code == "L101"
        with Ledger() as ledger:
            assert ledger.count() == 1


class TestTotals:
    @settings(max_examples=15)
    @given(st.lists(activities(), max_size=6), st.sampled_from((None, *GROUPS)), st.floats(0, 4e9))
    def test_totals_are_the_sums_and_count_what_is_missing(self, made, by, since_s):
        made = [msgspec.structs.replace(one, id=new_id()) for one in made]
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
            ledger.append(made)
            found = {group.group: group for group in ledger.totals(since_s=since_s, by=by)}
        late = [one for one in made if one.started_s >= since_s]
        assert found.keys() == {getattr(one, by) if by else "" for one in late}
        for name, group in found.items():
            members = [one for one in late if not by or getattr(one, by) == name]
            assert group.activities == len(members)
            assert group.seconds == pytest.approx(math.fsum(one.seconds for one in members))
            for count in ("tokens_in", "tokens_out"):
                told = [value for one in members if (value := getattr(one, count)) is not None]
                assert getattr(group, count) == (sum(told) if told else None)
            for indicator, total in group.indicators.items():
                known = [value for one in members if (value := getattr(one.footprint, indicator)) is not None]
                assert (total.known, total.missing) == (len(known), len(members) - len(known))
                for end in ("value", "low", "high"):
                    expected = math.fsum(getattr(one, end) for one in known) if known else None
                    assert getattr(total, end) == (None if expected is None else pytest.approx(expected))

    def test_nothing_known_is_unknown_and_not_zero(self, ledger):
        ledger.append([activity(footprint=Footprint(boundary="node"), cpu_seconds=None)])
        (whole,) = ledger.totals()
        assert (whole.tokens_in, whole.tokens_out, whole.cpu_seconds) == (None, None, None)
        for name in INDICATORS:
            assert whole.indicators[name] == (None, None, None, 0, 1)

    def test_an_empty_ledger_has_no_totals(self, ledger):
        assert ledger.totals() == ledger.totals(by="model") == []

    def test_groups_with_the_most_energy_come_first(self, ledger):
        for model, joules in (("small", 1.0), ("large", 9.0), ("middle", 5.0)):
            footprint = Footprint(boundary="node", it_energy=Energy.exact(joules, boundary="node"))
            ledger.append([activity(model=model, footprint=footprint)])
        assert [group.group for group in ledger.totals(by="model")] == ["large", "middle", "small"]

    def test_huge_counts_add_up_without_overflow(self, ledger):
        ledger.append([activity(tokens_in=2**62) for _ in range(4)])
        assert ledger.totals()[0].tokens_in == 2**64

    @pytest.mark.parametrize("by", ["caller", "team", "project"])
    def test_who_asked_is_a_group_too(self, ledger, by):
        ledger.append([activity(**{by: who}) for who in ("a", "b", "a", "")])
        assert {group.group: group.activities for group in ledger.totals(by=by)} == {"a": 2, "b": 1, "": 1}

    def test_an_unknown_group_is_refused(self, ledger):
        with pytest.raises(LedgerError, match="can't group by 'id'"):
            ledger.totals(by="id")


def write_as_then(path, activities):
    """Write rows with the columns that the file has, as the version of its day did."""
    connection = sqlite3.connect(path)
    try:
        have = [row[1] for row in connection.execute("PRAGMA table_info(activity)")]
        for one in activities:
            key, content = to_context(one)
            connection.execute("INSERT OR IGNORE INTO context VALUES (?, ?)", (key, content))
            values = dict(zip(COLUMNS, to_row(one, key), strict=True))
            names = [name for name in COLUMNS if name in have]
            marks = ", ".join("?" * len(names))
            connection.execute(
                f"INSERT INTO activity ({', '.join(names)}) VALUES ({marks})",
                [values[name] for name in names],
            )
        connection.commit()
    finally:
        connection.close()


class TestSchema:
    def test_an_empty_file_becomes_a_ledger(self, tmp_path):
        path = tmp_path / "empty.sqlite"
        path.touch()
        rows = filled(path, 2)
        with Ledger(path) as ledger:
            assert ledger.latest(9) == rows[::-1]
            assert ledger.check() == []

    def test_folders_are_made_as_needed(self, tmp_path):
        filled(tmp_path / "a" / "b c%20#?" / "ledger.sqlite", 1)
        assert (tmp_path / "a" / "b c%20#?" / "ledger.sqlite").exists()

    def test_the_default_place_is_in_the_home(self, fresh_home, ledger):
        assert ledger.path == fresh_home / "ledger.sqlite"
        assert ledger.path.exists()

    @pytest.mark.parametrize("landed", range(1, len(MIGRATIONS)))
    def test_an_older_ledger_is_brought_up_and_keeps_its_rows(self, tmp_path, monkeypatch, landed):
        path = tmp_path / "old.sqlite"
        with monkeypatch.context() as older:
            older.setattr("negajoule.ledger.store.MIGRATIONS", MIGRATIONS[:landed])
            Ledger(path).close()
        rows = [activity() for _ in range(3)]
        write_as_then(path, rows)
        new = activity()
        with Ledger(path) as ledger:
            assert ledger.latest(9) == rows[::-1]
            assert ledger.append([new]) == 1
        with Ledger(path, read_only=True) as ledger:
            assert ledger.latest(1) == [new]
        connection = sqlite3.connect(path)
        try:
            assert connection.execute("PRAGMA user_version").fetchone() == (MIGRATIONS[-1][0],)
            assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        finally:
            connection.close()

    def test_steps_are_numbered_in_order(self):
        assert [number for number, _ in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))

    def test_a_step_that_fails_leaves_the_old_ledger(self, tmp_path, monkeypatch):
        path = tmp_path / "ledger.sqlite"
        rows = filled(path, 2)
        broken = (*MIGRATIONS, (MIGRATIONS[-1][0] + 1, "CREATE TABLE more (a);\nCREATE TABLE more (a);\n"))
        with monkeypatch.context() as newer:
            newer.setattr("negajoule.ledger.store.MIGRATIONS", broken)
            with pytest.raises(LedgerError):
                Ledger(path)
        with Ledger(path) as ledger:
            assert ledger.latest(9) == rows[::-1]


class TestReadersAndWriters:
    def test_readers_see_whole_batches_while_a_writer_writes(self, fresh_home):
        path = fresh_home / "ledger.sqlite"
        seen: list[int] = []
        with Ledger(path) as writing:
            done = threading.Event()

            def read() -> None:
                with Ledger(path, read_only=True) as reading:
                    while not done.is_set():
                        seen.append(reading.count())

            readers = [threading.Thread(target=read) for _ in range(3)]
            for reader in readers:
                reader.start()
            for _ in range(30):
                writing.append([activity(footprint=FOOTPRINT) for _ in range(10)])
            done.set()
            for reader in readers:
                reader.join()
        assert seen
        assert {count % 10 for count in seen} == {0}

    def test_an_open_reader_sees_what_others_add(self, fresh_home):
        rows = filled(fresh_home / "ledger.sqlite", 2)
        with Ledger(read_only=True) as reading:
            filled(fresh_home / "ledger.sqlite", 1)
            assert reading.count() == 3
            assert set(rows) <= set(reading.latest(9))

    def test_two_ledgers_on_one_file_append_side_by_side(self, fresh_home):
        with Ledger() as first, Ledger() as second:
            for _ in range(5):
                assert first.append([activity()]) == second.append([activity()]) == 1
            assert first.count() == second.count() == 10

    def test_those_who_open_it_at_one_moment_make_one_ledger(self, tmp_path):
        written: list[int] = []
        for attempt in range(10):
            path = tmp_path / str(attempt) / "ledger.sqlite"
            together = threading.Barrier(8)

            def join(path=path, together=together) -> None:
                together.wait()
                with Ledger(path) as ledger:
                    written.append(ledger.append([activity()]))

            threads = [threading.Thread(target=join) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert written == [1] * 80
