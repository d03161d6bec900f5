"""From the replies of a chat history to footprints by month and model.

Within a reply, tokens from characters, cache, context window, hidden instructions and hidden reasoning are
doubts of their own. What can't be told is counted and named, and isn't in the sums.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.errors import NegajouleError
from negajoule.instrument.chat_export import chatgpt, claude
from negajoule.instrument.chat_export.archive import conversations
from negajoule.instrument.chat_export.models import served_model
from negajoule.instrument.chat_export.reply import Reply, Unknown
from negajoule.instrument.chat_export.tokens import NOTHING, Span, span_of
from negajoule.instrument.hosted import serving_factors
from negajoule.physics import (
    Doubt,
    EstimateSum,
    HostedFootprint,
    HostedSum,
    Lengths,
    find_model,
    hosted_footprint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Any

    from negajoule.instrument.chat_export.models import Served
    from negajoule.physics import Factors, HostedEstimate

__all__ = ["ChatHistory", "ChatRow", "read_history"]

_PROVIDERS = {"chatgpt": "openai", "claude": "anthropic"}
_PARSERS = {"chatgpt": chatgpt.replies, "claude": claude.replies}


class ChatRow(NamedTuple):
    """The replies of one month, one model or all.

    Attributes:
        month: ``2025-03``, ``unknown``, or ``all``.
        model: its name in the archive, or ``all``.
        replies: how many.
        tokens_in: tokens of their prompts, those read anew and those from a cache.
        tokens_out: tokens that were generated.
        footprint: what they cost; ``None`` if the model's size isn't known.
    """

    month: str
    model: str
    replies: int
    tokens_in: Span
    tokens_out: Span
    footprint: HostedFootprint | None


class ChatHistory(NamedTuple):
    """The footprint of a chat history.

    Attributes:
        kind: ``chatgpt`` or ``claude``.
        conversations: how many were read.
        rows: by month and model; those without a footprint aren't in the sums.
        months: by month.
        models: by model.
        total: all of them; ``None`` if nothing could be estimated.
        unknown: what can't be estimated, by month and what it is, with its number.
    """

    kind: str
    conversations: int
    rows: tuple[ChatRow, ...]
    months: tuple[ChatRow, ...]
    models: tuple[ChatRow, ...]
    total: ChatRow | None
    unknown: dict[tuple[str, str], int]


def read_history(
    path: Path,
    kind: str,
    *,
    model: str | None = None,
    zone: str | None = None,
    provider: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **knowledge: Any,  # noqa: ANN401 (passed on)
) -> ChatHistory:
    """Estimate what a chat history has cost.

    Args:
        path: the archive, its folder, or its ``conversations.json``.
        kind: ``chatgpt`` or ``claude``.
        model: the model to take where the archive names none that is known.
        zone: where the models are served, if you know.
        provider: who serves them; ``None`` for the product's own maker.
        progress: told the bytes that are done and their sum.
        knowledge: ``batch`` or ``accelerator``, as for ``estimate``.

    Raises:
        ConfigError: (C106) if the archive can't be read, (C101) if a number is out of place.
        CatalogError: (F101) if the model, the zone or the provider isn't known.
    """
    if model is not None:
        find_model(model)
    factors = serving_factors(None, zone, provider or _PROVIDERS[kind])
    counted = _Counted(kind, model, knowledge)
    number = 0
    for conversation in conversations(path, kind, progress):
        number += 1
        if conversation is None:
            counted.unknown["unknown", "conversations of unknown form"] += 1
            continue
        for one in _PARSERS[kind](conversation):
            counted.add(one)
    return counted.history(number, factors)


class _Group:
    """The replies of one month and model."""

    def __init__(self, served: Served | None, knowledge: dict[str, Any]) -> None:
        self.served = served
        self.replies = 0
        self.tokens_in = NOTHING
        self.tokens_out = NOTHING
        self.sum = HostedSum(served.name, **served.knowledge, **knowledge) if served else None

    def add(self, kind: str, reply: Reply) -> None:
        lengths = _Lengths(kind, reply)
        if self.sum is not None:
            self.sum.add(lengths.likely, lengths.doubts)
        self.replies += 1
        self.tokens_in = self.tokens_in.plus(lengths.prompt)
        self.tokens_out = self.tokens_out.plus(lengths.answer)


class _Lengths:
    """Tokens of a reply's request, and what isn't known of them."""

    def __init__(self, kind: str, reply: Reply) -> None:
        window, system = span_of(f"chat.context-window.{kind}"), span_of(f"chat.system-prompt.{kind}")
        cache = span_of("chat.cache-hit")
        hidden = reply.hidden or NOTHING

        def lengths(
            text: int = 0, room: int = 0, before: int = 0, cached: int = 0, thought: int = 0
        ) -> Lengths:
            """With the named doubts at an end: 0 likely, 1 low, 2 high."""
            fresh = min(reply.fresh[text], window[room])
            seen = system[before] + min(reply.seen[text], window[room] - fresh)
            kept = seen + fresh if reply.continues else seen * cache[cached]
            return Lengths(seen + fresh, reply.answer[text] + hidden[thought], kept)

        self.likely = lengths()
        self.doubts = [
            Doubt("tokens from characters", lengths(text=1), lengths(text=2)),
            Doubt("hidden instructions", lengths(before=1), lengths(before=2)),
        ]
        if not reply.continues:
            self.doubts.append(Doubt("prompt cache", lengths(cached=2), lengths(cached=1)))
        if reply.seen.value + reply.fresh.value > window.low:
            self.doubts.append(Doubt("context window", lengths(room=1), lengths(room=2)))
        if reply.hidden is not None:
            self.doubts.append(Doubt("hidden reasoning", lengths(thought=1), lengths(thought=2)))
        ends = [self.likely, lengths(text=1, room=1, before=1), lengths(text=2, room=2, before=2)]
        self.prompt = Span(*(end.prompt for end in ends))
        self.answer = reply.answer.plus(hidden)


class _Counted:
    """Collects what the parsers find."""

    def __init__(self, kind: str, model: str | None, knowledge: dict[str, Any]) -> None:
        self.kind, self.model, self.knowledge = kind, model, knowledge
        self.groups: dict[tuple[str, str], _Group] = {}
        self.unknown: Counter[tuple[str, str]] = Counter()

    def add(self, one: Reply | Unknown) -> None:
        if isinstance(one, Unknown):
            self.unknown[one] += 1
            return
        key = (one.month, one.model)
        group = self.groups.get(key)
        if group is None:
            served = served_model(self.kind, one.model, one.month, self.model)
            group = self.groups[key] = _Group(served, self.knowledge)
        try:
            group.add(self.kind, one)
        except NegajouleError:
            self.unknown[one.month, "replies of impossible length"] += 1

    def history(self, number: int, factors: Factors) -> ChatHistory:
        rows = []
        known: list[tuple[ChatRow, HostedEstimate]] = []
        for (month, name), group in sorted(self.groups.items()):
            model = name or "not named"
            row = ChatRow(month, model, group.replies, group.tokens_in, group.tokens_out, None)
            if group.sum is not None and group.replies:
                assert group.served is not None, "a sum is of a model that is served"
                found = group.sum.result()
                notes = (group.served.note,) if group.served.note else ()
                row = row._replace(footprint=hosted_footprint(found, factors, notes=notes))
                known.append((row, found))
            else:
                self.unknown[month, f"replies of {model}, whose size isn't known"] += group.replies
            rows.append(row)
        months = dict.fromkeys(row.month for row, _ in known)
        models = dict.fromkeys(row.model for row, _ in known)
        return ChatHistory(
            self.kind,
            number,
            tuple(rows),
            tuple(
                _joined(month, "all", factors, [o for o in known if o[0].month == month]) for month in months
            ),
            tuple(_joined("all", name, factors, [o for o in known if o[0].model == name]) for name in models),
            _joined("all", "all", factors, known) if known else None,
            dict(sorted(self.unknown.items())),
        )


def _joined(
    month: str, model: str, factors: Factors, known: Iterable[tuple[ChatRow, HostedEstimate]]
) -> ChatRow:
    """Several rows as one."""
    total = EstimateSum()
    replies, tokens_in, tokens_out = 0, NOTHING, NOTHING
    notes: dict[str, None] = {}
    for row, found in known:
        total.include(found)
        replies += row.replies
        tokens_in, tokens_out = tokens_in.plus(row.tokens_in), tokens_out.plus(row.tokens_out)
        assert row.footprint is not None, "known rows have a footprint"
        notes |= dict.fromkeys(row.footprint.notes)
    footprint = hosted_footprint(total.result(), factors)
    return ChatRow(
        month, model, replies, tokens_in, tokens_out, msgspec.structs.replace(footprint, notes=tuple(notes))
    )
