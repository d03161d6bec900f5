"""Archives of chats, generated: the shapes that users found in exports of 2023 to 2026."""

from __future__ import annotations

import json
from typing import Any

MARCH = 1_741_000_000.0  # 2025-03-03
APRIL = 1_744_000_000.0  # 2025-04-07

Node = dict[str, Any]


def message(
    role: str | None, text: Any = None, *, at: Any = MARCH, model: str = "gpt-4o", **extra: Any
) -> Node:
    """A message of ChatGPT; ``text`` may also be a whole content."""
    content = text if isinstance(text, dict) else {"content_type": "text", "parts": [text or ""]}
    found: Node = {"create_time": at, "content": content, "metadata": {}, "recipient": "all"}
    if role is not None:
        found["author"] = {"role": role, "name": None, "metadata": {}}
    if role == "assistant":
        found["metadata"] = {"model_slug": model}
    found["metadata"] |= extra.pop("metadata", {})
    return found | extra


def thread(*messages: Node | None, **extra: Any) -> Node:
    """A conversation of ChatGPT in which each message follows the one before."""
    return tree([(i - 1, one) for i, one in enumerate(messages)], **extra)


def tree(messages: list[tuple[int, Node | None]], **extra: Any) -> Node:
    """A conversation of ChatGPT from (number of the parent, message); -1 is the root."""
    mapping: Node = {"client-created-root": {"id": "client-created-root", "message": None, "parent": None}}
    names = {-1: "client-created-root"} | {i: f"node-{i}" for i in range(len(messages))}
    for i, (parent, one) in enumerate(messages):
        mapping[names[i]] = {"id": names[i], "message": one, "parent": names[parent], "children": []}
    for node in list(mapping.values()):
        node["children"] = [key for key, other in mapping.items() if other["parent"] == node["id"]]
    return {
        "title": "t",
        "create_time": MARCH,
        "current_node": names[len(messages) - 1],
        "mapping": mapping,
        **extra,
    }


def claude_message(
    sender: str | None, *blocks: Any, at: Any = "2025-10-02T08:00:00.123456Z", **extra: Any
) -> Node:
    """A message of Claude; texts become blocks of text."""
    content = [{"type": "text", "text": one} if isinstance(one, str) else one for one in blocks]
    texts = "".join(one for one in blocks if isinstance(one, str))
    found = {"uuid": extra.pop("uuid", "u"), "text": texts, "content": content, "created_at": at}
    return found | {"sender": sender, "attachments": [], "files": []} | extra


def claude_chat(*messages: Node, **extra: Any) -> Node:
    """A conversation of Claude."""
    return {
        "uuid": "c",
        "name": "n",
        "created_at": "2025-10-02T08:00:00Z",
        "chat_messages": list(messages),
        **extra,
    }


def large(conversations: int, turns: int, words: int = 120) -> str:
    """An archive of ChatGPT with that many conversations of that many turns."""
    question, answer = (
        "what is the carbon of a query " * (words // 24),
        "it depends on the grid " * (words // 5),
    )
    found = []
    for number in range(conversations):
        messages = []
        for turn in range(turns):
            at = MARCH + 86_400.0 * number + 60.0 * turn
            messages += [message("user", question, at=at), message("assistant", answer, at=at + 5)]
        found.append(thread(message("system"), *messages, conversation_id=f"conversation-{number}"))
    return json.dumps(found)
