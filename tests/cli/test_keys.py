"""``negajoule keys``, and how the server on the command line keeps others out."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

BODY = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "hi"}]}).encode()


class Server(NamedTuple):
    """A server's process, its URL and the lines it has written to stderr."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]

    def wait_for(self, text: str, seconds: float = 10.0) -> str:
        """The first line that holds a text."""
        until = time.monotonic() + seconds
        while True:
            for line in list(self.lines):
                if text in line:
                    return line
            assert time.monotonic() < until, f"no {text!r} in\n" + "".join(self.lines)
            time.sleep(0.02)


@contextmanager
def serving(*arguments: str, **variables: str):
    """Run ``negajoule serve`` with the fake engine until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "negajoule", "serve", "--fake-engine", "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **variables},
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
    reader.start()
    server = Server(process, "", lines)
    try:
        line = server.wait_for("http", 30)
        yield server._replace(url=re.search(r"https?://[^\s\"/]+", line).group())
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        reader.join()
        process.stderr.close()


def status_of(url: str, *, key: str = "", context: ssl.SSLContext | None = None) -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        request = Request(f"{url}/v1/chat/completions", BODY, headers)
        with urlopen(request, timeout=20, context=context) as response:
            return response.status
    except HTTPError as error:
        with error:
            return error.code


class TestCommands:
    def test_a_key_is_shown_once_and_alone_on_stdout(self, nj):
        made = nj("keys", "create", "nightly", "--team", "search", "--expires", "90d")
        assert re.fullmatch(r"nj-[\w-]{43}\n", made.stdout)
        assert "can't be shown again" in made.stderr
        listed = nj("keys", "list")
        assert "nightly" in listed.stdout
        assert "search" in listed.stdout
        for text in (listed.stdout, nj("keys", "list", "--json").stdout):
            assert made.stdout.strip() not in text

    def test_the_life_of_a_key_in_json(self, nj):
        made = json.loads(nj("keys", "create", "a", "--scope", "chat", "--model", "m*", "--json").stdout)
        assert made["schema"] == "negajoule.key/1"
        assert (made["key"]["scopes"], made["key"]["models"]) == (["chat"], ["m*"])
        rotated = json.loads(nj("keys", "rotate", "a", "--grace", "1d", "--json").stdout)
        assert rotated["secret"] != made["secret"]
        revoked = json.loads(nj("keys", "revoke", "a", "--json").stdout)
        assert revoked["key"]["state"] == "revoked"
        assert "secret" not in revoked
        listed = json.loads(nj("keys", "list", "--json").stdout)
        assert listed["schema"] == "negajoule.keys/1"
        assert [key["state"] for key in listed["keys"]] == ["revoked"]

    def test_no_keys_are_no_error(self, nj):
        assert json.loads(nj("keys", "list", "--json").stdout)["keys"] == []
        assert "keys create" in nj("keys", "list").stderr

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("create", "a b"), "C109"),
            (("create", "a", "--expires", "soon"), "C101"),
            (("revoke", "nobody"), "C109"),
            (("rotate", "nobody"), "C109"),
            (("rotate", "nobody", "--grace", "x"), "C101"),
        ],
    )
    def test_mistakes_end_in_one_message(self, nj, arguments, code):
        done = nj("keys", *arguments)
        assert done.returncode == 1
        assert f"error[{code}]" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""

    def test_keys_need_no_server_installed(self, nj):
        code = (
            "import sys\n"
            "for name in ('starlette', 'uvicorn', 'aiohttp', 'httptools'):\n    sys.modules[name] = None\n"
            "sys.argv = ['negajoule', 'keys', 'create', 'a']\n"
            "from negajoule.cli.main import main\nmain()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert done.stdout.startswith("nj-")

    def test_the_guides_commands_run(self, nj):
        guide = Path(__file__).parents[2] / "docs" / "guides" / "serving.md"
        text = guide.read_text(encoding="utf-8")
        commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).splitlines()
        commands += re.findall(r"`(negajoule keys [^`]+)`", text)
        assert len(commands) >= 5
        nj("keys", "create", "NAME")
        for line in commands:
            arguments = shlex.split(line.replace("create NAME", "create NAME2"))[1:]
            done = nj(*arguments)
            assert done.returncode == 0, f"{line}\n{done.stderr}"


class TestExposure:
    def test_without_a_key_it_listens_to_this_machine_only(self, nj):
        done = nj("serve", "--fake-engine", "--port", "0", "--host", "0.0.0.0")
        assert done.returncode == 1
        assert "error[C108]" in done.stderr
        assert "negajoule keys create" in done.stderr

    def test_it_says_that_no_key_is_needed_until_there_is_one(self, nj):
        with serving() as server:
            assert "without API key" in server.wait_for("access")
            assert status_of(server.url) == 200
            key = nj("keys", "create", "a").stdout.strip()
            time.sleep(1.1)
            assert status_of(server.url) == 401
            assert status_of(server.url, key=key) == 200
            nj("keys", "revoke", "a")
            time.sleep(1.1)
            assert status_of(server.url, key=key) == 401

    @pytest.mark.parametrize("insecure", [True, False])
    def test_others_are_served_by_key_or_if_it_is_wanted_so(self, nj, insecure):
        if not insecure:
            nj("keys", "create", "a")
        with serving("--host", "0.0.0.0", *(["--insecure"] if insecure else [])) as server:
            assert ("OPEN TO OTHERS" if insecure else "by API key only") in server.wait_for("access")
            port = server.url.rpartition(":")[2]
            assert status_of(f"http://127.0.0.1:{port}") == (200 if insecure else 401)

    def test_a_damaged_key_file_keeps_it_from_starting(self, nj, fresh_home):
        fresh_home.mkdir()
        (fresh_home / "keys.sqlite").write_bytes(b"no database")
        done = nj("serve", "--fake-engine", "--port", "0")
        assert done.returncode == 1
        assert "error[C110]" in done.stderr

    def test_the_tour_is_let_in_with_a_key_that_shows_nowhere(self, nj):
        nj("keys", "create", "a")
        done = nj("serve", "--fake-engine", "--port", "0", "--once")
        assert done.returncode == 0, done.stderr
        assert "total of 16 requests" in done.stdout
        assert "nj-" not in done.stdout + done.stderr
        assert [key["last_used"] for key in json.loads(nj("keys", "list", "--json").stdout)["keys"]] == [None]

    def test_no_key_stands_in_the_list_of_processes(self, nj):
        key = nj("keys", "create", "a").stdout.strip()
        with serving() as server:
            assert status_of(server.url, key=key) == 200
            shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
            assert key not in shown


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 and its key, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


def make_certificate(folder, *extra: str) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
            *(extra or ("-nodes",)),
        ],
        check=True,
        capture_output=True,
    )


def tls(folder) -> dict[str, str]:
    return {
        "NEGAJOULE_TLS_CERTIFICATE": str(folder / "cert.pem"),
        "NEGAJOULE_TLS_KEY": str(folder / "key.pem"),
    }


class TestTls:
    def test_it_speaks_tls_with_a_certificate(self, certificate, fresh_home):
        with serving(**tls(certificate)) as server:
            assert server.url.startswith("https://127.0.0.1:")
            trust = ssl.create_default_context(cafile=certificate / "cert.pem")
            assert status_of(server.url, context=trust) == 200
            with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
                status_of(server.url)
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            old.load_verify_locations(certificate / "cert.pem")
            assert status_of(server.url, context=old) == 200

    def test_a_renewed_certificate_is_taken_up_and_a_broken_one_isnt(self, certificate, fresh_home, tmp_path):
        for name in ("cert.pem", "key.pem"):
            shutil.copy(certificate / name, tmp_path)
        with serving(**tls(tmp_path), NEGAJOULE_LOG_LEVEL="info") as server:
            host, port = server.url.removeprefix("https://").split(":")

            def served() -> str:
                return ssl.get_server_certificate((host, int(port)), timeout=10)

            first = served()
            make_certificate(tmp_path)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("reloaded")
            second = served()
            assert second == (tmp_path / "cert.pem").read_text()
            assert second != first
            (tmp_path / "cert.pem").write_text("broken")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("nothing was reloaded")
            assert served() == second

    def test_the_tour_trusts_the_servers_own_certificate(self, nj, certificate):
        done = nj("serve", "--fake-engine", "--port", "0", "--once", env=tls(certificate))
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("trouble", ["absent", "foreign key", "key alone", "encrypted", "no PEM"])
    def test_a_certificate_that_cant_be_used_is_one_message(self, nj, certificate, tmp_path, trouble):
        make_certificate(tmp_path, *(["-passout", "pass:x"] if trouble == "encrypted" else []))
        variables = tls(tmp_path)
        if trouble == "absent":
            (tmp_path / "cert.pem").unlink()
        elif trouble == "foreign key":
            variables["NEGAJOULE_TLS_KEY"] = str(certificate / "key.pem")
        elif trouble == "key alone":
            del variables["NEGAJOULE_TLS_CERTIFICATE"]
        elif trouble == "no PEM":
            (tmp_path / "cert.pem").write_text("hello")
        done = nj("serve", "--fake-engine", "--port", "0", env=variables, stdin=subprocess.DEVNULL)
        assert done.returncode == 1
        assert "error[C111]" in done.stderr
        assert "Traceback" not in done.stderr


class TestReload:
    def test_sighup_takes_up_settings_and_keys_and_keeps_serving(self, nj, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        settings = tmp_path / "negajoule.toml"
        key = nj("keys", "create", "a", "--scope", "chat", "--scope", "models").stdout.strip()
        with serving() as server:
            assert status_of(server.url, key=key) == 200
            with pytest.raises(HTTPError):
                urlopen(f"{server.url}/metrics", timeout=10)
            settings.write_text(
                'log_level = "info"\nlog_format = "json"\nmetrics_open = true\nmax_body_bytes = 1024\n'
            )
            server.process.send_signal(signal.SIGHUP)
            assert json.loads(server.wait_for("reloaded"))["level"] == "info"
            with urlopen(f"{server.url}/metrics", timeout=10) as response:
                assert response.status == 200
            line = json.loads(server.wait_for('/metrics","status":200'))
            assert line["message"] == "request"
            request = Request(
                f"{server.url}/v1/chat/completions", b" " * 2000, {"authorization": f"Bearer {key}"}
            )
            with pytest.raises(HTTPError) as caught:
                urlopen(request, timeout=10)
            with caught.value as error:
                assert error.code == 413

    def test_a_wrong_setting_changes_nothing(self, nj, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with serving() as server:
            (tmp_path / "negajoule.toml").write_text('log_level = "loud"\n')
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("nothing was reloaded")
            assert status_of(server.url) == 200

    def test_what_others_may_reach_isnt_changed_by_a_reload(self, nj, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with serving(NEGAJOULE_LOG_LEVEL="info") as server:
            (tmp_path / "negajoule.toml").write_text('host = "0.0.0.0"\n')
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("reloaded")
            outside = socket.gethostbyname(socket.gethostname())
            if outside.startswith("127."):
                pytest.skip("this machine has no address but loopback")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((outside, int(server.url.rpartition(":")[2])), timeout=5)
