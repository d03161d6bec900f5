"""When to try a call again, and after how long.

Only before the first byte of an answer, and only what may pass by itself: a broken connection, 429 and 5xx.
Waits are random over the whole span up to a bound that doubles ("full jitter": M. Brooker, AWS Architecture
Blog, "Exponential Backoff And Jitter", 2015), so that clients don't come back all at once.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

__all__ = ["Retry", "passing", "retry_after_s"]

_TOO_MANY = 429
_NOT_HERE = (501, 505)
_TIMED_OUT = 504


def passing(status: int) -> bool:
    """Whether another server, or this one later, may do better."""
    return status == _TOO_MANY or (status >= 500 and status not in _NOT_HERE)


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """What a header ``Retry-After`` says, as seconds or as a date (RFC 9110, section 10.2.3) [s].

    Args:
        value: the header.
        now_s: the time, since the epoch [s].

    Returns:
        ``None`` if it says nothing that can be understood.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - now_s)


class Retry(NamedTuple):
    """How often and how patiently one server is tried.

    Attributes:
        tries: tries in all.
        first_s: bound of the wait after the first [s].
        bound_s: largest bound of a wait [s].
        patience_s: longest wait that a server may ask for; beyond it, the next server is asked [s].
    """

    tries: int = 3
    first_s: float = 0.25
    bound_s: float = 4.0
    patience_s: float = 10.0

    def wait_s(self, tried: int, status: int, asked_s: float | None, chance: float) -> float | None:
        """How long to wait before the next try [s]; ``None`` for none.

        A server that took too long isn't asked again: it may still be at work on the first try.

        Args:
            tried: tries so far, at least 1.
            status: how the last one ended; 502 for a broken connection.
            asked_s: how long the server asked to be left alone [s].
            chance: a random number from 0 to 1.
        """
        if tried >= self.tries or status == _TIMED_OUT or not passing(status):
            return None
        jitter_s = chance * min(self.bound_s, self.first_s * 2.0 ** (tried - 1))
        if asked_s is None:
            return jitter_s
        return asked_s + jitter_s if asked_s <= self.patience_s else None
