"""Prompts of a wanted length that no cache has seen."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from negajoule.engine import Task

__all__ = ["TokenPrompts", "WordPrompts"]

_IDS = range(300, 4300)
"""Ordinary tokens of every vocabulary in use: above bytes and marks, below the smallest vocabularies' end."""

_WORDS = ("the", "river", "and", "a", "stone", "house", "by", "old", "road", "in", "spring", "rain", "sea")


class TokenPrompts:
    """Random tokens, for engines that take token ids: exact lengths.

    A mixture of experts may spread random tokens over other experts than text; dense models don't care.

    Attributes:
        task: "completion".
    """

    task: Task = "completion"

    def make(self, tokens: int, seed: int) -> Mapping[str, Any]:
        """A prompt of exactly that many tokens."""
        return {"prompt": random.Random(seed).choices(_IDS, k=tokens)}


class WordPrompts:
    """Random words behind a number, for servers that take messages: the length is about right.

    The true length is what the server counts, and that is what a profile is fitted to.

    Attributes:
        task: "chat".
    """

    task: Task = "chat"

    def make(self, tokens: int, seed: int) -> Mapping[str, Any]:
        """A message of about that many tokens."""
        words = random.Random(seed).choices(_WORDS, k=max(tokens - 4, 1))
        return {"messages": [{"role": "user", "content": f"{seed} {' '.join(words)}"}]}
