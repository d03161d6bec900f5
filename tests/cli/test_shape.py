"""``negajoule shape``: the choice, what a server is told of it, and one message for a mistake."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from negajoule.shape.live import read_rules
from servers import serve

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "shape.md").read_text(encoding="utf-8")

SERVED = ("--model", "llama-3.1-8b", "--accelerator", "h100")
ASKED = ("shape", "poisson:1", "--requests", "210", "--answer", "40", *SERVED)


def csv(path, *rows):
    path.write_text("arrival_s,prompt_tokens,answer_tokens\n" + "\n".join(rows) + "\n")
    return str(path)


def test_what_is_saved_holds_calls_in_a_server(nj, tmp_path):
    path = tmp_path / "plan.toml"
    for _ in range(2):  # what it wrote itself, it may write over
        done = nj(*ASKED, "--slo", "p95<=60s", "--save", str(path), "--json")
        assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    (rule,) = read_rules(tomllib.loads(path.read_text())["shape"])
    assert rule.promise.limit_s == 60.0
    assert rule.predicted_s == pytest.approx(data["promises"][0]["reached_s"], rel=1e-4)
    assert data["gain"] > 1.0
    assert "SIGHUP" in done.stderr


def test_money_is_counted_in_its_currency(nj):
    done = nj(*ASKED, "--slo", "p95<=60s", "--objective", "money", "--price", "0.25 EUR", "--json")
    data = json.loads(done.stdout)
    assert (data["objective"], data["unit"]) == ("money", "EUR")
    assert data["at_once_per_request"] > data["cost_per_request"] > 0.0


def test_it_says_when_timing_cannot_help(nj, tmp_path):
    done = nj(*ASKED, "--slo", "p95<=10ms", "--save", str(tmp_path / "plan.toml"))
    assert done.returncode == 0
    assert "timing cannot help here" in done.stdout
    assert "isn't kept even when nobody is held" in done.stdout
    assert "[[shape]]" not in (tmp_path / "plan.toml").read_text()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "C106"),
        (["0,10,10", "soon,10,10"], "C106"),
        (["0,10,10", "1,-5,10"], "C106"),
        (["0,10,10", "1,10,10"], "too few"),
    ],
)
def test_a_trace_that_cant_be_is_named(nj, tmp_path, rows, words):
    done = nj("shape", csv(tmp_path / "trace.csv", *rows), "--slo", "p95<=10s", *SERVED)
    assert done.returncode != 0
    assert words in done.stderr
    assert "trace.csv" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--slo", "fast"), "p95<=10s"),
        (("--slo", "p95<=-3s"), "p95<=10s"),
        (("--slo", "batch:p95<=10s"), "'batch'"),
        (("--slo", "p95<=10s", "--objective", "money"), "price"),
        (("--slo", "p95<=10s", "--objective", "money", "--price", "cheap"), "0.25 EUR"),
        (("--slo", "p95<=10s", "--objective", "money", "--price", "x EUR"), "--price"),
        (("--slo", "p95<=10s", "--objective", "carbon", "--carbon", "clean"), "--carbon"),
        (("--slo", "p95<=10s", "--objective", "carbon", "--carbon", "-5"), "below 0"),
        (("--slo", "p95<=10s", "--lever", "clocks"), "lower clocks"),
    ],
)
def test_mistakes_get_one_message(nj, arguments, words):
    done = nj(*ASKED, *arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_settings_file_isnt_written_over(nj, tmp_path):
    path = tmp_path / "negajoule.toml"
    path.write_text('zone = "FR"\n')
    done = nj(*ASKED, "--slo", "p95<=60s", "--save", str(path))
    assert done.returncode != 0
    assert "wasn't written by this command" in done.stderr
    assert path.read_text() == 'zone = "FR"\n'


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.slow  # two searches
def test_the_guides_commands_run(nj, tmp_path):
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "negajoule"
        done = nj(*arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout


def test_the_guides_tables_are_rules():
    for block in blocks("toml"):
        assert read_rules(tomllib.loads(block)["shape"])


def test_the_guides_batch_runs(fresh_home):
    (program,) = blocks("python")
    with serve(fresh_home, "--fake-engine") as server:
        program = program.replace("http://127.0.0.1:8321", server.url).replace(
            "smollm2-135m-instruct", "fake"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" J\n")
    assert not list((fresh_home / "batches" / "files").iterdir())
