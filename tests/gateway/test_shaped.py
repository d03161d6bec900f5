"""Calls that are held: they go together, never beyond the promise, and a broken promise ends the holding."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.asking import CHAT, ask, raw
from gateway.conftest import gateway
from negajoule.engine import FakeEngine
from negajoule.errors import ConfigError
from negajoule.gateway.local import EngineBackend
from negajoule.gateway.shaped import ShapedBackend
from negajoule.shape.guard import Guard
from negajoule.shape.live import read_rules, write_rules
from negajoule.shape.promise import Promise
from servers import serve

TABLE = {"policy": "join", "wait_s": 0.4, "running": 1, "promise": "p95<=5s", "class": "batch"}


def chat(url, *, stream=False, **headers):
    return ask(url, "/v1/chat/completions", body={**CHAT, "stream": stream}, **headers)


@pytest.fixture
def rules():
    return read_rules([TABLE])


def shaped(rules, engine=None):
    return gateway(
        lambda splitter, accounts: ShapedBackend(
            EngineBackend(engine or FakeEngine(), splitter, accounts), rules, accounts.metrics
        )
    )


def held_s(answer):
    return float(answer.headers["x-negajoule-held-s"])


def test_a_call_waits_as_long_as_the_plan_says_and_no_longer(fresh_home, rules):
    with shaped(rules) as server:
        answer = chat(server.url, x_negajoule_class="batch")
        assert answer.status == 200
        assert 0.35 < held_s(answer) < 3.0
        assert answer.headers["x-negajoule-request-id"] == answer.json["footprint"]["request_id"]
        server.writer.flush()
        assert ask(server.url, "/v1/footprints/" + answer.headers["x-negajoule-request-id"]).status == 200


def test_calls_go_together_and_other_classes_go_at_once(fresh_home, rules):
    with shaped(rules) as server, ThreadPoolExecutor(6) as pool:
        batch = [pool.submit(chat, server.url, x_negajoule_class="batch") for _ in range(3)]
        time.sleep(0.1)
        at_once = chat(server.url)
        assert "x-negajoule-held-s" not in at_once.headers
        waits = [held_s(answer.result()) for answer in batch]
        assert max(waits) - min(waits) < 0.3
        assert min(waits) > 0.2


def test_a_stream_is_held_and_then_flows(fresh_home, rules):
    with shaped(rules) as server:
        answer = chat(server.url, stream=True, x_negajoule_class="batch")
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert held_s(answer) > 0.35


def test_who_hangs_up_while_held_starts_nothing(fresh_home):
    rules = read_rules([{**TABLE, "wait_s": 4.0}])
    engine = FakeEngine()
    with shaped(rules, engine) as server:
        connection = raw(server.url)
        body = json.dumps(CHAT).encode()
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-negajoule-class: batch\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        time.sleep(0.3)
        assert b"negajoule_shape_held 1.0" in ask(server.url, "/metrics").body
        connection.close()
        deadline = time.monotonic() + 3.0
        while b"negajoule_shape_held 0.0" not in ask(server.url, "/metrics").body:
            assert time.monotonic() < deadline, "the held call must leave the queue"
            time.sleep(0.05)
        server.writer.flush()
        assert not server.ledger.totals()


def test_a_stopping_server_answers_who_is_held(fresh_home):
    rules = read_rules([{**TABLE, "wait_s": 4.0}])
    with shaped(rules) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(chat, server.url, x_negajoule_class="batch")
        time.sleep(0.1)
    assert answer.result().status == 200


def test_a_broken_promise_ends_the_holding():
    guard = Guard(Promise(limit_s=1.0))
    raised = [guard.note(2.0, now_s=float(n)) for n in range(60)]
    assert raised.count(True) == 1
    assert not guard.holds(60.0)
    assert guard.holds(1000.0)
    assert "isn't kept" in guard.reason


def test_slower_than_foreseen_is_an_alarm_too():
    guard = Guard(Promise(limit_s=100.0), predicted_s=1.0)
    assert any(guard.note(1.5, now_s=float(n)) for n in range(60))
    assert "foresaw" in guard.reason


def test_a_kept_promise_raises_none():
    guard = Guard(Promise(limit_s=1.0), predicted_s=0.9)
    assert not any(guard.note(1.4 if n % 25 == 0 else 0.5, now_s=float(n)) for n in range(500))
    assert guard.reached_s() == 0.5


def test_rules_are_written_as_they_are_read(rules):
    import tomllib

    more = read_rules([TABLE, {"policy": "token-bucket", "rate_per_s": 2.0, "promise": "ttft-p99<=3s"}])
    again = read_rules(tomllib.loads(write_rules(more))["shape"])
    assert [rule.policy.rule() for rule in again] == [rule.policy.rule() for rule in more]
    assert [rule.promise for rule in again] == [rule.promise for rule in more]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy": "magic"}, "magic"),
        ({"promise": None}, "promise"),
        ({"promise": "soon"}, "soon"),
        ({"wait_s": 9.0}, "breaks the promise"),
        ({"wait_s": "long"}, "wait_s"),
        ({"colour": 1}, "colour"),
        ({"predicted_s": -1}, "predicted_s"),
        ({"running": 0}, "running"),
    ],
)
def test_a_wrong_table_is_named(change, said):
    with pytest.raises(ConfigError, match=said):
        read_rules([{**TABLE, **change}])


def test_nobody_is_held_longer_than_they_bear(fresh_home):
    rules = read_rules([{**TABLE, "wait_s": 4.0}])
    with shaped(rules) as server, ThreadPoolExecutor(3) as pool:
        patient = pool.submit(chat, server.url, x_negajoule_class="batch", x_negajoule_hold_s="1.2")
        hasty = chat(server.url, x_negajoule_class="batch", x_negajoule_hold_s="0.3")
        assert 0.25 < held_s(hasty) < 1.0
        at_once = chat(server.url, x_negajoule_class="batch", x_negajoule_hold_s="0")
        assert "x-negajoule-held-s" not in at_once.headers
        assert held_s(patient.result()) < 3.0
        for wrong in ("soon", "-1", "nan"):
            refused = chat(server.url, x_negajoule_class="batch", x_negajoule_hold_s=wrong)
            assert (refused.status, refused.code) == (400, "R102")


def test_other_rules_let_go_who_was_held(fresh_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "negajoule.toml"
    settings.write_text(write_rules(read_rules([{**TABLE, "wait_s": 4.5}])))
    body = {**CHAT, "model": "fake"}
    with serve(fresh_home, "--fake-engine") as server, ThreadPoolExecutor(1) as pool:
        held = pool.submit(ask, server.url, "/v1/chat/completions", body=body, x_negajoule_class="batch")
        while b"negajoule_shape_held 1.0" not in ask(server.url, "/metrics").body:
            time.sleep(0.02)
        settings.write_text("")
        os.kill(server.process.pid, signal.SIGHUP)
        assert held_s(held.result(timeout=4.0)) < 4.0
        assert (
            "x-negajoule-held-s"
            not in ask(server.url, "/v1/chat/completions", body=body, x_negajoule_class="batch").headers
        )
        settings.write_text('[[shape]]\npolicy = "magic"\n')
        os.kill(server.process.pid, signal.SIGHUP)
        time.sleep(0.2)
        assert ask(server.url, "/healthz").status == 200
