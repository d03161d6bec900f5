"""The door to the network: deadlines that hold, limits, no detours, no keys to strangers."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from playing_apis import Api, Reply

from negajoule.errors import GridError
from negajoule.grid import fetch as fetch_module
from negajoule.grid.fetch import Answer, decoded, fetch_url, is_nearby


def ask(url, timeout_s=2.0, **headers):
    return fetch_url(url, headers, timeout_s=timeout_s)


def test_an_answer_has_status_headers_and_body(api):
    api.says(Reply({"a": 1}, headers={"X-Kind": "Test"}))
    answer = fetch_url(f"{api.url}/p?q=1", {"auth-token": "k"}, timeout_s=2, method="PUT")
    assert (answer.status, answer.body, answer.headers["x-kind"]) == (200, b'{"a": 1}', "Test")
    asked = api.asked[0]
    assert (asked.method, asked.path, asked.query) == ("PUT", "/p", {"q": "1"})
    assert asked.headers["auth-token"] == "k"


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_a_refusal_is_an_answer_too(api, status):
    api.says(Reply("no", status=status, headers={"Retry-After": "7"}))
    answer = ask(api.url)
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (status, b"no", "7")


def test_a_server_that_hangs_is_left_at_the_deadline(api):
    api.says(Reply("late", pause_s=30))
    began = time.monotonic()
    with pytest.raises(GridError, match=r"127\.0\.0\.1 gave no answer within 0\.2 s") as raised:
        ask(api.url, timeout_s=0.2)
    assert time.monotonic() - began < 1.5
    assert raised.value.code == "G101"


def test_a_server_that_drips_is_left_at_the_deadline(api):
    api.says(Reply("x" * 1000, drip_s=0.05))
    began = time.monotonic()
    with pytest.raises(GridError) as raised:
        ask(api.url, timeout_s=0.3)
    assert time.monotonic() - began < 1.5
    assert raised.value.code == "G101"


def test_a_name_look_up_that_hangs_is_left_at_the_deadline(monkeypatch):
    free = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: free.wait(5) and [])
    began = time.monotonic()
    with pytest.raises(GridError, match="gave no answer within"):
        ask("https://grid.invalid/", timeout_s=0.2)
    assert time.monotonic() - began < 1.5
    free.set()


def test_a_closed_port_is_an_error_with_the_host():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(GridError, match=r"127\.0\.0\.1 can't be reached"):
        ask(url)


def test_a_body_that_breaks_off_is_an_error(api):
    api.says(Reply("short", headers={"Content-Length": "100"}))
    with pytest.raises(GridError):
        ask(api.url, timeout_s=0.5)


def test_too_large_an_answer_is_refused(api, monkeypatch):
    monkeypatch.setattr(fetch_module, "MAX_BYTES", 1000)
    api.says(Reply("x" * 1001))
    with pytest.raises(GridError, match="more than 1000 bytes") as raised:
        ask(api.url)
    assert raised.value.code == "G102"
    api.says(Reply("x" * 1000))
    assert len(ask(api.url).body) == 1000


def test_a_redirect_to_another_host_is_not_followed(api):
    stranger = Api()
    try:
        api.says(Reply(status=302, headers={"Location": f"{stranger.url}/steal"}))
        answer = ask(api.url, **{"auth-token": "secret"})
        assert answer.status == 302
        assert stranger.asked == []
    finally:
        stranger.close()


def test_a_redirect_on_the_same_host_is_followed(api):
    api.answer = lambda asked: (
        Reply("there") if asked.path == "/b" else Reply(status=302, headers={"Location": "/b"})
    )
    assert ask(f"{api.url}/a").body == b"there"


@pytest.mark.parametrize(
    "url",
    [
        "http://api.electricitymaps.com/v3",
        "http://8.8.8.8/",
        "http://localhost/",
        "file:///etc/passwd",
        "ftp://x/y",
        "",
        "x",
    ],
)
def test_plain_http_to_others_and_other_schemes_are_refused(url, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    with pytest.raises(GridError, match="not https"):
        ask(url)


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("169.254.169.254", True), ("::1", True), ("fe80::1", True), ("10.0.0.1", False),
     ("localhost", False), ("metadata.google.internal", False), ("", False)],
)  # fmt: skip
def test_what_is_nearby(host, near):
    assert is_nearby(host) is near


def test_a_header_that_cannot_be_sent_is_an_error_that_keeps_the_secret(api):
    api.says("ok")
    with pytest.raises(GridError) as raised:
        ask(api.url, **{"auth-token": "sec\nret"})
    assert "sec" not in str(raised.value)


class Shape(msgspec.Struct):
    value: float


def test_json_of_the_promised_shape_is_taken():
    assert decoded(Answer(200, {}, b'{"value": 3, "more": null}'), Shape, source="s").value == 3.0


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>sign in</html>", b"[]", b"{}", b'{"value": "3"}', b'{"value": NaN}', b'{"value": null}',
     b'{"value": 1e999}', b'{"value": 3', b"\xff\xfe", b'{"value": 3}{}', b'"\xed\xa0\x80"'],
)  # fmt: skip
def test_anything_else_is_refused(body):
    with pytest.raises(GridError, match="s answered with something else") as raised:
        decoded(Answer(200, {}, body), Shape, source="s")
    assert raised.value.code == "G102"


@pytest.mark.parametrize(
    ("status", "says"), [(401, "doesn't accept the key"), (429, "too many"), (500, "500"), (204, "204")]
)
def test_other_statuses_say_what_they_mean(status, says):
    with pytest.raises(GridError, match=says) as raised:
        decoded(Answer(status, {}, b'{"value": 3}'), Shape, source="s")
    assert (raised.value.code, raised.value.retry_after_s) == ("G101", None)


def test_retry_after_is_read_as_seconds_or_as_a_date():
    def wait_s(text):
        with pytest.raises(GridError) as raised:
            decoded(Answer(429, {"retry-after": text}, b""), Shape, source="s")
        return raised.value.retry_after_s

    assert wait_s("120") == 120.0
    assert 50 < wait_s(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) < 70
    assert wait_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    for text in ("soon", "-5", "", "1.5", "²"):
        assert wait_s(text) is None
