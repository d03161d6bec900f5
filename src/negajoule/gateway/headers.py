"""Which headers of a client go on to an upstream, and which id of its own it may have echoed.

None goes on but those in ``PASSED_ON``. Keys, cookies, addresses and names of programs stay here: they are
the client's, and the upstream has a key of its own from the operator.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OURS", "PASSED_ON", "client_id", "passed_on"]

PASSED_ON: dict[bytes, str] = {
    b"anthropic-beta": "switches features of Anthropic's API on",
    b"idempotency-key": "lets an upstream know a retry for what it is",
    b"openai-beta": "switches features of OpenAI's API on",
    b"traceparent": "joins the upstream's traces to the client's (W3C Trace Context)",
    b"tracestate": "goes with traceparent",
}
"""Headers that go on, and why."""

OURS: tuple[bytes, ...] = (
    b"x-negajoule-cache",
    b"x-negajoule-class",
    b"x-negajoule-hold-s",
    b"x-negajoule-route",
)
"""Headers that say something to this server; they travel with the call and go on to nobody."""

_VALUE = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,510}[\x21-\x7e])?")
_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that travel with a call: allowed ones, printable, of at most 512 characters, each once.

    Args:
        headers: the client's, names in lower case.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if (name in PASSED_ON or name in OURS) and _VALUE.fullmatch(value):
            found.setdefault(name.decode(), value.decode("ascii"))
    return found


def client_id(value: bytes | None) -> str | None:
    """The client's own id of a request, if it is one that can be echoed and logged without harm."""
    if value is None or not _ID.fullmatch(value):
        return None
    return value.decode("ascii")
