"""Token counts on their way between dialects. What nobody counted is ``None``, never 0.

OpenAI's ``prompt_tokens`` include what came from the cache and ``completion_tokens`` include the reasoning
(API reference, "The chat completion object"); the struct follows that, and each dialect converts from its own
way of counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Usage", "count_of"]


def count_of(value: object) -> int | None:
    """A count that can be believed: a whole number that isn't negative and fits 63 bits; else ``None``."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one answer, as OpenAI counts.

    Attributes:
        prompt: prompt tokens, cached ones included.
        completion: produced tokens, reasoning included.
        cached: prompt tokens read from a cache.
        cache_written: prompt tokens written to a cache.
        reasoning: produced tokens that were reasoning.
    """

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    cache_written: int | None = None
    reasoning: int | None = None

    @classmethod
    def of(cls, usage: object) -> Usage:
        """Read OpenAI's ``usage``, also the Responses API's; counts that can't be true are unknown."""
        if not isinstance(usage, dict):
            return cls()
        if "input_tokens" in usage and "prompt_tokens" not in usage:
            usage = _as_chat(usage)
        prompt = _details(usage, "prompt_tokens_details")
        completion = _details(usage, "completion_tokens_details")
        return cls(
            prompt=count_of(usage.get("prompt_tokens")),
            completion=count_of(usage.get("completion_tokens")),
            cached=count_of(prompt.get("cached_tokens")),
            cache_written=count_of(prompt.get("cache_write_tokens")),
            reasoning=count_of(completion.get("reasoning_tokens")),
        )

    @property
    def total(self) -> int | None:
        """Prompt and completion together; ``None`` unless both are known."""
        return None if self.prompt is None or self.completion is None else self.prompt + self.completion

    @property
    def known(self) -> bool:
        """Whether prompt or completion was counted."""
        return self.prompt is not None or self.completion is not None

    def to_openai(self) -> dict[str, Any] | None:
        """OpenAI's ``usage``; ``None`` if nothing was counted. Details stand there only where known."""
        if not self.known:
            return None
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.total,
        }
        prompt = {
            name: count
            for name, count in (("cached_tokens", self.cached), ("cache_write_tokens", self.cache_written))
            if count is not None
        }
        if prompt:
            usage["prompt_tokens_details"] = prompt
        if self.reasoning is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage


def _as_chat(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Usage of the Responses API by the names of chat completions."""
    return {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = usage.get(name)
    return details if isinstance(details, dict) else {}
