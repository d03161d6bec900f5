"""An OpenAI chat request as an Anthropic Messages request.

Format: Anthropic API reference, "Create a Message", as typed by the client ``anthropic`` 2.12; what gives
way and how follows Anthropic's own page "OpenAI SDK compatibility": system and developer messages are
hoisted, a temperature above 1 becomes 1, stop sequences of blanks only are dropped.

JSON mode without a schema is a tool that the model must call, since newer Claude models refuse a prefilled
answer; its input is the answer. JSON mode with a schema is Anthropic's own (``output_config.format``).
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from negajoule.gateway.adapters.asked import (
    calls_in,
    content_parts,
    inline_of,
    refuse_unanswerable,
    stops,
    texts_in,
    unheard,
)
from negajoule.gateway.adapters.reading import Translated, arguments_of, objects, refuse, text, thing, word

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_MAX_TOKENS", "JSON_TOOL", "upstream_request"]

DEFAULT_MAX_TOKENS = 4096
"""``max_tokens`` where the client gave none: Anthropic requires one, and every Claude model takes this."""

JSON_TOOL = "json_answer"
"""Name of the tool whose input is the answer in JSON mode."""

_NATIVE = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "speed",
        "thinking",
        "top_k",
    }
)
_HEARD = _NATIVE | {
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "parallel_tool_calls",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
}
_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def upstream_request(body: Mapping[str, Any], *, default_max_tokens: int = DEFAULT_MAX_TOKENS) -> Translated:
    """Put a chat request into Anthropic's words.

    Anthropic's own fields (``thinking``, ``top_k``, ``cache_control`` ...) pass as they are, on messages'
    parts and tools too.

    Args:
        body: the client's request, checked by ``wire.parse_call``.
        default_max_tokens: the cap if the client set none.

    Raises:
        RequestError: R102, naming the field, for what Anthropic can't do or what is malformed.
    """
    refuse_unanswerable(body, choices_at_most=1)
    lost = unheard(body, _HEARD)
    system, messages = _conversation(body, lost)
    request: dict[str, Any] = {
        "model": text(body.get("model"), "model"),
        "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens") or default_max_tokens,
        "messages": messages,
    }
    if system:
        request["system"] = system
    if body.get("stream"):
        request["stream"] = True
    request |= {name: body[name] for name in _NATIVE if body.get(name) is not None}
    _sampling(body, request, lost)
    user = body.get("safety_identifier") or body.get("user")
    if user is not None:
        request["metadata"] = {"user_id": text(user, "user")}
    tools = [_tool(name, tool) for name, tool in objects(body.get("tools"), "tools")]
    choice = _tool_choice(body) if tools else None
    choice = _format(body, request, tools, choice)
    if tools:
        request["tools"] = tools
    if choice is not None:
        request["tool_choice"] = choice
    return Translated(request, tuple(lost))


def _sampling(body: Mapping[str, Any], request: dict[str, Any], lost: list[str]) -> None:
    temperature = body.get("temperature")
    if isinstance(temperature, int | float):
        request["temperature"] = min(temperature, 1)
        if temperature > 1:
            lost.append("temperature")
    if body.get("top_p") is not None:
        request["top_p"] = body["top_p"]
    wanted = stops(body)
    sequences = [stop for stop in wanted if stop.strip()]
    if sequences:
        request["stop_sequences"] = sequences
    if len(sequences) < len(wanted):
        lost.append("stop")
    effort = body.get("reasoning_effort")
    if effort == "none":
        request.setdefault("thinking", {"type": "disabled"})
    elif effort is not None:
        request["output_config"] = {"effort": word(effort, _EFFORTS, "reasoning_effort")}


def _format(
    body: Mapping[str, Any],
    request: dict[str, Any],
    tools: list[dict[str, Any]],
    choice: dict[str, Any] | None,
) -> dict[str, Any] | None:
    """Ask for JSON, if the client did; return the tool choice, which that may change."""
    wanted = thing(body.get("response_format") or {"type": "text"}, "response_format")
    kind = wanted.get("type")
    if kind == "json_schema":
        wrapped = thing(wanted.get("json_schema"), "response_format.json_schema")
        schema = thing(wrapped.get("schema"), "response_format.json_schema.schema")
        request["output_config"] = {
            **request.get("output_config", {}),
            "format": {"type": "json_schema", "schema": schema},
        }
    elif kind == "json_object":
        if choice is not None and choice["type"] == "tool":
            return choice
        alone = not tools or (choice is not None and choice["type"] == "none")
        tools.append(
            {
                "name": JSON_TOOL,
                "description": "Give the answer: a JSON object of the form that was asked for.",
                "input_schema": {"type": "object"},
            }
        )
        return {"type": "tool", "name": JSON_TOOL} if alone else {**(choice or {}), "type": "any"}
    elif kind != "text":
        refuse("response_format.type", f"is {kind!r}; it must be text, json_object or json_schema")
    return choice


def _tool(field: str, tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        # Anthropic's own tools, e.g. web search, have a type and a name; they pass as they are.
        if not isinstance(tool.get("name"), str) or "type" not in tool:
            refuse(f"{field}.type", f"is {tool.get('type')!r}; only functions and Anthropic's own tools pass")
        return tool
    function = thing(tool.get("function"), f"{field}.function")
    translated: dict[str, Any] = {
        "name": text(function.get("name"), f"{field}.function.name"),
        "input_schema": function.get("parameters") or _NO_PARAMETERS,
    }
    if function.get("description"):
        translated["description"] = function["description"]
    if function.get("strict"):
        translated["strict"] = True
    return translated | _cached(tool)


def _tool_choice(body: Mapping[str, Any]) -> dict[str, Any] | None:
    wanted = body.get("tool_choice")
    choice: dict[str, Any] | None = None
    if isinstance(wanted, dict):
        function = thing(wanted.get("function"), "tool_choice.function")
        choice = {"type": "tool", "name": text(function.get("name"), "tool_choice.function.name")}
    elif wanted is not None:
        choice = {"type": word(wanted, _CHOICES, "tool_choice")}
    if body.get("parallel_tool_calls") is False and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return choice


def _conversation(
    body: Mapping[str, Any], lost: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    system: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    open_results: list[dict[str, Any]] | None = None
    for field, message in objects(body.get("messages"), "messages"):
        role = message.get("role")
        content = f"{field}.content"
        if message.get("name") is not None and "messages.name" not in lost:
            lost.append("messages.name")
        if role == "tool":
            if open_results is None:
                open_results = []
                messages.append({"role": "user", "content": open_results})
            open_results.append(_result(field, message))
            continue
        open_results = None
        if role in ("system", "developer"):
            texts_in(message.get("content"), content)
            system += [_block(name, part) for name, part in content_parts(message.get("content"), content)]
        elif role == "user":
            messages.append({"role": "user", "content": _content(message.get("content"), content)})
        elif role == "assistant":
            messages.append({"role": "assistant", "content": _answered(field, message)})
        else:
            refuse(f"{field}.role", f"is {role!r}; it must be system, developer, user, assistant or tool")
    return [block for block in system if block["text"]], messages


def _answered(field: str, message: dict[str, Any]) -> str | list[dict[str, Any]]:
    """The blocks of an assistant's message: signed thoughts first, as Anthropic demands them back."""
    content = message.get("content")
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    thoughts = [block for _, block in objects(message.get("thinking_blocks"), f"{field}.thinking_blocks")]
    calls = calls_in(message, field)
    if not thoughts and not calls:
        return "" if content is None else _content(content, f"{field}.content")
    said = [_block(name, part) for name, part in content_parts(content, f"{field}.content")]
    return [
        *thoughts,
        *(block for block in said if block.get("text") != ""),
        *(
            {
                "type": "tool_use",
                "id": _tool_id(call.id),
                "name": call.name,
                "input": arguments_of(call.arguments),
                **_cached(call.raw),
            }
            for call in calls
        ),
    ]


def _result(field: str, message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {
        "type": "tool_result",
        "tool_use_id": _tool_id(text(message.get("tool_call_id"), f"{field}.tool_call_id")),
        "content": "" if content is None else _content(content, f"{field}.content"),
        **_cached(message),
    }


def _content(content: object, field: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [_block(name, part) for name, part in content_parts(content, field)]


def _block(field: str, part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        block: dict[str, Any] = {"type": "text", "text": text(part.get(kind), f"{field}.{kind}")}
    elif kind == "image_url":
        block = {"type": "image", "source": _image(field, part)}
    elif kind == "file":
        block = _document(field, thing(part.get("file"), f"{field}.file"))
    else:
        refuse(f"{field}.type", f"is {kind!r}; Anthropic takes text, image_url and file")
    return block | _cached(part)


def _image(field: str, part: dict[str, Any]) -> dict[str, Any]:
    url = text(thing(part.get("image_url"), f"{field}.image_url").get("url"), f"{field}.image_url.url")
    inline = inline_of(url)
    if inline is not None:
        return {"type": "base64", "media_type": inline.media_type, "data": inline.data}
    if not url.startswith(("https://", "http://")):
        refuse(f"{field}.image_url.url", "must be an http(s) URL or base64 data")
    return {"type": "url", "url": url}


def _document(field: str, file: dict[str, Any]) -> dict[str, Any]:
    inline = inline_of(text(file.get("file_data"), f"{field}.file.file_data"))
    if inline is None or inline.media_type != "application/pdf":
        refuse(f"{field}.file.file_data", "must be a data URL of an application/pdf in base64")
    source = {"type": "base64", "media_type": inline.media_type, "data": inline.data}
    title = {"title": file["filename"]} if isinstance(file.get("filename"), str) else {}
    return {"type": "document", "source": source, **title}


def _cached(thing_: Mapping[str, Any]) -> dict[str, Any]:
    """Where a prompt cache may end, which clients mark on parts and tools as Anthropic does."""
    mark = thing_.get("cache_control")
    return {} if mark is None else {"cache_control": mark}


def _tool_id(id: str) -> str:
    """An id that Anthropic takes: letters, digits, ``_`` and ``-``; other ids are written in base64."""
    if _TOOL_ID.fullmatch(id):
        return id
    return "call-" + base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")
