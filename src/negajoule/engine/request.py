"""What a request must look like before an engine sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.engine.protocol import Task

__all__ = ["check", "too_long"]


def too_long(prompt_tokens: int, context_tokens: int) -> RequestError:
    """Make the error for a prompt that doesn't fit."""
    return RequestError(
        f"the prompt has {prompt_tokens} tokens; the model's context holds {context_tokens}, answer included",
        code="R104",
        param="messages",
        fix="shorten the prompt or drop the oldest messages",
    )


def check(task: Task, body: Mapping[str, Any]) -> None:
    """Refuse a request whose fields are missing or of the wrong type.

    Raises:
        RequestError: R102, naming the field.
    """
    field = "messages" if task == "chat" else "prompt"
    if field not in body:
        raise RequestError(f"{field!r} is missing", param=field)
