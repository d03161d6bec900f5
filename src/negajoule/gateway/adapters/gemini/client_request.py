"""A Gemini client's request as an OpenAI chat request.

Format: Gemini API reference, "Generating content", as sent by the client ``google-genai`` 3.4 (camel case)
or as written in Google's own examples (snake case).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.errors import RequestError
from negajoule.gateway.adapters.gemini.names import NO_SIGNATURE, field_of
from negajoule.gateway.adapters.reading import Translated, objects, refuse, text, thing, word

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Target", "openai_request", "target_of"]

_HEARD = frozenset({"contents", "generationConfig", "systemInstruction", "toolConfig", "tools"})
_HARMLESS = frozenset({"safetySettings", "model"})
_CONFIG = {
    "maxOutputTokens": "max_completion_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "candidateCount": "n",
    "stopSequences": "stop",
}
_FORMATTED = frozenset(
    {"responseJsonSchema", "responseMimeType", "responseModalities", "responseSchema", "thinkingConfig"}
)
_MODES = {"AUTO": "auto", "ANY": "required", "VALIDATED": "auto", "NONE": "none"}
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
_METHODS = {"generateContent": False, "streamGenerateContent": True}


class Target(NamedTuple):
    """What a request's path asks for.

    Attributes:
        model: the model.
        stream: whether the answer is to be streamed.
    """

    model: str
    stream: bool


def target_of(path: str) -> Target:
    """Read the end of a path: ``MODEL:generateContent`` or ``MODEL:streamGenerateContent``.

    Raises:
        RequestError: R106 for another method.
    """
    model, _, method = path.removeprefix("models/").rpartition(":")
    if not model or method not in _METHODS:
        raise RequestError(
            f"there is no method {method!r} of models here",
            code="R106",
            status=404,
            fix=f"use {' or '.join(_METHODS)}",
        )
    return Target(model, _METHODS[method])


def openai_request(body: Mapping[str, Any], target: Target) -> Translated:
    """Put a Gemini request into OpenAI's words.

    Safety settings are dropped in silence, as they speak of Google's own filters; Google's own tools (search,
    code execution) are refused, since nothing here could run them.

    Raises:
        RequestError: R102, naming the field.
    """
    heard = {_snake(name) for name in _HEARD | _HARMLESS} | _HEARD | _HARMLESS
    lost = [name for name, value in body.items() if name not in heard and value is not None]
    messages = [*_system(body), *_messages(body)]
    if not body.get("contents"):
        refuse("contents", "is required and must not be empty")
    request: dict[str, Any] = {"model": target.model, "messages": messages}
    if target.stream:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    config = thing(field_of(body, "generationConfig") or {}, "generationConfig")
    for theirs, ours in _CONFIG.items():
        if field_of(config, theirs) is not None:
            request[ours] = field_of(config, theirs)
    known = {*_CONFIG, *_FORMATTED}
    lost += [
        f"generationConfig.{name}"
        for name, value in config.items()
        if name not in known | {_snake(known_name) for known_name in known} and value is not None
    ]
    _format(config, request, lost)
    _tools(body, request)
    return Translated(request, tuple(lost))


def _system(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    instruction = field_of(body, "systemInstruction")
    if instruction is None:
        return []
    parts = [
        {"type": "text", "text": text(part.get("text"), f"{name}.text")}
        for name, part in objects(
            thing(instruction, "systemInstruction").get("parts"), "systemInstruction.parts"
        )
    ]
    if not parts:
        return []
    return [{"role": "system", "content": parts[0]["text"] if len(parts) == 1 else parts}]


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []  # calls without result: name and id
    made = 0
    for field, content in objects(body.get("contents"), "contents"):
        role = content.get("role") or "user"
        parts = list(objects(content.get("parts"), f"{field}.parts"))
        if role == "model":
            message = _answered(parts, made)
            calls = message.get("tool_calls", [])
            made += len(calls)
            waiting = [(call["function"]["name"], call["id"]) for call in calls]
            messages.append(message)
        elif role in ("user", "function"):
            rest: list[dict[str, Any]] = []
            results = 0
            for name, part in parts:
                response = field_of(part, "functionResponse")
                if response is None:
                    rest.append(_part(name, part))
                    continue
                results += 1
                result = thing(response, f"{name}.functionResponse")
                messages.append(_result(f"{name}.functionResponse", result, waiting))
                nested = objects(result.get("parts"), f"{name}.functionResponse.parts")
                rest += [_part(place, shown) for place, shown in nested]
            if len(rest) == 1 and rest[0]["type"] == "text":
                messages.append({"role": "user", "content": rest[0]["text"]})
            elif rest or not results:
                messages.append({"role": "user", "content": rest})
        else:
            refuse(f"{field}.role", f"is {role!r}; it must be user or model")
    return messages


def _answered(parts: list[tuple[str, dict[str, Any]]], made: int) -> dict[str, Any]:
    texts: list[dict[str, Any]] = []
    thought: list[str] = []
    calls: list[dict[str, Any]] = []
    for name, part in parts:
        call = field_of(part, "functionCall")
        if call is not None:
            calls.append(
                _call(f"{name}.functionCall", part, thing(call, f"{name}.functionCall"), made + len(calls))
            )
        elif part.get("thought"):
            thought.append(text(part.get("text") or "", f"{name}.text"))
        elif "text" in part:
            texts.append({"type": "text", "text": text(part["text"], f"{name}.text")})
        else:
            refuse(name, "can't stand in a model's content here; it must be text or functionCall")
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if texts:
        message["content"] = texts[0]["text"] if len(texts) == 1 else texts
    elif not calls:
        message["content"] = ""
    if any(thought):
        message["reasoning_content"] = "".join(thought)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(field: str, part: dict[str, Any], call: dict[str, Any], number: int) -> dict[str, Any]:
    arguments = msgspec.json.encode(thing(call.get("args") or {}, f"{field}.args")).decode()
    translated: dict[str, Any] = {
        "id": call.get("id") or f"call_{number}",
        "type": "function",
        "function": {"name": text(call.get("name"), f"{field}.name"), "arguments": arguments},
    }
    signature = field_of(part, "thoughtSignature")
    if signature is not None and signature != NO_SIGNATURE:
        translated["extra_content"] = {"google": {"thought_signature": signature}}
    return translated


def _result(field: str, result: dict[str, Any], waiting: list[tuple[str, str]]) -> dict[str, Any]:
    """A result as a message. Gemini may leave ids out: then a call of that name that waits is meant."""
    name = text(result.get("name"), f"{field}.name")
    id = result.get("id") or next((id for called, id in waiting if called == name), None)
    if not isinstance(id, str):
        refuse(field, f"answers {name!r}, which the model didn't call just before")
    waiting[:] = [call for call in waiting if call[1] != id]
    response = thing(result.get("response") or {}, f"{field}.response")
    output = response.get("output")
    told = output if set(response) == {"output"} and isinstance(output, str) else None
    if told is None:
        told = msgspec.json.encode(response).decode()
    return {"role": "tool", "tool_call_id": id, "content": told}


def _part(field: str, part: dict[str, Any]) -> dict[str, Any]:
    if "text" in part:
        return {"type": "text", "text": text(part["text"], f"{field}.text")}
    inline = field_of(part, "inlineData")
    if inline is not None:
        return _inline(f"{field}.inlineData", thing(inline, f"{field}.inlineData"))
    linked = field_of(part, "fileData")
    if linked is not None:
        uri = text(field_of(thing(linked, f"{field}.fileData"), "fileUri"), f"{field}.fileData.fileUri")
        media_type = str(field_of(linked, "mimeType") or "image/")
        if uri.startswith(("https://", "http://")) and media_type.startswith("image/"):
            return {"type": "image_url", "image_url": {"url": uri}}
        refuse(f"{field}.fileData", "must be an image behind an http(s) URL here")
    refuse(field, "must hold text, inlineData, fileData or functionResponse here")


def _inline(field: str, inline: dict[str, Any]) -> dict[str, Any]:
    media_type = text(field_of(inline, "mimeType"), f"{field}.mimeType")
    # google-genai writes bytes in the URL-safe alphabet, which OpenAI-style servers don't read.
    data = text(inline.get("data"), f"{field}.data").replace("-", "+").replace("_", "/")
    url = f"data:{media_type};base64,{data}"
    if media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if media_type in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[media_type]}}
    if media_type == "application/pdf":
        return {"type": "file", "file": {"filename": "document.pdf", "file_data": url}}
    refuse(f"{field}.mimeType", f"is {media_type!r}; images, wav, mp3 and PDF pass here")


def _format(config: Mapping[str, Any], request: dict[str, Any], lost: list[str]) -> None:
    modalities = field_of(config, "responseModalities") or ["TEXT"]
    if modalities != ["TEXT"]:
        refuse("generationConfig.responseModalities", "can only be TEXT here")
    if field_of(config, "responseMimeType") == "application/json":
        request["response_format"] = {"type": "json_object"}
        schema = field_of(config, "responseJsonSchema")
        if schema is None and field_of(config, "responseSchema") is not None:
            schema = _json_schema(field_of(config, "responseSchema"))
        if schema is not None:
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema},
            }
    thinking = thing(field_of(config, "thinkingConfig") or {}, "generationConfig.thinkingConfig")
    level = field_of(thinking, "thinkingLevel")
    budget = field_of(thinking, "thinkingBudget")
    if level is not None:
        request["reasoning_effort"] = text(level, "generationConfig.thinkingConfig.thinkingLevel").lower()
    elif budget == 0:
        request["reasoning_effort"] = "none"
    elif budget is not None and budget != -1:
        lost.append("generationConfig.thinkingConfig.thinkingBudget")


def _tools(body: Mapping[str, Any], request: dict[str, Any]) -> None:
    tools: list[dict[str, Any]] = []
    for field, tool in objects(body.get("tools"), "tools"):
        declared = field_of(tool, "functionDeclarations")
        others = [name for name in tool if name not in ("functionDeclarations", "function_declarations")]
        if others:
            refuse(f"{field}.{others[0]}", "is a tool of Google's servers, which can't run here")
        tools += [
            _function(name, entry) for name, entry in objects(declared, f"{field}.functionDeclarations")
        ]
    if not tools:
        return
    request["tools"] = tools
    config = thing(field_of(body, "toolConfig") or {}, "toolConfig")
    calling = thing(field_of(config, "functionCallingConfig") or {}, "toolConfig.functionCallingConfig")
    allowed = field_of(calling, "allowedFunctionNames")
    if allowed and isinstance(allowed, list):
        request["tools"] = [tool for tool in tools if tool["function"]["name"] in allowed]
    mode = calling.get("mode")
    if mode is None:
        return
    request["tool_choice"] = word(mode, _MODES, "toolConfig.functionCallingConfig.mode")
    if mode == "ANY" and allowed and len(allowed) == 1:
        request["tool_choice"] = {"type": "function", "function": {"name": allowed[0]}}


def _function(field: str, declaration: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = {"name": text(declaration.get("name"), f"{field}.name")}
    if declaration.get("description"):
        function["description"] = declaration["description"]
    schema = field_of(declaration, "parametersJsonSchema")
    if schema is None and declaration.get("parameters") is not None:
        schema = _json_schema(declaration["parameters"])
    if schema is not None:
        function["parameters"] = schema
    return {"type": "function", "function": function}


def _json_schema(schema: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Gemini's ``Schema``, a dialect of OpenAPI's, as JSON Schema: types in lower case, null as a type."""
    if isinstance(schema, list):
        return [_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    translated: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            translated["type"] = [value.lower(), "null"] if schema.get("nullable") else value.lower()
        elif name == "properties" and isinstance(value, dict):
            translated["properties"] = {field: _json_schema(entry) for field, entry in value.items()}
        elif name in ("items", "anyOf", "any_of"):
            translated["anyOf" if name != "items" else name] = _json_schema(value)
        elif name not in ("nullable", "propertyOrdering", "property_ordering"):
            translated[name] = value
    return translated


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)
