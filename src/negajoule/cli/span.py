"""Spans of time as options take them: 30m, 12h, 7d, 4w."""

from __future__ import annotations

import re

from negajoule.errors import ConfigError

__all__ = ["span_s"]

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def span_s(text: str, option: str) -> float:
    """Length of a span [s].

    Args:
        text: the span.
        option: where it stands, for the message.

    Raises:
        ConfigError: (C101) if it isn't one.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not found:
        raise ConfigError(f"{option} {text!r} isn't a span", fix="write 30m, 12h, 7d or 4w")
    return float(found.group(1)) * _SECONDS[found.group(2)]
