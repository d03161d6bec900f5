"""How much and how long: the limits of one request and of the whole server."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from negajoule.config import Settings

__all__ = ["Limits"]


class Limits(NamedTuple):
    """Limits, each a setting of the same name.

    Attributes:
        max_body_bytes: largest request body.
        max_header_bytes: largest request header.
        max_connections: connections that may be open at once.
        header_timeout_s: longest time for sending a header [s].
        body_timeout_s: longest time for sending a body [s].
        request_timeout_s: longest time for a whole answer [s].
    """

    max_body_bytes: int = 8_388_608
    max_header_bytes: int = 32_768
    max_connections: int = 1000
    header_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    request_timeout_s: float = 3600.0

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that are set."""
        return cls(*(settings[name] for name in cls._fields))
