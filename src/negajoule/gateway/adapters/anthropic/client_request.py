"""An Anthropic client's Messages request as an OpenAI chat request.

Format: Anthropic API reference, "Create a Message", as typed by the client ``anthropic`` 2.12. Tool results
become ``tool`` messages, which can hold text only: images in them follow in a user's message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.gateway.adapters.reading import Translated, objects, refuse, text, thing, word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["openai_request"]

_HEARD = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
_SAME = ("stream", "temperature", "top_k", "top_p")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def openai_request(body: Mapping[str, Any]) -> Translated:
    """Put a Messages request into OpenAI's words.

    Thinking: an effort passes, a budget in tokens has no counterpart and is lost. Anthropic's server-side
    tools (web search and the like) are refused, since nothing here could run them. Marks for the prompt
    cache are dropped in silence: OpenAI-style servers cache prefixes unasked.

    Raises:
        RequestError: R102, naming the field.
    """
    lost = [
        name for name, value in body.items() if name not in _HEARD | {"cache_control"} and value is not None
    ]
    cap = body.get("max_tokens")
    if not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
        refuse("max_tokens", "is required and must be a whole number above 0")
    request: dict[str, Any] = {
        "model": text(body.get("model"), "model"),
        "messages": [*_system(body.get("system")), *_messages(body)],
        "max_completion_tokens": cap,
    }
    if not body.get("messages"):
        refuse("messages", "is required and must not be empty")
    request |= {name: body[name] for name in _SAME if body.get(name) is not None}
    if request.get("stream"):
        request["stream_options"] = {"include_usage": True}
    if body.get("stop_sequences"):
        request["stop"] = body["stop_sequences"]
    user = (body.get("metadata") or {}).get("user_id") if isinstance(body.get("metadata"), dict) else None
    if user is not None:
        request["user"] = text(user, "metadata.user_id")
    _tools(body, request)
    _effort(body, request, lost)
    return Translated(request, tuple(lost))


def _system(system: object) -> list[dict[str, Any]]:
    if system is None or system == "" or system == []:
        return []
    if isinstance(system, str):
        return [{"role": "system", "content": system}]
    parts = [
        {"type": "text", "text": text(block.get("text"), f"{name}.text")}
        for name, block in objects(system, "system")
    ]
    return [{"role": "system", "content": parts[0]["text"] if len(parts) == 1 else parts}]


def _messages(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for field, message in objects(body.get("messages"), "messages"):
        role = message.get("role")
        content = message.get("content")
        if role == "system":  # which newer Claude models take in mid-conversation
            yield from _system(content)
        elif role == "user":
            yield from _said(content, f"{field}.content")
        elif role == "assistant":
            yield _answered(content, f"{field}.content")
        else:
            refuse(f"{field}.role", f"is {role!r}; it must be user or assistant")


def _said(content: object, field: str) -> Iterator[dict[str, Any]]:
    """A user's message: first the results of tools, which must follow their calls at once, then the rest."""
    if isinstance(content, str):
        yield {"role": "user", "content": content}
        return
    rest: list[dict[str, Any]] = []
    results = 0
    for name, block in objects(content, field):
        if block.get("type") == "tool_result":
            results += 1
            written, shown = _result(name, block)
            yield written
            rest += shown
        else:
            rest.append(_part(name, block))
    if rest or not results:
        yield {"role": "user", "content": rest}


def _result(field: str, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A tool's result as a message, and the images in it, which that message can't hold."""
    content = block.get("content")
    shown: list[dict[str, Any]] = []
    written: str | list[dict[str, Any]]
    if content is None or isinstance(content, str):
        written = content or ""
    else:
        parts = [_part(name, part) for name, part in objects(content, f"{field}.content")]
        written = [part for part in parts if part["type"] == "text"]
        shown = [part for part in parts if part["type"] != "text"]
    id = text(block.get("tool_use_id"), f"{field}.tool_use_id")
    return {"role": "tool", "tool_call_id": id, "content": written}, shown


def _answered(content: object, field: str) -> dict[str, Any]:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts: list[dict[str, Any]] = []
    thought: list[str] = []
    signed: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for name, block in objects(content, field):
        kind = block.get("type")
        if kind == "text":
            texts.append({"type": "text", "text": text(block.get("text"), f"{name}.text")})
        elif kind == "tool_use":
            calls.append(_call(name, block))
        elif kind in ("thinking", "redacted_thinking"):
            if kind == "thinking":
                thought.append(text(block.get("thinking"), f"{name}.thinking"))
            if block.get("signature") or block.get("data"):
                signed.append(block)
        else:
            refuse(f"{name}.type", f"is {kind!r}, which can't stand in an assistant's message here")
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if texts:
        message["content"] = texts[0]["text"] if len(texts) == 1 else texts
    elif not calls:
        message["content"] = ""
    if any(thought):
        message["reasoning_content"] = "".join(thought)
    if signed:
        message["thinking_blocks"] = signed
    if calls:
        message["tool_calls"] = calls
    return message


def _call(field: str, block: dict[str, Any]) -> dict[str, Any]:
    arguments = msgspec.json.encode(thing(block.get("input"), f"{field}.input")).decode()
    function = {"name": text(block.get("name"), f"{field}.name"), "arguments": arguments}
    return {"id": text(block.get("id"), f"{field}.id"), "type": "function", "function": function}


def _part(field: str, block: dict[str, Any]) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": text(block.get("text"), f"{field}.text")}
    source = block.get("source")
    if kind == "image":
        return {
            "type": "image_url",
            "image_url": {"url": _url(f"{field}.source", thing(source, f"{field}.source"))},
        }
    if kind == "document":
        document = thing(source, f"{field}.source")
        if document.get("type") == "text":
            return {"type": "text", "text": text(document.get("data"), f"{field}.source.data")}
        if document.get("type") == "base64":
            file = {"file_data": _url(f"{field}.source", document)}
            return {"type": "file", "file": {**file, "filename": block.get("title") or "document.pdf"}}
        refuse(f"{field}.source.type", f"is {document.get('type')!r}; it must be base64 or text here")
    refuse(f"{field}.type", f"is {kind!r}; it must be text, image, document or tool_result here")


def _url(field: str, source: dict[str, Any]) -> str:
    kind = source.get("type")
    if kind == "url":
        return text(source.get("url"), f"{field}.url")
    if kind == "base64":
        media_type = text(source.get("media_type"), f"{field}.media_type")
        return f"data:{media_type};base64,{text(source.get('data'), f'{field}.data')}"
    refuse(f"{field}.type", f"is {kind!r}; it must be base64 or url here")


def _tools(body: Mapping[str, Any], request: dict[str, Any]) -> None:
    tools = []
    for field, tool in objects(body.get("tools"), "tools"):
        if tool.get("type") not in (None, "custom"):
            refuse(
                f"{field}.type", f"is {tool['type']!r}, a tool of Anthropic's servers, which can't run here"
            )
        function: dict[str, Any] = {
            "name": text(tool.get("name"), f"{field}.name"),
            "parameters": thing(tool.get("input_schema"), f"{field}.input_schema"),
        }
        if tool.get("description"):
            function["description"] = tool["description"]
        if tool.get("strict"):
            function["strict"] = True
        tools.append({"type": "function", "function": function})
    if not tools:
        return
    request["tools"] = tools
    if body.get("tool_choice") is None:
        return
    choice = thing(body["tool_choice"], "tool_choice")
    if choice.get("type") == "tool":
        name = text(choice.get("name"), "tool_choice.name")
        request["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        request["tool_choice"] = word(choice.get("type"), _CHOICES, "tool_choice.type")
    if choice.get("disable_parallel_tool_use"):
        request["parallel_tool_calls"] = False


def _effort(body: Mapping[str, Any], request: dict[str, Any], lost: list[str]) -> None:
    config = thing(body.get("output_config") or {}, "output_config")
    if config.get("effort") is not None:
        request["reasoning_effort"] = text(config["effort"], "output_config.effort")
    if config.get("format") is not None:
        schema = thing(
            thing(config["format"], "output_config.format").get("schema"), "output_config.format.schema"
        )
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    thinking = thing(body.get("thinking") or {}, "thinking")
    if thinking.get("type") == "enabled":
        lost.append("thinking.budget_tokens")
    elif thinking.get("type") == "disabled" and "reasoning_effort" not in request:
        lost.append("thinking")
