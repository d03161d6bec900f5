"""What a request must look like before an engine sees it, so that bad input is named by its field.

Three sorts of fields: checked and passed on (the tables below), harmless and dropped (``user``, ``metadata``,
anything unknown), and refused because ignoring them would change the answer in silence (``echo``, ``suffix``,
``best_of``). Limits are those of OpenAI's API reference. ``None`` stands for absent.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from negajoule.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from negajoule.engine.protocol import Task

__all__ = ["check", "too_long"]

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_KINDS = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a text",
    type(None): "null",
}
_STOPS_AT_MOST = 4
_SEEDS = 2**32 - 1  # llama.cpp's seed has 32 bits, and the largest means "random"


def too_long(task: Task, prompt_tokens: int, context_tokens: int, *, at_least: bool = False) -> RequestError:
    """Make the error for a prompt that doesn't fit.

    Args:
        task: names the field at fault.
        prompt_tokens: its length.
        context_tokens: what fits, answer included.
        at_least: whether ``prompt_tokens`` is only a lower bound.
    """
    return RequestError(
        f"the prompt has {'at least ' if at_least else ''}{prompt_tokens} tokens;"
        f" the model's context holds {context_tokens}, the answer included",
        code="R104",
        param=_prompt_field(task),
        fix="shorten the prompt or drop the oldest messages",
    )


def check(task: Task, body: Mapping[str, Any], *, choices_at_most: int = 128) -> dict[str, Any]:
    """Check a request and return the fields that an engine acts on.

    Args:
        task: which of OpenAI's two request shapes ``body`` has.
        body: the request as it came.
        choices_at_most: the largest ``n`` the engine can run.

    Raises:
        RequestError: R102, naming the field.
    """
    field = _prompt_field(task)
    if body.get(field) is None:
        _refuse(field, "is missing")
    if task == "completion":
        for name, harmless in _UNSUPPORTED.items():
            if body.get(name) not in (None, harmless):
                _refuse(name, "isn't supported by this engine")
    fields = {**_SHARED, **(_CHAT if task == "chat" else _COMPLETION)}
    request = {
        name: fields[name](name, value)
        for name, value in body.items()
        if name in fields and value is not None and value != []  # no tools, no stops: as good as absent
    }
    if field not in request:
        _refuse(field, "is empty")
    if request.get("n", 1) > choices_at_most:
        _refuse("n", f"is {request['n']}; this engine gives at most {choices_at_most} choices at once")
    if request.get("top_logprobs") and not request.get("logprobs"):
        _refuse("top_logprobs", "needs 'logprobs' to be true")
    if "max_completion_tokens" in request:
        request["max_tokens"] = request.pop("max_completion_tokens")
    return request


def _prompt_field(task: Task) -> str:
    return "messages" if task == "chat" else "prompt"


def _refuse(name: str, problem: str) -> NoReturn:
    raise RequestError(f"{name!r} {problem}", param=name)


def _shown(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    def checked(name: str, value: Any) -> float:  # noqa: ANN401 (any JSON value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse(name, f"must be a number, not {_shown(value)}")
        if not (isfinite(value) and low <= value <= high):
            _refuse(name, f"is {value}; it must lie between {low} and {high}")
        return value

    return checked


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def checked(name: str, value: Any) -> int:  # noqa: ANN401 (any JSON value)
        if isinstance(value, bool) or not isinstance(value, int):
            _refuse(name, f"must be a whole number, not {value if type(value) is float else _shown(value)}")
        if not low <= value <= high:
            _refuse(name, f"is {value}; it must lie between {low} and {high}")
        return value

    return checked


def _flag(name: str, value: Any) -> bool:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, bool):
        _refuse(name, f"must be true or false, not {_shown(value)}")
    return value


def _seed(name: str, value: Any) -> int:  # noqa: ANN401 (any JSON value)
    return _whole(-(2**63), 2**63 - 1)(name, value) % _SEEDS


def _stop(name: str, value: Any) -> list[str]:  # noqa: ANN401 (any JSON value)
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        _refuse(name, "must be a text or a list of texts, none of them empty")
    if len(stops) > _STOPS_AT_MOST:
        _refuse(name, f"has {len(stops)} texts; at most {_STOPS_AT_MOST} are allowed")
    return stops


def _logit_bias(name: str, value: Any) -> list[list[float]]:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, dict):
        _refuse(name, f"must be an object of token ids and biases, not {_shown(value)}")
    for token, bias in value.items():
        if not (isinstance(token, str) and token.isascii() and token.isdigit()):
            _refuse(name, f"has the key {token!r}, which isn't a token id")
        _number(-100, 100)(name, bias)
    return [[int(token), bias] for token, bias in value.items()]


def _response_format(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
        _refuse(name, "must be an object whose 'type' is text, json_object or json_schema")
    if value["type"] == "json_schema":
        wrapped = value.get("json_schema")
        if not isinstance(wrapped, dict) or not isinstance(wrapped.get("schema"), dict):
            _refuse(name, "of type json_schema must have the schema, an object, in 'json_schema.schema'")
    return value


def _tools(name: str, value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, list):
        _refuse(name, f"must be a list, not {_shown(value)}")
    for place, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            _refuse(f"{name}[{place}]", "must be an object with a 'function' that has a 'name'")
    return value


def _tool_choice(name: str, value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, dict) and value not in ("none", "auto", "required"):
        _refuse(name, "must be none, auto, required or an object that names a function")
    return value


def _messages(name: str, value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, list):
        _refuse(name, f"must be a list, not {_shown(value)}")
    return [_message(f"{name}[{place}]", message) for place, message in enumerate(value)]


def _message(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, dict):
        _refuse(name, f"must be an object, not {_shown(value)}")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        _refuse(f"{name}.role", f"must be one of {', '.join(sorted(_ROLES))}")
    content = value.get("content")
    if content is None:
        if not (role == "assistant" and value.get("tool_calls")):
            _refuse(f"{name}.content", "is missing")
    elif isinstance(content, list):
        for place, part in enumerate(content):
            _part(f"{name}.content[{place}]", part)
    elif not isinstance(content, str):
        _refuse(f"{name}.content", f"must be a text or a list of parts, not {_shown(content)}")
    return {**value, "role": "system" if role == "developer" else role}


def _part(name: str, value: Any) -> None:  # noqa: ANN401 (any JSON value)
    if not isinstance(value, dict):
        _refuse(name, f"must be an object, not {_shown(value)}")
    if value.get("type") != "text":
        _refuse(f"{name}.type", f"is {value.get('type')!r}; this engine reads 'text' only")
    if not isinstance(value.get("text"), str):
        _refuse(f"{name}.text", f"must be a text, not {_shown(value.get('text'))}")


def _prompt(name: str, value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    prompts = value if isinstance(value, list) and not _is_tokens(value) else [value]
    for prompt in prompts:
        if not isinstance(prompt, str) and not (isinstance(prompt, list) and _is_tokens(prompt)):
            _refuse(name, "must be a text, a list of texts, a list of token ids or a list of such lists")
        if not prompt:
            _refuse(name, "is empty")
    return value


def _is_tokens(value: list[Any]) -> bool:
    return all(isinstance(token, int) and not isinstance(token, bool) for token in value)


_SHARED: dict[str, Callable[[str, Any], Any]] = {
    "cache_prompt": _flag,
    "frequency_penalty": _number(-2, 2),
    "ignore_eos": _flag,
    "logit_bias": _logit_bias,
    "max_tokens": _whole(1, 2**31 - 1),
    "min_p": _number(0, 1),
    "n": _whole(1, 2**31 - 1),
    "presence_penalty": _number(-2, 2),
    "seed": _seed,
    "stop": _stop,
    "temperature": _number(0, 2),
    "top_k": _whole(0, 2**31 - 1),
    "top_p": _number(0, 1),
}
_CHAT: dict[str, Callable[[str, Any], Any]] = {
    "logprobs": _flag,
    "max_completion_tokens": _whole(1, 2**31 - 1),
    "messages": _messages,
    "parallel_tool_calls": _flag,
    "response_format": _response_format,
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": _whole(0, 20),
}
_COMPLETION: dict[str, Callable[[str, Any], Any]] = {
    "logprobs": _whole(0, 5),
    "prompt": _prompt,
}
_UNSUPPORTED: dict[str, object] = {"best_of": 1, "echo": False, "suffix": ""}
"""Fields of a completion that would change the answer, with the value that wouldn't."""
