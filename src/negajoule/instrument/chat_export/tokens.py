"""Tokens of a text from its characters, for archives hold no counts and tokenizers aren't at hand.

Each group of scripts has a rate with an interval (``text.tokens-per-character.*``). The error is that of the
tokenizer, the same for all texts, so ends add up to ends.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from negajoule.catalog import Catalog, default_catalog

__all__ = ["NOTHING", "Span", "span_of", "tokens_of"]

_GROUPS = (
    ("latin-accented", re.compile("[\u0080-\u024f\u0300-\u036f\u1e00-\u1eff]+")),
    ("alphabet", re.compile("[\u0370-\u08ff\u10a0-\u10ff\u1c80-\u1cbf\u1f00-\u1fff\u2c00-\u2dff]+")),
    ("brahmic", re.compile("[\u0900-\u0eff\u1000-\u109f\u1780-\u17ff\ua8e0-\ua8ff]+")),
    (
        "east-asian",
        re.compile(
            "[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+"
        ),
    ),
)
_ASCII = re.compile("[\x00-\x7f]+")


class Span(NamedTuple):
    """A number of tokens: the likely one and its ends."""

    value: float
    low: float
    high: float

    def plus(self, other: Span) -> Span:
        """The sum, end by end."""
        return Span(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Span:
        """The span of so many of them."""
        return Span(self.value * factor, self.low * factor, self.high * factor)


NOTHING = Span(0.0, 0.0, 0.0)


def span_of(key: str) -> Span:
    """A row of the catalogue as a span."""
    return _span_of(default_catalog(), key)


def tokens_of(text: str) -> Span:
    """Tokens of a text, estimated from its characters."""
    latin, *others = _rates(default_catalog())
    if not text or text.isascii():
        return latin.times(len(text))
    rest = _ASCII.sub("", text)
    found = latin.times(len(text) - len(rest))
    for (_, pattern), rate in zip(_GROUPS, others[:-1], strict=True):
        left = pattern.sub("", rest)
        found = found.plus(rate.times(len(rest) - len(left)))
        if not left:
            return found
        rest = left
    return found.plus(others[-1].times(len(rest)))


@lru_cache(maxsize=64)
def _span_of(catalog: Catalog, key: str) -> Span:
    fact = catalog.lookup(key)
    return Span(fact.value, fact.low, fact.high)


@lru_cache(maxsize=8)
def _rates(catalog: Catalog) -> tuple[Span, ...]:
    names = ("latin", *(name for name, _ in _GROUPS), "other")
    return tuple(_span_of(catalog, f"text.tokens-per-character.{name}") for name in names)
