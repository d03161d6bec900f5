"""The commands: JSON, words, and every mistake in one message."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_board import FakeNvml

import made_profiles
from negajoule.advise import nvml_board
from negajoule.cli.advise import advise
from negajoule.errors import NegajouleError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("NEGAJOULE_DATA", ROOT / "../shared/data"))
ON = ("--model", "llama-3.1-8b", "--accelerator", "h100")


def run(*arguments):
    return CliRunner().invoke(advise, arguments)


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "profile.json"
    made_profiles.made_profile({"F16": made_profiles.SLOW, "Q8_0": made_profiles.FAST}).save(path)
    return str(path)


@pytest.fixture
def curve(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("power_limit_w,energy_j,time_s\n400,60,1.3\n400,61,1.3\n700,90,1.0\n700,91,1.0\n")
    return str(path)


@pytest.fixture
def nvml(monkeypatch):
    binding = FakeNvml()
    monkeypatch.setattr(nvml_board, "require", lambda *_, **__: binding)
    return binding


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (("precision", *ON, "--batch", "8"), "advise_precision"),
        (("precision", *ON, "--batch", "1", "--engine", "transformers"), "advise_precision"),
        (("precision", *ON, "--batch", "8", "--eager"), "advise_precision"),
        (("batching", *ON, "--batch", "8"), "advise_batching"),
        (("clocks", *ON), "advise_clocks"),
        (("clocks", *ON, "--lever", "power"), "advise_clocks"),
    ],
)
def test_json_and_words(arguments, schema):
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    assert found["schema"] == f"negajoule.{schema}/1"
    assert found["decision"]["reason"]
    words = run(*arguments)
    assert words.exit_code == 0
    assert found["decision"]["reason"] in words.stdout


def test_a_profile_instead_of_names(profile):
    done = run(
        "precision", "--profile", profile, "--batch", "4", "--prompt", "64", "--output", "32", "--json"
    )
    assert json.loads(done.stdout)["decision"]["chosen"] == "Q8_0"
    done = run("batching", "--profile", profile, "--prompt", "64", "--output", "32", "--json")
    found = json.loads(done.stdout)
    assert [point["batch"] for point in found["points"]] == [1, 2, 4, 8]
    assert found["limited_by"] == "measured"
    assert run("batching", "--profile", profile, "--prompt", "64", "--output", "32").exit_code == 0


def test_a_trace_gives_the_lengths(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2023-11-16 18:15:{second:02d}.0,{100 + 10 * second},50\n" for second in range(20)
    ))  # fmt: skip
    found = json.loads(run("batching", *ON, "--trace", str(path), "--json").stdout)
    assert found["padding"]["answers"]["share"] == 0
    assert 0 < found["padding"]["prompts"]["share"] < 0.6


def test_a_plot(tmp_path, curve):
    for arguments in (("batching", *ON), ("clocks", "--curve", curve)):
        path = tmp_path / f"{arguments[0]}.json"
        assert run(*arguments, "--plot", str(path)).exit_code == 0
        assert json.loads(path.read_text())["layer"]


def test_a_measured_choice_is_applied_and_undone(fresh_home, curve, nvml, tmp_path):
    seen = tmp_path / "seen"
    command = (sys.executable, "-c", f"open({str(seen)!r}, 'w').write('ran'); raise SystemExit(5)")
    done = run("clocks", "--curve", curve, "--limit-s", "2", "--apply", "--", *command)
    assert done.exit_code == 5
    assert seen.read_text() == "ran"
    assert "power limit 400 W" in done.output
    assert nvml.limit_mw == 700_000


def test_what_would_break_a_limit_is_not_applied(fresh_home, curve, nvml):
    done = run("clocks", "--curve", curve, "--limit-s", "1.1", "--json")
    assert json.loads(done.stdout)["chosen"]["setting"] == 700


def test_a_curve_is_measured_and_kept(fresh_home, nvml, tmp_path, monkeypatch):
    joules = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", lambda _: next(joules))
    out = tmp_path / "kept.csv"
    done = run(
        "clocks", "--measure", "--lever", "power", "--settings", "400,600", "--repeats", "2", "--out",
        str(out),
        "--", sys.executable, "-c", "",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert out.read_text().splitlines()[0] == "power_limit_w,energy_j,time_s"
    assert len(out.read_text().splitlines()) == 5
    assert nvml.limit_mw == 700_000


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("precision", "--batch", "8"), "C101"),
        (("precision", "--model", "abacus", "--accelerator", "h100", "--batch", "8"), "F101"),
        (("precision", "--model", "llama-3.1-8b", "--accelerator", "abacus", "--batch", "8"), "F101"),
        (("precision", "--model", "llama-3.1-405b", "--accelerator", "h100", "--batch", "8"), "C112"),
        (("precision", *ON, "--batch", "0"), "C101"),
        (("precision", *ON, "--batch", "1e6"), "C112"),
        (("batching", *ON, "--batch", "0"), "C101"),
        (("batching", *ON, "--static-batch", "0"), "C101"),
        (("batching", *ON, "--itl-ms", "0.01"), "C101"),
        (("clocks", *ON, "--itl-ms", "0.01"), "C101"),
        (("clocks", *ON, "--batch", "0"), "C101"),
        (("clocks", "--apply"), "C101"),
        (("clocks", *ON, "--apply", "--", "true"), "C101"),
        (("clocks", *ON, "--", "true"), "C101"),
        (("clocks", "--measure", "--settings", "much", "--", "true"), "C101"),
        (("clocks", "--curve", "/no/such/file"), "C106"),
    ],
)
def test_mistakes_are_named(arguments, code):
    done = run(*arguments)
    assert isinstance(done.exception, NegajouleError)
    assert done.exception.code == code


def test_a_profile_contradicts_an_accelerator(profile, tmp_path):
    done = run("precision", "--profile", profile, "--accelerator", "h100", "--batch", "4")
    assert done.exception.code == "C101"
    other = tmp_path / "other.json"
    other.write_text('{"schema": "negajoule.profile/99"}')
    assert isinstance(run("precision", "--profile", str(other), "--batch", "4").exception, NegajouleError)
    assert run("precision", "--profile", profile, "--batch", "4000").exception.code == "C113"


@pytest.mark.slow  # a whole predictor over 500 measured rows
@pytest.mark.skipif(not (DATA / "serving").is_dir(), reason="no data folder: set NEGAJOULE_DATA")
def test_the_claims_are_what_the_findings_say():
    script = ROOT / "fitting" / "claims_quantisation.py"
    done = subprocess.run(
        [sys.executable, str(script), "--data", str(DATA)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["int8_cost_more"] == figures["int8_rows"] == 14
    assert figures["seed_time_ratio"] == pytest.approx(2.71, abs=0.01)
    assert figures["fp8_energy_median_batch_16_and_less"] == pytest.approx(1.51, abs=0.01)
    assert figures["fp8_error_energy_90"] == pytest.approx(0.29, abs=0.02)
    assert figures["fp8_error_energy_90_family"] == pytest.approx(0.41, abs=0.03)
    assert figures["nvfp4_error_time_90"] < 0.33
