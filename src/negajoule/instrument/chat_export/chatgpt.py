"""Conversations of ChatGPT: a tree of messages, in which every branch was generated once.

A reply's prompt is the path from the root to it. Reasoning isn't in the archive: ``thoughts`` are summaries,
``reasoning_recap`` often tells how long it took. It is counted once a turn and forgotten after it. Messages
of the model that follow one another are one generation, so the later ones read nothing anew.

OpenAI publishes no format; this follows what users found in archives of 2023 to 2026.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.instrument.chat_export.reply import NO_MONTH, Reply, Unknown, month_of
from negajoule.instrument.chat_export.tokens import NOTHING, Span, span_of, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["replies"]

_GENERATED = ("text", "code", "multimodal_text")
_SHOWN = (
    "user_editable_context",
    "model_editable_context",
    "execution_output",
    "tether_browsing_display",
    "tether_quote",
    "sonic_webpage",
    "system_error",
    "computer_output",
)
_TEXTS = ("text", "result", "user_profile", "user_instructions", "model_set_context")
_REASONING = re.compile(r"(?:^|-)(?:o[134]|think(?:ing)?|pro|research)(?:-|$)")
_LONGEST_THOUGHT_S = 86_400.0


class _Path(NamedTuple):
    """What is known on the way from the root to a message."""

    seen: Span = NOTHING
    fresh: Span = NOTHING
    thought: bool = False
    counted: bool = False
    continues: bool = False


def replies(conversation: dict[str, Any]) -> Iterator[Reply | Unknown]:
    """Every reply of a conversation, those of abandoned branches included, each once."""
    mapping = conversation["mapping"]
    if not isinstance(mapping, dict):
        yield Unknown(month_of(conversation.get("create_time")), "conversations without readable messages")
        return
    model = conversation.get("default_model_slug")
    default = model if isinstance(model, str) else ""
    children, roots = _tree(mapping)
    stack = [(key, _Path()) for key in roots]
    waiting = dict.fromkeys(mapping)
    while stack:
        key, path = stack.pop()
        waiting.pop(key, None)
        node = mapping[key]
        message = node.get("message") if isinstance(node, dict) else None
        if message is not None:
            path, found = _read(message, path, default)
            yield from found
        stack += [(child, path) for child in reversed(children.get(key, ()))]
    for key in waiting:
        node = mapping[key]
        message = node.get("message") if isinstance(node, dict) else None
        if isinstance(message, dict) and _role(message) == "assistant":
            yield Unknown(month_of(message.get("create_time")), "replies in a circle of messages")


def _tree(mapping: dict[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """Children of each message, and the messages without a parent."""
    parents: dict[str, str] = {}
    for key, node in mapping.items():
        listed = node.get("children") if isinstance(node, dict) else None
        for child in listed if isinstance(listed, list) else ():
            if isinstance(child, str) and child in mapping:
                parents.setdefault(child, key)
    for key, node in mapping.items():
        parent = node.get("parent") if isinstance(node, dict) else None
        if isinstance(parent, str) and parent in mapping:
            parents[key] = parent
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    return children, [key for key in mapping if key not in parents]


def _read(message: Any, path: _Path, default: str) -> tuple[_Path, list[Reply | Unknown]]:  # noqa: ANN401 (foreign JSON)
    """The path after a message, and what the message was."""
    if not isinstance(message, dict):
        return path, [Unknown(NO_MONTH, "messages of unknown form")]
    month, role = month_of(message.get("create_time")), _role(message)
    content = message.get("content")
    content = content if isinstance(content, dict) else {}
    metadata = message.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind = content.get("content_type", "text")
    found: list[Reply | Unknown] = [Unknown(month, what) for what in _media(content, metadata, role)]
    tokens = tokens_of(_text(content))
    if role == "assistant" and kind == "thoughts":
        return path._replace(thought=True), found
    if role == "assistant" and (kind in _GENERATED or kind == "reasoning_recap"):
        slug = next(
            (s for s in (metadata.get(name) for name in ("model_slug", "resolved_model_slug")) if s), default
        )
        model = slug if isinstance(slug, str) else ""
        answer = NOTHING if kind == "reasoning_recap" else tokens
        hidden = _hidden(kind, message, metadata, path, model, answer)
        if answer.value == 0 and hidden is None:
            return path, found
        found.append(Reply(month, model, path.seen, path.fresh, answer, hidden, path.continues))
        seen = path.seen.plus(path.fresh).plus(answer)
        return _Path(seen, NOTHING, path.thought, path.counted or hidden is not None, True), found
    if role is None:
        found.append(Unknown(month, "messages without an author"))
    elif role == "assistant" and kind not in _SHOWN:
        found.append(Unknown(month, f"replies of type {str(kind)[:40]}"))
    fresh = path.fresh.plus(tokens)
    if role == "user" and kind not in _SHOWN:
        return _Path(path.seen, fresh), found
    return path._replace(fresh=fresh, continues=False), found


def _hidden(
    kind: object, message: dict[str, Any], metadata: dict[str, Any], path: _Path, model: str, answer: Span
) -> Span | None:
    """Tokens of reasoning to count at this message: by its duration, else once at the turn's answer."""
    if path.counted:
        return None
    if kind == "reasoning_recap":
        seconds = metadata.get("finished_duration_sec")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            return None
        return span_of("chat.output-rate").times(seconds) if 0 < seconds <= _LONGEST_THOUGHT_S else None
    is_answer = message.get("recipient") in (None, "all") and message.get("channel") != "commentary"
    reasoned = path.thought or _REASONING.search(model) is not None
    return span_of("chat.hidden-reasoning") if is_answer and answer.value > 0 and reasoned else None


def _role(message: dict[str, Any]) -> str | None:
    author = message.get("author")
    role = author.get("role") if isinstance(author, dict) else None
    return role if isinstance(role, str) and role else None


def _text(content: dict[str, Any]) -> str:
    parts = content.get("parts")
    if isinstance(parts, list):
        texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    else:
        texts = (content.get(name) for name in _TEXTS)
    return "\n".join(text for text in texts if isinstance(text, str))


def _media(content: dict[str, Any], metadata: dict[str, Any], role: str | None) -> Iterator[str]:
    """What of a message has no text."""
    parts = content.get("parts")
    for part in parts if isinstance(parts, list) else ():
        kind = part.get("content_type") if isinstance(part, dict) else None
        if isinstance(kind, str) and not isinstance(part.get("text"), str):
            for name in ("image", "audio", "video"):
                if name in kind:
                    yield f"{name}s sent" if role == "user" else f"{name}s made or shown"
                    break
            else:
                yield f"parts of type {kind[:40]}"
    attached = metadata.get("attachments")
    for file in attached if isinstance(attached, list) else ():
        mime = (file.get("mime_type") or file.get("mimeType")) if isinstance(file, dict) else None
        if not (isinstance(mime, str) and mime.startswith("image/")):
            yield "attached files"
