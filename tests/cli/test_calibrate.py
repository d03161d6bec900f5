"""``negajoule calibrate``: fits, keeps, shows and forgets; says so where there is nothing to fit against."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
from click.testing import CliRunner

from negajoule.cli import calibrate as command
from negajoule.errors import ConfigError, MeterError
from negajoule.meter import calibrate_machine, load_calibration, read_host
from negajoule.meter.calibration import calibration_path


class Bench:
    """A simulated machine and its wattmeter: 40 W idle, 5 W for each busy thread; time passes in sleep."""

    def __init__(self, path, *, thread_w: float = 5.0) -> None:
        self.path, self.thread_w = path, thread_w
        self.now_s, self.busy_s, self.spinners = 1.8e9, 0.0, 0
        self.path.write_text("time,watts\n")

    @contextmanager
    def load(self, threads: int):
        self.spinners = threads
        yield
        self.spinners = 0

    def sleep(self, seconds: float) -> None:
        with self.path.open("a") as file:
            for _ in range(10):
                self.now_s += seconds / 10
                self.busy_s += self.spinners * seconds / 10
                file.write(f"{self.now_s},{40 + self.thread_w * self.spinners}\n")

    def cpu_s(self) -> float:
        return self.busy_s

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def calibrate(tmp_path, monkeypatch):
    """Run the command in this process, on the simulated machine."""

    def call(*arguments: str, **bench):
        simulated = Bench(tmp_path / "meter.csv", **bench)
        monkeypatch.setattr(command, "MachineUsage", lambda: simulated)
        monkeypatch.setattr(command, "find_probes", list)
        fitted = functools.partial(
            calibrate_machine, load=simulated.load, sleep=simulated.sleep, wall=lambda: simulated.now_s
        )
        monkeypatch.setattr(command, "calibrate_machine", fitted)
        before = signal.getsignal(signal.SIGTERM)
        try:
            return CliRunner().invoke(command.calibrate, arguments)
        finally:
            signal.signal(signal.SIGTERM, before)

    return call


def test_it_fits_against_a_meters_file_and_keeps_the_result(calibrate, tmp_path):
    done = calibrate("--meter-file", str(tmp_path / "meter.csv"))
    assert done.exit_code == 0, done.output
    assert "against meter.csv (machine)" in done.stdout
    assert "idle               40 W (" in done.stdout
    assert "a busy thread      5 W (" in done.stdout
    assert str(calibration_path()) in done.stdout
    kept = load_calibration(read_host())
    assert kept.thread_w.value == pytest.approx(5.0)
    assert kept.thread_w.low < 5.0 < kept.thread_w.high


def test_what_was_fitted_is_used_shown_and_forgotten(calibrate, nj, tmp_path):
    calibrate("--meter-file", str(tmp_path / "meter.csv"))
    shown = json.loads(nj("calibrate", "--show", "--json").stdout)
    assert (shown["schema"], shown["state"]) == ("negajoule.calibrate/1", "calibrated")
    assert shown["calibration"]["reference"] == "meter.csv"
    assert shown["used"]["active"]["value"] == pytest.approx(5.0)
    assert (shown["used"]["active"]["grade"], shown["used"]["idle"]["grade"]) == ("C", "C")
    assert "[C, calibration" in nj("run", "--no-record", "--", sys.executable, "-c", "pass").stderr
    done = nj("calibrate", "--forget")
    assert (done.returncode, done.stderr) == (0, "the calibration was removed\n")
    shown = json.loads(nj("calibrate", "--show", "--json").stdout)
    assert (shown["state"], shown["calibration"], shown["used"]["active"]["grade"]) == (
        "catalogue",
        None,
        "D",
    )
    assert nj("calibrate", "--forget").returncode == 0


def test_without_anything_to_fit_against_it_says_so_and_nothing_has_failed(calibrate, tmp_path):
    done = calibrate()
    assert done.exit_code == 0
    assert "not calibrated: the catalogue's range is used" in done.stdout
    assert "grade D" in done.stdout
    assert "--meter-file FILE" in done.stderr
    assert not calibration_path().exists()


def test_a_fit_that_makes_no_sense_isnt_kept(calibrate, tmp_path):
    done = calibrate("--meter-file", str(tmp_path / "meter.csv"), thread_w=-5.0)
    assert isinstance(done.exception, MeterError)
    assert done.exception.code == "M105"
    assert not calibration_path().exists()


def test_a_place_that_cant_be_written_is_said(calibrate, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEGAJOULE_HOME", str(tmp_path / "file" / "home"))
    done = calibrate("--meter-file", str(tmp_path / "meter.csv"))
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == "C106"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--meter-file", "nowhere.csv"), 1, "error[C106]"),
        (("--show", "--forget"), 2, "exclude each other"),
        (("--seconds", "0"), 2, "Invalid value"),
    ],
)
def test_mistakes(nj, arguments, code, text):
    done = nj("calibrate", *arguments)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_malformed_file_is_refused_with_its_line(nj, tmp_path):
    path = tmp_path / "meter.csv"
    path.write_text("time,watts\n1,2\n2,many\n")
    done = nj("calibrate", "--meter-file", str(path), "--seconds", "0.2")
    assert done.returncode == 1
    assert "meter.csv:3" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_load_ends_with_the_command(fresh_home, tmp_path, number):
    path = tmp_path / "meter.csv"
    path.write_text("time,watts\n1,2\n")
    with subprocess.Popen(
        [sys.executable, "-m", "negajoule", "calibrate", "--meter-file", str(path), "--seconds", "0.6"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NEGAJOULE_HOME": str(fresh_home)},
    ) as process:
        me = psutil.Process(process.pid)
        deadline_s = time.monotonic() + 30
        while not (spinners := me.children()) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert spinners
        process.send_signal(number)
        code = process.wait(timeout=20)
    assert code == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    _, alive = psutil.wait_procs(spinners, timeout=10)
    assert alive == [] or all(one.status() == psutil.STATUS_ZOMBIE for one in alive)
    assert not calibration_path().exists()
