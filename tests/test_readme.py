"""The README is a promise: its commands run, its programs work, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def test_the_commands_run_in_their_order():
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(lines) >= 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "negajoule"
        arguments = [sys.executable if word == "python" else word for word in arguments]
        done = run([sys.executable, "-m", "negajoule", *arguments])
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout


def test_the_program_in_the_readme_works():
    (program,) = [block for block in blocks("python") if "OpenAI" not in block]
    done = run([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Energy(value=")


def test_the_client_in_the_readme_works_against_the_real_model(served_model):
    (program,) = [block for block in blocks("python") if "OpenAI" in block]
    done = run([sys.executable, "-c", program.replace("http://127.0.0.1:8321", served_model)])
    assert done.returncode == 0, done.stderr
    assert "'unit': 'J'" in done.stdout


@pytest.mark.parametrize("target", ["run", "test"])
def test_the_make_targets_exist(target):
    assert f"make {target}" in TEXT
    assert run(["make", "-n", "-C", str(ROOT), target]).returncode == 0


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")))
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (document.parent / link).exists(), link
