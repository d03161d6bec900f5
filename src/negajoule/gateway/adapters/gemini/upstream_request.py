"""An OpenAI chat request as a Gemini request.

Format: Gemini API reference, "Generating content"; efforts follow Google's page "OpenAI compatibility". The
model and whether the answer is streamed stand in the path, not in the body: see ``provider``.
"""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any

from negajoule.gateway.adapters.asked import (
    Asked,
    calls_in,
    content_parts,
    inline_of,
    refuse_unanswerable,
    stops,
    texts_in,
    unheard,
)
from negajoule.gateway.adapters.gemini.names import NO_SIGNATURE, signature_in
from negajoule.gateway.adapters.reading import Translated, arguments_of, objects, refuse, text, thing, word

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["upstream_request"]

_NATIVE = ("cachedContent", "labels", "safetySettings")
_CONFIG = {
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
    "thinkingConfig": "thinkingConfig",
}
_HEARD = frozenset(_CONFIG) | {
    *_NATIVE,
    "messages",
    "model",
    "reasoning_effort",
    "response_format",
    "stop",
    "stream",
    "stream_options",
    "tool_choice",
    "tools",
}
_CHOICES_AT_MOST = 8
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Tokens of thinking for Gemini 2.5 (ai.google.dev/gemini-api/docs/openai, "Thinking")."""
_LEVELS = {level: level.upper() for level in ("minimal", "low", "medium", "high", "xhigh")}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_AUDIO = {"wav": "audio/wav", "mp3": "audio/mp3"}


def upstream_request(body: Mapping[str, Any]) -> Translated:
    """Put a chat request into Gemini's words.

    Gemini's own fields ``safetySettings``, ``cachedContent``, ``labels`` and ``thinkingConfig`` pass as they
    are, and so do Gemini's own tools, which have no ``type`` (``{"googleSearch": {}}``).

    Raises:
        RequestError: R102, naming the field, for what Gemini can't do or what is malformed.
    """
    refuse_unanswerable(body, choices_at_most=_CHOICES_AT_MOST)
    lost = unheard(body, _HEARD)
    model = text(body.get("model"), "model")
    old = model.removeprefix("models/").startswith(("gemini-1", "gemini-2"))
    system, contents = _conversation(body, lost, unsigned=None if old else NO_SIGNATURE)
    request: dict[str, Any] = {"contents": contents}
    if system:
        request["systemInstruction"] = {"parts": system}
    request |= {name: body[name] for name in _NATIVE if body.get(name) is not None}
    config = {theirs: body[ours] for ours, theirs in _CONFIG.items() if body.get(ours) is not None}
    wanted = stops(body)
    if wanted:
        config["stopSequences"] = wanted
    config |= _format(body) | _thinking(body, old)
    if config:
        request["generationConfig"] = config
    request |= _tools(body)
    return Translated(request, tuple(lost))


def _thinking(body: Mapping[str, Any], old: bool) -> dict[str, Any]:
    effort = body.get("reasoning_effort")
    if effort is None or body.get("thinkingConfig") is not None:
        return {}
    if effort == "none":
        return {"thinkingConfig": {"thinkingBudget": 0}}
    if old:
        return {"thinkingConfig": {"thinkingBudget": word(effort, _BUDGETS, "reasoning_effort")}}
    return {"thinkingConfig": {"thinkingLevel": word(effort, _LEVELS, "reasoning_effort")}}


def _format(body: Mapping[str, Any]) -> dict[str, Any]:
    if body.get("response_format") is None:
        return {}
    wanted = thing(body["response_format"], "response_format")
    kind = wanted.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    if kind != "json_schema":
        refuse("response_format.type", f"is {kind!r}; it must be text, json_object or json_schema")
    wrapped = thing(wanted.get("json_schema"), "response_format.json_schema")
    schema = thing(wrapped.get("schema"), "response_format.json_schema.schema")
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    declared: list[dict[str, Any]] = []
    native: list[dict[str, Any]] = []
    for field, tool in objects(body.get("tools"), "tools"):
        if "type" not in tool:
            native.append(tool)
            continue
        if tool["type"] != "function":
            refuse(f"{field}.type", f"is {tool['type']!r}; only functions and Gemini's own tools pass")
        function = thing(tool.get("function"), f"{field}.function")
        declaration: dict[str, Any] = {"name": text(function.get("name"), f"{field}.function.name")}
        if function.get("description"):
            declaration["description"] = function["description"]
        if function.get("parameters"):
            declaration["parametersJsonSchema"] = function["parameters"]
        declared.append(declaration)
    if not declared:
        return {"tools": native} if native else {}
    translated: dict[str, Any] = {"tools": [{"functionDeclarations": declared}, *native]}
    wanted = body.get("tool_choice")
    if isinstance(wanted, dict):
        function = thing(wanted.get("function"), "tool_choice.function")
        name = text(function.get("name"), "tool_choice.function.name")
        calling: dict[str, Any] = {"mode": "ANY", "allowedFunctionNames": [name]}
    elif wanted is None:
        return translated
    else:
        calling = {"mode": word(wanted, _MODES, "tool_choice")}
    return {**translated, "toolConfig": {"functionCallingConfig": calling}}


def _conversation(
    body: Mapping[str, Any], lost: list[str], *, unsigned: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    named: dict[str, str] = {}
    open_results: list[dict[str, Any]] | None = None
    for field, message in objects(body.get("messages"), "messages"):
        role = message.get("role")
        content = f"{field}.content"
        if role == "tool":
            if open_results is None:
                open_results = []
                contents.append({"role": "user", "parts": open_results})
            open_results.append(_result(field, message, named))
            continue
        if message.get("name") is not None and "messages.name" not in lost:
            lost.append("messages.name")
        open_results = None
        if role in ("system", "developer"):
            system += [{"text": said} for said in texts_in(message.get("content"), content)]
        elif role == "user":
            parts = [_part(name, part) for name, part in content_parts(message.get("content"), content)]
            contents.append({"role": "user", "parts": parts or [{"text": ""}]})
        elif role == "assistant":
            calls = calls_in(message, field)
            named.update((call.id, call.name) for call in calls)
            contents.append({"role": "model", "parts": _answered(field, message, calls, unsigned)})
        else:
            refuse(f"{field}.role", f"is {role!r}; it must be system, developer, user, assistant or tool")
    return system, contents


def _answered(
    field: str, message: dict[str, Any], calls: list[Asked], unsigned: str | None
) -> list[dict[str, Any]]:
    content = message.get("content")
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    parts = [
        part
        for part in (_part(name, part) for name, part in content_parts(content, f"{field}.content"))
        if part.get("text") != ""
    ]
    for place, call in enumerate(calls):
        part = {"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call.arguments)}}
        # Of calls made at once only the first one is signed.
        signature = signature_in(call.raw) or (unsigned if place == 0 else None)
        parts.append(part if signature is None else {**part, "thoughtSignature": signature})
    return parts or [{"text": ""}]


def _result(field: str, message: dict[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    id = text(message.get("tool_call_id"), f"{field}.tool_call_id")
    name = named.get(id) or message.get("name")
    if not isinstance(name, str):
        refuse(f"{field}.tool_call_id", f"is {id!r}, which no earlier message calls")
    written: list[str] = []
    shown: list[dict[str, Any]] = []
    for place, part in content_parts(message.get("content"), f"{field}.content"):
        translated = _part(place, part)
        if "text" in translated:
            written.append(translated["text"])
        else:
            shown.append(translated)
    response: dict[str, Any] = {"id": id, "name": name, "response": {"output": "".join(written)}}
    if shown:
        response["parts"] = shown
    return {"functionResponse": response}


def _part(field: str, part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"text": text(part.get(kind), f"{field}.{kind}")}
    if kind == "image_url":
        url = text(thing(part.get("image_url"), f"{field}.image_url").get("url"), f"{field}.image_url.url")
        return _data(url) or _link(f"{field}.image_url.url", url)
    if kind == "file":
        file = thing(part.get("file"), f"{field}.file")
        data = _data(text(file.get("file_data"), f"{field}.file.file_data"))
        if data is None:
            refuse(f"{field}.file.file_data", "must be a data URL in base64")
        return data
    if kind == "input_audio":
        audio = thing(part.get("input_audio"), f"{field}.input_audio")
        media_type = word(audio.get("format"), _AUDIO, f"{field}.input_audio.format")
        return {
            "inlineData": {
                "mimeType": media_type,
                "data": text(audio.get("data"), f"{field}.input_audio.data"),
            }
        }
    refuse(f"{field}.type", f"is {kind!r}; Gemini takes text, image_url, file and input_audio")


def _data(url: str) -> dict[str, Any] | None:
    inline = inline_of(url)
    return inline and {"inlineData": {"mimeType": inline.media_type, "data": inline.data}}


def _link(field: str, url: str) -> dict[str, Any]:
    if not url.startswith(("https://", "http://", "gs://")):
        refuse(field, "must be an http(s) URL or base64 data")
    media_type, _ = mimetypes.guess_type(url.partition("?")[0])
    return {"fileData": {"fileUri": url, **({"mimeType": media_type} if media_type else {})}}
