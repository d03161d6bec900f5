"""A prompt as numbers, in pure Python: known words and pairs of words, and what its surface looks like.

Served on every request, so it loads nothing but the standard library and takes tens of microseconds.

A prompt longer than ``LONGEST`` characters is read by its first ``HEAD`` and last ``TAIL`` characters: what
is asked stands at either end, and the middle is mostly material.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SURFACE", "excerpt", "known_terms", "surface", "terms", "tokens"]

HEAD = 3000
TAIL = 1000
LONGEST = HEAD + TAIL

_TOKEN = re.compile(r"\w+|[^\w\s]")
_CAPITAL, _DIGIT = re.compile(r"[A-Z]"), re.compile(r"[0-9]")
_CHOICES = re.compile(r"(?:^|\s)\(?[ABCD1-4][).:]\s", re.MULTILINE)
_WH = frozenset({"who", "what", "when", "where", "which", "why", "how", "whose", "whom"})
_CODE = ("def ", "return ", "import ", "class ", "function", "```", "();", ">>>")

SURFACE = (
    "log characters",
    "log tokens",
    "mean token length",
    "share of distinct tokens",
    "digits a character",
    "capitals a character",
    "characters outside ASCII",
    "lines",
    "commas a token",
    "full stops a token",
    "quotes a token",
    "brackets a token",
    "backslashes and dollars",
    "underscores",
    "equals signs",
    "signs of code",
    "lettered choices",
    "ends with a question mark",
    "question marks",
    "starts with a question word",
    "starts with a small letter",
    "a question word anywhere",
)


def excerpt(text: str) -> str:
    """The part of a prompt that is read: all of it, or its two ends."""
    return text if len(text) <= LONGEST else f"{text[:HEAD]}\n{text[-TAIL:]}"


def tokens(text: str) -> list[str]:
    """Words and signs in lower case, in order."""
    return _TOKEN.findall(text.lower())


def terms(text: str) -> list[str]:
    """Words, signs and pairs of neighbours: what the vocabulary is made of in training."""
    single = tokens(excerpt(text))
    return single + list(map(" ".join, pairwise(single)))


def known_terms(words: list[str], vocabulary: Mapping[str, int]) -> dict[int, int]:
    """How often each known term occurs, by its number in the vocabulary."""
    counts: dict[int, int] = {}
    get = vocabulary.get
    for number in map(get, words):
        if number is not None:
            counts[number] = counts.get(number, 0) + 1
    for number in map(get, map(" ".join, pairwise(words))):
        if number is not None:
            counts[number] = counts.get(number, 0) + 1
    return counts


def surface(text: str, words: list[str]) -> list[float]:
    """The features named in ``SURFACE`` of an excerpt and its tokens; all finite, for the empty text too."""
    length, many = len(text) + 1, len(words) + 1
    count = text.count
    first = words[0] if words else ""
    return [
        math.log(length),
        math.log(many),
        len(text) / many,
        len(set(words)) / many,
        len(_DIGIT.findall(text)) / length,
        len(_CAPITAL.findall(text)) / length,
        0.0 if text.isascii() else (len(text.encode("utf-8", "replace")) - len(text)) / length,
        math.log1p(count("\n")),
        count(",") / many,
        count(".") / many,
        (count('"') + count("'")) / many,
        (count("(") + count("[") + count("{")) / many,
        math.log1p(count("\\") + count("$")),
        math.log1p(count("_")),
        math.log1p(count("=")),
        float(sum(sign in text for sign in _CODE)),
        min(len(_CHOICES.findall(text)), 6) / 2,
        float(text.rstrip().endswith("?")),
        math.log1p(count("?")),
        float(first in _WH),
        float(text[:1].islower()),
        float(not _WH.isdisjoint(words)),
    ]
