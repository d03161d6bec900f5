"""``negajoule profile`` and ``calibrate --serving`` on a fake server: no figure here is of a model."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from made_profiles import FAST, SLOW, made_profile
from negajoule.cli.calibrate import calibrate
from negajoule.cli.profile import profile
from negajoule.errors import ConfigError, EngineError
from negajoule.profile import Target

TINY = ["--batch", "1,2", "--prompt", "8", "--output", "10", "--repeats", "2", "--allow-load"]


class Handler(BaseHTTPRequestHandler):
    usage = True

    def log_message(self, *ignored):
        pass

    def do_GET(self):
        self._begin()
        self.wfile.write(b'{"data": [{"id": "fake"}]}')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._begin()
        for _ in range(body["max_tokens"]):
            time.sleep(0.01)
            self._event({"choices": [{"index": 0, "delta": {"content": "fake "}}]})
        if self.usage:
            words = len(body["messages"][0]["content"].split())
            counts = {"prompt_tokens": words, "completion_tokens": body["max_tokens"]}
            self._event({"choices": [], "usage": counts})
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self):
        self.send_response(200)
        self.end_headers()

    def _event(self, value):
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def url(monkeypatch):
    watched = Target.idle_window
    monkeypatch.setattr(Target, "idle_window", lambda target, seconds=0.0: watched(target, 0.02))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def run(command, *arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_a_server_is_profiled_and_shown_again(url, fresh_home):
    printed = json.loads(run(profile, url, *TINY, "--json").stdout)
    assert printed["schema"] == "negajoule.profile_summary/1"
    assert printed["path"].startswith(str(fresh_home / "profiles" / "fake-"))
    assert [(row["cell"]["batch"], row["rounds"]) for row in printed["cells"]] == [(1, 2), (2, 2)]
    assert printed["cells"][0]["itl_s"]["value"] >= 0.01
    assert printed["cells"][0]["decode_cpu_s"] is None
    shown = run(profile, printed["path"], "--show").stdout
    assert "fake on" in shown
    assert "energy is that of the whole machine" in shown
    assert "unknown" in shown


def test_a_roofline_of_a_server_is_refused_and_of_a_profile_drawn(url, tmp_path):
    with pytest.raises(ConfigError, match="no roofline"):
        run(profile, url, *TINY, "--plot", str(tmp_path / "a.json"))
    made_profile({"F16": SLOW, "Q4_0": FAST}).save(tmp_path / "made.json")
    shown = run(profile, str(tmp_path / "made.json"), "--show", "--plot", str(tmp_path / "a.json"))
    assert "roofline" in shown.stdout
    assert json.loads((tmp_path / "a.json").read_text())["layer"]


def test_a_server_that_returns_no_usage_is_named(url, monkeypatch):
    monkeypatch.setattr(Handler, "usage", False)
    with pytest.raises(EngineError, match="returns no usage"):
        run(profile, url, *TINY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "two"], "no list of whole numbers"),
        (["--batch", "0"], "--batch 0"),
        (["--batch", "99999"], "--batch 99999"),
        (["--output", "1"], "no decode"),
        (["--key-variable", "NEGAJOULE_NO_SUCH"], "is empty"),
    ],
)
def test_impossible_options_are_named(arguments, words):
    with pytest.raises(ConfigError, match=words):
        run(profile, "smollm2-135m-instruct", "--allow-load", *arguments)


def test_a_busy_machine_is_refused(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (500.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="under load") as caught:
        run(profile, "smollm2-135m-instruct", "--wait", "0")
    assert caught.value.code == "C114"


def test_a_server_is_calibrated_shown_and_forgotten(url, fresh_home):
    arguments = ["--serving", "--model", url, "--max-batch", "2"]
    printed = json.loads(run(calibrate, *arguments, "--json").stdout)
    assert printed["schema"] == "negajoule.calibrate_serving/1"
    [found] = printed["calibrations"]
    assert (found["model"], found["batches"], found["setup"]) == ("fake", [1, 2], None)
    assert found["idle_w"] > 0
    assert "fake" in run(calibrate, "--serving", "--show").stdout
    run(calibrate, "--serving", "--forget")
    assert not (fresh_home / "serving-calibrations.json").exists()
    assert "no model is calibrated" in run(calibrate, "--serving", "--show").stdout


def test_an_accelerator_needs_the_models_shape(url):
    with pytest.raises(ConfigError, match="shape isn't known"):
        run(calibrate, "--serving", "--model", url, "--accelerator", "H100")
    refused = CliRunner().invoke(calibrate, ["--serving", "--meter-file", "a.csv"])
    assert refused.exit_code == 2
