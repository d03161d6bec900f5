"""``negajoule watch`` on a pseudo-terminal of 80 by 24, in pipes, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress

import pytest

from negajoule.cli.frame import fitted, printable

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """``negajoule watch`` on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "negajoule", "watch", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**inherited, "TERM": "xterm", **environment},
            start_new_session=True,
            # Its controlling terminal, so that Ctrl-C typed there reaches it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.master, self.text = master, ""

    def until(self, condition, seconds: float = 30.0) -> str:
        end = time.monotonic() + seconds
        while not condition(self.text) and time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    data = os.read(self.master, 65_536)
                except OSError:  # the other end is closed
                    break
                if not data:
                    break
                self.text += data.decode(errors="replace")
        assert condition(self.text), self.text[-2000:]
        return self.text

    def frames(self) -> list[list[str]]:
        """The pages drawn so far, without escapes."""
        page = self.text.split("\x1b[?1049l")[0]
        drawn = [ESCAPE.sub("", one) for one in page.split("\x1b[H")[1:]]
        return [one.replace("\r", "").split("\n") for one in drawn if "whole machine" in one]

    def type(self, key: bytes) -> None:
        os.write(self.master, key)

    def end(self) -> int:
        code = self.process.wait(timeout=20)
        with suppress(AssertionError):
            self.until(lambda _: False, seconds=1.0)
        os.close(self.master)
        return code


def drawn(count: int):
    return lambda text: text.count("whole machine") >= count


class TestTerminal:
    def test_it_fits_refreshes_and_ends_with_the_total(self):
        terminal = Terminal("--interval", "0.3")
        terminal.until(drawn(3))
        terminal.type(b"\x03")
        assert terminal.end() == 0
        frames = terminal.frames()
        assert len(frames) >= 3
        for frame in frames:
            assert len(frame) <= 24
            assert max(map(len, frame)) <= 80
        elapsed = [float(re.search(r"watch\s+([0-9.]+) s", frame[0])[1]) for frame in frames]
        assert elapsed == sorted(elapsed)
        assert elapsed[-1] > elapsed[0]
        for heading in ("energy", "carbon", "water", "device [grade]", "process", "idle and shared"):
            assert any(line.startswith(heading) or line.startswith(f"  {heading}") for line in frames[-1]), (
                heading
            )
        before, _, after = terminal.text.partition("\x1b[?1049l")
        assert before.startswith("\x1b[?1049h\x1b[?25l")
        assert before.endswith("\x1b[?25h")
        assert "IT energy" in after
        assert "Traceback" not in after
        assert max(len(line.rstrip("\r")) for line in after.split("\n")) <= 80

    @pytest.mark.parametrize(("columns", "lines"), [(40, 12), (132, 50)])
    def test_other_sizes(self, columns, lines):
        terminal = Terminal("--interval", "0.2", columns=columns, lines=lines)
        terminal.until(drawn(1) if lines > 20 else lambda text: text.count("device") >= 1)
        terminal.type(b"\x03")
        assert terminal.end() == 0
        page = terminal.text.split("\x1b[?1049l")[0]
        for frame in page.split("\x1b[H")[2:]:
            shown = ESCAPE.sub("", frame).replace("\r", "").split("\n")
            assert len(shown) <= lines
            assert max(map(len, shown)) <= columns

    def test_no_color_is_respected(self):
        plain = Terminal("--interval", "0.2", NO_COLOR="1")
        plain.until(drawn(1))
        plain.type(b"\x03")
        assert plain.end() == 0
        assert not COLOUR.search(plain.text)

    def test_a_dumb_terminal_gets_no_escapes(self):
        dumb = Terminal("--interval", "0.2", TERM="dumb")
        dumb.until(drawn(2))
        dumb.type(b"\x03")
        assert dumb.end() == 0
        assert "\x1b" not in dumb.text

    def test_sigterm_gives_the_terminal_back_too(self):
        terminal = Terminal("--interval", "0.2")
        terminal.until(drawn(1))
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 0
        assert "\x1b[?25h\x1b[?1049l" in terminal.text


class TestPipes:
    def test_once_is_one_frame_without_escapes(self, nj):
        done = nj("watch", "--once", "--interval", "0.2")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("whole machine") == 1
        assert "\x1b" not in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert re.search(r"energy +[0-9.]+ m?W \([0-9.e-]+ to [0-9.]+\)", done.stdout)

    def test_json_is_one_object_a_line_whose_parts_add_to_the_whole(self):
        command = [sys.executable, "-m", "negajoule", "watch", "--json", "--interval", "0.2", "--top", "3"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            frames = [json.loads(process.stdout.readline()) for _ in range(3)]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
            for line in process.stdout:
                json.loads(line)
        for frame in frames:
            assert frame["schema"] == "negajoule.watch/1"
            assert len(frame["processes"]) == 3
            for figure in ("power", "energy"):
                parts = [*frame["processes"], frame["others"], frame["idle"]]
                whole = frame["whole"][figure]["value"]
                assert sum(part[figure]["value"] for part in parts) == pytest.approx(whole, rel=1e-9)
                assert sum(part[figure]["value"] for part in frame["devices"]) == pytest.approx(
                    whole, rel=1e-9
                )
            assert frame["now"]["carbon_location"]["unit"] == "gCO2e"
        assert frames[0]["elapsed_s"] < frames[2]["elapsed_s"]
        assert frames[0]["whole"]["energy"]["value"] < frames[2]["whole"]["energy"]["value"]

    def test_a_reader_that_goes_away_is_no_error(self):
        command = f"{sys.executable} -m negajoule watch --interval 0.1 --json | head -n 1"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_process_and_its_children_until_it_ends(self, nj):
        sleeper = "import time; time.sleep(1.5)"
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])"
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            done = nj("watch", "--pid", str(process.pid), "--interval", "0.3", "--json")
        assert (done.returncode, done.stderr) == (0, f"process {process.pid} has ended\n")
        seen = [len(json.loads(line)["processes"]) for line in done.stdout.splitlines()]
        assert max(seen) == 2
        assert seen[-1] == 0

    def test_nothing_is_recorded(self, nj, fresh_home):
        nj("watch", "--once", "--interval", "0.1")
        assert not fresh_home.exists()

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (("--pid", "999999999"), 1, "there is no process 999999999"),
            (("--interval", "0"), 2, "Invalid value"),
            (("--zone", "ATLANTIS"), 1, "error[F101]"),
        ],
    )
    def test_mistakes(self, nj, arguments, code, text):
        done = nj("watch", "--once", *arguments)
        assert done.returncode == code
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_names_cant_steer_the_terminal_and_wide_ones_count_twice():
    assert printable("evil\x1b[2Jname\n") == "evil?[2Jname?"
    assert fitted("漢字漢字", 5) == "漢字"
    assert fitted("plain", 5) == "plain"
    assert fitted("plain", 4) == "plai"
