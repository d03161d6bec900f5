"""Recordings of an external meter: CSV with times and watts."""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MeterFile"]

TIMES = ("time", "timestamp", "datetime", "date")
POWERS = ("watts", "power_w", "power", "w")


class MeterFile(NamedTuple):
    """Samples of a meter, by rising time.

    Attributes:
        times_s: UTC seconds since 1970 [s].
        watts: power [W].
    """

    times_s: list[float]
    watts: list[float]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a CSV whose header names a time (``time``, ``timestamp``) and a power (``watts``, ``power``).

        Times are seconds since 1970 or ISO 8601; without a zone they are taken for UTC.

        Raises:
            ConfigError: (C106) if it is missing, empty or malformed, with the line.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.reader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"can't read {path}: {error}", code="C106") from None
        header = [cell.strip().lower() for cell in rows[0]] if rows else []
        time_at = next((header.index(name) for name in TIMES if name in header), None)
        watts_at = next((header.index(name) for name in POWERS if name in header), None)
        if time_at is None or watts_at is None:
            _refuse(path, 1, f"the header must name a time and watts, not {','.join(header) or 'nothing'}")
        samples = [
            (_time(path, line, row, time_at), _watts(path, line, row, watts_at))
            for line, row in enumerate(rows[1:], start=2)
            if any(cell.strip() for cell in row)
        ]
        samples.sort()
        return cls([sample[0] for sample in samples], [sample[1] for sample in samples])

    def mean_w(self, start_s: float, end_s: float) -> float | None:
        """Mean power over a stretch; ``None`` unless samples lie in it [W]."""
        inside = self.watts[bisect_left(self.times_s, start_s) : bisect_right(self.times_s, end_s)]
        return sum(inside) / len(inside) if inside else None


def _time(path: Path, line: int, row: list[str], at: int) -> float:
    text = row[at].strip() if at < len(row) else ""
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            _refuse(path, line, f"{text!r} is no time: seconds since 1970 or ISO 8601")
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not isfinite(seconds):
        _refuse(path, line, f"{text!r} is no time")
    return seconds


def _watts(path: Path, line: int, row: list[str], at: int) -> float:
    text = row[at].strip() if at < len(row) else ""
    try:
        watts = float(text)
    except ValueError:
        _refuse(path, line, f"{text!r} is no number of watts")
    if not isfinite(watts) or watts < 0:
        _refuse(path, line, f"{text} isn't a finite power of at least 0 W")
    return watts


def _refuse(path: Path, line: int, what: str) -> NoReturn:
    raise ConfigError(f"{path}:{line}: {what}", code="C106", fix="mend the file")
