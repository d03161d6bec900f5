"""Write a catalogue file, or check that the one in the package is what its script would write."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

PACKAGE_DATA = Path(__file__).parent.parent / "src/negajoule/catalog/data"
COLUMNS = ("key", "value", "low", "high", "unit", "year", "source", "licence", "note")


class Row(NamedTuple):
    """A row of a catalogue file; figures are rounded when it is written."""

    key: str
    value: float
    low: float
    high: float
    unit: str
    year: int
    source: str
    licence: str
    note: str = ""


class Arguments(NamedTuple):
    """What every fitting script takes."""

    data: Path
    check: bool


def arguments(purpose: str) -> Arguments:
    """Read ``--data DIR`` (default ``NEGAJOULE_DATA``, else ``../shared/data``) and ``--check``."""
    parser = argparse.ArgumentParser(description=purpose)
    default = os.environ.get("NEGAJOULE_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help=f"folder of the data [{default}]")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    given = parser.parse_args()
    folder = given.data / "measurement"
    if not folder.is_dir():
        parser.error(f"{folder} isn't a folder; give --data DIR")
    return Arguments(folder, given.check)


def fingerprint(path: Path) -> str:
    """SHA-256 of a source file, printed and shortened to 12 digits for the rows' notes."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path.name}  sha256 {digest}")
    return digest[:12]


def figure(number: float) -> str:
    """A figure with three significant digits and no exponent for everyday sizes."""
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:.0f}"


def settle(files: dict[str, list[Row]], *, check: bool) -> None:
    """Write the files, or compare them; ends the process with 1 if any is stale."""
    stale = []
    for name, rows in files.items():
        path = PACKAGE_DATA / name
        text = _csv_text(rows)
        print(f"{name}: {len(rows)} rows, {len(text)} bytes")
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"stale: {', '.join(stale)}; run this script without --check", file=sys.stderr)
        sys.exit(1)


def _csv_text(rows: list[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(rows):
        value, low, high = figure(row.value), figure(row.low), figure(row.high)
        writer.writerow((row.key, value, low, high, *row[4:]))
    return stream.getvalue()
