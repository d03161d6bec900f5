"""``negajoule privacy`` knows every table, column and file; a new one without an entry fails here."""

from __future__ import annotations

import fnmatch
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import negajoule
from negajoule.cli.stored import MEMORY, NEVER, SENT, STORED
from negajoule.config import SETTINGS, home
from negajoule.gateway import KeyFile
from negajoule.ledger import Ledger
from negajoule.ledger.accounts import SqliteStore

SOURCES = {
    path: path.read_text(encoding="utf-8") for path in sorted(Path(negajoule.__file__).parent.rglob("*.py"))
}


@pytest.fixture
def databases(fresh_home):
    """Every database there is, made anew."""
    KeyFile().create("a")
    with Ledger(), closing(SqliteStore()):
        pass
    return sorted(home().glob("*.sqlite"))


def test_every_table_and_column_of_every_database_is_listed(databases):
    listed = {place.pattern: place.tables for place in STORED if place.tables}
    assert {path.name for path in databases} == set(listed)
    for path in databases:
        with closing(sqlite3.connect(path)) as db:
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            there = {
                name: {row[1] for row in db.execute(f"PRAGMA table_info({name})")}
                for name in names
                if not name.startswith("sqlite_")
            }
        assert {table.name: table.column_names() for table in listed[path.name]} == there


def test_no_table_is_made_anywhere_that_isnt_listed():
    made = {
        name
        for text in SOURCES.values()
        for name in re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", text)
    }
    assert made == {table.name for place in STORED for table in place.tables}


def test_every_place_in_the_data_folder_that_the_code_names_is_listed():
    patterns = [place.pattern for place in STORED]
    named = {
        "/".join(re.findall(r'"([^"]+)"', found))
        for path, text in SOURCES.items()
        if path.name != "stored.py"
        for found in re.findall(r'(?<!\.)home\(\)((?: / "[^"]+")+)', text)
    }
    assert {"ledger.sqlite", "keys.sqlite", "workers"} <= named
    for name in named:
        assert any(fnmatch.fnmatch(name, p) or p.startswith(f"{name}/") for p in patterns), name


def test_a_server_leaves_no_file_that_isnt_listed(nj, fresh_home):
    nj("keys", "create", "a")
    nj("run", "--label", "x", "--", "true")
    assert nj("serve", "--fake-engine", "--port", "0", "--once").returncode == 0
    left = [path.relative_to(fresh_home).as_posix() for path in fresh_home.rglob("*") if path.is_file()]
    assert "ledger.sqlite" in left
    for name in left:
        plain = re.sub(r"-(wal|shm|journal)$", "", name)
        assert any(fnmatch.fnmatch(plain, place.pattern) for place in STORED), name


def test_it_counts_what_is_there(nj):
    nj("keys", "create", "a")
    nj("run", "--", "true")
    told = json.loads(nj("privacy", "--json").stdout)
    assert told["schema"] == "negajoule.privacy/1"
    stored = {place["name"]: place for place in told["stored"]}
    assert stored["API keys"]["rows"] == 2
    assert stored["ledger"]["rows"] == 2
    assert stored["ledger"]["bytes"] > 0
    assert (stored["calibration"]["files"], stored["calibration"]["rows"]) == (0, None)
    assert told["never"] == list(NEVER)


def test_it_writes_nothing_and_survives_what_it_cant_read(nj, fresh_home):
    assert nj("privacy").returncode == 0
    assert not fresh_home.exists()
    fresh_home.mkdir()
    (fresh_home / "ledger.sqlite").write_bytes(b"no database")
    told = json.loads(nj("privacy", "--json").stdout)
    assert told["stored"][0]["bytes"] == 11
    assert told["stored"][0]["rows"] is None


def test_for_people_it_says_all_of_it(nj):
    text = nj("privacy").stdout
    for place in STORED:
        assert place.holds in text
    for promise in (*MEMORY, *MEMORY.values(), *NEVER, *SENT):
        assert promise in text


def test_what_is_sent_is_switched_on_by_something_that_exists():
    known = {*SETTINGS, "pool", "upstream", "OTEL_EXPORTER_OTLP_ENDPOINT"}
    assert {*SENT, *MEMORY} <= known


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_list_of_settings_shows_no_password(nj, form):
    address = "postgresql://negajoule:open-sesame@db.example/negajoule"
    text = nj("config", *form, env={"NEGAJOULE_ACCOUNTS": address}).stdout
    assert "postgresql://negajoule:...@db.example/negajoule" in text
    assert "open-sesame" not in text
