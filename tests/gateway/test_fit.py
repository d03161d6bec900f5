"""Calls that a server couldn't answer are refused, or sent where there is room, before anything is sent."""

from __future__ import annotations

import json

import pytest

from negajoule.errors import RequestError
from negajoule.gateway.plan import read_plan
from negajoule.gateway.routes import Routes
from negajoule.gateway.server import Server
from negajoule.gateway.wire import parse_call

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def call(content: object = "hello", **more):
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
    return parse_call("chat", json.dumps(body).encode())


def routes(*limits: dict) -> Routes:
    tables = [
        {"name": str(place), "url": "http://127.0.0.1:9", **limit} for place, limit in enumerate(limits)
    ]
    if len(tables) > 1:
        tables[0]["fallback"] = [table["name"] for table in tables[1:]]
    return Routes([Server(plan, estimate=lambda model, tokens: None) for plan in read_plan(tables, "test")])


def names(found) -> list[str]:
    return [route.server.plan.name for route in found]


def test_what_surely_doesnt_fit_is_refused():
    small = routes({"context_tokens": 100})
    assert names(small.find(call(max_tokens=100))) == ["0"]
    assert names(small.find(call("a" * 12_800))) == ["0"]
    for too_long in (
        call(max_tokens=101),
        call("a" * 12_928),
        call([{"type": "text", "text": "a" * 13_000}]),
    ):
        with pytest.raises(RequestError) as caught:
            small.find(too_long)
        assert caught.value.code == "R104"


def test_what_likely_doesnt_fit_goes_where_there_is_room():
    both = routes({"context_tokens": 100}, {"context_tokens": 10_000})
    assert names(both.find(call("short"))) == ["0", "1"]
    assert names(both.find(call("a" * 1000))) == ["1", "0"]
    assert names(both.find(call(max_tokens=5000))) == ["1"]


@pytest.mark.parametrize(
    ("asked", "capability"),
    [
        (call([IMAGE]), "vision"),
        (call([{"type": "input_audio", "input_audio": {}}]), "audio"),
        (call([{"type": "file", "file": {}}]), "files"),
        (call(tools=[{"type": "function", "function": {"name": "f"}}]), "tools"),
        (call(response_format={"type": "json_object"}), "json"),
    ],
)
def test_what_a_model_cant_do_is_refused_or_done_elsewhere(asked, capability):
    unable, able = {"capabilities": []}, {"capabilities": [capability]}
    with pytest.raises(RequestError, match=capability) as caught:
        routes(unable).find(asked)
    assert caught.value.code == "R102"
    assert names(routes(able).find(asked)) == ["0"]
    assert names(routes(unable, able).find(asked)) == ["1"]
    assert names(routes({}).find(asked)) == ["0"]


def test_plain_wishes_need_nothing():
    plain = routes({"capabilities": []})
    assert names(plain.find(call(tools=[], response_format={"type": "text"}))) == ["0"]
