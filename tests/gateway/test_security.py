"""Who gets in, to what; what a hostile client can't do; what a key and a client never leave behind."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from negajoule.engine import FakeEngine
from negajoule.errors import RequestError
from negajoule.gateway import Door, EngineBackend, KeyFile, KeyRing, Limits, UpstreamBackend
from negajoule.gateway.door import is_loopback, once_only
from negajoule.gateway.headers import OURS, PASSED_ON, client_id, passed_on
from negajoule.gateway.logs import configure
from negajoule.ledger import Ledger

from .asking import CHAT, ask, chat, raw, rest_of
from .conftest import gateway, serving

PLAIN_SCOPES = ("chat", "completions", "embeddings", "models")


@contextmanager
def serving_fake(door: Door | None = None, *, engine: FakeEngine | None = None, **limits):
    """A gateway with the fake engine."""
    with gateway(
        lambda splitter, accounts: EngineBackend(engine or FakeEngine(), splitter, accounts),
        door=door,
        limits=Limits(**{"max_body_bytes": 1_000_000, **limits}),
    ) as running:
        yield running


@pytest.fixture
def keys(fresh_home):
    """Secrets of some keys."""
    file = KeyFile()
    wanted = {
        "alice": {"team": "search", "project": "index"},
        "bob": {},
        "admin": {"scopes": ["admin"]},
        "chatter": {"scopes": ["chat"]},
        "reader": {"scopes": ["models"]},
        "narrow": {"models": ["llama*"]},
        "late": {"lasts_s": -1.0},
        "gone": {},
    }
    secrets = {name: file.create(name, **options)[1] for name, options in wanted.items()}
    file.revoke("gone")
    return secrets


@pytest.fixture
def closed(keys):
    """A server that needs keys."""
    with serving_fake(Door(KeyRing(KeyFile()))) as running:
        yield running


ROUTES = [
    ("POST", "/v1/chat/completions", "chat"),
    ("POST", "/v1/completions", "completions"),
    ("GET", "/v1/models", "models"),
    ("GET", "/v1/models/fake", "models"),
    ("GET", "/v1/footprints/req-none", ""),
    ("GET", "/v1/nothing", ""),
    ("GET", "/v1/admin/nothing", "admin"),
    ("GET", "/metrics", "admin"),
    ("GET", "/", "admin"),
    ("GET", "/nothing", "admin"),
    ("DELETE", "/v1/chat/completions", ""),
]


class TestPlanes:
    @pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
    def test_every_page_needs_a_good_key(self, closed, keys, method, path, scope):
        body = CHAT if method == "POST" else None
        for key in ("", "nj-wrong", keys["late"], keys["gone"]):
            answer = ask(closed.url, path, body=body, key=key, method=method)
            assert (answer.status, answer.code) == (401, "R110")
            assert answer.json["error"]["type"] == "authentication_error"
            assert "Bearer" in answer.headers["www-authenticate"]
            if key:
                assert key not in answer.body.decode()
        assert closed.ledger.count() == 0

    @pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
    @pytest.mark.parametrize("who", ["alice", "admin", "chatter", "reader"])
    def test_a_key_opens_what_its_scopes_say(self, closed, keys, method, path, scope, who):
        scopes = {"alice": PLAIN_SCOPES, "admin": ("admin",), "chatter": ("chat",), "reader": ("models",)}[
            who
        ]
        body = {**CHAT, "prompt": "x"} if method == "POST" else None
        answer = ask(closed.url, path, body=body, key=keys[who], method=method)
        if scope and scope not in scopes:
            assert (answer.status, answer.code) == (403, "R111")
        else:
            assert answer.status in (200, 404, 405)

    def test_health_is_open_but_tells_its_details_to_admins_only(self, closed, keys):
        for key in ("", "nj-wrong", keys["alice"]):
            answer = ask(closed.url, "/healthz", key=key)
            assert answer.status == 200
            assert set(answer.json) == {"schema", "status"}
        assert ask(closed.url, "/healthz", key=keys["admin"]).json["energy"]["meter_j"] >= 0

    def test_metrics_may_be_left_open(self, keys):
        with serving_fake(Door(KeyRing(KeyFile()), metrics_open=True)) as running:
            assert ask(running.url, "/metrics").status == 200
            assert ask(running.url, "/").status == 401

    def test_a_browser_may_open_the_page_with_the_key_as_password(self, closed, keys):
        def basic(key: str) -> str:
            return "Basic " + base64.b64encode(f"me:{key}".encode()).decode()

        assert "Basic" in ask(closed.url, "/").headers["www-authenticate"]
        assert ask(closed.url, "/", authorization=basic(keys["admin"])).status == 200
        assert ask(closed.url, "/", authorization=basic(keys["alice"])).status == 403
        for wrong in (basic("x"), "Basic", "Basic !", "Basic bWU="):
            assert ask(closed.url, "/", authorization=wrong).status == 401
        # A browser sends a password by itself, also for a foreign page: it must not run a model.
        answer = ask(closed.url, "/v1/chat/completions", body=CHAT, authorization=basic(keys["alice"]))
        assert answer.status == 401

    def test_a_footprint_is_seen_by_who_asked_and_by_admins(self, closed, keys):
        path = chat(closed.url, key=keys["alice"]).headers["x-negajoule-footprint"]
        assert ask(closed.url, path, key=keys["alice"]).status == 200
        assert ask(closed.url, path, key=keys["admin"]).status == 200
        missing = ask(closed.url, "/v1/footprints/req-none", key=keys["bob"])
        foreign = ask(closed.url, path, key=keys["bob"])
        assert (foreign.status, foreign.body) == (missing.status, missing.body) == (404, foreign.body)

    def test_a_footprint_is_still_its_owners_after_a_restart_and_a_rotation(self, keys):
        with serving_fake(Door(KeyRing(KeyFile()))) as running:
            path = chat(running.url, key=keys["alice"]).headers["x-negajoule-footprint"]
        _, secret = KeyFile().rotate("alice")
        with serving_fake(Door(KeyRing(KeyFile()))) as running:
            assert ask(running.url, path, key=secret).status == 200
            assert ask(running.url, path, key=keys["bob"]).status == 404

    def test_the_ledger_says_who_asked(self, closed, keys):
        for stream in (False, True):
            assert chat(closed.url, key=keys["alice"], stream=stream).status == 200
        rows = closed.ledger.latest(9)
        assert [(row.caller, row.team, row.project) for row in rows] == [("alice", "search", "index")] * 2

    def test_a_connection_that_changes_its_key_changes_its_caller(self, closed, keys):
        body = json.dumps(CHAT).encode()
        with raw(closed.url) as connection:
            for who in ("alice", "bob", "chatter"):
                connection.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
                    b"content-length: %d\r\n\r\n%s" % (keys[who].encode(), len(body), body)
                )
                got = b""
                while not got.endswith(b"}"):
                    got += connection.recv(65_536)
                assert b" 200 OK" in got
        assert sorted(row.caller for row in closed.ledger.latest(9)) == ["alice", "bob", "chatter"]

    def test_models_a_key_may_not_ask_are_neither_listed_nor_asked(self, closed, keys):
        assert ask(closed.url, "/v1/models", key=keys["narrow"]).json["data"] == []
        assert ask(closed.url, "/v1/models/fake", key=keys["narrow"]).status == 404
        answer = chat(closed.url, key=keys["narrow"])
        assert (answer.status, answer.code, answer.json["error"]["param"]) == (403, "R111", "model")
        assert closed.ledger.count() == 0

    def test_two_keys_in_one_request_are_none(self, closed, keys):
        with raw(closed.url) as connection:
            fields = b"".join(
                b"authorization: Bearer %s\r\n" % keys[who].encode() for who in ("alice", "admin")
            )
            connection.sendall(
                b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + fields + b"\r\n"
            )
            answer = rest_of(connection)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"R113" in answer

    def test_a_key_runs_only_so_many_requests_at_once(self, keys):
        engine = FakeEngine(token_delay_s=0.05)
        with serving_fake(Door(KeyRing(KeyFile()), places=2), engine=engine) as running:
            got: list[int] = []
            threads = [
                threading.Thread(target=lambda: got.append(chat(running.url, key=keys["alice"]).status))
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            while running.splitter.in_flight < 2:
                time.sleep(0.005)
            refused = chat(running.url, key=keys["alice"])
            assert (refused.status, refused.code) == (429, "R107")
            assert int(refused.headers["retry-after"]) >= 1
            assert chat(running.url, key=keys["bob"]).status == 200
            for thread in threads:
                thread.join()
            assert got == [200, 200]
            assert chat(running.url, key=keys["alice"]).status == 200


class TestForeignPages:
    @pytest.fixture
    def local(self, fresh_home):
        with serving_fake(Door(KeyRing(KeyFile()), names=("my-host",))) as running:
            yield running

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec_fetch_site": "cross-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"host": "evil.example"},
            {"host": "127.0.0.1.evil.example:8321"},
            {"host": "[::ffff:1.2.3.4]"},
            {"host": "[bad"},
            {"host": "\xff"},
        ],
    )
    def test_a_web_page_elsewhere_cannot_use_an_open_server(self, local, headers):
        answer = ask(local.url, "/v1/chat/completions", body=CHAT, **headers)
        assert (answer.status, answer.code) == (403, "R111")
        assert set(ask(local.url, "/healthz", **headers).json) == {"schema", "status"}
        assert local.ledger.count() == 0

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"sec_fetch_site": "same-origin", "origin": "http://localhost:8321"},
            {"host": "localhost:8321"},
            {"host": "[::1]:8321"},
            {"host": "my-host"},
            {"host": "app.localhost"},
        ],
    )
    def test_programs_and_pages_of_this_machine_can(self, local, headers):
        assert ask(local.url, "/v1/chat/completions", body=CHAT, **headers).status == 200

    def test_with_keys_any_name_will_do(self, local):
        _, secret = KeyFile().create("a")
        time.sleep(1.05)
        answer = ask(
            local.url, "/v1/models", key=secret, host="models.example", origin="https://chat.example"
        )
        assert answer.status == 200
        assert ask(local.url, "/v1/models").status == 401

    @pytest.mark.parametrize(
        "name", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "a.localhost", "LOCALHOST."]
    )
    def test_loopback_is_known(self, name):
        assert is_loopback(name)

    @pytest.mark.parametrize(
        "name", ["", "0.0.0.0", "::", "10.0.0.1", "127.evil.com", "127.0.0.1.nip.io", "localhost.evil"]
    )
    def test_nothing_else_is_loopback(self, name):
        assert not is_loopback(name)


class TestLimits:
    def test_a_slow_header_is_cut_off(self, fresh_home):
        with serving_fake(header_timeout_s=0.3) as running, raw(running.url) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
            started = time.monotonic()
            for _ in range(20):
                time.sleep(0.1)
                try:
                    connection.sendall(b"x-drip: a\r\n")
                except OSError:
                    break
            answer = rest_of(connection)
            assert time.monotonic() - started < 2.0
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"R112" in answer

    def test_a_silent_connection_is_closed(self, fresh_home):
        with serving_fake(header_timeout_s=0.2) as running, raw(running.url) as connection:
            started = time.monotonic()
            assert rest_of(connection) == b""
            assert time.monotonic() - started < 2.0

    def test_line_ends_after_an_answer_keep_no_connection_open(self, fresh_home):
        with serving_fake(header_timeout_s=0.2) as running, raw(running.url) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(65_536)
            connection.sendall(b"\r\n")
            started = time.monotonic()
            rest_of(connection)
            assert time.monotonic() - started < 2.0

    @pytest.mark.parametrize("pieces", [1, 50])
    def test_a_large_header_is_refused(self, fresh_home, pieces):
        with serving_fake(max_header_bytes=4096) as running, raw(running.url) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\n")
            try:
                for _ in range(pieces):
                    connection.sendall(b"x-long: " + b"a" * (20_000 // pieces) + b"\r\n")
                connection.sendall(b"\r\n")
            except OSError:
                pass
            answer = rest_of(connection)
            assert answer.startswith(b"HTTP/1.1 431") or answer == b""
            assert ask(running.url, "/healthz").status == 200

    def test_a_large_header_is_refused_in_our_shape(self, fresh_home):
        with serving_fake(max_header_bytes=2048) as running:
            answer = ask(running.url, "/healthz", x_long="a" * 3000)
            assert (answer.status, answer.code) == (431, "R113")
            assert ask(running.url, "/healthz", x_long="a" * 1000).status == 200

    def test_many_small_headers_in_a_row_are_no_large_header(self, fresh_home):
        with serving_fake(max_header_bytes=2048) as running, raw(running.url) as connection:
            one = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
            last = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            whole = one * 199 + last
            for start in range(0, len(whole), 1000):
                connection.sendall(whole[start : start + 1000])
            assert rest_of(connection).count(b"200 OK") == 200

    def test_a_large_body_with_a_small_header_is_no_large_header(self, fresh_home):
        with serving_fake(max_header_bytes=2048) as running:
            body = {**CHAT, "user": "x" * 50_000}
            assert ask(running.url, "/v1/chat/completions", body=body).status == 200

    def test_a_slow_body_is_cut_off(self, fresh_home):
        with serving_fake(body_timeout_s=0.3) as running, raw(running.url) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
            )
            started = time.monotonic()
            answer = rest_of(connection)
            assert time.monotonic() - started < 5.0
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"R112" in answer
        assert b"connection: close" in answer

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_request_that_takes_too_long_ends_with_an_error_and_is_booked(self, fresh_home, stream):
        engine = FakeEngine(token_delay_s=0.05)
        with serving_fake(engine=engine, request_timeout_s=0.4) as running:
            answer = chat(running.url, max_tokens=500, stream=stream)
            if stream:
                assert answer.status == 200
                assert b'"code":"R112"' in answer.body
                assert b"[DONE]" not in answer.body
            else:
                assert (answer.status, answer.code) == (504, "R112")
            until = time.monotonic() + 5
            while not running.ledger.count():
                assert time.monotonic() < until
                time.sleep(0.01)
            row = running.ledger.latest(1)[0]
            assert row.status == "cancelled"
            assert 0 < row.tokens_out < 500

    def test_more_connections_than_allowed_are_refused(self, fresh_home):
        with serving_fake(max_connections=3) as running:
            held = [raw(running.url) for _ in range(3)]
            try:
                time.sleep(0.1)
                with raw(running.url) as one_more:
                    answer = rest_of(one_more)
                assert answer.startswith(b"HTTP/1.1 503")
                assert b"R107" in answer
            finally:
                for connection in held:
                    connection.close()
            time.sleep(0.1)
            assert ask(running.url, "/healthz").status == 200

    def test_a_refused_large_body_still_lets_the_client_read_why(self, keys):
        with serving_fake(Door(KeyRing(KeyFile()))) as running:
            answer = ask(running.url, "/v1/chat/completions", body=b" " * 900_000)
            assert (answer.status, answer.code) == (401, "R110")
            answer = ask(running.url, "/v1/chat/completions", body=b" " * 2_000_000, key=keys["alice"])
            assert (answer.status, answer.code) == (413, "R105")
            assert answer.headers["connection"] == "close"

    def test_a_refused_small_request_keeps_its_connection(self, closed):
        answer = chat(closed.url)
        assert answer.status == 401
        assert "connection" not in answer.headers

    @pytest.mark.parametrize(
        "request_",
        [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ],
    )
    def test_what_isnt_sound_http_is_refused_and_closed(self, fresh_home, request_):
        with serving_fake(header_timeout_s=0.5) as running:
            with raw(running.url) as connection:
                connection.sendall(request_)
                answer = rest_of(connection)
            assert answer.startswith(b"HTTP/1.1 4")
            assert b'"error"' in answer
            assert ask(running.url, "/healthz").status == 200

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux drops such peers for us")
    def test_a_client_that_takes_no_answers_is_dropped(self, fresh_home):
        with serving_fake(body_timeout_s=0.5) as running, socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(("127.0.0.1", int(running.url.rpartition(":")[2])))
            connection.settimeout(20)
            size = len(ask(running.url, "/metrics").body)
            asked = 20_000_000 // size
            connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * asked)
            time.sleep(3.0)
            assert chat(running.url).status == 200
            assert len(rest_of(connection)) < asked * size / 2


class TestHeaders:
    @pytest.mark.parametrize("value", ["a", "job-7:3", "A.b_c@d/e+f=", "x" * 128])
    def test_the_clients_id_is_echoed_beside_ours(self, served, value):
        answer = ask(served.url, "/v1/chat/completions", body=CHAT, x_request_id=value)
        assert answer.headers["x-request-id"] == value
        assert answer.headers["x-negajoule-request-id"] == served.ledger.latest(1)[0].id
        assert ask(served.url, "/v1/nothing", x_request_id=value).headers["x-request-id"] == value

    @pytest.mark.parametrize("value", ["", "a b", "x" * 129, "a\tb", "<script>", "\xe9", '"'])
    def test_an_odd_id_is_replaced_by_ours(self, served, value):
        answer = ask(served.url, "/v1/chat/completions", body=CHAT, x_request_id=value)
        assert answer.headers["x-request-id"] == answer.headers["x-negajoule-request-id"]

    @given(st.binary(max_size=200))
    def test_what_is_echoed_can_split_no_header_and_no_line(self, value):
        echoed = client_id(value)
        assert echoed is None or (echoed.isascii() and echoed.isprintable() and " " not in echoed)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([*PASSED_ON, *OURS, b"authorization", b"cookie", b"x-api-key"]),
                st.binary(max_size=600),
            )
        )
    )
    def test_only_listed_headers_go_on_and_only_sound_ones(self, headers):
        found = passed_on(headers)
        assert {name.encode() for name in found} <= {*PASSED_ON, *OURS}
        for value in found.values():
            assert value == value.strip()
            assert value.isascii()
            assert value.isprintable()
            assert 0 < len(value) <= 512

    def test_keys_cookies_and_addresses_stay_here(self):
        names = (
            b"authorization",
            b"cookie",
            b"x-api-key",
            b"x-forwarded-for",
            b"user-agent",
            b"host",
            b"referer",
        )
        assert passed_on([(name, b"x") for name in names]) == {}
        assert passed_on([(b"traceparent", b"00-1-2-01"), (b"traceparent", b"other")]) == {
            "traceparent": "00-1-2-01"
        }

    def test_a_header_that_decides_may_come_once(self):
        assert once_only([(b"a", b"1"), (b"a", b"2")]) == {b"a": b"2"}
        with pytest.raises(RequestError) as caught:
            once_only([(b"host", b"a"), (b"host", b"b")])
        assert caught.value.code == "R113"

    def test_the_server_doesnt_say_what_it_is_made_of(self, served):
        assert "server" not in ask(served.url, "/healthz").headers


class TestNothingLeaks:
    def test_no_key_and_no_prompt_in_logs_metrics_ledger_or_page(self, closed, keys):
        stream = io.StringIO()
        root = logging.getLogger()
        before, level = root.handlers[:], logging.getLogger("negajoule").level
        configure("json", "debug", stream=stream)
        try:
            prompt = "a very private question"
            message = [{"role": "user", "content": prompt}]
            for key in (keys["alice"], keys["late"], keys["gone"], "nj-" + "w" * 43):
                chat(closed.url, key=key, messages=message)
                chat(closed.url, key=key, messages=message, stream=True)
                chat(closed.url, key=keys["alice"], model=key)
                ask(closed.url, f"/v1/models/{key}", key=keys["alice"])
                ask(closed.url, f"/{key}?key={key}", key=key)
                chat(closed.url, key=key, messages=prompt)
        finally:
            root.handlers[:] = before
            logging.getLogger("negajoule").setLevel(level)
        told = stream.getvalue()
        told += ask(closed.url, "/metrics", key=keys["admin"]).body.decode()
        told += ask(closed.url, "/", key=keys["admin"]).body.decode()
        with Ledger() as ledger:
            told += "".join(ledger._db.iterdump())
        assert '"key":"alice"' in told
        assert prompt not in told
        for key in (*keys.values(), "w" * 43):
            assert key.removeprefix("nj-") not in told

    def test_a_crash_says_its_kind_to_the_client_and_its_place_to_the_log(self, fresh_home):
        class Broken(FakeEngine):
            @property
            def models(self):
                raise ValueError("the prompt was: secret")

            @models.setter
            def models(self, _):
                pass

        stream = io.StringIO()
        root = logging.getLogger()
        before = root.handlers[:]
        configure("text", "warning", stream=stream)
        try:
            with serving_fake(engine=Broken()) as running:
                answers = [chat(running.url), ask(running.url, "/v1/models")]
        finally:
            root.handlers[:] = before
        for answer in answers:
            assert (answer.status, answer.json["error"]["type"]) == (500, "server_error")
            assert b"secret" not in answer.body
        assert "ValueError" in stream.getvalue()
        assert "local.py" in stream.getvalue()
        assert "secret" not in stream.getvalue()

    @pytest.mark.parametrize(
        "where", ["http://127.0.0.1:{port}/a.png", "http://localhost:{port}/a.png", "file:///etc/passwd"]
    )
    def test_urls_in_a_request_are_data_and_never_fetched(self, served, where):
        with socket.create_server(("127.0.0.1", 0)) as trap:
            trap.settimeout(0.3)
            url = where.format(port=trap.getsockname()[1])
            parts = [
                {"type": "text", "text": "what is this"},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
                {"type": "file", "file": {"file_data": url}},
            ]
            answer = chat(
                served.url, messages=[{"role": "user", "content": parts}], webhook=url, base_url=url
            )
            assert answer.status in (200, 400)
            assert b"root:" not in answer.body
            with pytest.raises(TimeoutError):
                trap.accept()

    def test_upstreams_get_none_of_a_clients_headers_and_keep_nothing_here(self, fresh_home):
        seen: list[dict[str, str]] = []
        trap_hits: list[str] = []

        async def chat_page(request):
            seen.append(dict(request.headers))
            answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "big", "choices": []}
            return JSONResponse(answer, headers={"set-cookie": "who=alice"})

        async def models_page(request):
            return RedirectResponse(str(request.url_for("trap")))

        async def trap(_):
            trap_hits.append("followed")
            return JSONResponse({"object": "list", "data": []})

        upstream = Starlette(
            routes=[
                Route("/v1/chat/completions", chat_page, methods=["POST"]),
                Route("/v1/models", models_page),
                Route("/trap", trap, name="trap"),
            ]
        )
        with (
            serving(upstream) as url,
            gateway(
                lambda splitter, accounts: UpstreamBackend(
                    url, splitter, accounts, estimate=lambda model, tokens: None, key="theirs"
                )
            ) as running,
        ):
            for _ in range(2):
                answer = ask(
                    running.url,
                    "/v1/chat/completions",
                    body={**CHAT, "model": "big"},
                    key="nj-mine",
                    cookie="session=1",
                    x_forwarded_for="10.0.0.1",
                    user_agent="my browser",
                    openai_organization="org",
                    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                )
                assert answer.status == 200
                assert "set-cookie" not in answer.headers
            assert ask(running.url, "/v1/models").status == 502
        assert trap_hits == []
        for headers in seen:
            assert headers["authorization"] == "Bearer theirs"
            assert headers["traceparent"].startswith("00-0af7")
            assert not {"cookie", "x-forwarded-for", "openai-organization"} & set(headers)
            assert "nj-mine" not in str(headers)
            assert "browser" not in str(headers)

    def test_models_that_clients_make_up_share_one_series(self, fresh_home):
        with serving_fake() as running:
            for number in range(20):
                chat(running.url, model=f"made-up-{number}")
            chat(running.url)
            text = ask(running.url, "/metrics").body.decode()
        assert "made-up" not in text
        assert 'negajoule_requests_total{model="fake",status="ok"} 1.0' in text
