"""API keys: made, found by their hash, ended, reloaded; fast, and never kept in clear."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.errors import ConfigError, RequestError
from negajoule.gateway.caller import ANYBODY, SCOPES, Caller
from negajoule.gateway.keyring import KeyRing
from negajoule.gateway.keys import DEFAULT_SCOPES, KeyFile, digest_of


@pytest.fixture
def file(fresh_home):
    return KeyFile()


def refused(ring: KeyRing, secret: str) -> str:
    with pytest.raises(RequestError) as caught:
        ring.find(secret.encode())
    assert (caught.value.code, caught.value.status) == ("R110", 401)
    assert secret not in str(caught.value)
    return caught.value.message


class TestFile:
    def test_a_key_is_256_random_bits_and_only_its_hash_is_kept(self, file):
        key, secret = file.create("nightly", team="search", project="index")
        assert re.fullmatch(r"nj-[A-Za-z0-9_-]{43}", secret)
        assert key.caller == Caller("nightly", "search", "index", frozenset(DEFAULT_SCOPES), ())
        assert list(file.by_digest()) == [digest_of(secret.encode())]
        content = file.path.read_bytes()
        assert secret.encode() not in content
        assert secret[3:].encode() not in content

    def test_nobody_else_may_read_the_file(self, file):
        old = os.umask(0)
        try:
            file.create("a")
        finally:
            os.umask(old)
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600

    def test_secrets_differ(self, file):
        assert len({file.create(f"key{number}")[1] for number in range(20)}) == 20

    def test_listing_reads_back_what_was_made(self, file):
        assert file.all_keys() == []
        made = [
            file.create(name, scopes=["admin"], models=["llama*", "gpt-4o"], lasts_s=60.0)[0]
            for name in ("b", "a")
        ]
        assert file.all_keys() == made[::-1]

    @pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a\n", "a/b", "x" * 65, "a\x00", "ä"])
    def test_malformed_names_are_refused(self, file, name):
        with pytest.raises(ConfigError) as caught:
            file.create(name)
        assert caught.value.code == "C109"
        assert not file.path.exists()

    @pytest.mark.parametrize("what", ["team", "project"])
    def test_malformed_teams_are_refused(self, file, what):
        with pytest.raises(ConfigError, match=f"{what} of a key"):
            file.create("a", **{what: "a b"})

    def test_an_unknown_scope_is_refused(self, file):
        with pytest.raises(ConfigError, match="'root'"):
            file.create("a", scopes=["root"])

    def test_a_name_is_given_once_even_after_its_key_ended(self, file):
        file.create("a")
        file.revoke("a")
        with pytest.raises(ConfigError) as caught:
            file.create("a")
        assert caught.value.code == "C109"

    @pytest.mark.parametrize("action", ["revoke", "rotate"])
    def test_an_unknown_key_is_an_error(self, file, action):
        with pytest.raises(ConfigError) as caught:
            getattr(file, action)("nobody")
        assert caught.value.code == "C109"

    def test_revoking_twice_keeps_the_first_day(self, file, monkeypatch):
        file.create("a")
        first = file.revoke("a").revoked_day
        monkeypatch.setattr("negajoule.gateway.keys.time.time", lambda: 4e9)
        assert file.revoke("a").revoked_day == first

    def test_a_revoked_key_gets_no_new_secret(self, file):
        file.create("a")
        file.revoke("a")
        with pytest.raises(ConfigError, match="was revoked"):
            file.rotate("a")

    @pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 200])
    def test_a_damaged_file_is_an_error_and_is_kept(self, file, content):
        file.path.parent.mkdir(parents=True)
        file.path.write_bytes(content)
        for action in (file.all_keys, file.by_digest, lambda: file.create("a"), lambda: KeyRing(file)):
            with pytest.raises(ConfigError) as caught:
                action()
            assert caught.value.code == "C110"
        assert file.path.read_bytes() == content

    def test_another_programs_database_is_left_alone(self, file):
        file.path.parent.mkdir(parents=True)
        db = sqlite3.connect(file.path)
        db.execute("CREATE TABLE api_key (name)")
        db.close()
        with pytest.raises(ConfigError, match="belongs to another program"):
            file.all_keys()

    def test_a_damaged_row_is_an_error(self, file):
        file.create("a")
        db = sqlite3.connect(file.path)
        db.execute("UPDATE api_key SET scopes = 'chat'")
        db.commit()
        db.close()
        with pytest.raises(ConfigError) as caught:
            file.all_keys()
        assert caught.value.code == "C110"

    def test_an_empty_file_holds_no_keys_and_takes_some(self, file):
        file.path.parent.mkdir(parents=True)
        file.path.touch()
        assert file.all_keys() == []
        assert file.by_digest() == {}
        file.create("a")
        assert len(file.all_keys()) == 1


class TestRing:
    def test_a_key_is_found_and_nothing_else_is(self, file):
        key, secret = file.create("a")
        ring = KeyRing(file)
        assert ring.required
        assert ring.find(secret.encode()) == key.caller
        for wrong in ("", "nj-", secret[:-1], secret + "a", secret.upper(), digest_of(secret.encode()).hex()):
            refused(ring, wrong or "nothing")
        refused(ring, "x" * 100_000)

    @given(st.binary(max_size=300))
    def test_no_other_bytes_are_let_in(self, guess):
        with pytest.raises(RequestError):
            _RING.find(guess)

    def test_without_keys_none_is_needed(self, file):
        assert not KeyRing(file).required

    def test_an_ended_key_still_closes_the_server(self, file):
        file.create("a", lasts_s=-1.0)
        assert KeyRing(file).required
        file.revoke("a")
        assert KeyRing(file).required

    def test_an_expired_key_is_refused_to_the_second(self, file):
        now = [time.time()]
        key, secret = file.create("a", lasts_s=60.0)
        ring = KeyRing(file, clock=lambda: now[0])
        now[0] = key.expires_s - 0.001
        assert ring.find(secret.encode()).name == "a"
        now[0] = key.expires_s
        assert "expired" in refused(ring, secret)

    def test_a_rotated_secret_ends_at_once_or_after_its_grace(self, file):
        now = [time.time()]
        _, first = file.create("a")
        _, second = file.rotate("a", grace_s=60.0)
        _, third = file.rotate("a", grace_s=3600.0)
        ring = KeyRing(file, clock=lambda: now[0])
        for secret in (first, second, third):
            assert ring.find(secret.encode()).name == "a"
        now[0] += 61.0
        assert "expired" in refused(ring, first)
        assert ring.find(second.encode()).name == "a"
        _, fourth = file.rotate("a")
        ring.refresh()
        for secret in (second, third):
            refused(ring, secret)
        assert ring.find(fourth.encode()).name == "a"

    def test_changes_are_seen_by_a_running_server(self, file, monkeypatch):
        ring = KeyRing(file)
        clock = [time.monotonic()]
        monkeypatch.setattr("negajoule.gateway.keyring.time.monotonic", lambda: clock[0])
        _, secret = file.create("a")
        assert not ring.required
        clock[0] += 1.0
        assert ring.required
        assert ring.find(secret.encode()).name == "a"
        file.revoke("a")
        clock[0] += 1.0
        assert ring.required
        refused(ring, secret)

    def test_a_new_key_works_at_once(self, file):
        file.create("a")
        ring = KeyRing(file)
        time.sleep(0.06)
        _, secret = file.create("b")
        assert ring.find(secret.encode()).name == "b"

    def test_a_file_that_vanishes_closes_the_server(self, file):
        _, secret = file.create("a")
        ring = KeyRing(file)
        file.path.unlink()
        ring.refresh()
        assert ring.required
        refused(ring, secret)

    def test_a_file_that_cannot_be_read_any_more_is_told_once_and_keys_stay(self, file):
        _, secret = file.create("a")
        told = []
        ring = KeyRing(file, report=told.append)
        file.path.write_bytes(b"no database")
        for _ in range(3):
            ring.refresh()
        assert [error.code for error in told] == ["C110"]
        assert ring.find(secret.encode()).name == "a"

    def test_the_day_of_use_is_written_once_a_day(self, file):
        now = [1_000_000_000.0]
        _, secret = file.create("a")
        file.create("b")
        ring = KeyRing(file, clock=lambda: now[0])
        ring.note_use()
        assert [key.last_used_day for key in file.all_keys()] == [None, None]
        for _ in range(3):
            ring.find(secret.encode())
        ring.note_use()
        days = {key.caller.name: key.last_used_day for key in file.all_keys()}
        assert days["b"] is None
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", days["a"])
        mark = file.change_mark()
        ring.find(secret.encode())
        ring.note_use()
        assert file.change_mark() == mark
        now[0] += 86_400
        ring.find(secret.encode())
        ring.note_use()
        assert file.change_mark() != mark

    def test_use_that_cannot_be_written_breaks_nothing(self, file):
        _, secret = file.create("a")
        ring = KeyRing(file)
        ring.find(secret.encode())
        file.path.write_bytes(b"no database")
        ring.note_use()
        assert ring.find(secret.encode()).name == "a"

    def test_a_guest_is_let_in_and_stands_in_no_file(self, file):
        file.create("a")
        ring = KeyRing(file)
        secret = ring.admit_guest(ANYBODY)
        assert ring.find(secret.encode()) == ANYBODY
        assert len(file.by_digest()) == 1
        refused(KeyRing(file), secret)
        ring.note_use()

    def test_looking_a_key_up_takes_less_than_20_us_and_no_memory(self, file):
        for number in range(50):
            file.create(f"key{number}")
        _, secret = file.create("a")
        ring, raw = KeyRing(file), secret.encode()
        best_s = min(_seconds(lambda: ring.required and ring.find(raw), 2000) for _ in range(5))
        assert best_s < 20e-6
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(2000):
                ring.find(raw)
            assert tracemalloc.get_traced_memory()[0] - before < 10_000
        finally:
            tracemalloc.stop()


class TestCaller:
    @pytest.mark.parametrize(
        ("models", "model", "allowed"),
        [
            ((), "any", True),
            (("gpt-4o",), "gpt-4o", True),
            (("gpt-4o",), "gpt-4o-mini", False),
            (("gpt-4o*",), "gpt-4o-mini", True),
            (("gpt-4o*", "llama"), "llama", True),
            (("*",), "any", True),
            (("gpt",), "GPT", False),
        ],
    )
    def test_models_are_allowed_by_name_or_beginning(self, models, model, allowed):
        assert Caller(models=models).may_ask(model) is allowed

    def test_only_the_asker_and_an_admin_see_a_footprint(self):
        plain = frozenset(DEFAULT_SCOPES)
        assert Caller("a", scopes=plain).may_see("a")
        assert not Caller("b", scopes=plain).may_see("a")
        assert not Caller("b", scopes=plain).may_see("")
        assert Caller("b", scopes=frozenset(SCOPES)).may_see("a")


def _seconds(action, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - started) / times


class _OneKey(KeyFile):
    """A file that needs no disk, for many examples."""

    def __init__(self) -> None:
        pass

    def change_mark(self):
        return 1

    def all_keys(self):
        return [1]

    def by_digest(self):
        return {}


_RING = KeyRing(_OneKey())
