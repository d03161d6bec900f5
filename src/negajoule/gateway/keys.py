"""The file of API keys: made at random, shown once, kept as hashes.

A key is ``nj-`` and 256 random bits. Its SHA-256 is enough to keep: slow hashes protect passwords, which can
be guessed; 256 random bits can't, and a slow hash would have to be paid with every request. Of when a key was
made and last used the day is kept, not the time.

A name is given once and never again, also after its key was revoked, so that nobody inherits the budget or
the footprints of another. To change a secret and keep the name, rotate.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.config import home
from negajoule.errors import ConfigError
from negajoule.gateway.caller import SCOPES, Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["DEFAULT_SCOPES", "Key", "KeyFile", "day_of", "digest_of", "keys_path", "new_secret"]

DEFAULT_SCOPES: tuple[str, ...] = tuple(scope for scope in SCOPES if scope != "admin")

_APPLICATION_ID = 0x6E6A6B31  # "njk1"
_SCHEMA = """
CREATE TABLE api_key (
    name          TEXT PRIMARY KEY,
    team          TEXT NOT NULL,
    project       TEXT NOT NULL,
    scopes        TEXT NOT NULL,      -- JSON list
    models        TEXT NOT NULL,      -- JSON list; empty allows all
    created_day   TEXT NOT NULL,      -- UTC
    last_used_day TEXT,
    expires_s     REAL,               -- seconds since the epoch
    revoked_day   TEXT
) WITHOUT ROWID;

CREATE TABLE api_key_secret (
    digest  BLOB PRIMARY KEY,         -- SHA-256 of the secret
    name    TEXT NOT NULL REFERENCES api_key (name),
    until_s REAL                      -- when a rotated secret ends, seconds since the epoch
) WITHOUT ROWID;
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_BUSY_S = 5.0


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret.

    Attributes:
        caller: who it stands for and what it may do.
        created_day: the day it was made, in UTC.
        last_used_day: the last day it was used, ``None`` if never.
        expires_s: when it ends, seconds since the epoch [s]; ``None`` for never.
        revoked_day: the day it was revoked, ``None`` if it wasn't.
    """

    caller: Caller
    created_day: str
    last_used_day: str | None = None
    expires_s: float | None = None
    revoked_day: str | None = None

    def state(self, now_s: float) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_day is not None:
            return "revoked"
        return "expired" if self.expires_s is not None and self.expires_s <= now_s else "active"


def keys_path() -> Path:
    """Where keys are kept: ``keys.sqlite`` in the data folder."""
    return home() / "keys.sqlite"


def new_secret() -> str:
    """A key that nobody has."""
    return f"nj-{secrets.token_urlsafe(32)}"


def digest_of(secret: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(secret).digest()


def day_of(seconds: float) -> str:
    """The day in UTC of a time, seconds since the epoch [s]."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


class KeyFile:
    """Makes, lists, revokes and rotates keys; every call opens the file anew.

    Args:
        path: the file; by default in the data folder.

    Raises (all methods):
        ConfigError: (C110) if the file can't be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = keys_path() if path is None else path

    def create(
        self,
        name: str,
        *,
        team: str = "",
        project: str = "",
        scopes: Iterable[str] = DEFAULT_SCOPES,
        models: Iterable[str] = (),
        lasts_s: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key and its secret, which can't be had again.

        Raises:
            ConfigError: (C109) if the name is taken or malformed, (C101) for an unknown scope.
        """
        for text, what in ((name, "name"), (team, "team"), (project, "project")):
            if (text or what == "name") and not _NAME.fullmatch(text):
                raise ConfigError(
                    f"{text!r} can't be the {what} of a key",
                    code="C109",
                    fix="use up to 64 letters, digits and . _ @ -",
                )
        allowed = frozenset(scopes)
        unknown = allowed - set(SCOPES)
        if unknown:
            raise ConfigError(f"there is no scope {min(unknown)!r}", fix=f"use {', '.join(SCOPES)}")
        now_s = time.time()
        key = Key(
            caller=Caller(name, team, project, allowed, tuple(models)),
            created_day=day_of(now_s),
            expires_s=None if lasts_s is None else now_s + lasts_s,
        )
        secret = new_secret()
        with self._writing() as db:
            try:
                db.execute(
                    "INSERT INTO api_key VALUES (?, ?, ?, ?, ?, ?, NULL, ?, NULL)",
                    (
                        name,
                        team,
                        project,
                        _as_json(sorted(allowed)),
                        _as_json(key.caller.models),
                        key.created_day,
                        key.expires_s,
                    ),
                )
            except sqlite3.IntegrityError:
                raise ConfigError(
                    f"the name {name!r} is taken",
                    code="C109",
                    fix=f"choose another; for a new secret: negajoule keys rotate {name}",
                ) from None
            db.execute("INSERT INTO api_key_secret VALUES (?, ?, NULL)", (digest_of(secret.encode()), name))
        return key, secret

    def all_keys(self) -> list[Key]:
        """All keys, by name."""
        return [key for key, _ in self._select("SELECT * FROM api_key ORDER BY name")]

    def by_digest(self) -> dict[bytes, Key]:
        """The key of every secret; of a secret that has been rotated away it ends when the secret does."""
        sql = (
            "SELECT digest, api_key.*, until_s FROM api_key_secret "
            "JOIN api_key ON api_key.name = api_key_secret.name"
        )
        found = {}
        for key, row in self._select(sql):
            ends = [end for end in (key.expires_s, row["until_s"]) if end is not None]
            found[row["digest"]] = msgspec.structs.replace(key, expires_s=min(ends, default=None))
        return found

    def revoke(self, name: str) -> Key:
        """End a key for good.

        Raises:
            ConfigError: (C109) if there is no such key.
        """
        with self._writing() as db:
            db.execute(
                "UPDATE api_key SET revoked_day = coalesce(revoked_day, ?) WHERE name = ?",
                (day_of(time.time()), name),
            )
            db.execute("DELETE FROM api_key_secret WHERE name = ?", (name,))
            return self._one(db, name)

    def rotate(self, name: str, *, grace_s: float = 0.0) -> tuple[Key, str]:
        """Give a key a new secret.

        Args:
            name: the key.
            grace_s: how long the old secret stays good [s].

        Raises:
            ConfigError: (C109) if there is no such key or it was revoked.
        """
        secret = new_secret()
        now_s = time.time()
        with self._writing() as db:
            key = self._one(db, name)
            if key.revoked_day is not None:
                raise ConfigError(f"the key {name!r} was revoked", code="C109", fix="create another")
            until_s = now_s + grace_s
            db.execute(
                "UPDATE api_key_secret SET until_s = min(coalesce(until_s, ?), ?) WHERE name = ?",
                (until_s, until_s, name),
            )
            db.execute("DELETE FROM api_key_secret WHERE until_s <= ?", (now_s,))
            db.execute("INSERT INTO api_key_secret VALUES (?, ?, NULL)", (digest_of(secret.encode()), name))
        return key, secret

    def note_use(self, names: Sequence[str], day: str) -> None:
        """Remember the last day of use."""
        with self._writing() as db:
            db.executemany(
                "UPDATE api_key SET last_used_day = ? WHERE name = ?", [(day, name) for name in names]
            )

    def copy_to(self, path: Path) -> int:
        """Copy all keys to a file, put in place as a whole, for servers on other hosts.

        Args:
            path: where to; what is there is replaced.

        Returns:
            How many keys it holds.

        Raises:
            ConfigError: (C109) if there are no keys, for a server without any would open to everybody.
        """
        if not self.all_keys():
            raise ConfigError("there are no keys to copy", code="C109", fix="negajoule keys create NAME")
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            try:
                with self._open("ro") as db, closing(sqlite3.connect(new)) as copy:
                    db.backup(copy)
                new.replace(path)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"the keys can't be copied: {error}",
                code="C110",
                tried=str(path),
                fix="name a file in a folder that you can write to",
            ) from None
        return len(KeyFile(path).all_keys())

    def change_mark(self) -> object:
        """Something that differs once the file has changed; ``None`` while there is no file.

        It is the file's identity and SQLite's own change counter (file format, bytes 24 to 27), which every
        transaction raises.
        """
        try:
            with self.path.open("rb") as file:
                return os.fstat(file.fileno()).st_ino, file.read(28)[24:]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refusal(error) from None

    def _one(self, db: sqlite3.Connection, name: str) -> Key:
        row = db.execute("SELECT * FROM api_key WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise ConfigError(f"there is no key {name!r}", code="C109", fix="see: negajoule keys list")
        return _key(row)

    def _select(self, sql: str) -> list[tuple[Key, sqlite3.Row]]:
        if not self.path.exists():
            return []
        with self._open("ro") as db:
            return [(_key(row), row) for row in db.execute(sql)] if _tables(db) else []

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Made before SQLite opens it, so that it is never readable for others.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise self._refusal(error) from None
        with self._open("rw") as db:
            db.execute("BEGIN IMMEDIATE")
            if not _tables(db):
                for statement in _SCHEMA.split(";\n")[:-1]:
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                if _tables(db) and db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                    raise self._refusal("it belongs to another program")
                yield db
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise self._refusal(error) from None

    def _refusal(self, reason: object) -> ConfigError:
        return ConfigError(
            f"the file of API keys can't be used: {reason}",
            code="C110",
            tried=str(self.path),
            fix="mend its permissions, or put back a copy",
        )


def _tables(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])


def _key(row: sqlite3.Row) -> Key:
    return Key(
        caller=Caller(
            row["name"],
            row["team"],
            row["project"],
            frozenset(_of_json(row["scopes"])),
            tuple(_of_json(row["models"])),
        ),
        created_day=row["created_day"],
        last_used_day=row["last_used_day"],
        expires_s=row["expires_s"],
        revoked_day=row["revoked_day"],
    )


def _as_json(value: Any) -> str:  # noqa: ANN401 (any list)
    return msgspec.json.encode(value).decode()


def _of_json(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str])
