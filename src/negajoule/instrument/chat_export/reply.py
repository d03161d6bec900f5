"""What a parser finds in a conversation: replies with their lengths, and what it can't tell."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from negajoule.instrument.chat_export.tokens import Span

__all__ = ["NO_MONTH", "Reply", "Unknown", "month_of"]

NO_MONTH = "unknown"
"""The month of what bears no time, or an impossible one."""

_FIRST_S, _LAST_S = 1_420_070_400.0, 4_102_444_800.0  # 2015 to 2100


class Reply(NamedTuple):
    """One request to the model and what it generated.

    Attributes:
        month: ``2025-03``, or ``unknown``.
        model: its name in the archive; empty if there's none.
        seen: tokens of the conversation that an earlier request has read already.
        fresh: tokens that are new to the model.
        answer: tokens that it generated and that are in the archive.
        hidden: tokens that it generated and that aren't; ``None`` if there were none.
        continues: whether it goes on from the message before, so that nothing is read anew.
    """

    month: str
    model: str
    seen: Span
    fresh: Span
    answer: Span
    hidden: Span | None = None
    continues: bool = False


class Unknown(NamedTuple):
    """Something whose energy can't be told.

    Attributes:
        month: when.
        what: what it is, in the plural.
    """

    month: str
    what: str


def month_of(time: object) -> str:
    """The month of a time in seconds since 1970 or in ISO 8601, in UTC."""
    if isinstance(time, str):
        try:
            moment = datetime.fromisoformat(time)
        except ValueError:
            return NO_MONTH
        time = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not isfinite(time):
        return NO_MONTH
    if not _FIRST_S <= time < _LAST_S:
        return NO_MONTH
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m")
