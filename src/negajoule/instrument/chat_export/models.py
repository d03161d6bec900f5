"""Names in the archives to models whose size is known, at least as an interval."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from negajoule.catalog import search
from negajoule.errors import CatalogError
from negajoule.instrument.chat_export.reply import NO_MONTH
from negajoule.instrument.chat_export.tokens import span_of
from negajoule.physics import find_model

__all__ = ["Served", "served_model"]

_CLAUDE = "chat.claude.active-parameters."
_OLD = re.compile(r"text-davinci-002-render")
_VERSION = re.compile(r"^gpt-(\d)-(\d)(?=-|$)")
_MODE = re.compile(
    r"-(?:thinking|think|instant|high|low|auto|gizmo|browsing|plugins|code-interpreter|dalle|mobile|canmore|"
    r"with-canvas|jawbone|magic-create|safety|snc|chat|t(?=-mini))(?=-|$)"
)


class Served(NamedTuple):
    """A model as ``HostedSum`` takes it.

    Attributes:
        name: its name.
        knowledge: what else is known.
        note: what the reader must know; empty if nothing.
    """

    name: str
    knowledge: dict[str, Any]
    note: str = ""


def served_model(kind: str, name: str, month: str, assumed: str | None = None) -> Served | None:
    """The model that a name in an archive stands for.

    Args:
        kind: ``chatgpt`` or ``claude``.
        name: the name, empty if there's none.
        month: when it was used.
        assumed: a model to take where the archive's name tells none; a name that ``find_model`` knows.

    Returns:
        ``None`` if its size isn't known.
    """
    found = _by_name(name) if kind == "chatgpt" else _known(name)
    if found is not None:
        return Served(found, {})
    if assumed is not None:
        note = "the archive names no model" if not name else f"the size of {name} isn't known"
        return Served(assumed, {}, f"{note}: {assumed} is taken, as you said")
    return _any_claude(month) if kind == "claude" and not name else None


@lru_cache(maxsize=512)
def _by_name(name: str) -> str | None:
    """ChatGPT writes ``gpt-5-1-thinking`` for what the API calls ``gpt-5.1``."""
    if _OLD.match(name):
        return _known("gpt-3.5-turbo")
    dotted = _VERSION.sub(r"gpt-\1.\2", name)
    bare = _MODE.sub("", dotted)
    candidates = (dotted, bare, f"{bare}-chat-latest")
    return next((known for known in map(_known, dict.fromkeys(candidates)) if known), None)


def _known(name: str) -> str | None:
    if not name:
        return None
    try:
        find_model(name)
    except CatalogError:
        return None
    return name


def _any_claude(month: str) -> Served:
    """Any model of Claude offered then: sizes from the smallest to the largest."""
    starts = sorted(fact.key.removeprefix(_CLAUDE) for fact in search(_CLAUDE))
    start = max((one for one in starts if one <= month), default=starts[0])
    if month == NO_MONTH:
        start = starts[-1]
    active, ratio = span_of(_CLAUDE + start), span_of("chat.claude.total-over-active")
    knowledge = {
        "active_parameters_b": (active.low, active.high),
        "total_parameters_b": active.value * ratio.value,
        "kind": "moe",
    }
    note = "the archive of Claude names no model: all sizes are in the interval; --model says which it was"
    return Served("claude", knowledge, note)
