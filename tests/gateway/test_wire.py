"""Whatever a client sends is either a call that can be run or an error that says what is wrong."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.errors import (
    ConfigError,
    EngineError,
    LedgerError,
    MeterError,
    NegajouleError,
    RequestError,
)
from negajoule.gateway.wire import Call, error_body, parse_call, status_of

CHAT = {"model": "smol", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "smol", "prompt": "hi"}
BODIES = {"chat": CHAT, "completion": COMPLETION}
TASKS = list(BODIES)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    ("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "temperature", "n", "role", "x")
)


def judged(task, raw: bytes) -> Call | RequestError:
    try:
        return parse_call(task, raw)
    except RequestError as error:
        return error


def refusal(task, raw) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_call(task, raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize("task", TASKS)
class TestNotJson:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b" ",
            b"{",
            b"}",
            b"{'model': 'smol'}",
            b'{"model": "smol",}',
            b'{"model": "smol"} trailing',
            b"\xef\xbb\xbf{}",
            b"\xff\xfe{\x00}\x00",
            b"nonsense",
            b'{"model": NaN}',
            b'{"model": "smol", "temperature": NaN}',
            b'{"model": "smol", "temperature": Infinity}',
            b'{"model": "\xff"}',
            b'{"model": "\\ud800"}',
            b'{"model": "a\nb"}',
            b"\x00",
        ],
    )
    def test_malformed_bodies_are_refused(self, task, raw):
        error = refusal(task, raw)
        assert error.code == "R101"
        assert "isn't valid JSON" in error.message

    @pytest.mark.parametrize("where", ["model", "a field nobody knows"])
    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_bodies_nested_ten_thousand_deep_are_refused(self, task, opening, where):
        nested = opening * 10_000 + "1" + {"[": "]"}.get(opening, "}") * 10_000
        raw = json.dumps({**BODIES[task], where: 0}).replace(f'"{where}": 0', f'"{where}": {nested}')
        assert refusal(task, raw.encode()).code in ("R101", "R102")

    @pytest.mark.parametrize(
        "value", [b'"\xff"', b"1" * 5000, b'{"\xc3": 1}', b"[" * 2000 + b"]" * 2000, b"1e99999", b"nul"]
    )
    def test_a_field_nobody_checks_must_be_json_too(self, task, value):
        raw = json.dumps(BODIES[task]).encode()[:-1] + b', "unchecked": ' + value + b"}"
        assert refusal(task, raw).code in ("R101", "R102")


@pytest.mark.parametrize("task", TASKS)
class TestFields:
    @pytest.mark.parametrize("raw", [b"null", b"[]", b"1", b'"text"', b"true"])
    def test_a_body_that_is_no_object_is_refused(self, task, raw):
        assert refusal(task, raw).code == "R102"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("model", None),
            ("model", 1),
            ("model", ""),
            ("model", ["smol"]),
            ("stream", "yes"),
            ("stream", 1),
            ("stream_options", True),
            ("stream_options", []),
            ("max_tokens", 0),
            ("max_tokens", -1),
            ("max_tokens", 1.5),
            ("max_tokens", "10"),
            ("max_tokens", True),
            ("max_completion_tokens", 0),
            ("temperature", -0.1),
            ("temperature", "hot"),
            ("n", 0),
        ],
    )
    def test_a_wrong_field_is_refused_by_name(self, task, field, value):
        error = refusal(task, {**BODIES[task], field: value})
        assert (error.code, error.param) == ("R102", field)

    def test_a_missing_model_is_named(self, task):
        body = {name: value for name, value in BODIES[task].items() if name != "model"}
        error = refusal(task, body)
        assert (error.code, error.param) == ("R102", "model")

    def test_a_flag_inside_an_object_is_named_with_its_path(self, task):
        error = refusal(task, {**BODIES[task], "stream_options": {"include_usage": "yes"}})
        assert error.param == "stream_options.include_usage"

    @pytest.mark.parametrize(
        "field", ["stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "n"]
    )
    def test_null_means_not_given(self, task, field):
        assert parse_call(task, json.dumps({**BODIES[task], field: None}).encode()).stream is False

    @pytest.mark.parametrize("count", [1, 2**31, 2**63, 10**30])
    def test_huge_counts_are_the_engines_to_judge(self, task, count):
        raw = json.dumps({**BODIES[task], "max_tokens": count}).encode()
        assert parse_call(task, raw).body()["max_tokens"] == pytest.approx(count)


class TestRequired:
    @pytest.mark.parametrize(
        ("messages", "param"),
        [
            ([], "messages"),
            (None, "messages"),
            ("hi", "messages"),
            ({}, "messages"),
            (["hi"], "messages[0]"),
            ([{"content": "hi"}], "messages[0].role"),
            ([{"role": "user"}, {"role": 1}], "messages[1].role"),
            ([{"role": "user", "content": 1}], "messages[0].content"),
            ([{"role": "user", "content": ["hi"]}], "messages[0].content[0]"),
        ],
    )
    def test_malformed_messages_are_refused_with_the_place(self, messages, param):
        error = refusal("chat", {**CHAT, "messages": messages})
        assert (error.code, error.param) == ("R102", param)

    @pytest.mark.parametrize("task", TASKS)
    def test_what_a_task_needs_is_asked_for(self, task):
        field = {"chat": "messages", "completion": "prompt"}[task]
        error = refusal(task, {"model": "smol"})
        assert (error.code, error.param) == ("R102", field)
        assert "required" in error.message

    @pytest.mark.parametrize("content", ["", "hi", None, [], [{"type": "text", "text": "hi"}]])
    def test_every_kind_of_content_passes(self, content):
        body = {**CHAT, "messages": [{"role": "user", "content": content, "name": "kept"}]}
        assert parse_call("chat", json.dumps(body).encode()).body() == body

    @pytest.mark.parametrize("prompt", ["hi", ["hi", "ho"], [1, 2, 3], [[1, 2], [3]]])
    def test_every_kind_of_prompt_passes(self, prompt):
        body = {**COMPLETION, "prompt": prompt}
        assert parse_call("completion", json.dumps(body).encode()).body() == body

    @pytest.mark.parametrize(
        ("prompt", "param"),
        [("", "prompt"), ([], "prompt"), (1, "prompt"), ([1.5], "prompt[0]"), ({}, "prompt")],
    )
    def test_a_prompt_of_another_kind_is_refused(self, prompt, param):
        assert refusal("completion", {**COMPLETION, "prompt": prompt}).param == param


class TestCalls:
    @pytest.mark.parametrize("task", TASKS)
    def test_a_call_keeps_the_body_as_it_came(self, task):
        body = {**BODIES[task], "stream": True, "cache_prompt": False, "x": {"y": [1, 2.5, "é🔋"]}}
        raw = json.dumps(body).encode()
        call = parse_call(task, raw)
        assert (call.task, call.model, call.stream, call.raw) == (task, "smol", True, raw)
        assert call.body() == body

    @pytest.mark.parametrize(
        ("options", "asked"),
        [({"include_usage": True}, True), ({"include_usage": False}, False), ({}, False), (None, False)],
    )
    def test_usage_is_included_only_when_asked_for(self, options, asked):
        raw = json.dumps({**CHAT, "stream": True, "stream_options": options}).encode()
        assert parse_call("chat", raw).include_usage is asked

    def test_of_a_name_given_twice_the_last_counts_everywhere(self):
        call = parse_call("completion", b'{"model": "a", "prompt": "x", "model": "b", "prompt": "y"}')
        assert call.model == call.body()["model"] == "b"
        assert call.body()["prompt"] == "y"

    @given(st.sampled_from(TASKS), st.binary(max_size=60))
    def test_any_bytes_are_a_call_or_a_refusal(self, task, raw):
        assert refusal(task, raw).code in ("R101", "R102")

    @given(st.sampled_from(TASKS), st.dictionaries(fields, json_values, max_size=4))
    def test_any_json_is_a_call_that_can_be_read_or_a_refusal(self, task, changes):
        raw = json.dumps({**BODIES[task], **changes}).encode()
        outcome = judged(task, raw)
        if isinstance(outcome, Call):
            assert outcome.body()["model"] == outcome.model
        else:
            assert outcome.code in ("R101", "R102")


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status", "kind"),
        [
            (RequestError("wrong"), 400, "invalid_request_error"),
            (RequestError("gone", status=404), 404, "not_found_error"),
            (RequestError("large", status=413), 413, "invalid_request_error"),
            (RequestError("busy", status=429), 429, "rate_limit_error"),
            (RequestError("stopping", status=503), 503, "server_error"),
            (EngineError("broke"), 502, "server_error"),
            (EngineError("no key", status=401), 401, "authentication_error"),
            (EngineError("not yours", status=403), 403, "permission_error"),
            (LedgerError("full"), 503, "server_error"),
            (MeterError("dark"), 500, "server_error"),
            (ConfigError("odd"), 500, "server_error"),
        ],
    )
    def test_each_error_has_its_status_and_openais_type(self, error, status, kind):
        assert status_of(error) == status
        assert json.loads(error_body(error))["error"]["type"] == kind

    def test_the_shape_is_openais_with_our_code_and_the_next_step(self):
        error = RequestError("the model 'x' isn't served here", code="R103", param="model", fix="use smol")
        assert json.loads(error_body(error)) == {
            "error": {
                "message": "the model 'x' isn't served here; use smol",
                "type": "invalid_request_error",
                "param": "model",
                "code": "R103",
            }
        }

    @given(st.text(), st.text(), st.none() | st.text())
    def test_any_text_makes_a_valid_body(self, message, fix, param):
        body = msgspec.json.decode(error_body(RequestError(message, fix=fix, param=param)))["error"]
        assert set(body) == {"message", "type", "param", "code"}
        assert body["message"].startswith(message)

    def test_an_error_without_a_field_has_a_null_param(self):
        assert json.loads(error_body(NegajouleError("x")))["error"]["param"] is None
