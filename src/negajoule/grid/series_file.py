"""The user's own series: a CSV or Parquet file with the columns ``time``, ``g_per_kwh``, perhaps ``zone``.

``time`` is the start of an interval and says its time zone (``2026-01-31T12:00Z``); ``g_per_kwh`` is a
location-based intensity. An interval lasts until the next time of its zone, but never longer than twice the
usual distance: what lies beyond is a gap, and a gap isn't filled. Without a ``zone`` the series holds
for whatever place is asked for.
"""

from __future__ import annotations

import csv
import statistics
import time
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from negajoule.catalog import zones
from negajoule.errors import CatalogError, GridError
from negajoule.extras import require
from negajoule.grid.signal import Signal, Slot, moment_s, orderly, plausible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["SeriesFile"]

_HOUR_S = 3600.0
_NEEDED = ("time", "g_per_kwh")


class SeriesFile:
    """Read the user's series; read again when the file changes.

    Args:
        path: a file ending in ``.csv`` or ``.parquet``.
        clock: UTC seconds since 1970 [s].
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._read: tuple[float, dict[str, tuple[Slot, ...]]] | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def intensity(self, zone: str, start_s: float, end_s: float) -> Signal:
        """The intervals that touch a span.

        Raises:
            GridError: (C106) for a file that can't be read or holds a bad row, (G103) for another place.
            ExtraMissingError: (X101) for Parquet without pyarrow.
        """
        by_zone = self._slots()
        slots = by_zone.get(zone) or by_zone.get("")
        if slots is None:
            raise GridError(f"{self.name} holds {', '.join(sorted(by_zone))}, not {zone}", code="G103")
        touching = tuple(slot for slot in slots if slot.end_s > start_s and slot.start_s <= end_s)
        return Signal(zone, "average", "as given", self.name, self._clock(), touching)

    def _slots(self) -> dict[str, tuple[Slot, ...]]:
        try:
            changed_s = self.path.stat().st_mtime
            if self._read is None or self._read[0] != changed_s:
                rows = self._parquet() if self.path.suffix == ".parquet" else self._csv()
                self._read = changed_s, self._grouped(rows)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise GridError(f"can't read {self.path}: {error}", code="C106") from None
        return self._read[1]

    def _csv(self) -> Iterator[tuple[int, str, object, object]]:
        with self.path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            self._check_columns(reader.fieldnames or [])
            for row in reader:
                try:
                    grams: object = float(row["g_per_kwh"])
                except (TypeError, ValueError):
                    self._refuse(reader.line_num, f"{row['g_per_kwh']!r} isn't a number")
                yield reader.line_num, row.get("zone") or "", row["time"], grams

    def _parquet(self) -> Iterator[tuple[int, str, object, object]]:
        parquet = require("pyarrow.parquet", extra="grid", purpose="read Parquet files")
        pyarrow = require("pyarrow", extra="grid", purpose="read Parquet files")
        try:
            names = parquet.read_schema(self.path).names
            self._check_columns(names)
            table = parquet.read_table(self.path, columns=[*_NEEDED, *(["zone"] if "zone" in names else [])])
        except pyarrow.ArrowException as error:
            raise GridError(f"can't read {self.path}: {error}", code="C106") from None
        columns = table.to_pydict()
        places = columns.get("zone") or [""] * table.num_rows
        for number, (place, at, grams) in enumerate(
            zip(places, columns["time"], columns["g_per_kwh"], strict=True), start=1
        ):
            yield number, place or "", at, grams

    def _grouped(self, rows: Iterator[tuple[int, str, object, object]]) -> dict[str, tuple[Slot, ...]]:
        points: dict[str, dict[float, float]] = {}
        canonical: dict[str, str] = {"": ""}
        for line, place, at, grams in rows:
            try:
                if place not in canonical:
                    canonical[place] = zones.canonical(place)
                value = plausible(grams, "as given", source=self.name)
            except (CatalogError, GridError) as error:
                self._refuse(line, error.message)
            series = points.setdefault(canonical[place], {})
            at_s = self._seconds(line, at)
            if series.setdefault(at_s, value) != value:
                self._refuse(line, f"a second intensity for {at}")
        if not points:
            self._refuse(1, "no rows")
        return {place: self._intervals(series) for place, series in points.items()}

    def _intervals(self, series: dict[float, float]) -> tuple[Slot, ...]:
        times = sorted(series)
        distances = [after - before for before, after in pairwise(times)]
        usual_s = statistics.median(distances) if distances else _HOUR_S
        lasts = [usual_s if distance > 2 * usual_s else distance for distance in distances]
        slots = [
            Slot(at_s, at_s + last_s, series[at_s])
            for at_s, last_s in zip(times, [*lasts, usual_s], strict=True)
        ]
        return orderly(slots, source=self.name)

    def _seconds(self, line: int, at: object) -> float:
        try:
            return moment_s(at.isoformat() if isinstance(at, datetime) else str(at), source=self.name)
        except GridError as error:
            self._refuse(line, error.message)

    def _check_columns(self, names: object) -> None:
        found = list(names) if isinstance(names, list | tuple) else []
        missing = [name for name in _NEEDED if name not in found]
        if missing:
            self._refuse(1, f"no column {' or '.join(missing)} among {', '.join(map(str, found)) or 'none'}")

    def _refuse(self, line: int, what: str) -> NoReturn:
        raise GridError(f"{self.path}:{line}: {what}", code="C106", fix="mend the row or remove it")
