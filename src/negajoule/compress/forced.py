"""What a served model thinks of a text: the probability it gives to each token, asked of the engine itself.

An engine tells the probability only of tokens that it produces. So the next token of the text is forced
by a bias, which decides the choice but isn't in the probability that is told; the prompt grows by it, and
all before it is cached. What comes out is of the file as it is served, activations rounded as the engine
rounds them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.engine import Engine

__all__ = ["log_probabilities"]

_FORCE = 100.0
"""The largest bias that requests may have; a token would need a probability of e^-100 to escape it."""


def log_probabilities(engine: Engine, tokens: Sequence[int]) -> list[float]:
    """The logarithm of the probability of each token after the first, given those before it.

    Args:
        engine: with one slot, so that what is cached stays.
        tokens: of the text.

    Raises:
        CompressError: (K104) if the engine gives no number.
    """
    return [_next(engine, tokens[:count], tokens[count]) for count in range(1, len(tokens))]


def _next(engine: Engine, before: Sequence[int], token: int) -> float:
    found: list[float] = []

    def take(chunk: dict[str, Any]) -> bool:
        for choice in chunk["choices"]:
            told = (choice.get("logprobs") or {}).get("token_logprobs") or []
            found.extend(value for value in told if value is not None)
        return False

    engine.run(
        "completion",
        {
            "prompt": list(before),
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": 1,
            "logit_bias": {str(token): _FORCE},
            "cache_prompt": True,
        },
        take,
    )
    if not found or not math.isfinite(found[0]):
        raise CompressError(
            "the engine gives no probability for a token", code="K104", fix="the model may be damaged"
        )
    return found[0]
