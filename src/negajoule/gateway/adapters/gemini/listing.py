"""A model as Gemini lists it (API reference, "models", resource Model)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["listed_model"]

_METHODS = ["generateContent", "streamGenerateContent"]


def listed_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a model, by Gemini's names.

    Args:
        model: as OpenAI lists it.
    """
    listed: dict[str, Any] = {
        "name": f"models/{model['id']}",
        "displayName": model["id"],
        "supportedGenerationMethods": _METHODS,
    }
    if isinstance(model.get("context_tokens"), int):
        listed["inputTokenLimit"] = model["context_tokens"]
    return listed
