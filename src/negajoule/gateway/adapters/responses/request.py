"""A request of the Responses API as a chat request, for servers that speak chat completions only.

Format: OpenAI API reference, "Create a model response", as typed by the client ``openai`` 3.54. What lives
on a server (earlier responses, conversations, prompts, files, background work, built-in tools) is refused by
name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.gateway.adapters.reading import Translated, objects, refuse, text, thing

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["openai_request"]

_SAME = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "temperature",
    "top_p",
    "user",
)
_STATEFUL = {
    "previous_response_id": "send the whole conversation in 'input'",
    "conversation": "send the whole conversation in 'input'",
    "prompt": "send the prompt's text in 'instructions' and 'input'",
    "background": "leave it out and wait for the answer",
}
_HEARD = frozenset(
    {
        *_SAME,
        *_STATEFUL,
        "input",
        "instructions",
        "max_output_tokens",
        "model",
        "reasoning",
        "stream",
        "text",
        "tool_choice",
        "tools",
    }
)
_CHANGES_NOTHING: dict[str, object] = {
    "store": False,
    "truncation": "disabled",
    "include": [],
    "top_logprobs": 0,
}


def openai_request(body: Mapping[str, Any]) -> Translated:
    """Put a request of the Responses API into the words of chat completions.

    ``store`` can't be honoured: nothing is stored, and the answer says so.

    Raises:
        RequestError: R102, naming the field.
    """
    for name, fix in _STATEFUL.items():
        if body.get(name):
            refuse(name, "needs a server that keeps state, which this model's doesn't", fix=fix)
    lost = [
        name
        for name, value in body.items()
        if name not in _HEARD and value is not None and _CHANGES_NOTHING.get(name, ...) != value
    ]
    messages = _messages(body)
    if not messages:
        refuse("input", "is required and must not be empty")
    request: dict[str, Any] = {"model": text(body.get("model"), "model"), "messages": messages}
    if body.get("stream"):
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    request |= {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("max_output_tokens") is not None:
        request["max_completion_tokens"] = body["max_output_tokens"]
    effort = thing(body.get("reasoning") or {}, "reasoning").get("effort")
    if effort is not None:
        request["reasoning_effort"] = effort
    _format(thing(body.get("text") or {}, "text"), request)
    _tools(body, request)
    return Translated(request, tuple(lost))


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": text(body["instructions"], "instructions")})
    given = body.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
        return messages
    speaking: dict[str, Any] | None = None  # the assistant's message that items still add to
    for field, item in objects(given, "input"):
        kind = item.get("type") or "message"
        if kind == "function_call_output":
            speaking = None
            messages.append(_result(field, item))
        elif kind == "message" and item.get("role") != "assistant":
            speaking = None
            messages.append(_said(field, item))
        elif kind in ("message", "function_call", "reasoning"):
            if speaking is None or (kind != "function_call" and "tool_calls" in speaking):
                speaking = {"role": "assistant", "content": None}
                messages.append(speaking)
            _add(field, kind, item, speaking)
        else:
            refuse(f"{field}.type", f"is {kind!r}, which chat completions have no word for")
    return [
        message
        for message in messages
        if message["role"] != "assistant" or len(message) > 2 or message["content"] is not None
    ]


def _add(field: str, kind: str, item: dict[str, Any], message: dict[str, Any]) -> None:
    """Add an item of the assistant's turn to its message."""
    if kind == "function_call":
        function = {
            "name": text(item.get("name"), f"{field}.name"),
            "arguments": text(item.get("arguments"), f"{field}.arguments"),
        }
        id = text(item.get("call_id"), f"{field}.call_id")
        message.setdefault("tool_calls", []).append({"id": id, "type": "function", "function": function})
    elif kind == "reasoning":
        parts = [
            *objects(item.get("content"), f"{field}.content"),
            *(objects(item.get("summary"), f"{field}.summary") if not item.get("content") else ()),
        ]
        thought = "".join(text(part.get("text"), f"{name}.text") for name, part in parts)
        if thought:
            message["reasoning_content"] = message.get("reasoning_content", "") + thought
    else:
        content = item.get("content")
        if isinstance(content, str):
            message["content"] = (message["content"] or "") + content
            return
        for name, part in objects(content, f"{field}.content"):
            if part.get("type") == "refusal":
                message["refusal"] = text(part.get("refusal"), f"{name}.refusal")
            elif part.get("type") in ("output_text", "input_text", "text"):
                message["content"] = (message["content"] or "") + text(part.get("text"), f"{name}.text")
            else:
                refuse(f"{name}.type", f"is {part.get('type')!r}; it must be output_text or refusal")


def _said(field: str, item: dict[str, Any]) -> dict[str, Any]:
    role = item.get("role")
    if role not in ("user", "system", "developer"):
        refuse(f"{field}.role", f"is {role!r}; it must be user, assistant, system or developer")
    content = item.get("content")
    if not isinstance(content, str):
        content = [_part(name, part) for name, part in objects(content, f"{field}.content")]
    return {"role": role, "content": content}


def _result(field: str, item: dict[str, Any]) -> dict[str, Any]:
    output = item.get("output")
    if not isinstance(output, str):
        output = [_part(name, part) for name, part in objects(output, f"{field}.output")]
        if any(part["type"] != "text" for part in output):
            refuse(f"{field}.output", "can hold text only")
    return {"role": "tool", "tool_call_id": text(item.get("call_id"), f"{field}.call_id"), "content": output}


def _part(field: str, part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("input_text", "text", "output_text"):
        return {"type": "text", "text": text(part.get("text"), f"{field}.text")}
    if kind == "input_image":
        if part.get("image_url") is None:
            refuse(f"{field}.image_url", "is missing; images must come as URL or data, not as stored files")
        image = {"url": text(part["image_url"], f"{field}.image_url")}
        if part.get("detail") is not None:
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    if kind == "input_file":
        if part.get("file_data") is None:
            refuse(f"{field}.file_data", "is missing; files must come as data, not as URLs or stored files")
        file = {"file_data": text(part["file_data"], f"{field}.file_data")}
        if part.get("filename") is not None:
            file["filename"] = part["filename"]
        return {"type": "file", "file": file}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": thing(part.get("input_audio"), f"{field}.input_audio")}
    refuse(f"{field}.type", f"is {kind!r}; it must be input_text, input_image, input_file or input_audio")


def _format(settings: dict[str, Any], request: dict[str, Any]) -> None:
    if settings.get("verbosity") is not None:
        request["verbosity"] = settings["verbosity"]
    wanted = thing(settings.get("format") or {"type": "text"}, "text.format")
    kind = wanted.get("type")
    if kind == "json_object":
        request["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        thing(wanted.get("schema"), "text.format.schema")
        schema = {name: value for name, value in wanted.items() if name != "type" and value is not None}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind != "text":
        refuse("text.format.type", f"is {kind!r}; it must be text, json_object or json_schema")


def _tools(body: Mapping[str, Any], request: dict[str, Any]) -> None:
    tools = []
    for field, tool in objects(body.get("tools"), "tools"):
        if tool.get("type") != "function":
            refuse(
                f"{field}.type", f"is {tool.get('type')!r}, a tool of OpenAI's servers, which can't run here"
            )
        function = {name: value for name, value in tool.items() if name != "type" and value is not None}
        text(function.get("name"), f"{field}.name")
        tools.append({"type": "function", "function": function})
    if not tools:
        return
    request["tools"] = tools
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            refuse("tool_choice.type", f"is {choice.get('type')!r}; it must be function")
        name = text(choice.get("name"), "tool_choice.name")
        choice = {"type": "function", "function": {"name": name}}
    if choice is not None:
        request["tool_choice"] = choice
