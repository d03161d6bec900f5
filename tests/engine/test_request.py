"""Bad requests are named by their field before an engine sees them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.engine.request import check, too_long
from negajoule.errors import RequestError

USER = {"role": "user", "content": "hello"}
CHAT_FAULTS = [
    ({}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": {"role": "user"}}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [USER, {"content": "x"}]}, "messages[1].role"),
    ({"messages": [{"role": 3, "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        "messages[0].content[0].text",
    ),
]
FIELD_FAULTS = [
    ("temperature", "hot"),
    ("temperature", True),
    ("temperature", -0.1),
    ("temperature", 2.5),
    ("temperature", float("nan")),
    ("temperature", float("inf")),
    ("top_p", 1.5),
    ("frequency_penalty", {}),
    ("presence_penalty", 3),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 1.5),
    ("max_tokens", "9"),
    ("max_tokens", True),
    ("max_tokens", 10**12),
    ("n", 0),
    ("n", 129),
    ("n", "2"),
    ("seed", "x"),
    ("seed", 1.0),
    ("seed", 2**70),
    ("stop", 5),
    ("stop", ""),
    ("stop", [5]),
    ("stop", ["a", ""]),
    ("stop", ["a", "b", "c", "d", "e"]),
    ("logit_bias", "x"),
    ("logit_bias", {"word": 1}),
    ("logit_bias", {"5": 101}),
    ("logit_bias", {"5": "x"}),
    ("top_k", -1),
    ("min_p", 2),
    ("ignore_eos", "yes"),
]
CHAT_FIELD_FAULTS = [
    ("max_completion_tokens", 0),
    ("logprobs", 1),
    ("logprobs", "x"),
    ("top_logprobs", 21),
    ("top_logprobs", 2),
    ("response_format", "json"),
    ("response_format", {"type": "xml"}),
    ("response_format", {"type": "json_schema"}),
    ("response_format", {"type": "json_schema", "json_schema": {"schema": 5}}),
    ("tools", "x"),
    ("tools", [1]),
    ("tools", [{"type": "function"}]),
    ("tools", [{"type": "function", "function": {"name": 5}}]),
    ("tool_choice", "always"),
    ("tool_choice", 5),
]
COMPLETION_FAULTS = [
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": ["a", 5]}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": "a", "logprobs": 6}, "logprobs"),
    ({"prompt": "a", "logprobs": True}, "logprobs"),
    ({"prompt": "a", "echo": True}, "echo"),
    ({"prompt": "a", "suffix": "b"}, "suffix"),
    ({"prompt": "a", "best_of": 2}, "best_of"),
]


def refused(task: Any, body: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        check(task, body)
    assert caught.value.code == "R102"
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(("body", "param"), CHAT_FAULTS)
def test_faults_of_a_chat_are_named(body: dict[str, Any], param: str) -> None:
    assert refused("chat", body).param == param


@pytest.mark.parametrize(("field", "value"), FIELD_FAULTS + CHAT_FIELD_FAULTS)
def test_faults_of_a_field_are_named(field: str, value: object) -> None:
    error = refused("chat", {"messages": [USER], field: value})
    assert error.param is not None
    assert error.param.startswith(field)
    assert field in error.message


@pytest.mark.parametrize(("body", "param"), COMPLETION_FAULTS)
def test_faults_of_a_completion_are_named(body: dict[str, Any], param: str) -> None:
    assert refused("completion", body).param == param


def test_what_is_passed_on_and_what_is_not() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "developer", "content": "be brief"}, USER],
        "max_completion_tokens": 7,
        "max_tokens": 9,
        "stop": "x",
        "tools": [],
        "temperature": None,
        "user": "somebody",
        "grammar": "root ::= (((",
        "stream": True,
    }
    assert check("chat", body) == {
        "messages": [{"role": "system", "content": "be brief"}, USER],
        "max_tokens": 7,
        "stop": ["x"],
    }


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1, 2], [3]]])
def test_all_forms_of_prompt_pass(prompt: object) -> None:
    harmless = {"echo": False, "suffix": None, "best_of": 1}
    assert check("completion", {"prompt": prompt, **harmless}) == {"prompt": prompt}


def test_the_engine_limits_the_choices() -> None:
    with pytest.raises(RequestError, match="at most 4"):
        check("chat", {"messages": [USER], "n": 5}, choices_at_most=4)


@given(st.integers(-(2**63), 2**63 - 1))
def test_no_seed_means_random(seed: int) -> None:
    assert 0 <= check("chat", {"messages": [USER], "seed": seed})["seed"] < 2**32 - 1


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({name for name, _ in FIELD_FAULTS + CHAT_FIELD_FAULTS} | {"messages", "prompt", "echo"})


@given(st.sampled_from(["chat", "completion"]), st.dictionaries(st.sampled_from(FIELDS), json))
def test_any_body_passes_or_is_refused(task: Any, body: dict[str, Any]) -> None:
    body = {"messages": [USER], "prompt": "a"} | body
    with contextlib.suppress(RequestError):
        assert set(check(task, body)) <= set(body) | {"max_tokens"}


def test_the_error_of_a_long_prompt_holds_the_numbers() -> None:
    error = too_long("completion", 3031, 2048)
    assert (error.code, error.status, error.param) == ("R104", 400, "prompt")
    assert "3031" in error.message
    assert "2048" in error.message
    assert "at least 3031" in too_long("chat", 3031, 2048, at_least=True).message
