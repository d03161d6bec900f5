"""API keys in memory: one hash and one look-up a request, reloaded when the file changes."""

from __future__ import annotations

import time
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple

from negajoule.errors import ConfigError, RequestError
from negajoule.gateway.keys import day_of, digest_of, new_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.gateway.caller import Caller
    from negajoule.gateway.keys import Key, KeyFile

__all__ = ["KeyRing"]

_LOOK_AGAIN_S = 1.0
_LOOK_FOR_NEW_S = 0.05  # when somebody has a key that isn't known
_LONGEST_SECRET = 256


class _Entry(NamedTuple):
    digest: bytes
    caller: Caller
    expires_s: float
    """When it ends, seconds since the epoch; infinite for never [s]."""


class KeyRing:
    """Finds the caller of a key.

    Once there is a key, keys are needed, also when it has expired, was revoked or its file has vanished: a
    server that was closed never opens by itself.

    Args:
        file: where the keys are.
        report: called with the error when the file can't be read any more; the keys read last stay good then.
        clock: seconds since the epoch [s].

    Raises:
        ConfigError: (C110) if the file can't be read at the start.
    """

    def __init__(
        self,
        file: KeyFile,
        *,
        report: Callable[[ConfigError], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._report = report
        self._clock = clock
        self._required = False
        self._guests: dict[bytes, _Entry] = {}
        self._used_day: dict[str, int] = {}
        self._unwritten: list[str] = []
        self._failing = False
        self._mark: object = None
        self._entries: dict[bytes, _Entry] = {}
        self._looked_s = time.monotonic()
        self._load()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        if time.monotonic() - self._looked_s >= _LOOK_AGAIN_S:
            self.refresh()
        return self._required

    def find(self, secret: bytes) -> Caller:
        """The caller who holds a key.

        The hash is looked up as a whole: the time that takes tells of hashes, which nobody can choose.

        Raises:
            RequestError: (R110) with status 401 if the key is unknown, expired or revoked.
        """
        if len(secret) > _LONGEST_SECRET:
            raise _refusal("isn't valid")
        digest = digest_of(secret)
        entry = self._entries.get(digest) or self._guests.get(digest)
        if entry is None and time.monotonic() - self._looked_s >= _LOOK_FOR_NEW_S:
            self.refresh()
            entry = self._entries.get(digest)
        if entry is None or not compare_digest(entry.digest, digest):
            raise _refusal("isn't valid")
        now_s = self._clock()
        if now_s >= entry.expires_s:
            raise _refusal("has expired")
        name, day = entry.caller.name, int(now_s // 86_400)
        if self._used_day.get(name) != day:
            self._used_day[name] = day
            self._unwritten.append(name)
        return entry.caller

    def holder(self, name: str) -> Caller:
        """The caller whose key has a name.

        Raises:
            RequestError: (R110) with status 401 if no such key is good any more.
        """
        if time.monotonic() - self._looked_s >= _LOOK_AGAIN_S:
            self.refresh()
        now_s = self._clock()
        for entry in self._entries.values():
            if entry.caller.name == name and now_s < entry.expires_s:
                return entry.caller
        raise _refusal(f"{name!r} isn't valid any more" if name else "is missing")

    def admit_guest(self, caller: Caller) -> str:
        """Make a key that is good for this process only and stands in no file."""
        secret = new_secret()
        digest = digest_of(secret.encode())
        self._guests[digest] = _Entry(digest, caller, float("inf"))
        return secret

    def refresh(self) -> None:
        """Look whether the file has changed, and read it if so."""
        self._looked_s = time.monotonic()
        try:
            if self._file.change_mark() != self._mark:
                self._load()
            self._failing = False
        except ConfigError as error:
            if self._report and not self._failing:
                self._report(error)
            self._failing = True

    def note_use(self) -> None:
        """Write which keys were used today; may block. What can't be written isn't worth an error."""
        names, self._unwritten = self._unwritten, []
        known = [name for name in names if any(entry.caller.name == name for entry in self._entries.values())]
        if known:
            try:
                self._file.note_use(known, day_of(self._clock()))
            except ConfigError:
                return

    def _load(self) -> None:
        mark = self._file.change_mark()
        keys = self._file.by_digest()
        self._entries = {digest: _entry(digest, key) for digest, key in keys.items()}
        self._required = self._required or bool(self._file.all_keys())
        self._mark = mark


def _entry(digest: bytes, key: Key) -> _Entry:
    return _Entry(digest, key.caller, float("inf") if key.expires_s is None else key.expires_s)


def _refusal(what: str) -> RequestError:
    return RequestError(
        f"the API key {what}", code="R110", status=401, fix="ask this server's operator for another"
    )
