"""Errors of every dialect into ours, ours into every dialect."""

from __future__ import annotations

import json

import pytest
from google.genai.errors import APIError
from hypothesis import given
from hypothesis import strategies as st

from negajoule.errors import EngineError, RequestError
from negajoule.gateway.adapters import anthropic_error, error_in_stream, gemini_error, refusal

from .conversations import json_values


@pytest.mark.parametrize(
    ("status", "body", "told", "passed_on"),
    [
        (400, {"error": {"message": "too long", "type": "invalid_request_error"}}, "too long", 400),
        (
            429,
            {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
            "slow down",
            429,
        ),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "busy", 503),
        (403, {"error": {"code": 403, "message": "no key", "status": "PERMISSION_DENIED"}}, "no key", 403),
        (
            400,
            [{"error": {"code": 400, "message": "bad part", "status": "INVALID_ARGUMENT"}}],
            "bad part",
            400,
        ),
        (500, {"error": "plain"}, "plain", 500),
        (502, {"error": {}}, '{"error":{}}', 502),
        (503, "<html>gone</html>", "gone", 503),
        (500, "", "no reason given", 500),
    ],
)
def test_an_upstreams_refusal_keeps_its_words_and_status(status, body, told, passed_on):
    data = body.encode() if isinstance(body, str) else json.dumps(body, separators=(",", ":")).encode()
    error = refusal(status, data)
    assert (error.code, error.status) == ("E103", passed_on)
    assert told in error.message


@given(st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_refusal_can_be_read(data):
    assert refusal(500, data).message.startswith("the upstream refused: ")


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 503),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, 429),
        ({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}, 503),
        ({"error": {"message": "x", "status": "RESOURCE_EXHAUSTED"}}, 429),
        ({"error": {"message": "x", "type": "server_error", "code": None}}, 502),
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, 429),
        ({"error": "x"}, 502),
    ],
)
def test_an_error_within_a_stream_gets_the_status_its_type_means(event, status):
    error = error_in_stream(event)
    assert (error.code, error.status) == ("E103", status)
    assert "x" in error.message


@given(json_values)
def test_only_events_with_an_error_report_one(value):
    assert error_in_stream({}) is None
    assert (error_in_stream({"error": value}) is None) == (not value)


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (RequestError("wrong", fix="do right"), "invalid_request_error", "INVALID_ARGUMENT"),
        (RequestError("no such model", code="R103", status=404), "not_found_error", "NOT_FOUND"),
        (RequestError("too big", code="R105", status=413), "request_too_large", "INVALID_ARGUMENT"),
        (RequestError("budget", code="R107", status=429), "rate_limit_error", "RESOURCE_EXHAUSTED"),
        (RequestError("stopping", code="R107", status=503), "overloaded_error", "UNAVAILABLE"),
        (EngineError("broke", status=500), "api_error", "INTERNAL"),
        (EngineError("late", code="E103", status=504), "timeout_error", "DEADLINE_EXCEEDED"),
    ],
)
def test_our_errors_are_what_each_client_expects(error, kind, status):
    theirs = anthropic_error(error)
    assert (theirs["type"], theirs["error"]["type"]) == ("error", kind)
    assert error.code in theirs["error"]["message"]
    assert error.fix in theirs["error"]["message"]
    google = gemini_error(error)
    with pytest.raises(APIError) as caught:
        APIError.raise_error(google["error"]["code"], google, None)
    assert (caught.value.status, caught.value.code) == (status, error.status)
    assert refusal(error.status, json.dumps(theirs).encode()).status == error.status
