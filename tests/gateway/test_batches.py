"""Batches by OpenAI's own client: done, failed, cancelled, expired, interrupted; each key sees its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time

import openai
import pytest

from gateway.asking import ask
from gateway.conftest import gateway
from negajoule.engine import FakeEngine
from negajoule.errors import EngineError, RequestError
from negajoule.gateway import Door, EngineBackend, KeyFile, KeyRing
from negajoule.gateway.batches import Batches, BatchLimits
from negajoule.gateway.batches.line import pause_s
from negajoule.gateway.shaped import ShapedBackend
from negajoule.shape.live import read_rules
from servers import serve

CHAT_URL = "/v1/chat/completions"
SMALL = BatchLimits(file_bytes=100_000, store_bytes=150_000, lines=20, at_once=4)


def line(number, **changes):
    body = {"model": "fake", "messages": [{"role": "user", "content": f"count to {number}"}], "max_tokens": 4}
    return {"custom_id": f"line-{number}", "method": "POST", "url": CHAT_URL, "body": {**body, **changes}}


def as_file(*lines):
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    return ("requests.jsonl", text.encode())


@contextlib.contextmanager
def running(limits=SMALL, engine=None, rules=(), **options):
    def backend(splitter, accounts):
        inner = EngineBackend(engine or FakeEngine(), splitter, accounts)
        return ShapedBackend(inner, read_rules(list(rules)), accounts.metrics)

    with gateway(backend, batches=Batches(limits), **options) as server:
        yield server


def client_of(server, key="none"):
    return openai.OpenAI(base_url=f"{getattr(server, 'url', server)}/v1", api_key=key, max_retries=0)


def create(client, *lines, **more):
    file = client.files.create(file=as_file(*lines), purpose="batch")
    more = {"endpoint": CHAT_URL, "completion_window": "24h", **more}
    return client.batches.create(input_file_id=file.id, **more)


def ended(client, batch, patience_s=20.0):
    until = time.monotonic() + patience_s
    while (now := client.batches.retrieve(batch.id)).status not in (
        "completed", "failed", "expired", "cancelled",
    ):  # fmt: skip
        assert time.monotonic() < until, now
        time.sleep(0.02)
    return now


def records(client, file_id):
    return {one["custom_id"]: one for one in map(json.loads, client.files.content(file_id).text.splitlines())}


def test_a_batch_is_answered_with_footprints(fresh_home):
    with running() as server:
        client = client_of(server)
        batch = create(client, *(line(n) for n in range(6)), metadata={"job": "nightly"})
        assert batch.status in ("validating", "in_progress")
        assert batch.expires_at - batch.created_at == 86_400
        done = ended(client, batch)
        assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 6, 0)
        assert done.metadata == {"job": "nightly"}
        assert done.error_file_id is None
        answers = records(client, done.output_file_id)
        assert set(answers) == {f"line-{n}" for n in range(6)}
        response = answers["line-3"]["response"]
        assert response["status_code"] == 200
        assert response["body"]["footprint"]["request_id"] == response["request_id"]
        server.writer.flush()
        assert ask(server.url, f"/v1/footprints/{response['request_id']}").status == 200
        assert [one.id for one in client.batches.list()] == [batch.id]
        files = list(client.files.list())
        assert {one.purpose for one in files} == {"batch", "batch_output"}
        for one in files:
            assert client.files.delete(one.id).deleted
        assert not list(client.files.list())
    left = [path for path in (fresh_home / "batches" / "files").iterdir()]
    assert not left
    assert oct((fresh_home / "batches").stat().st_mode)[-3:] == "700"


def test_lines_that_fail_stand_in_the_error_file(fresh_home):
    with running() as server:
        client = client_of(server)
        batch = create(
            client, line(1), line(2, model="other"), line(3, stream=True), line(4, messages=[]), line(5)
        )
        done = ended(client, batch)
        assert (done.request_counts.completed, done.request_counts.failed) == (2, 3)
        failed = records(client, done.error_file_id)
        codes = {key: one["response"]["body"]["error"]["code"] for key, one in failed.items()}
        assert codes == {"line-2": "R103", "line-3": "R102", "line-4": "R102"}
        assert failed["line-2"]["response"]["status_code"] == 404
        assert failed["line-2"]["error"] is None


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["no json"], "invalid_json_line"),
        ([line(1), line(1)], "duplicate_custom_id"),
        ([{**line(1), "url": "/v1/embeddings"}], "mismatched_url"),
        ([{**line(1), "body": [1]}], "invalid_line"),
        ([{"url": CHAT_URL, "body": {}}], "invalid_line"),
        ([{**line(1), "method": "GET"}], "invalid_line"),
        (["", " "], "empty_file"),
        ([line(n) for n in range(21)], "too_many_lines"),
    ],
)
def test_a_file_that_cant_be_run_fails_as_a_whole(fresh_home, lines, code):
    with running() as server:
        client = client_of(server)
        done = ended(client, create(client, *lines))
        assert done.status == "failed"
        assert done.errors.data[0].code == code
        server.writer.flush()
        assert not server.ledger.totals()


def test_what_cant_be_is_refused_at_once(fresh_home):
    with running() as server:
        client = client_of(server)
        with pytest.raises(openai.NotFoundError):
            client.batches.create(input_file_id="file-00", endpoint=CHAT_URL, completion_window="24h")
        file = client.files.create(file=as_file(line(1)), purpose="batch")
        for wrong in ({"completion_window": "8d"}, {"completion_window": "soon"}, {"endpoint": "/v1/videos"}):
            with pytest.raises(openai.BadRequestError):
                create(client, line(1), **wrong)
        with pytest.raises(openai.BadRequestError):
            client.files.create(file=as_file(line(1)), purpose="fine-tune")
        with pytest.raises(openai.APIStatusError) as too_large:
            client.files.create(file=("a.jsonl", b"x" * 100_001), purpose="batch")
        assert too_large.value.status_code == 413
        client.files.create(file=("a.jsonl", b"x" * 90_000), purpose="batch")
        with pytest.raises(openai.APIStatusError):
            client.files.create(file=("a.jsonl", b"x" * 90_000), purpose="batch")  # no room for both
        assert ask(server.url, "/v1/files", body=b"{}", content_type="application/json").code == "R102"
        broken = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\nabc'
        form = "multipart/form-data; boundary=b"
        assert ask(server.url, "/v1/files", body=broken, content_type=form).code == "R102"
        for path in ("/v1/files/..%2F..%2Fkeys", "/v1/files/file-zz/content", "/v1/batches/batch-1"):
            assert ask(server.url, path).status == 404
        assert ask(server.url, "/v1/files?limit=0").status == 400
        assert ask(server.url, "/v1/batches", method="DELETE").status == 405
        assert client.files.retrieve(file.id).bytes == file.bytes
    assert not list((fresh_home / "batches" / "files").glob("*.part"))


class Slow(FakeEngine):
    """Waits before each answer until it may go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.began = 0

    def run(self, *arguments):
        self.began += 1
        self.go.wait(10)
        return super().run(*arguments)


def test_a_cancelled_batch_keeps_what_it_has(fresh_home):
    engine = Slow()
    with running(engine=engine) as server:
        client = client_of(server)
        batch = create(client, *(line(n) for n in range(8)))
        while not engine.began:
            time.sleep(0.01)
        with pytest.raises(openai.ConflictError):
            client.files.delete(batch.input_file_id)
        assert client.batches.cancel(batch.id).status == "cancelling"
        done = ended(client, batch)
        engine.go.set()
        assert done.status == "cancelled"
        assert done.cancelling_at <= done.cancelled_at
        counts = done.request_counts
        assert counts.completed + counts.failed == counts.total == 8
        errors = records(client, done.error_file_id)
        assert {one["error"]["code"] for one in errors.values() if one["error"]} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)


def test_a_batch_whose_window_ends_expires(fresh_home):
    engine = Slow()
    batches = Batches(SMALL)
    later = 0.0
    batches.shelf.clock = lambda: time.time() + later
    with gateway(
        lambda splitter, accounts: EngineBackend(engine, splitter, accounts), batches=batches
    ) as server:
        client = client_of(server)
        batch = create(client, line(1), line(2), completion_window="1h")
        while not engine.began:
            time.sleep(0.01)
        later = 3601.0
        done = ended(client, batch)
        engine.go.set()
        assert done.status == "expired"
        assert {one["error"]["code"] for one in records(client, done.error_file_id).values()} == {
            "batch_expired"
        }
        later = 40 * 86_400.0
        batches.shelf.tidy()
        assert not list(client.files.list())
        assert not list(client.batches.list())


def test_lines_are_held_by_the_rule_of_their_class(fresh_home):
    rule = {"policy": "join", "wait_s": 0.3, "running": 1, "promise": "p95<=5s", "class": "batch"}
    with running(rules=[rule]) as server:
        client = client_of(server)
        began = time.monotonic()
        done = ended(client, create(client, *(line(n) for n in range(4))))
        assert done.request_counts.completed == 4
        assert time.monotonic() - began > 0.28  # all but the first, which shows how long a line takes


def test_a_window_is_kept_whatever_the_rule_says(fresh_home):
    rule = {"policy": "join", "wait_s": 3000, "running": 9, "promise": "p95<=24h", "class": "batch"}
    batches = Batches(SMALL)
    later = 0.0
    batches.shelf.clock = lambda: time.time() + later

    def backend(splitter, accounts):
        inner = EngineBackend(FakeEngine(), splitter, accounts)
        return ShapedBackend(inner, read_rules([rule]), accounts.metrics)

    with gateway(backend, batches=batches) as server:
        client = client_of(server)
        later = -3597.0  # so that an hour's window has 3 s left once the clock is right again
        file = client.files.create(file=as_file(*(line(n) for n in range(9))), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT_URL, completion_window="1h")
        later = 0.0
        assert ended(client, batch).status == "completed"


def test_each_key_sees_and_runs_only_its_own(fresh_home):
    keys = KeyFile()
    _, ada = keys.create("ada", scopes=["chat"], models=["fake"])
    _, bob = keys.create("bob", scopes=["chat", "models"], models=["other"])
    _, cut = keys.create("cut", scopes=["models"])
    _, root = keys.create("root", scopes=["admin"])
    with running(door=Door(KeyRing(keys))) as server:
        batch = create(client_of(server, ada), line(1))
        done = ended(client_of(server, ada), batch)
        assert done.request_counts.completed == 1
        bobs = client_of(server, bob)
        assert not list(bobs.files.list())
        assert not list(bobs.batches.list())
        for ask_for in (bobs.files.retrieve, bobs.files.content, bobs.files.delete):
            with pytest.raises(openai.NotFoundError):
                ask_for(done.output_file_id)
        with pytest.raises(openai.NotFoundError):
            bobs.batches.create(input_file_id=done.input_file_id, endpoint=CHAT_URL, completion_window="24h")
        with pytest.raises(openai.PermissionDeniedError):
            create(bobs, line(1), endpoint="/v1/embeddings")
        theirs = ended(bobs, create(bobs, line(1)))
        (error,) = records(bobs, theirs.error_file_id).values()
        assert error["response"]["body"]["error"]["code"] == "R111"
        with pytest.raises(openai.PermissionDeniedError):
            create(client_of(server, cut), line(1))
        assert len(list(client_of(server, root).batches.list())) == 2
        with pytest.raises(openai.AuthenticationError):
            client_of(server, "nj-wrong").files.list()
        server.writer.flush()
        assert {one.caller for one in server.ledger.latest(10, kind="request")} == {"ada"}


def test_a_key_that_is_revoked_meanwhile_runs_nothing_more(fresh_home):
    keys = KeyFile()
    _, ada = keys.create("ada")
    _, root = keys.create("root", scopes=["admin"])
    engine = Slow()
    with running(engine=engine, door=Door(KeyRing(keys))) as server:
        batch = create(client_of(server, ada), line(1), line(2))
        while not engine.began:
            time.sleep(0.01)
        keys.revoke("ada")
        time.sleep(1.1)  # the ring looks at its file once a second
        engine.go.set()
        done = ended(client_of(server, root), batch)
        assert (done.request_counts.completed, done.request_counts.failed) == (1, 1)
        assert engine.began == 1
    assert ada.encode() not in b"".join(
        path.read_bytes() for path in (fresh_home / "batches").rglob("*") if path.is_file()
    )


def test_after_a_kill_lines_without_an_answer_run_and_no_others(fresh_home):
    total = 40
    with serve(fresh_home, "--fake-engine", "--slots", "2") as first:
        client = client_of(first.url)
        batch = create(client, *(line(n, max_tokens=16) for n in range(total)))
        while client.batches.retrieve(batch.id).request_counts.completed < 8:
            time.sleep(0.01)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    (journal,) = (fresh_home / "batches" / "files").glob("*-output.jsonl")
    before = journal.read_bytes()
    kept = before[: before.rfind(b"\n") + 1]
    assert 8 <= kept.count(b"\n") < total
    journal.write_bytes(kept + b'{"id":"batch_req-torn","custom_id":"line-')  # as a crash may leave it
    with serve(fresh_home, "--fake-engine") as second:
        client = client_of(second.url)
        done = ended(client, batch)
        assert (done.status, done.request_counts.completed) == ("completed", total)
        text = client.files.content(done.output_file_id).text
    assert text.encode().startswith(kept)
    ids = [json.loads(one)["custom_id"] for one in text.splitlines()]
    assert sorted(ids) == sorted(f"line-{n}" for n in range(total))


def test_a_server_may_be_closed_to_batches(fresh_home):
    with gateway(lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts)) as server:
        assert ask(server.url, "/v1/files").status == 404


def test_what_is_asked_again_and_what_isnt():
    busy = RequestError("busy", code="R107", status=429)
    assert pause_s(busy, 1) == 1.0
    assert pause_s(busy, 50) == 60.0
    used_up = RequestError("used up", code="R108", status=429)
    assert pause_s(used_up, 1) is None
    used_up.retry_after_s = 500.0
    assert pause_s(used_up, 1) == 500.0
    broken = EngineError("broken", code="E103", status=502)
    assert pause_s(broken, 4) == 8.0
    assert pause_s(broken, 5) is None
    assert pause_s(RequestError("late", code="R112", status=504), 1) is None
    assert pause_s(RequestError("wrong"), 1) is None
