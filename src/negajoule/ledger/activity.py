"""The ledger's row: who did what, when, where, with how many tokens, and what it cost."""

from __future__ import annotations

import os
import time
from typing import Literal

import msgspec

from negajoule.errors import UnitError
from negajoule.units import Energy, Footprint

__all__ = ["Activity", "Kind", "Stage", "Status", "new_id"]

Kind = Literal["request", "idle", "run", "window"]
"""A request to a model, idle time of a server, a measured command, a measured window in a program."""

Stage = Literal["inference", "training", "development", "evaluation", "data", "unknown"]
"""The stage of the life cycle; unknown stays unknown."""

Status = Literal["ok", "failed", "cancelled"]

_LARGEST_COUNT = 2**63 - 1  # of SQLite's integers


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One finished piece of work.

    Attributes:
        id: unique for ever; writing the same id twice counts once.
        started_s: start, seconds since the epoch in UTC [s].
        seconds: duration [s].
        kind: what sort of row it is.
        stage: stage of the life cycle.
        status: how it ended.
        label: the user's own name for it, or the command.
        model: model id, empty if none.
        host: hashed identity of the machine.
        zone: where the electricity was used; ``world`` if unknown.
        tokens_in: prompt tokens, ``None`` if unknown.
        tokens_cached: prompt tokens that came out of a cache.
        tokens_out: generated tokens, ``None`` if unknown.
        inside: id of the row whose energy holds this one's, so that no total counts both; empty if none does.
        cpu_seconds: CPU time attributed to it [s], ``None`` if unknown.
        caller: name of the API key it was asked with, empty if none was.
        team: the key's team.
        project: the key's project.
        footprint: what it cost.
        avoided: what making the answer would have taken that came out of a cache [J]; never part of a sum of
            what was used. ``None`` for all that was computed, and where it isn't known.

    Raises:
        UnitError: (U103) for a time or count that is negative, not finite or beyond a ledger's integers.
    """

    id: str
    started_s: float
    seconds: float
    kind: Kind
    footprint: Footprint
    stage: Stage = "unknown"
    status: Status = "ok"
    label: str = ""
    model: str = ""
    host: str = ""
    zone: str = "world"
    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_out: int | None = None
    inside: str = ""
    cpu_seconds: float | None = None
    caller: str = ""
    team: str = ""
    project: str = ""
    avoided: Energy | None = None

    def __post_init__(self) -> None:
        if not (0.0 <= self.seconds < float("inf") and 0.0 <= self.started_s < float("inf")):
            raise UnitError(
                f"an activity needs a start and a duration, got {self.started_s!r} and {self.seconds!r} [s]",
                code="U103",
            )
        counts = (self.tokens_in, self.tokens_cached, self.tokens_out)
        if not all(count is None or 0 <= count <= _LARGEST_COUNT for count in counts):
            raise UnitError(f"an activity can't have these tokens: {counts}", code="U103")
        if self.cpu_seconds is not None and not 0.0 <= self.cpu_seconds < float("inf"):
            raise UnitError(f"an activity can't have {self.cpu_seconds!r} s of CPU time", code="U103")


def new_id(prefix: str = "nj") -> str:
    """A unique id that sorts by time: milliseconds since the epoch, then 80 random bits."""
    return f"{prefix}-{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
