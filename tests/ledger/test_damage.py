"""A file that isn't a sound ledger, or can't be opened, is named, explained, and left as it is."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.examples import activity, filled
from negajoule.errors import LedgerError
from negajoule.ledger import Ledger, LedgerWriter
from negajoule.ledger.migrations import APPLICATION_ID, MIGRATIONS

GARBAGE = random.Random(7).randbytes(4096)
VERSION_AT, APPLICATION_AT = slice(60, 64), slice(68, 72)  # SQLite file format, section 1.3


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a ledger with 300 rows."""
    path = tmp_path_factory.mktemp("sound") / "ledger.sqlite"
    filled(path, 300)
    return path.read_bytes()


def overwritten(data: bytes, where: slice, filling: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[where] = filling[: len(damaged[where])]
    return bytes(damaged)


def refusal_of(action) -> LedgerError | None:
    try:
        action()
    except LedgerError as error:
        return error
    return None


def refusal(path, **options) -> LedgerError:
    """The error of opening the file, which must leave it as it is."""
    before = path.read_bytes()
    with pytest.raises(LedgerError) as caught:
        Ledger(path, **options)
    assert path.read_bytes() == before
    return caught.value


@pytest.mark.parametrize("read_only", [False, True])
class TestUnsoundFiles:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"this is a text, and a long one " * 40,
            lambda data: bytes(len(data)),
            lambda data: GARBAGE * 8,
            lambda data: overwritten(data, slice(0, 16), GARBAGE),
            lambda data: overwritten(data, slice(0, 100), GARBAGE),
            lambda data: overwritten(data, slice(16, 18), b"\x00\x07"),
            lambda data: overwritten(data, slice(100, 112), GARBAGE),
            lambda data: overwritten(data, slice(100, 4096), GARBAGE),
            lambda data: overwritten(data, VERSION_AT, b"\x00\x00\x00\x00"),
            lambda data: overwritten(data, VERSION_AT, b"\xff\xff\xff\xff"),
            lambda data: overwritten(data, APPLICATION_AT, b"\x00\x00\x00\x01"),
            lambda data: overwritten(data, APPLICATION_AT, b"\x00\x00\x00\x00"),
            lambda data: data[:1000],
            lambda data: data[: len(data) // 2],
        ],
    )
    def test_a_damaged_head_is_refused_with_one_line_to_go_on(self, tmp_path, sound, damage, read_only):
        path = tmp_path / "ledger.sqlite"
        path.write_bytes(damage(sound))
        error = refusal(path, read_only=read_only)
        assert error.code == "L102"
        assert error.fix.startswith(f"keep it: mv {path} {path}.damaged")
        assert "\n" not in error.fix

    def test_the_line_to_go_on_can_be_pasted_into_a_shell(self, tmp_path, read_only):
        path = tmp_path / "my ledger.sqlite"
        path.write_bytes(GARBAGE)
        assert refusal(path, read_only=read_only).fix.startswith(f"keep it: mv '{path}' '{path}.damaged'")

    def test_another_programs_database_is_refused(self, tmp_path, read_only):
        path = tmp_path / "ledger.sqlite"
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE notes (text)")
        other.close()
        error = refusal(path, read_only=read_only)
        assert error.code == "L102"
        assert "another program" in error.message

    def test_a_database_marked_by_another_program_is_refused(self, tmp_path, read_only):
        path = tmp_path / "ledger.sqlite"
        with sqlite3.connect(path) as other:
            other.execute(f"PRAGMA application_id = {APPLICATION_ID + 1}")
        other.close()
        assert refusal(path, read_only=read_only).code == "L102"

    def test_a_newer_schema_is_refused(self, tmp_path, sound, read_only):
        path = tmp_path / "ledger.sqlite"
        newer = MIGRATIONS[-1][0] + 1
        path.write_bytes(overwritten(sound, VERSION_AT, newer.to_bytes(4, "big")))
        error = refusal(path, read_only=read_only)
        assert error.code == "L103"
        assert f"schema {newer}" in error.message
        assert "upgrade" in error.fix

    def test_a_folder_in_its_place_is_refused(self, tmp_path, read_only):
        path = tmp_path / "ledger.sqlite"
        path.mkdir()
        with pytest.raises(LedgerError) as caught:
            Ledger(path, read_only=read_only)
        assert caught.value.code == "L101"
        assert caught.value.tried == str(path)


class TestDamagedRows:
    def test_a_damaged_page_is_found_by_reading_and_by_checking(self, tmp_path, sound):
        path = tmp_path / "ledger.sqlite"
        damaged = overwritten(sound, slice(len(sound) // 3 // 4096 * 4096, len(sound)), GARBAGE * 99)
        path.write_bytes(damaged)
        with Ledger(path, read_only=True) as ledger:
            for reading in (ledger.check, ledger.totals, lambda: ledger.latest(999)):
                with pytest.raises(LedgerError) as caught:
                    reading()
                assert caught.value.code == "L102"
                assert f"mv {path}" in caught.value.fix
        assert path.read_bytes() == damaged

    def test_a_row_that_makes_no_sense_is_named(self, tmp_path):
        path = tmp_path / "ledger.sqlite"
        (row,) = filled(path, 1)
        path.write_bytes(path.read_bytes().replace(b'{"it_energy":["modelled"', b'{"it_energy":{"modelled"'))
        with Ledger(path) as ledger, pytest.raises(LedgerError, match="a row can't be read") as caught:
            ledger.get(row.id)
        assert caught.value.code == "L102"

    @settings(max_examples=60)
    @given(st.data())
    def test_any_damage_is_an_error_of_ours_and_a_refused_file_stays(self, sound, data):
        start = data.draw(st.integers(0, 4096) | st.integers(0, len(sound) - 1))
        filling = data.draw(st.sampled_from((b"\x00", b"\xff", GARBAGE)))
        length = data.draw(st.sampled_from((1, 2, 4, 16, 100, 4096)))
        damaged = overwritten(sound, slice(start, start + length), filling * length)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.sqlite"
            path.write_bytes(damaged)
            refused = refusal_of(lambda: Ledger(path).close())
            if refused is not None:
                assert refused.code in ("L102", "L103")
                assert path.read_bytes() == damaged
                return
            with Ledger(path) as ledger:
                refusals = [
                    refusal_of(ledger.count),
                    refusal_of(ledger.check),
                    refusal_of(lambda: ledger.totals(by="model")),
                    refusal_of(lambda: ledger.latest(999)),
                    refusal_of(lambda: ledger.append([activity()])),
                ]
        # SQLite opens a file that claims a newer format of writing, but only to be read.
        assert all(one is None or one.code == "L102" or "readonly" in one.message for one in refusals)


class TestUnreachablePlaces:
    def test_a_file_where_the_folder_should_be(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(LedgerError) as caught:
            Ledger(tmp_path / "file" / "ledger.sqlite")
        assert caught.value.code == "L101"
        assert "NEGAJOULE_HOME" in caught.value.fix

    def test_a_folder_that_takes_no_files(self):
        with pytest.raises(LedgerError) as caught:
            Ledger(Path("/proc/negajoule/ledger.sqlite"))
        assert caught.value.code == "L101"

    @pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000])
    def test_a_name_too_long_for_the_file_system(self, tmp_path, name):
        for read_only in (False, True):
            with pytest.raises(LedgerError) as caught:
                Ledger(tmp_path / name, read_only=read_only)
            assert caught.value.code == "L101"

    def test_reading_without_the_right_to_look(self, tmp_path, monkeypatch):
        def refuse(self, **_):
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr("pathlib.Path.stat", refuse)
        with pytest.raises(LedgerError, match="Permission denied") as caught:
            Ledger(tmp_path / "ledger.sqlite", read_only=True)
        assert caught.value.code == "L101"

    def test_reading_what_was_never_written(self, tmp_path):
        with pytest.raises(LedgerError, match="no ledger at") as caught:
            Ledger(tmp_path / "nothing" / "ledger.sqlite", read_only=True)
        assert (caught.value.code, caught.value.fix) == ("L101", "measure something first")
        assert not (tmp_path / "nothing").exists()

    def test_reading_an_empty_file(self, tmp_path):
        (tmp_path / "ledger.sqlite").touch()
        with pytest.raises(LedgerError, match="is empty") as caught:
            Ledger(tmp_path / "ledger.sqlite", read_only=True)
        assert caught.value.code == "L101"

    def test_a_ledger_that_another_program_holds_is_no_damaged_one(self, fresh_home, monkeypatch):
        connect = sqlite3.connect
        monkeypatch.setattr(
            "negajoule.ledger.store.sqlite3.connect",
            lambda *arguments, **options: connect(*arguments, **{**options, "timeout": 0.01}),
        )
        with Ledger() as ledger:
            holder = connect(fresh_home / "ledger.sqlite", isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            try:
                with pytest.raises(LedgerError, match="locked") as caught:
                    ledger.append([activity()])
                assert caught.value.code == "L101"
            finally:
                holder.close()
            assert ledger.append([activity()]) == 1

    def test_a_full_disk_is_no_damaged_ledger_and_leaves_what_was_there(self, fresh_home):
        rows = filled(fresh_home / "ledger.sqlite", 3)
        with Ledger() as ledger:
            pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
            ledger._db.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(LedgerError, match="full") as caught:
                ledger.append([activity() for _ in range(500)])
            assert caught.value.code == "L101"
            assert ledger.latest(999) == rows[::-1]

    def test_a_closed_ledger_is_no_damaged_one(self):
        ledger = Ledger()
        ledger.close()
        for action in (ledger.count, ledger.totals, lambda: ledger.append([activity()])):
            with pytest.raises(LedgerError, match="closed") as caught:
                action()
            assert caught.value.code == "L101"


def test_a_damaged_ledger_keeps_a_writer_from_starting_only_where_rows_wait(tmp_path, sound):
    """The writer merges rescued rows first; without any there's nothing that could fail."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(overwritten(sound, slice(8192, len(sound)), GARBAGE * 99))
    with Ledger(path) as ledger:
        writer = LedgerWriter(ledger, retry_s=0.01)
        row = writer.append(activity())
        writer.close()
        assert row.result(0) is False
        with pytest.raises(LedgerError):
            LedgerWriter(ledger)
        assert (tmp_path / "ledger.rescue.jsonl").exists()
