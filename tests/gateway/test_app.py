"""The server as its clients see it: the official client, plain HTTP, bad input, hang-ups."""

from __future__ import annotations

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest

from negajoule.engine import FakeEngine
from negajoule.gateway import EngineBackend
from negajoule.units import INDICATORS

from .conftest import gateway

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 8}


def post(url: str, body: object, path: str = "/v1/chat/completions") -> tuple[int, dict, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urlopen(Request(url + path, data), timeout=20) as response:
            return response.status, json.load(response), dict(response.headers)
    except HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def get(url: str, path: str):
    with urlopen(url + path, timeout=20) as response:
        return response.read().decode()


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def wait_for(condition, seconds: float = 5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def test_openai_client_reads_a_plain_answer_with_its_footprint(served):
    with client(served.url) as api:
        answer = api.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    footprint = answer.model_extra["footprint"]
    for name in ("it_energy", "facility_energy", "carbon_location", "water_onsite", "embodied"):
        low, value, high = (footprint[name][key] for key in ("low", "value", "high"))
        assert 0 <= low <= value <= high
        assert footprint[name]["basis"] in ("measured", "inferred", "modelled", "assumed")
        assert footprint[name]["unit"] == INDICATORS[name].unit


@pytest.mark.parametrize("include_usage", [True, False])
def test_openai_client_reads_a_stream_with_its_footprint_in_the_last_event(served, include_usage):
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    with client(served.url) as api:
        chunks = list(api.chat.completions.create(**CHAT, stream=True, **options))
        plain = api.chat.completions.create(**CHAT)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert [i for i, chunk in enumerate(chunks) if "footprint" in (chunk.model_extra or {})] == [
        len(chunks) - 1
    ]
    assert chunks[-1].model_extra["footprint"]["it_energy"]["value"] >= 0
    assert (chunks[-1].usage is not None) == include_usage


def test_plain_completions_are_served_too(served):
    with client(served.url) as api:
        answer = api.completions.create(model="fake", prompt="one two three", max_tokens=4)
        chunks = list(api.completions.create(model="fake", prompt="one two three", max_tokens=4, stream=True))
    assert answer.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks)
    assert "footprint" in answer.model_extra


def test_headers_tell_the_footprint_and_where_to_look_it_up(served):
    _, answer, headers = post(served.url, CHAT)
    assert float(headers["x-negajoule-energy-j"]) == pytest.approx(
        answer["footprint"]["it_energy"]["value"], rel=1e-5
    )
    assert headers["x-negajoule-zone"] == "world"
    detail = json.loads(get(served.url, headers["x-negajoule-footprint"]))
    assert detail["footprint"]["it_energy"] == answer["footprint"]["it_energy"]
    parts = detail["footprint"]["parts"]
    assert sum(part["value"] for part in parts) == pytest.approx(answer["footprint"]["it_energy"]["value"])


def test_every_answer_is_in_the_ledger_before_its_client_sees_the_end(served):
    for count in range(1, 6):
        _, answer, _ = post(served.url, CHAT)
        newest = served.ledger.latest(1)[0]
        assert newest.id == answer["footprint"]["request_id"]
        assert served.ledger.count() == count
        assert (newest.tokens_in, newest.tokens_out) == (
            answer["usage"]["prompt_tokens"],
            answer["usage"]["completion_tokens"],
        )


def test_requests_and_idle_add_up_to_the_meter(served):
    first = served.splitter._first
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: post(served.url, CHAT), range(40)))
    energy = json.loads(get(served.url, "/healthz"))["energy"]
    assert energy["residual_relative"] < 1e-9
    assert energy["in_flight_j"] == 0
    booked = served.ledger.totals(by="kind")[0].indicators["it_energy"].value
    assert booked == pytest.approx(energy["requests_j"], rel=1e-9)
    whole = served.meter.between(first, served.splitter._opened).energy.value
    assert whole == pytest.approx(energy["meter_j"], rel=1e-9)


def test_metrics_are_counters_that_add_up_to_the_answers(served):
    energies = [post(served.url, CHAT)[1]["footprint"]["it_energy"]["value"] for _ in range(5)]
    text = get(served.url, "/metrics")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert float(lines['negajoule_it_energy_joules_total{model="fake"}']) == pytest.approx(sum(energies))
    assert float(lines['negajoule_requests_total{model="fake",status="ok"}']) == 5
    assert "# TYPE negajoule_it_energy_joules_total counter" in text


def test_the_page_shows_totals_ranges_and_assumptions(served):
    assert "Nothing yet" in get(served.url, "/")
    post(served.url, CHAT)
    page = get(served.url, "/")
    for text in ("IT energy", " to ", "modelled", "location unknown", "grid.carbon.unknown"):
        assert text in page


def test_models_are_listed_and_found(served):
    with client(served.url) as api:
        assert [model.id for model in api.models.list()] == ["fake"]
        assert api.models.retrieve("fake").id == "fake"
        with pytest.raises(openai.NotFoundError):
            api.models.retrieve("other")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "R101", None),
        (b"\xff\xfe{}", 400, "R101", None),
        (b'{"a":' * 10_000, 400, "R101", None),
        (b"", 400, "R101", None),
        (b"[]", 400, "R102", None),
        ({"messages": CHAT["messages"]}, 400, "R102", "model"),
        ({"model": "fake"}, 400, "R102", "messages"),
        ({"model": "fake", "messages": []}, 400, "R102", "messages"),
        ({"model": 7, "messages": CHAT["messages"]}, 400, "R102", "model"),
        ({**CHAT, "messages": [{"content": "hi"}]}, 400, "R102", "messages[0].role"),
        ({**CHAT, "max_tokens": "many"}, 400, "R102", "max_tokens"),
        ({**CHAT, "max_tokens": -1}, 400, "R102", "max_tokens"),
        ({**CHAT, "stream": "yes"}, 400, "R102", "stream"),
        ({**CHAT, "model": "gpt-9"}, 404, "R103", "model"),
        ({**CHAT, "messages": [{"role": "user", "content": "word " * 5000}]}, 400, "R104", None),
        (b" " * 1_000_001, 413, "R105", None),
    ],
)
def test_bad_requests_get_an_error_in_openais_shape(served, body, status, code, param):
    got, answer, _ = post(served.url, body)
    error = answer["error"]
    assert (got, error["code"]) == (status, code)
    if param is not None:
        assert error["param"] == param
    assert error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")
    assert post(served.url, CHAT)[0] == 200


def test_unknown_paths_and_methods_get_the_same_shape(served):
    status, answer, _ = post(served.url, {}, "/v1/nothing")
    assert (status, answer["error"]["code"]) == (404, "R106")
    with pytest.raises(HTTPError) as caught:
        urlopen(served.url + "/v1/chat/completions", timeout=5)
    with caught.value as error:
        assert error.code == 405
        assert json.load(error)["error"]["code"] == "R106"


def test_a_body_without_end_is_cut_off(served):
    host = served.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = 0
    try:
        while sent < 64:
            connection.send(piece)
            sent += 1
    except OSError:
        pass
    try:
        assert connection.getresponse().status == 413
    except OSError:
        assert sent < 64
    finally:
        connection.close()
    assert post(served.url, CHAT)[0] == 200


@pytest.fixture
def slow(fresh_home):
    """A gateway whose engine takes 20 ms a token."""
    engine = FakeEngine(token_delay_s=0.02)
    with gateway(lambda splitter, accounts: EngineBackend(engine, splitter, accounts)) as running:
        yield running


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_stops_the_work_and_is_booked_once(slow, stream):
    body = json.dumps({**CHAT, "max_tokens": 500, "stream": stream}).encode()
    host, port = slow.url.removeprefix("http://").split(":")
    raw = socket.create_connection((host, int(port)))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    raw.sendall(head.encode() + body)
    if stream:
        assert raw.recv(1000)
    wait_for(lambda: slow.splitter.in_flight == 1)
    time.sleep(0.1)
    raw.close()
    wait_for(lambda: slow.ledger.count() == 1)
    row = slow.ledger.latest(1)[0]
    assert row.status == "cancelled"
    assert 0 < row.tokens_out < 500
    assert slow.splitter.in_flight == 0
    assert json.loads(get(slow.url, "/healthz"))["energy"]["residual_relative"] < 1e-9


def test_an_engine_that_fails_in_its_midst_ends_the_stream_with_an_error_and_no_end_mark(fresh_home):
    from negajoule.errors import EngineError

    engine = FakeEngine(failure=EngineError("it broke", status=500), fail_after_tokens=2)
    with gateway(lambda splitter, accounts: EngineBackend(engine, splitter, accounts)) as running:
        with urlopen(
            Request(f"{running.url}/v1/chat/completions", json.dumps({**CHAT, "stream": True}).encode())
        ) as response:
            text = response.read().decode()
        assert "[DONE]" not in text
        assert '"code":"E102"' in text
        status, answer, _ = post(running.url, CHAT)
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert [row.status for row in running.ledger.latest(5)] == ["failed", "failed"]


def test_a_ledger_that_fails_delays_an_answer_but_never_breaks_it(served, monkeypatch):
    from negajoule.errors import LedgerError

    append = served.ledger.append
    broken = {"now": True}

    def flaky(activities):
        if broken["now"]:
            raise LedgerError("disk full")
        return append(activities)

    monkeypatch.setattr(served.ledger, "append", flaky)
    assert post(served.url, CHAT)[0] == 200
    wait_for(lambda: json.loads(get(served.url, "/healthz"))["status"] == "ledger behind")
    broken["now"] = False
    wait_for(lambda: served.ledger.count() == 1)


def test_idle_time_is_booked_when_the_server_stops(fresh_home):
    with gateway(lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts)) as running:
        post(running.url, CHAT)
        time.sleep(0.05)
        ledger_path = running.ledger.path
    from negajoule.ledger import Ledger

    with Ledger(ledger_path) as ledger:
        kinds = {total.group: total for total in ledger.totals(by="kind")}
    assert kinds["request"].activities == 1
    assert kinds["idle"].indicators["it_energy"].value > 0
