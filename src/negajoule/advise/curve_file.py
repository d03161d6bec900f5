"""Curves in files: measured energy and time by clock or power limit, as CSV.

Columns: ``clock_mhz`` or ``power_limit_w``, ``energy_j``, ``time_s``; optional ``token_s``, ``prefill_s``.
Rows of one setting are repeats: the mean counts, their spread is the interval.
"""

from __future__ import annotations

import csv
from math import isfinite, sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from negajoule.advise.slower import CurvePoint
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["read_curve", "write_curve"]

_SETTINGS = {"clock_mhz": "MHz", "power_limit_w": "W"}
_NEEDED = ("energy_j", "time_s")
_OPTIONAL = ("token_s", "prefill_s")
_STUDENT = {2: 6.314, 3: 2.920, 4: 2.353, 5: 2.132, 6: 2.015, 7: 1.943, 8: 1.895, 9: 1.860, 10: 1.833}
"""95 % quantiles of Student's distribution by number of repeats."""


def read_curve(path: Path) -> tuple[CurvePoint, ...]:
    """A curve, one point a setting, lowest first.

    A setting measured once has no interval of its own and is given the widest of the others; if none has
    repeats, the file can't show a saving and is refused.

    Raises:
        ConfigError: (C106) for a file that can't be read, lacks a column or has values that can't be.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} can't be read as CSV: {error}", code="C106") from None
    columns = set(rows[0]) if rows else set()
    setting = next((name for name in _SETTINGS if name in columns), None)
    missing = [name for name in _NEEDED if name not in columns]
    if setting is None or missing:
        raise ConfigError(
            f"{path} lacks the columns {', '.join([*missing, *([] if setting else ['clock_mhz'])])}",
            code="C106",
            fix="clock_mhz or power_limit_w, energy_j, time_s",
        )
    groups: dict[float, list[dict[str, str | None]]] = {}
    for number, row in enumerate(rows, 2):
        groups.setdefault(_number(path, number, row, setting), []).append(row)
        for name in _NEEDED:
            _number(path, number, row, name)
    widths = {key: _width([float(row["energy_j"] or 0) for row in group]) for key, group in groups.items()}
    known = [width for width in widths.values() if width is not None]
    if not known:
        raise ConfigError(
            f"{path} has each setting once: nothing tells noise from a saving",
            code="C106",
            fix="repeat settings",
        )
    points = []
    for key in sorted(groups):
        group = groups[key]
        energy = fmean(float(row["energy_j"] or 0) for row in group)
        width = widths[key]
        share = max(known) if width is None else width
        times = {
            name: fmean(float(row[name] or 0) for row in group)
            if all(row.get(name) for row in group)
            else None
            for name in (*_NEEDED, *_OPTIONAL)
        }
        points.append(
            CurvePoint(
                setting=key,
                unit=_SETTINGS[setting],
                energy_j=energy,
                low_j=energy * max(0.0, 1.0 - share),
                high_j=energy * (1.0 + share),
                time_s=times["time_s"] or 0.0,
                token_s=times["token_s"],
                prefill_s=times["prefill_s"],
            )
        )
    return tuple(points)


def write_curve(path: Path, unit: str, runs: Sequence[tuple[float, float, float]]) -> None:
    """Keep measured runs: (setting, energy [J], time [s]).

    Raises:
        ConfigError: (C106) if it can't be written.
    """
    column = next(name for name, known in _SETTINGS.items() if known == unit)
    try:
        with path.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow((column, *_NEEDED))
            writer.writerows(runs)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}", code="C106") from None


def _number(path: Path, line: int, row: dict[str, str | None], name: str) -> float:
    try:
        value = float(row[name] or "")
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and value > 0):
        raise ConfigError(
            f"{path}, line {line}: {name} is {row[name]!r}", code="C106", fix="a number above 0"
        )
    return value


def _width(energies: list[float]) -> float | None:
    """Half of the 90 % interval of the mean, as a share of it; None for a single run."""
    count = len(energies)
    if count < 2:
        return None
    student = _STUDENT.get(count, _STUDENT[max(_STUDENT)])
    return student * stdev(energies) / sqrt(count) / fmean(energies)
