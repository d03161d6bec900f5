"""Pools of a real server: out of the box, from negajoule.toml, and changed while it runs."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

pytest.importorskip("sklearn", reason="training needs scikit-learn: pip install 'negajoule[route]'")

from gateway.asking import ask
from negajoule.route import train
from route.world import made_up
from servers import serve

SIBLINGS = tuple(f"smollm2-135m-instruct-{name}" for name in ("f16", "q8_0", "q4_0"))


def chat(url, model):
    body = {"model": model, "messages": [{"role": "user", "content": "one two"}], "max_tokens": 4}
    return ask(url, "/v1/chat/completions", body=body)


def test_the_siblings_answer_for_each_other_out_of_the_box(tmp_path):
    with serve(tmp_path, "--pool", "siblings", "--fake-engine") as served:
        names = [model["id"] for model in ask(served.url, "/v1/models").json["data"]]
        assert [*SIBLINGS, "negajoule/auto"] == names[:4]
        assert chat(served.url, "negajoule/auto").json["model"] == SIBLINGS[1]
        assert chat(served.url, "negajoule/best").json["model"] == SIBLINGS[0]
        assert chat(served.url, SIBLINGS[2]).json["model"] == SIBLINGS[2]
        assert "negajoule_engines_loaded 3.0" in ask(served.url, "/metrics").body.decode()
    rows = [json.loads(line) for line in (tmp_path / "routes" / "decisions.jsonl").read_text().splitlines()]
    assert [row["served"] for row in rows] == [SIBLINGS[1], SIBLINGS[0]]


def test_pools_and_routers_change_while_it_runs(tmp_path, monkeypatch):
    home, folder = tmp_path / "home", tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    settings = folder / "negajoule.toml"
    table = '[[pool]]\nname = "mine"\nmodels = ["small", "fake"]\n'
    settings.write_text(table)
    with serve(home, "--fake-engine") as served:
        first = chat(served.url, "mine/auto")
        assert first.json["model"] == "fake"
        assert "small gave way (R103)" in first.headers["x-negajoule-route-reason"]
        train(made_up(120)).save(folder / "r.npz")
        settings.write_text(table + 'router = "r.npz"\n')
        os.kill(served.process.pid, signal.SIGHUP)
        until = time.monotonic() + 10
        while "x-negajoule-route-task" not in chat(served.url, "mine/auto").headers:
            assert time.monotonic() < until, "the new router must be taken up"
            time.sleep(0.05)
        (folder / "r.npz").write_bytes(b"broken")
        os.kill(served.process.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert "x-negajoule-route-task" in chat(served.url, "mine/auto").headers


@pytest.mark.parametrize(
    ("arguments", "table", "words"),
    [
        (("--pool", "siblings", "--upstream", "http://127.0.0.1:1"), "", "engines of its own"),
        (("--fake-engine",), '[[pool]]\nmodels = ["a"]\nrouter = "nowhere.npz"\n', "nowhere.npz"),
        (("--fake-engine",), '[[pool]]\nmodels = "a"\n', "models"),
        (("--pool", "siblings", "--fake-engine"), '[[pool]]\nmodels = ["a"]\n', "another name"),
    ],
)
def test_a_mistake_is_one_message(nj, tmp_path, arguments, table, words):
    (tmp_path / "negajoule.toml").write_text(table)
    done = nj("serve", "--port", "0", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
