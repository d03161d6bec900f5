"""The door: who may come in, by which key, to what.

The data plane (``/v1/...``) answers a key by its scopes. The operator's pages (``/``, ``/metrics`` and
whatever else there is) need the scope ``admin``. ``/healthz`` is open to all.

While there is no key, everything is open, and the server listens on loopback only. A web page in the user's
browser can reach it there, so requests that a browser sent for a foreign page are refused, and so are names
that only lead here (DNS rebinding): https://fetch.spec.whatwg.org, Sec-Fetch-Site in W3C Fetch Metadata.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from negajoule.errors import RequestError
from negajoule.gateway.caller import ANYBODY, Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from negajoule.gateway.keyring import KeyRing

__all__ = ["Door", "is_loopback", "once_only"]

_NOBODY = Caller(scopes=frozenset())
_LISTS = ("/v1/models", "/v1beta/models")
_FOREIGN_KEYS = (b"x-api-key", b"x-goog-api-key")
_ONCE = (b"authorization", b"x-api-key", b"x-goog-api-key", b"host", b"content-length")


class Door:
    """Lets requests in.

    Args:
        ring: the keys; ``None`` for a server that never asks for one.
        names: names of this host by which it may be asked while no key is needed; ``None`` for any.
        metrics_open: whether ``/metrics`` needs no key.
        places: requests that a key may have running at once; ``None`` for no limit.
    """

    def __init__(
        self,
        ring: KeyRing | None = None,
        *,
        names: Iterable[str] | None = None,
        metrics_open: bool = False,
        places: int | None = None,
    ) -> None:
        self.ring = ring
        self.metrics_open = metrics_open
        self.places = places
        self.names = None if names is None else frozenset(names)
        self._taken: dict[str, int] = {}

    @property
    def locked(self) -> bool:
        """Whether a key is needed."""
        return self.ring is not None and self.ring.required

    def admit(self, headers: Mapping[bytes, bytes], scope: str) -> Caller:
        """Let a request in that needs a scope; an empty one for any key.

        Raises:
            RequestError: (R110) without a good key, (R111) if it isn't allowed.
        """
        ring = self.ring
        if ring is None or not ring.required:
            if self.names is not None:
                self._check_origin(headers, self.names)
            return ANYBODY
        secret = _secret(headers.get(b"authorization", b""), basic=scope == "admin")
        if not secret:
            raise RequestError(
                "this server needs an API key",
                code="R110",
                status=401,
                fix="send the header 'Authorization: Bearer KEY'",
            )
        caller = ring.find(secret)
        if scope and scope not in caller.scopes:
            raise RequestError(f"this API key hasn't the scope {scope!r}", code="R111", status=403)
        return caller

    def admit_to_page(self, headers: Mapping[bytes, bytes], path: str) -> Caller:
        """Let a request in to a page.

        Raises:
            RequestError: as ``admit``.
        """
        scope = self._scope_of(path)
        headers = _with_key(headers)
        if scope is not None:
            return self.admit(headers, scope)
        if self.locked and b"authorization" not in headers:
            return _NOBODY
        try:
            return self.admit(headers, "")
        except RequestError:
            return _NOBODY

    def caller_of(self, name: str, scope: str) -> Caller:
        """Who work was left here for, by the name of a key as it stands now.

        Args:
            name: the key's name; empty if none was needed then.
            scope: what the work needs.

        Raises:
            RequestError: (R110) if the key isn't good any more, (R111) if it isn't allowed.
        """
        if self.ring is None or not (name or self.ring.required):
            return ANYBODY
        caller = self.ring.holder(name)
        if scope not in caller.scopes:
            raise RequestError(f"this API key hasn't the scope {scope!r}", code="R111", status=403)
        return caller

    def enter(self, caller: Caller) -> None:
        """Take a place for a running request; give it back with ``leave``.

        Raises:
            RequestError: (R107) if the key has no place left.
        """
        if self.places is None or not caller.name:
            return
        taken = self._taken.get(caller.name, 0)
        if taken >= self.places:
            raise RequestError(
                f"this API key has {taken} requests running, which is its limit",
                code="R107",
                status=429,
                fix="wait for one to end",
            )
        self._taken[caller.name] = taken + 1

    def leave(self, caller: Caller) -> None:
        """Give a place back."""
        if self.places is None or not caller.name:
            return
        left = self._taken.get(caller.name, 0) - 1
        if left > 0:
            self._taken[caller.name] = left
        else:
            self._taken.pop(caller.name, None)

    def note_use(self) -> None:
        """Write which keys were used; may block."""
        if self.ring is not None:
            self.ring.note_use()

    def _scope_of(self, path: str) -> str | None:
        """The scope that a page needs; ``None`` if it is open to all."""
        if path == "/healthz" or (path == "/metrics" and self.metrics_open):
            return None
        if path in _LISTS or path.startswith(tuple(f"{one}/" for one in _LISTS)):
            return "models"
        if path == "/openapi.json" or (path.startswith("/v1/") and not path.startswith("/v1/admin/")):
            return ""
        return "admin"

    @staticmethod
    def _check_origin(headers: Mapping[bytes, bytes], names: frozenset[str]) -> None:
        host = headers.get(b"host")
        origin = headers.get(b"origin")
        foreign = headers.get(b"sec-fetch-site") == b"cross-site"
        if host is not None and not _is_here(host, names):
            foreign = True
        if origin is not None and not _is_here(origin.rpartition(b"//")[2], names):
            foreign = True
        if foreign:
            raise RequestError(
                "a foreign web page or name led here",
                code="R111",
                status=403,
                fix="ask by http://127.0.0.1, or create a key: negajoule keys create NAME",
            )


def once_only(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by name.

    Raises:
        RequestError: (R113) if one that decides something comes twice.
    """
    found = dict(headers)
    if len(found) != len(headers):
        names = [name for name, _ in headers]
        for name in _ONCE:
            if names.count(name) > 1:
                raise RequestError(f"the header {name.decode()!r} came twice", code="R113")
    return found


def is_loopback(name: str) -> bool:
    """Whether a host's name or address can be reached from this machine only."""
    name = name.lower().rstrip(".")
    if name in ("localhost", "::1", "[::1]") or name.endswith(".localhost"):
        return True
    parts = name.split(".")
    return parts[0] == "127" and len(parts) == 4 and all(part.isdigit() for part in parts)


@lru_cache(maxsize=256)
def _is_here(host: bytes, names: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host.decode('ascii')}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name) or name in names


def _with_key(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """The headers with the key where ``admit`` looks for it; other dialects' clients send it elsewhere."""
    if b"authorization" not in headers:
        for name in _FOREIGN_KEYS:
            if name in headers:
                return {**headers, b"authorization": b"Bearer " + headers[name]}
    return headers


def _secret(authorization: bytes, *, basic: bool) -> bytes:
    """The key in an ``Authorization`` header: a bearer token or, for pages in a browser, a password."""
    scheme, _, rest = authorization.partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return rest.strip()
    if basic and scheme == b"basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
