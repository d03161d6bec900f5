"""``negajoule simulate``: tables for people, JSON for programs, one message for a mistake."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SERVED = ("--model", "llama-3.1-8b", "--accelerator", "h100")
FEW = ("--requests", "60")


def test_it_tells_latency_energy_and_doubt(nj):
    done = nj("simulate", "poisson:4", *SERVED, *FEW, "--carbon", "300", "--release", "join:2")
    assert done.returncode == 0, done.stderr
    for words in (
        "60 served",
        "first token",
        "whole answer",
        "prefill",
        "J/request",
        "emissions",
        "modelled",
    ):
        assert words in done.stdout
    assert done.stderr == ""


def test_json_agrees_with_itself(nj, tmp_path):
    path = tmp_path / "vidur.csv"
    done = nj("simulate", "fixed:0.1", *SERVED, *FEW, "--json", "--replicas", "2", "--vidur", str(path))
    data = json.loads(done.stdout)
    assert data["schema"] == "negajoule.simulate/1"
    assert data["requests"]["served"] == 60
    assert sum(data["energy_j"].values()) == pytest.approx(data["total_j"])
    assert sum(data["energy_by_hour_j"]) == pytest.approx(data["total_j"])
    assert data["carbon_g"] is None
    assert len(path.read_text().splitlines()) == 61


def test_verdicts_go_to_stderr(nj):
    done = nj("simulate", "poisson:300", *SERVED, "--requests", "800", "--most-open", "50")
    assert done.returncode == 0
    assert "overloaded" in done.stderr
    assert "refused" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.csv", *SERVED), "C106"),
        (("poisson:fast", *SERVED), "poisson:RATE"),
        (("poisson:4", "--model", "llama-3.1-8b"), "--accelerator is missing"),
        (("poisson:4", *SERVED, "--release", "sometimes"), "join:WAIT"),
        (("poisson:4", *SERVED, "--release", "join:soon"), "join:WAIT"),
        (("poisson:4", *SERVED, "--power-cap", "20"), "below"),
        (("poisson:4", *SERVED, "--carbon", "low"), "row of numbers"),
    ],
)
def test_a_mistake_is_one_message(nj, arguments, words):
    done = nj("simulate", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "simulate.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_the_commands_of_the_guide_run(nj, line):
    program, *arguments = shlex.split(line)
    assert program == "negajoule"
    done = nj(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_program_of_the_guide_runs():
    (program,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "1000"
