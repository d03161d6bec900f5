"""Names that both directions of Gemini need.

Format: Gemini API reference, "Generating content", as typed by the client ``google-genai`` 3.4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BLOCKED", "FAILED", "NO_SIGNATURE", "field_of", "signature_in"]

BLOCKED = frozenset(
    {
        "BLOCKLIST",
        "ESCALATION",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_SAFETY",
        "LANGUAGE",
        "MODEL_ARMOR",
        "PROHIBITED_CONTENT",
        "PUP_LIMITED_DISABLED",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
"""Reasons to finish that mean that content was held back."""

FAILED = frozenset(
    {
        "IMAGE_OTHER",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "NO_IMAGE",
        "OTHER",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)
"""Reasons to finish that mean that the answer went wrong."""

NO_SIGNATURE = "skip_thought_signature_validator"
"""What Gemini 3 takes in place of a thought's signature when a call came from another model
(ai.google.dev/gemini-api/docs/thought-signatures)."""


def field_of(thing: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 (any JSON value)
    """A field under its name, or under its name in snake case, which Google's servers take as well."""
    value = thing.get(name)
    return thing.get(re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)) if value is None else value


def signature_in(call: Mapping[str, Any]) -> str | None:
    """The thought's signature in an OpenAI tool call, where Google's own OpenAI surface puts it."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) else None
