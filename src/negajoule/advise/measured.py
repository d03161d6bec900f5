"""Running a command with boards held at a setting, and at several to measure a curve."""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING

from negajoule.advise.board import held_at
from negajoule.errors import ConfigError, MeterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.advise.board import Board, Setting

__all__ = ["measure_settings", "run_at"]

_GRACE_S = 10.0


def run_at(boards: Sequence[Board], setting: Setting, command: Sequence[str]) -> int:
    """Run a command with boards held at a setting; returns its exit code.

    Raises:
        ConfigError: (C105) if the command can't be started.
        MeterError: (M106) as ``held_at``.
    """
    with held_at(boards, setting):
        return _run(command)


def measure_settings(
    boards: Sequence[Board],
    settings: Sequence[Setting],
    command: Sequence[str],
    *,
    repeats: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[Setting, float, float]]:
    """Run a command at each setting, repeats interleaved in random order, after one run apart to warm up.

    Returns:
        For each run its setting, energy of all boards [J] and time [s].

    Raises:
        ConfigError: (C105) if the command can't be started or fails, (C101) for fewer than two settings.
        MeterError: (M106) as ``held_at``, or if a board has no energy counter.
    """
    if len(settings) < 2 or repeats < 2:
        raise ConfigError("a curve needs two settings and two repeats at least", fix="--settings 300,400")
    _checked(command)
    runs = []
    draw = random.Random(seed)
    whole = len(settings) * repeats
    for _ in range(repeats):
        for setting in draw.sample(list(settings), len(settings)):
            with held_at(boards, setting):
                before = _counted(boards)
                began = time.monotonic()
                _checked(command)
                seconds = time.monotonic() - began
                runs.append((setting, _counted(boards) - before, seconds))
            if progress is not None:
                progress(len(runs), whole)
    return runs


def _counted(boards: Sequence[Board]) -> float:
    energies = [board.energy_j() for board in boards]
    known = [energy for energy in energies if energy is not None]
    if len(known) < len(energies):
        raise MeterError("a board has no energy counter", code="M106", fix="a GPU of Volta or later")
    return sum(known)


def _checked(command: Sequence[str]) -> None:
    code = _run(command)
    if code:
        raise ConfigError(f"the command ended with exit code {code}, so its energy says nothing", code="C105")


def _run(command: Sequence[str]) -> int:
    """Run to the end; if this process is told to leave, the command is first."""
    try:
        process = subprocess.Popen(list(command))
    except OSError as error:
        raise ConfigError(f"{command[0]!r} can't be started: {error.strerror}", code="C105") from None
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return 128 - code if code < 0 else code
