"""Run the command line as a user does: in a process of its own, with an empty home."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def nj(fresh_home) -> Command:
    """Run ``negajoule`` with arguments; keywords go to ``subprocess.run`` and into the environment."""

    def command(*arguments: str, env: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "negajoule", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **(env or {})},
            **options,
        )

    return command
