"""Conversations of Claude: messages of blocks, in a row or, in newer archives, in a tree.

A tool's result starts a new request, which reads the conversation so far again. The archive names no model.
Thinking is in it, at least as a summary; where its duration is too, that bounds how much was generated.

Anthropic publishes no format; this follows what users found in archives of 2024 to 2026.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.instrument.chat_export.reply import NO_MONTH, Reply, Unknown, month_of
from negajoule.instrument.chat_export.tokens import NOTHING, Span, span_of, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["replies"]

_LONGEST_THOUGHT_S = 86_400.0


class _Path(NamedTuple):
    """What is known on the way to a message."""

    seen: Span = NOTHING
    fresh: Span = NOTHING


def replies(conversation: dict[str, Any]) -> Iterator[Reply | Unknown]:
    """Every reply of a conversation, those of abandoned branches included, each once."""
    messages = conversation["chat_messages"]
    if not isinstance(messages, list):
        yield Unknown(month_of(conversation.get("created_at")), "conversations without readable messages")
        return
    model = conversation.get("model")
    name = model if isinstance(model, str) else ""
    paths: dict[object, _Path] = {}
    last = _Path()
    for message in messages:
        if not isinstance(message, dict):
            yield Unknown(NO_MONTH, "messages of unknown form")
            continue
        # Messages come after their parents; one whose parent isn't known starts a branch of its own.
        parent = message.get("parent_message_uuid")
        path = paths.get(parent, _Path()) if isinstance(parent, str) else last
        last, found = _read(message, path, name)
        paths[message.get("uuid") if isinstance(message.get("uuid"), str) else None] = last
        yield from found


def _read(message: dict[str, Any], path: _Path, model: str) -> tuple[_Path, list[Reply | Unknown]]:
    """The path after a message, and what the message was."""
    month, sender = month_of(message.get("created_at")), message.get("sender")
    found: list[Reply | Unknown] = []
    seen, fresh = path
    answer, hidden = NOTHING, None
    for block in _blocks(message):
        kind = block.get("type", "text")
        if kind == "tool_result":
            if answer.value > 0 or hidden:
                found.append(Reply(month, model, seen, fresh, answer, hidden))
                seen, fresh = seen.plus(fresh).plus(answer), NOTHING
                answer, hidden = NOTHING, None
            fresh = fresh.plus(tokens_of(_result(block)))
        elif sender != "assistant":
            fresh = fresh.plus(tokens_of(_text(block)))
        elif kind == "thinking":
            thought = _thought(block)
            hidden = thought if hidden is None else hidden.plus(thought)
        elif kind in ("text", "tool_use"):
            answer = answer.plus(tokens_of(_text(block)))
        elif tokens_of(_text(block)).value > 0:
            found.append(Unknown(month, f"replies of type {str(kind)[:40]}"))
    if sender == "assistant":
        if answer.value > 0 or hidden:
            found.append(Reply(month, model, seen, fresh, answer, hidden))
            seen, fresh = seen.plus(fresh).plus(answer), NOTHING
    elif sender != "human":
        found.append(Unknown(month, "messages without an author"))
    attached, unreadable = _attached(message)
    found += [Unknown(month, "attached files")] * unreadable
    return _Path(seen, fresh.plus(attached)), found


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a message; older archives have one text instead."""
    content = message.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    if blocks:
        return blocks
    text = message.get("text")
    return [{"type": "text", "text": text}] if isinstance(text, str) else []


def _text(block: dict[str, Any]) -> str:
    if "input" in block and block.get("type") == "tool_use":
        return f"{block.get('name')} {msgspec.json.encode(block['input']).decode()}"
    text = block.get("text")
    return text if isinstance(text, str) else ""


def _result(block: dict[str, Any]) -> str:
    content = block.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(_text(part) for part in parts if isinstance(part, dict))


def _thought(block: dict[str, Any]) -> Span:
    """Tokens of thinking: what is written, and more if it was a summary."""
    written = block.get("thinking")
    visible = tokens_of(written if isinstance(written, str) else "")
    seconds = _seconds(block)
    told = span_of("chat.hidden-reasoning") if seconds is None else span_of("chat.output-rate").times(seconds)
    value = visible.value if seconds is None and visible.value > 0 else max(visible.value, told.value)
    low = visible.low if visible.value > 0 else told.low
    return Span(value, min(low, value), max(visible.high, told.high))


def _seconds(block: dict[str, Any]) -> float | None:
    try:
        start, stop = (datetime.fromisoformat(block[name]) for name in ("start_timestamp", "stop_timestamp"))
        seconds = (stop - start).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    return seconds if 0 < seconds <= _LONGEST_THOUGHT_S else None


def _attached(message: dict[str, Any]) -> tuple[Span, int]:
    """Tokens of the attachments' text, and how many have none."""
    attachments, files = message.get("attachments"), message.get("files")
    tokens, unreadable = NOTHING, len(files) if isinstance(files, list) else 0
    for attachment in attachments if isinstance(attachments, list) else ():
        text = attachment.get("extracted_content") if isinstance(attachment, dict) else None
        if isinstance(text, str) and text:
            tokens = tokens.plus(tokens_of(text))
        else:
            unreadable += 1
    return tokens, unreadable
