"""Logs and traces: one line and one span a request, for machines to read, and nothing in them to hide."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from negajoule.engine import FakeEngine
from negajoule.errors import EngineError
from negajoule.gateway import Door, EngineBackend, KeyFile, KeyRing
from negajoule.gateway.logs import LOGGER, announce, configure, log_crash, log_visit
from negajoule.gateway.traces import Tracer, find_tracer
from negajoule.gateway.visit import Visit
from negajoule.instrument.telemetry import METRICS

from .asking import CHAT, ask, chat, raw
from .conftest import gateway, serving


@pytest.fixture
def log():
    """What is logged, from debug on; the form is to be configured with it."""
    root, ours = logging.getLogger(), logging.getLogger("negajoule")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    yield stream
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def wait_for(condition, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def lines(log: io.StringIO, count: int) -> list[dict]:
    """Exactly so many lines; the last is written after its answer has gone."""
    wait_for(lambda: log.getvalue().count("\n") >= count)
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    assert len(found) == count
    return found


@pytest.fixture
def served(fresh_home):
    """A gateway with the fake engine that needs a key."""
    _, secret = KeyFile().create("alice", scopes=["chat", "models", "admin"])
    with gateway(
        lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts),
        door=Door(KeyRing(KeyFile())),
    ) as running:
        yield running, secret


class TestLines:
    def test_a_call_is_one_line_of_json_that_agrees_with_the_ledger(self, log, served):
        running, secret = served
        configure("json", "info", stream=log)
        answer = chat(running.url, key=secret, stream=True)
        assert answer.status == 200
        ask(running.url, "/v1/chat/completions", body=CHAT, key=secret, x_request_id="job-7")
        streamed, plain = lines(log, 2)
        row = running.ledger.get(streamed["request_id"])
        assert streamed == {
            "time": streamed["time"],
            "level": "info",
            "logger": "negajoule.gateway",
            "message": "request",
            "request_id": row.id,
            "method": "POST",
            "path": "/v1/chat/completions",
            "status": 200,
            "ms": streamed["ms"],
            "model": "fake",
            "stream": True,
            "key": "alice",
            "tokens_in": row.tokens_in,
            "tokens_out": row.tokens_out,
            "energy_j": row.footprint.it_energy.value,
        }
        assert streamed["ms"] > 0
        assert abs(time.time() - row.started_s) < 60
        assert plain["client_request_id"] == "job-7"
        assert "stream" not in plain

    def test_pages_and_refusals_are_lines_too(self, log, served):
        running, secret = served
        configure("json", "info", stream=log)
        ask(running.url, "/v1/models/fake?x=1", key=secret)
        ask(running.url, "/no/such/page", key=secret)
        chat(running.url)
        chat(running.url, key=secret, model="unknown")
        ask(running.url, "/v1/chat/completions", key=secret)
        told = lines(log, 5)
        assert [(line["path"], line["status"], line.get("error"), line.get("key")) for line in told] == [
            ("/v1/models/{model:path}", 200, None, "alice"),
            ("other", 404, "R106", "alice"),
            ("/v1/chat/completions", 401, "R110", None),
            ("/v1/chat/completions", 404, "R103", "alice"),
            ("/v1/chat/completions", 405, "R106", "alice"),
        ]
        assert all(line["request_id"].startswith("req-") for line in told)

    def test_by_default_only_what_went_wrong_is_said(self, log, fresh_home):
        configure("json", "warning", stream=log)
        engine = FakeEngine(failure=EngineError("it broke", status=500))
        with gateway(lambda splitter, accounts: EngineBackend(engine, splitter, accounts)) as running:
            ask(running.url, "/healthz")
            chat(running.url, model="unknown")
            assert log.getvalue() == ""
            chat(running.url)
        (line,) = lines(log, 1)
        assert (line["level"], line["status"], line["error"]) == ("error", 500, "E102")

    def test_a_client_that_hangs_up_is_logged_as_such(self, log, fresh_home):
        configure("json", "info", stream=log)
        engine = FakeEngine(token_delay_s=0.02)
        with gateway(lambda splitter, accounts: EngineBackend(engine, splitter, accounts)) as running:
            body = json.dumps({**CHAT, "max_tokens": 500}).encode()
            with raw(running.url) as connection:
                head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
                connection.sendall(head % len(body) + body)
                while not running.splitter.in_flight:
                    time.sleep(0.01)
            wait_for(log.getvalue)
        (line,) = lines(log, 1)
        assert line["status"] == 499
        assert line["tokens_out"] == 0 or line["energy_j"] >= 0

    def test_text_is_one_line_for_people(self, log, served):
        running, secret = served
        configure("text", "info", stream=log)
        chat(running.url, key=secret)
        wait_for(log.getvalue)
        (line,) = log.getvalue().splitlines()
        for part in (" info request ", "path=/v1/chat/completions", "status=200", "model=fake", "key=alice"):
            assert part in line

    @pytest.mark.parametrize("form", ["text", "json"])
    @given(model=st.text(max_size=300), client=st.text(max_size=100))
    def test_nothing_in_a_request_can_fake_a_line(self, form, model, client):
        stream = io.StringIO()
        root = logging.getLogger()
        before = root.handlers[:]
        try:
            configure(form, "info", stream=stream)
            visit = Visit("POST", "/v1/chat/completions", "chat")
            visit.model, visit.client_id, visit.status = model, client, 200
            log_visit(visit)
        finally:
            root.handlers[:] = before
        whole = stream.getvalue()
        assert len(whole.splitlines()) == 1
        assert whole.rstrip("\n").isprintable()

    def test_keys_and_named_secrets_are_blotted_out(self, log):
        configure("json", "info", stream=log, hide=["sk-upstream.secret", ""])
        LOGGER.warning("a nj-%s and sk-upstream.secret", "a" * 43)
        configure("text", "info", stream=log, hide=["sk-upstream.secret"])
        LOGGER.warning("again nj-%s", "b" * 43, extra={"fields": {"model": "sk-upstream.secret"}})
        assert "a" * 20 not in log.getvalue()
        assert "b" * 20 not in log.getvalue()
        assert "sk-upstream" not in log.getvalue()
        assert log.getvalue().count("(key)") == 4

    def test_an_exceptions_message_stays_out(self, log):
        configure("json", "info", stream=log)
        try:
            raise ValueError("the prompt was this")
        except ValueError as error:
            log_crash(error)
            logging.getLogger("elsewhere").error("Exception in ASGI application\n", exc_info=error)
        first, second = lines(log, 2)
        assert "test_logs.py" in first["at"][-1]
        assert (second["exception"], second["at"]) == ("ValueError", first["at"])
        assert "the prompt" not in log.getvalue()

    def test_the_start_is_announced_at_any_level(self, log):
        announce(configure("json", "error", stream=log), "serving", url="http://x")
        assert lines(log, 1)[0]["url"] == "http://x"

    def test_as_a_library_we_print_nothing(self):
        code = (
            "from negajoule.gateway.logs import LOGGER\nLOGGER.error('x')\n"
            "import logging; print(logging.getLogger().handlers)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert (done.stdout, done.stderr) == ("[]\n", "")

    def test_a_line_costs_little_and_a_silent_one_nothing(self, log):
        visit = Visit("POST", "/v1/chat/completions", "chat")
        visit.status = 200

        def seconds(times: int) -> float:
            started = time.perf_counter()
            for _ in range(times):
                log_visit(visit)
            return (time.perf_counter() - started) / times

        configure("json", "warning", stream=log)
        assert min(seconds(2000) for _ in range(5)) < 5e-6
        configure("json", "info", stream=log)
        assert min(seconds(500) for _ in range(5)) < 200e-6


class TestTraces:
    @pytest.fixture
    def spans(self):
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        exporter = memory.InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return exporter, Tracer(provider)

    def test_a_call_is_one_span_below_the_clients(self, spans, served):
        exporter, tracer = spans
        _, secret = served
        with gateway(
            lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts),
            door=Door(KeyRing(KeyFile())),
            tracer=tracer,
        ) as running:
            parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            answer = ask(running.url, "/v1/chat/completions", body=CHAT, key=secret, traceparent=parent)
            ask(running.url, "/healthz")
            chat(running.url, key=secret, model="unknown")
            row = running.ledger.latest(1)[0]
            wait_for(lambda: len(exporter.get_finished_spans()) == 2)
            good, bad = exporter.get_finished_spans()
        assert good.name == "chat fake"
        assert good.kind.name == "SERVER"
        assert f"{good.context.trace_id:032x}" == parent[3:35]
        assert f"{good.parent.span_id:016x}" == parent[36:52]
        assert dict(good.attributes) == {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "fake",
            "gen_ai.usage.input_tokens": row.tokens_in,
            "gen_ai.usage.output_tokens": row.tokens_out,
            "gen_ai.usage.cache_read.input_tokens": row.tokens_cached,
            "negajoule.it_energy": row.footprint.it_energy.value,
            "negajoule.request.id": answer.headers["x-negajoule-request-id"],
            "negajoule.caller": "alice",
        }
        assert good.status.is_ok
        assert 0 < good.end_time - good.start_time < 60e9
        assert (bad.attributes["error.type"], bad.attributes["http.response.status_code"]) == ("R103", 404)
        assert not bad.status.is_ok

    def test_shared_names_are_those_of_the_metrics(self):
        keys = {attribute.key for metric in METRICS for attribute in metric.attributes}
        assert {"gen_ai.operation.name", "gen_ai.request.model", "error.type"} <= keys
        assert "negajoule.it_energy" in {metric.name for metric in METRICS}

    def test_without_an_endpoint_nothing_is_loaded(self):
        code = (
            "import sys\nfrom negajoule.gateway.traces import find_tracer\n"
            "assert find_tracer({}) is None\nassert not [m for m in sys.modules if 'opentelemetry' in m]\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env={**os.environ})

    def test_spans_reach_the_endpoint_before_the_server_ends(self, fresh_home, monkeypatch):
        pytest.importorskip(
            "opentelemetry.exporter.otlp.proto.http", reason="the exporter isn't installed: negajoule[otel]"
        )
        came: list[tuple[str, bytes]] = []

        async def collector(request):
            came.append((request.url.path, await request.body()))
            return Response(status_code=200)

        with serving(Starlette(routes=[Route("/v1/traces", collector, methods=["POST"])])) as endpoint:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            with gateway(
                lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts),
                tracer=find_tracer(),
            ) as running:
                assert chat(running.url).status == 200
        ((path, body),) = came
        assert path == "/v1/traces"
        for text in (b"chat fake", b"gen_ai.usage.input_tokens", b"negajoule.it_energy"):
            assert text in body
        assert CHAT["messages"][0]["content"].encode() not in body

    def test_an_endpoint_without_an_exporter_is_said(self, monkeypatch, caplog):
        monkeypatch.setattr("negajoule.gateway.traces._EXPORTERS", ("no.such.package",))
        with caplog.at_level("WARNING", logger="negajoule"):
            assert find_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is None
        assert "negajoule[otel]" in caplog.text


class TestBehind:
    """Lines to stderr go through a thread."""

    @pytest.fixture
    def stderr(self, log, monkeypatch):
        # pytest puts its own in the place of sys.stderr before each test begins.
        monkeypatch.setattr("negajoule.gateway.logs.sys", SimpleNamespace(stderr=log))
        return log

    def test_every_line_comes_in_order_and_none_is_lost_at_the_end(self, stderr):
        handler = configure("json", "info")
        for number in range(500):
            LOGGER.info("line %d", number)
        handler.close()
        assert [line["message"] for line in lines(stderr, 500)] == [f"line {number}" for number in range(500)]

    def test_a_new_configuration_writes_what_the_old_one_held(self, stderr):
        configure("json", "info")
        LOGGER.info("before")
        handler = configure("json", "info")
        LOGGER.info("after")
        handler.close()
        assert [line["message"] for line in lines(stderr, 2)] == ["before", "after"]

    def test_a_reader_that_blocks_stops_nobody_and_is_told_what_it_missed(self, stderr, monkeypatch):
        monkeypatch.setattr("negajoule.gateway.logs._MOST_WAITING", 10)
        reading = threading.Event()
        write = stderr.write

        def blocked(text: str) -> int:
            reading.wait(5.0)
            return write(text)

        monkeypatch.setattr(stderr, "write", blocked)
        handler = configure("json", "info")
        LOGGER.info("first")
        time.sleep(0.2)
        started_s = time.monotonic()
        for _ in range(30):
            LOGGER.info("next")
        assert time.monotonic() - started_s < 0.1
        reading.set()
        wait_for(lambda: "dropped" in stderr.getvalue())
        handler.close()
        assert lines(stderr, 12)[-1]["message"] == "20 lines were dropped: nobody reads"

    def test_a_stream_that_was_closed_breaks_nothing(self, stderr):
        handler = configure("text", "info")
        stderr.close()
        LOGGER.info("to nobody")
        handler.close()
