"""Clocks and power limits: the curve of the model, curves from files, the choice, and setting boards."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from fake_board import FakeBoard, FakeNvml
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.advise import (
    CurvePoint,
    Setting,
    advise_clocks,
    held_at,
    measure_settings,
    read_curve,
    restore_left_over,
    slower_curve,
    write_curve,
)
from negajoule.advise.clocks import Limits, highest_clock_hz, published_savings
from negajoule.advise.measured import run_at
from negajoule.advise.nvml_board import nvml_boards
from negajoule.advise.slower import Phases, phases_of
from negajoule.errors import ConfigError, MeterError
from negajoule.physics.serving import ServingSetup, load_predictor, shape_of

TRUE = (sys.executable, "-c", "")


def phases(**changed):
    facts = {
        "step_s": 0.01, "wait_s": 0.002, "reading_share": 0.95, "step_w": 500.0, "prompt_s": 0.02,
        "prompt_w": 650.0, "first_s": 0.02, "steps": 300.0, "batch": 16.0, "token_s": 0.011, "width": 0.13,
        "count": 1, "rated_w": 700.0,
    }  # fmt: skip
    return Phases(**(facts | changed))


def point(setting, energy, time_s=1.0, unit="MHz", spread=0.01):
    return CurvePoint(
        setting=setting, unit=unit, energy_j=energy, low_j=energy * (1 - spread),
        high_j=energy * (1 + spread), time_s=time_s,
    )  # fmt: skip


# the model


def test_reading_hides_a_lower_clock_and_computing_does_not():
    reading = slower_curve(phases(reading_share=1.0))
    computing = slower_curve(phases(reading_share=0.0))
    lowest, full = reading[0], reading[-1]
    assert lowest.clock == pytest.approx(0.71)
    assert lowest.token_s - full.token_s < 0.06 * full.token_s  # of prompts alone
    busy = 0.008
    expected = full.token_s + busy * (1 / lowest.clock - 1) + 16 * 0.02 * (1 / lowest.clock - 1) / 300
    assert computing[0].token_s == pytest.approx(expected)


def test_the_full_clock_is_what_was_predicted():
    setup = ServingSetup(shape=shape_of("llama-3.1-8b"), accelerator="h100")
    predicted = load_predictor().predict(setup, batch=16, tokens_in=500, tokens_out=300)
    full = slower_curve(phases_of(setup, predicted))[-1]
    assert full.energy_j == pytest.approx(predicted.energy_per_request_j, rel=0.01)
    assert full.token_s == pytest.approx(predicted.token_s)
    assert full.ratio_low == full.ratio_high == pytest.approx(1)


def test_a_power_cap_above_what_is_drawn_does_nothing():
    curve = slower_curve(phases(step_w=300.0, prompt_w=300.0), lever="power")
    idle_caps = [one for one in curve if one.setting >= 300]
    assert len({one.energy_j for one in idle_caps}) == 1
    advice = advise_clocks(idle_caps, basis="modelled", accelerator="h200")
    assert advice.decision.reason.startswith("leave the clocks alone")
    assert any("never acts" in note for note in advice.notes)


def test_power_falls_to_its_cap():
    full = phases(wait_s=0.0, reading_share=1.0, prompt_s=1e-9, prompt_w=1.0)
    for one in slower_curve(full, lever="power"):
        assert one.energy_j / (0.01 * 300 / 16) <= one.setting * 1.001 + 1


@given(share=st.floats(0, 1), wait=st.floats(0, 0.009), step_w=st.floats(100, 690))
@settings(max_examples=40, deadline=None)
def test_time_never_falls_with_the_clock(share, wait, step_w):
    curve = slower_curve(phases(reading_share=share, wait_s=wait, step_w=step_w))
    times = [one.time_s for one in curve]
    assert times == sorted(times, reverse=True)
    assert all(one.low_j <= one.energy_j <= one.high_j for one in curve)
    assert all(one.ratio_low <= one.ratio_high for one in curve)


def test_a_lever_must_be_known():
    with pytest.raises(ConfigError, match="lever"):
        slower_curve(phases(), lever="fan")


# the choice


def test_the_least_energy_within_the_limits():
    curve = [point(1000, 60, 2.0), point(1400, 70, 1.3), point(1980, 100, 1.0)]
    assert advise_clocks(curve).decision.chosen == "clock 1000 MHz"
    advice = advise_clocks(curve, Limits(time_s=1.5))
    assert advice.decision.chosen == "clock 1400 MHz"
    assert advice.decision.margin == pytest.approx(0.3)
    assert advice.decision.margin_low < 0.3 < advice.decision.margin_high


def test_noise_changes_nothing():
    curve = [point(1000, 95, spread=0.1), point(1980, 100, spread=0.1)]
    advice = advise_clocks(curve)
    assert advice.chosen.setting == 1980
    assert any("inside noise" in note for note in advice.notes)


def test_limits_on_what_is_not_known_are_not_kept():
    with pytest.raises(ConfigError, match="unknown"):
        advise_clocks([point(1000, 60), point(1980, 100)], Limits(token_s=1.0))


def test_an_impossible_limit_is_refused():
    with pytest.raises(ConfigError, match="too long"):
        advise_clocks([point(1000, 60), point(1980, 100)], Limits(time_s=0.5))


def test_one_point_is_no_curve():
    with pytest.raises(ConfigError, match="two settings"):
        advise_clocks([point(1000, 60)])


def test_a_modelled_choice_says_so_and_cites():
    advice = advise_clocks(slower_curve(phases()), basis="modelled", accelerator="h200")
    assert "was measured" in advice.notes[0]
    assert advice.published[0].key.startswith("advise.clock.published.h200")
    assert published_savings("abacus")[0].key.startswith("advise.clock.published")
    assert highest_clock_hz("h100") == 1.98e9
    assert highest_clock_hz("abacus") is None


# files


def test_a_curve_survives_its_file(tmp_path):
    path = tmp_path / "curve.csv"
    write_curve(path, "W", [(300, 60, 2.0), (300, 62, 2.1), (400, 70, 1.5), (400, 71, 1.5)])
    low, high = read_curve(path)
    assert (low.setting, low.unit, low.energy_j) == (300, "W", 61)
    assert low.low_j < 60 < 62 < low.high_j
    assert high.time_s == 1.5


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "lacks"),
        ("clock_mhz,energy_j\n1000,5\n", "time_s"),
        ("energy_j,time_s\n5,1\n", "clock_mhz"),
        ("clock_mhz,energy_j,time_s\n1000,much,1\n", "line 2"),
        ("clock_mhz,energy_j,time_s\n1000,-5,1\n", "line 2"),
        ("clock_mhz,energy_j,time_s\n1000,5,nan\n", "line 2"),
        ("clock_mhz,energy_j,time_s\n1000,5\n", "line 2"),
        ("clock_mhz,energy_j,time_s\n1000,5,1\n1200,6,1\n", "noise"),
    ],
)
def test_files_that_are_no_curve(tmp_path, text, word):
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word) as caught:
        read_curve(path)
    assert caught.value.code == "C106"


# boards: every board here is a fake, labelled as such in fake_board.py


def test_a_setting_is_held_and_undone(fresh_home):
    board = FakeBoard()
    with held_at([board], Setting(power_limit_w=400)):
        assert board.limit_w == 400
        assert list((fresh_home / "boards").iterdir())
    assert board.limit_w == 700
    assert not list((fresh_home / "boards").iterdir())
    with held_at([board], Setting(clock_mhz=1200)):
        assert board.locked_mhz == 1200
    assert board.locked_mhz is None


def test_an_error_inside_undoes_it(fresh_home):
    board = FakeBoard()
    with pytest.raises(ZeroDivisionError), held_at([board], Setting(power_limit_w=400)):
        _ = 1 / 0
    assert board.limit_w == 700


def test_what_was_set_before_is_what_comes_back(fresh_home):
    board = FakeBoard(limit_w=550)
    with held_at([board], Setting(power_limit_w=400)):
        pass
    assert board.limit_w == 550


def test_a_board_that_refuses_leaves_the_others_as_they_were(fresh_home):
    good, bad = FakeBoard("GPU-1"), FakeBoard("GPU-2", refuses=True)
    with pytest.raises(MeterError), held_at([good, bad], Setting(power_limit_w=400)):
        pytest.fail("the block must not run")
    assert good.limit_w == bad.limit_w == 700
    bad.refuses = False
    restore_left_over([good, bad])


@pytest.mark.parametrize(
    "setting",
    [
        Setting(power_limit_w=50),
        Setting(clock_mhz=9000),
        Setting(),
        Setting(power_limit_w=400, clock_mhz=1000),
    ],
)
def test_settings_out_of_range_are_refused(fresh_home, setting):
    board = FakeBoard()
    with pytest.raises(MeterError), held_at([board], setting):
        pytest.fail("the block must not run")
    assert board.limit_w == 700


KILLED = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from fake_board import FileBoard
from negajoule.advise import Setting
from negajoule.advise.measured import run_at
board = FileBoard({state!r})
run_at([board], Setting(power_limit_w=400), [sys.executable, "-c", "import time; time.sleep(60)"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_undo_it_and_a_kill_is_undone_at_the_next_start(fresh_home, tmp_path, number):
    from fake_board import FileBoard

    state = tmp_path / "board"
    board = FileBoard(str(state))
    script = KILLED.format(tests=str(Path(__file__).parent), state=str(state))
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        while board.power_limit_w() != 400 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert board.power_limit_w() == 400
        process.send_signal(number)
        process.wait(20)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None or number == signal.SIGKILL else None
        process.wait(5)
    if number == signal.SIGKILL:
        assert board.power_limit_w() == 400
        assert restore_left_over([board]) == [f"a fake board: undid what process {process.pid} left behind"]
    else:
        assert process.returncode == 128 + number
    assert board.power_limit_w() == 700
    assert restore_left_over([board]) == []


def test_a_living_process_is_not_undone(fresh_home):
    board = FakeBoard()
    with held_at([board], Setting(power_limit_w=400)):
        assert restore_left_over([board]) == []
        assert board.limit_w == 400


def test_a_board_held_by_another_process_is_refused(fresh_home):
    board = FakeBoard()
    other = os.getppid()
    with held_at([board], Setting(power_limit_w=400)):
        path = next((fresh_home / "boards").iterdir())
        guard = msgspec.json.decode(path.read_bytes())
    born = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[19]
    path.write_bytes(msgspec.json.encode({**guard, "pid": other, "born": born}))
    with pytest.raises(MeterError, match="held"), held_at([board], Setting(power_limit_w=300)):
        pytest.fail("the block must not run")
    assert path.exists()


def test_a_broken_guard_file_is_named(fresh_home):
    board = FakeBoard()
    path = fresh_home / "boards" / "GPU-1.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(MeterError, match="can't be read"):
        restore_left_over([board])


# commands


def test_a_command_runs_at_a_setting(fresh_home):
    board = FakeBoard()
    assert run_at([board], Setting(power_limit_w=400), (sys.executable, "-c", "raise SystemExit(7)")) == 7
    assert board.seen_w == [400, 700]


def test_settings_are_measured_in_mixed_order(fresh_home):
    board = FakeBoard()
    wanted = [Setting(power_limit_w=400), Setting(power_limit_w=500)]
    runs = measure_settings([board], wanted, TRUE, repeats=2)
    assert sorted(setting.power_limit_w for setting, _, _ in runs) == [400, 400, 500, 500]
    assert all(energy > 0 and seconds > 0 for _, energy, seconds in runs)
    assert board.limit_w == 700


def test_measuring_refuses_what_says_nothing(fresh_home):
    board, wanted = FakeBoard(), [Setting(power_limit_w=400), Setting(power_limit_w=500)]
    with pytest.raises(ConfigError, match="exit code 3"):
        measure_settings([board], wanted, (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(ConfigError, match="can't be started"):
        measure_settings([board], wanted, ("/no/such/command",))
    with pytest.raises(ConfigError, match="two settings"):
        measure_settings([board], wanted[:1], TRUE)
    board.counts = False
    with pytest.raises(MeterError, match="counter"):
        measure_settings([board], wanted, TRUE, repeats=2)
    assert board.limit_w == 700


# NVML through a stub of its binding


def test_nvml_sets_in_its_own_units(fresh_home):
    binding = FakeNvml()
    with nvml_boards(binding) as (board,):
        assert board.power_range_w() == (200, 700)
        assert board.clocks_mhz() == (210, 1980)
        assert board.energy_j() == 5
        with held_at([board], Setting(power_limit_w=400)):
            assert binding.limit_mw == 400_000
        with held_at([board], Setting(clock_mhz=1200)):
            assert binding.locked == (1200, 1200)
    assert (binding.limit_mw, binding.locked, binding.shut) == (700_000, None, True)


def test_nvml_refusing_is_an_error_with_a_fix(fresh_home):
    binding = FakeNvml(allowed=False)
    with (
        nvml_boards(binding) as boards,
        pytest.raises(MeterError, match=r"can't set|couldn't be undone") as caught,
        held_at(boards, Setting(power_limit_w=400)),
    ):
        pytest.fail("the block must not run")
    assert caught.value.code == "M106"
    assert binding.limit_mw == 700_000
    with pytest.raises(MeterError, match="no GPU"), nvml_boards(FakeNvml(count=0)):
        pytest.fail("the block must not run")
