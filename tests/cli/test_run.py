"""``negajoule run``: everything of the command passes through, and its whole tree is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from negajoule.ledger import Ledger

SPIN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands(nj, code):
    assert nj("run", "--", *python(f"raise SystemExit({code})")).returncode == code


def test_a_command_that_dies_of_a_signal_gives_128_plus_its_number(nj):
    done = nj("run", "--", *python("import os; os.kill(os.getpid(), 15)"))
    assert done.returncode == 128 + signal.SIGTERM


def test_input_output_and_arguments_pass_through_untouched(nj):
    done = nj(
        "run",
        "--",
        *python("import sys; print(sys.argv[1:], sys.stdin.read())"),
        "--json",
        "-x",
        "a b",
        input="ink",
    )
    assert done.stdout == "['--json', '-x', 'a b'] ink\n"


def test_the_card_goes_to_stderr_with_range_unit_and_basis(nj):
    done = nj("run", "--", *python("print('hi')"))
    assert done.stdout == "hi\n"
    for text in ("IT energy", "J (", " to ", "modelled", "carbon, grid mix", "location unknown"):
        assert text in done.stderr


def test_json_has_a_schema_and_lands_in_a_file(nj, tmp_path):
    path = tmp_path / "card.json"
    done = nj("run", "--json", "--output", str(path), "--", *python("pass"))
    assert (done.returncode, done.stderr) == (0, "")
    card = json.loads(path.read_text())
    assert card["schema"] == "negajoule.run/1"
    assert card["footprint"]["it_energy"]["low"] > 0


def test_children_and_grandchildren_are_counted(nj, tmp_path):
    path = tmp_path / "card.json"
    child = SPIN.format(0.3)
    grandchild = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n" + child
    nj("run", "--json", "--output", str(path), "--", *python(grandchild))
    assert json.loads(path.read_text())["cpu_seconds"] >= 0.55


def test_a_daemon_that_outlives_its_parent_is_counted_as_far_as_it_got(nj, tmp_path):
    path = tmp_path / "card.json"
    # The parent forks and exits once the orphan has burnt its CPU time.
    code = (
        "import os, time\n"
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        exec({SPIN.format(0.4)!r})\n"
        "        os.write(w, b'x')\n"
        "        os._exit(0)\n"
        "    os._exit(0)\n"
        "os.read(r, 1)\n"
    )
    nj("run", "--json", "--output", str(path), "--", *python(code))
    assert json.loads(path.read_text())["cpu_seconds"] >= 0.38


def test_signals_are_passed_on(fresh_home):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "time.sleep(30)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "negajoule", "run", "--", *python(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 42


def test_ctrl_c_ends_the_command_and_still_gives_the_card(fresh_home):
    code = "import time\nprint('ready', flush=True)\ntime.sleep(30)\n"
    process = subprocess.Popen(
        [sys.executable, "-m", "negajoule", "run", "--", *python(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        _, words = process.communicate(timeout=20)
    assert "IT energy" in words


def test_sleeping_costs_less_than_spinning(nj, tmp_path):
    def energy(code: str) -> float:
        path = tmp_path / "card.json"
        nj("run", "--json", "--output", str(path), "--", *python(code))
        return json.loads(path.read_text())["footprint"]["it_energy"]["value"]

    started = time.monotonic()
    spinning = energy(SPIN.format(0.6))
    seconds = time.monotonic() - started
    assert energy(f"import time; time.sleep({0.5 * seconds})") < spinning


def test_the_ledger_keeps_the_run_under_its_label(nj):
    nj("run", "--label", "demo", "--", *python("raise SystemExit(3)"))
    nj("run", "--no-record", "--", *python("pass"))
    with Ledger(read_only=True) as ledger:
        (row,) = ledger.latest(5)
    assert (row.kind, row.label, row.status) == ("run", "demo", "failed")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("run", "--", "no-such-command-anywhere"), 1, "error[C105]"),
        (("run", "--", "/"), 1, "error[C105]"),
        (("run", "--zone", "ATLANTIS", "--", "true"), 1, "error[F101]"),
        (("run",), 2, "Missing argument"),
    ],
)
def test_mistakes_end_in_one_message_and_no_traceback(nj, arguments, code, text):
    done = nj(*arguments)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unwritable_ledger_is_said_before_the_command_runs(nj, tmp_path):
    (tmp_path / "file").write_text("")
    mark = tmp_path / "mark"
    done = nj("run", "--", "touch", str(mark), env={"NEGAJOULE_HOME": str(tmp_path / "file" / "home")})
    assert done.returncode == 1
    assert "error[L101]" in done.stderr
    assert not mark.exists()
