"""The main job on the real model: batching, streams, hang-ups, kills, and the account of it all."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

import openai
import pytest

from negajoule.ledger import Ledger
from servers import serve

MODEL = "smollm2-135m-instruct"
QUESTION = [{"role": "user", "content": "Name three colours."}]


def chat(url: str, model: str = MODEL, max_tokens: int = 12) -> dict:
    body = {"model": model, "messages": QUESTION, "max_tokens": max_tokens, "temperature": 0}
    with urlopen(Request(f"{url}/v1/chat/completions", json.dumps(body).encode()), timeout=60) as response:
        return json.load(response)


def energy(url: str) -> dict:
    with urlopen(f"{url}/healthz", timeout=10) as response:
        return json.load(response)["energy"]


def test_the_official_client_reads_both_forms_of_the_same_answer(served_model):
    with openai.OpenAI(base_url=f"{served_model}/v1", api_key="none") as api:
        options = {"model": MODEL, "messages": QUESTION, "max_tokens": 12, "temperature": 0}
        plain = api.chat.completions.create(**options)
        chunks = list(
            api.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
        )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert plain.model == MODEL
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert plain.model_extra["footprint"]["it_energy"]["value"] > 0
    assert chunks[-1].model_extra["footprint"]["it_energy"]["value"] > 0


def test_eight_at_once_add_up_and_share_fairly(served_model):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: chat(served_model, max_tokens=24), range(8)))
    energies = [answer["footprint"]["it_energy"]["value"] for answer in answers]
    tokens = [answer["usage"]["completion_tokens"] for answer in answers]
    assert len(set(tokens)) == 1
    assert max(energies) < 4 * min(energies)
    assert energy(served_model)["residual_relative"] < 1e-9


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400),
        ({"messages": [{"role": "wizard", "content": 7}]}, 400),
        ({"model": "gpt-4"}, 404),
        ({"n": 0}, 400),
    ],
)
def test_what_the_model_cant_do_is_an_error_and_the_server_goes_on(served_model, changes, status):
    with openai.OpenAI(base_url=f"{served_model}/v1", api_key="none", max_retries=0) as api:
        with pytest.raises(openai.APIStatusError) as caught:
            api.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "max_tokens": 4, **changes})
        assert caught.value.status_code == status
    assert chat(served_model, max_tokens=2)["usage"]["completion_tokens"] == 2


def test_a_killed_server_loses_at_most_what_was_in_flight(tmp_path):
    with serve(tmp_path, "--fake-engine") as served:
        answered = [chat(served.url, "fake")["footprint"]["request_id"] for _ in range(25)]
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(timeout=10)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        rows = [row.id for row in ledger.latest(100, kind="request")]
        assert ledger.check() == []
    assert sorted(rows) == sorted(answered)


def test_a_server_started_again_goes_on_where_the_killed_one_stopped(tmp_path):
    for _ in range(3):
        with serve(tmp_path, "--fake-engine") as served:
            chat(served.url, "fake")
            served.process.send_signal(signal.SIGKILL)
            served.process.wait(timeout=10)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len({row.id for row in ledger.latest(100, kind="request")}) == 3


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_cleanly_and_books_the_idle_time(tmp_path, stop):
    with serve(tmp_path, "--fake-engine") as served:
        chat(served.url, "fake")
        served.process.send_signal(stop)
        assert served.process.wait(timeout=20) == 0
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert {total.group for total in ledger.totals(by="kind")} == {"request", "idle"}
