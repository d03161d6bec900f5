"""The guides of budgets and of the live view are promises: what they show runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def blocks(guide: str, language: str) -> list[str]:
    text = (GUIDES / guide).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("guide", ["budgets.md", "watch.md"])
def test_its_commands_run_in_their_order(nj, guide):
    lines = [line for block in blocks(guide, "sh") for line in block.splitlines()]
    assert len(lines) >= 2
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "negajoule"
        done = nj(*(sys.executable if word == "python" else word for word in arguments))
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout


def test_its_program_runs():
    (program,) = blocks("budgets.md", "python")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True BudgetWarning\n"), done.stderr
