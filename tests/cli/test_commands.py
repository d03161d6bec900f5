"""The other commands: help, doctor, report, config, serve's mistakes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from negajoule._version import __version__
from negajoule.cli.main import COMMANDS
from negajoule.ledger import default_path


def test_help_names_every_command_and_loads_no_room():
    code = (
        "import sys\nsys.argv = ['negajoule', '--help']\n"
        "from negajoule.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in sys.modules if m in ('numpy', 'msgspec', 'psutil', 'negajoule.meter')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(nj, name):
    done = nj(name, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_version(nj):
    assert nj("--version").stdout == f"negajoule, version {__version__}\n"


def test_an_unknown_command_is_wrong_usage(nj):
    done = nj("frobnicate")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_a_reader_that_goes_away_is_no_error(nj):
    done = subprocess.run(
        f"{sys.executable} -m negajoule catalog | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


@pytest.mark.parametrize("command", ["doctor", "config", "catalog"])
def test_json_is_one_object_with_a_schema_on_stdout(nj, command):
    done = nj(command, "--json")
    assert json.loads(done.stdout)["schema"] == f"negajoule.{command}/1"
    assert done.stderr == ""


def test_doctor_says_what_is_modelled_and_how_to_improve_it(nj):
    text = nj("doctor").stdout
    assert "location" in text
    assert "export NEGAJOULE_ZONE=" in text
    assert "verdict: " in text


def test_doctor_in_a_stated_zone_is_sure_of_it(nj):
    places = json.loads(nj("doctor", "--json", env={"NEGAJOULE_ZONE": "fr"}).stdout)["place"]
    assert places[0]["detail"].startswith("FRA")
    assert places[0]["state"] == "ready"


def test_report_sums_the_ledger_with_ranges(nj):
    for label in ("a", "b", "b"):
        nj("run", "--label", label, "--", "true")
    report = json.loads(nj("report", "--by", "label", "--json").stdout)
    assert {group["group"]: group["rows"] for group in report["groups"]} == {"a": 1, "b": 2}
    parts = sum(group["indicators"]["it_energy"]["value"] for group in report["groups"])
    total = report["total"]["indicators"]["it_energy"]
    assert parts == pytest.approx(total["value"])
    assert total["low"] < total["value"] < total["high"]
    text = nj("report").stdout
    assert "total, with ranges" in text
    assert "IT energy" in text


@pytest.mark.parametrize(
    ("arguments", "env", "code"),
    [
        (("report",), {}, "L101"),
        (("report", "--since", "yesterday"), {}, "C101"),
        (("doctor",), {"NEGAJOULE_ZONE": "Atlantis"}, "F101"),
        (("doctor",), {"NEGAJOULE_PUE": "0.5"}, "C101"),
        (("serve",), {"NEGAJOULE_PORT": "http"}, "C101"),
        (("explain", "no.such.key"), {}, "F101"),
        (("play", "http://127.0.0.1:9"), {}, "E103"),
        (("play", "--prompts", "/nowhere.jsonl"), {}, "C106"),
        (("serve", "--model-file", "/nowhere.gguf"), {"NEGAJOULE_PORT": "0"}, "E101"),
    ],
)
def test_mistakes_end_in_one_message_and_no_traceback(nj, arguments, env, code):
    done = nj(*arguments, env=env)
    assert done.returncode == 1
    assert f"error[{code}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_port_in_use_names_the_way_out(nj):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = nj("serve", "--fake-engine", "--port", str(port))
    assert done.returncode == 1
    assert "error[C104]" in done.stderr
    assert f"--port {port + 1}" in done.stderr


def test_a_corrupt_ledger_is_kept_and_named(nj):
    default_path().parent.mkdir(parents=True, exist_ok=True)
    default_path().write_bytes(b"not a database" * 1000)
    done = nj("serve", "--fake-engine", "--port", "0")
    assert done.returncode == 1
    assert "error[L102]" in done.stderr
    assert f"mv {default_path()}" in done.stderr
    assert default_path().read_bytes().startswith(b"not a database")


def test_serve_plays_the_prompts_and_ends(nj):
    done = nj("serve", "--fake-engine", "--port", "0", "--once")
    assert done.returncode == 0, done.stderr
    for text in ("one by one", "8 at once", "total of 16 requests", "tokens per CPU-s", "parts add up"):
        assert text in done.stdout
    assert "/v1" in done.stderr
    report = json.loads(nj("report", "--json").stdout)
    rows = {group["group"]: group["rows"] for group in report["groups"]}
    assert rows["request"] == 16
    assert rows["idle"] >= 1
