"""Answers kept in memory to be given again to the very same question; off unless it is switched on.

What counts as the same: every field of the body but how the answer is sent, for the same caller (or team,
project, everybody, if the operator says so). What may be kept: embeddings, calls with temperature 0, and
calls whose client or operator wants it whatever the temperature. Calls that name things outside themselves
(a picture's address, a stored conversation, a search) are never kept: those change behind the same words.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from negajoule.gateway.bounds import only_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.gateway.accounts import Tokens
    from negajoule.gateway.caller import Caller
    from negajoule.gateway.wire import Call
    from negajoule.units import Energy

__all__ = ["CACHE_HEADER", "AnswerCache", "CachePlan", "Stored", "keeps"]

CACHE_HEADER = "x-negajoule-cache"
"""A client says ``on`` to have any text call kept and answered from memory, ``off`` to have neither."""

_HOW_IT_IS_SENT = ("stream", "stream_options")
_LARGEST_PART = 8
"""An answer may take up this part of the room at most, so that one doesn't drive all others out [1]."""

_LAST_RESORT_LIFETIMES = 24.0
"""How much older than fresh an answer may be where the alternative is a refusal [1]; a choice."""

_ENTRY_BYTES = 1024  # key, counts and Python's own overhead, roughly


class CachePlan(NamedTuple):
    """How the cache was asked for.

    Attributes:
        calls: ``off``, ``deterministic`` or ``all``.
        scope: who shares answers: callers of the same ``key``, ``team``, ``project``, or ``all``.
        entries: most answers that are kept.
        size_bytes: most bytes that they take.
        lifetime_s: how long an answer is given again [s].
    """

    calls: Literal["off", "deterministic", "all"] = "off"
    scope: Literal["key", "team", "project", "all"] = "key"
    entries: int = 10_000
    size_bytes: int = 67_108_864
    lifetime_s: float = 3600.0


class Stored(NamedTuple):
    """A kept answer.

    Attributes:
        model: the name that it is booked under.
        tokens: what was counted when it was made.
        avoided: what making it again would take [J]; ``None`` if that isn't known.
        events: of a stream, all events but the last one before the end mark; ``None`` of a plain answer.
        last: the plain answer, or the stream's last event, without its footprint, as JSON.
        made_s: when it was made, on the monotonic clock [s].
    """

    model: str
    tokens: Tokens
    avoided: Energy | None
    events: bytes | None
    last: bytes
    made_s: float

    @property
    def size_bytes(self) -> int:
        """The room it takes."""
        return len(self.events or b"") + len(self.last) + _ENTRY_BYTES


class AnswerCache:
    """Keeps answers, the least lately used ones going first.

    Args:
        plan: what is kept, for whom, how much and how long.
        clock: monotonic [s].
    """

    def __init__(self, plan: CachePlan, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = plan
        self.clock = clock
        self.size_bytes = 0
        self._found: OrderedDict[bytes, Stored] = OrderedDict()
        self._swept_s = clock()

    def __len__(self) -> int:
        return len(self._found)

    def key_of(self, call: Call, caller: Caller, model: str | None = None) -> bytes:
        """What the same question of the same callers has in common: a hash, so that no prompt is in it.

        Args:
            call: the call.
            caller: who asks.
            model: as if it had asked for this one instead.
        """
        body = call.body()
        for name in _HOW_IT_IS_SENT:
            body.pop(name, None)
        if model is not None:
            body["model"] = model
        whose = ("all", "")
        if self.plan.scope != "all":
            # Whoever has no team shares with nobody, not with all others that have none.
            shared = "" if self.plan.scope == "key" else getattr(caller, self.plan.scope)
            whose = (self.plan.scope, shared) if shared else ("key", caller.name)
        sent = (call.stream, call.stream and call.include_usage)
        native = msgspec.json.decode(call.native) if call.native else None
        asked = msgspec.json.encode((call.task, whose, sent, body, native), order="deterministic")
        return hashlib.sha256(asked).digest()

    def get(self, key: bytes, *, last_resort: bool = False) -> Stored | None:
        """The answer, if it is kept and fresh; as the last resort also an older one."""
        found = self._found.get(key)
        if found is None:
            return None
        age_s = self.clock() - found.made_s
        lifetime_s = self.plan.lifetime_s * (_LAST_RESORT_LIFETIMES if last_resort else 1.0)
        if age_s >= lifetime_s:
            return None
        self._found.move_to_end(key)
        return found

    def put(self, key: bytes, answer: Stored) -> None:
        """Keep an answer, unless it is too large."""
        if answer.size_bytes * _LARGEST_PART > self.plan.size_bytes:
            return
        self._drop(key)
        self._found[key] = answer
        self.size_bytes += answer.size_bytes
        if answer.made_s - self._swept_s > self.plan.lifetime_s:
            self._sweep(answer.made_s)
        while len(self._found) > self.plan.entries or self.size_bytes > self.plan.size_bytes:
            self._drop(next(iter(self._found)))

    def _sweep(self, now_s: float) -> None:
        oldest_s = now_s - self.plan.lifetime_s * _LAST_RESORT_LIFETIMES
        for key in [key for key, answer in self._found.items() if answer.made_s <= oldest_s]:
            self._drop(key)
        self._swept_s = now_s

    def _drop(self, key: bytes) -> None:
        gone = self._found.pop(key, None)
        if gone is not None:
            self.size_bytes -= gone.size_bytes


def keeps(plan: CachePlan, call: Call) -> bool:
    """Whether a call's answer may be kept and given again."""
    wish = call.headers.get(CACHE_HEADER, "").lower()
    if plan.calls == "off" or wish == "off" or call.task == "count":
        return False
    body = call.body()
    if call.task != "embedding":
        certain = plan.calls == "all" or wish == "on" or body.get("temperature") == 0
        if not certain or not only_text(body):
            return False
    return True
