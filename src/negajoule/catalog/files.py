"""Catalogue files: CSV in, checked facts out, and no malformed row passes.

A file of the package is named after the keys it holds, ``FAMILY.csv`` or ``FAMILY_LICENCE.csv``: the part
before the first underscore starts every key in it. So the file that can hold a key is known before any is
read, and rows under a share-alike licence stay in files of their own.
"""

from __future__ import annotations

import csv
import math
import re
from typing import TYPE_CHECKING, NoReturn

from negajoule.catalog.fact import SHIPPED, Fact
from negajoule.catalog.scales import SCALES
from negajoule.errors import CatalogError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["COLUMNS", "RawRow", "family_of", "find_row", "parse_row", "read_rows", "read_text"]

COLUMNS = ("key", "value", "low", "high", "unit", "year", "source", "licence", "note")
"""The columns of a catalogue file, in this order."""

RawRow = tuple[int, list[str]]
"""Number of the line and its cells."""

_KEY = re.compile(r"[a-z][a-z0-9-]*(\.[A-Za-z0-9_+-]+)+")
_FIRST_YEAR, _LAST_YEAR = 1990, 2100


def family_of(path: Path) -> str:
    """The start of every key in a file of the package."""
    return path.stem.partition("_")[0]


def read_rows(path: Path) -> dict[str, RawRow]:
    """Read a file's rows by key, without parsing their figures.

    Raises:
        CatalogError: (F102) for an unreadable file, wrong columns, a row of the wrong length or a key given
            twice.
    """
    rows: dict[str, RawRow] = {}
    try:
        reader = csv.reader(read_text(path).splitlines(keepends=True), strict=True)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            _refuse(path, 1, f"the columns must be {','.join(COLUMNS)}, not {','.join(header) or 'nothing'}")
        for cells in reader:
            if not cells:
                continue
            line = reader.line_num
            if len(cells) != len(COLUMNS):
                _refuse(path, line, f"{len(cells)} cells instead of {len(COLUMNS)}")
            if cells[0] in rows:
                _refuse(path, line, f"column key: {cells[0]!r} stands in line {rows[cells[0]][0]} already")
            rows[cells[0]] = (line, cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(
            f"can't read {path}: {error}", code="F102", fix="mend or remove the file"
        ) from None
    return rows


def read_text(path: Path) -> str:
    """A file as text; a byte order mark, which some table programs write, is left out.

    Raises:
        OSError: if it can't be read.
        UnicodeDecodeError: if it isn't UTF-8.
    """
    return path.read_bytes().decode("utf-8").removeprefix("\ufeff")


def find_row(text: str, key: str) -> RawRow | None:
    """One row of a sound file's text, found without reading the others.

    Args:
        text: a file of the package, whose soundness the tests have checked: a line a row.
        key: the row's key.
    """
    at = text.find(f"\n{key},")
    if at < 0:
        return None
    end = text.find("\n", at + 1)
    line = text[at + 1 :] if end < 0 else text[at + 1 : end]
    return text.count("\n", 0, at) + 2, next(csv.reader([line], strict=True))


def parse_row(path: Path, row: RawRow, origin: str = SHIPPED) -> Fact:
    """Check a row and make a fact of it.

    Raises:
        CatalogError: (F102) naming file, line and column of the first thing that's wrong.
    """
    line, cells = row
    key, value_text, low_text, high_text, unit, year_text, source, licence, note = cells
    if not _KEY.fullmatch(key):
        _refuse(path, line, f"column key: {key!r} isn't a dotted name such as grid.carbon.FRA")
    value, low, high = (
        _number(path, line, column, text)
        for column, text in (("value", value_text), ("low", low_text), ("high", high_text))
    )
    if low > value:
        _refuse(path, line, f"column low: {low_text} is above the value {value_text}")
    if high < value:
        _refuse(path, line, f"column high: {high_text} is below the value {value_text}")
    if unit not in SCALES:
        _refuse(path, line, f"column unit: {unit!r} isn't one of {', '.join(SCALES)}")
    if not (year_text.isascii() and year_text.isdigit() and _FIRST_YEAR <= int(year_text) <= _LAST_YEAR):
        _refuse(path, line, f"column year: {year_text!r} isn't a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    if not source.strip():
        _refuse(path, line, "column source: empty; a figure without a source isn't a fact")
    return Fact(key, value, low, high, unit, int(year_text), source, licence, note, origin)


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        _refuse(path, line, f"column {column}: {text!r} isn't a number")
    if not math.isfinite(number) or number < 0:
        _refuse(path, line, f"column {column}: {text} isn't a finite number of at least 0")
    return number


def _refuse(path: Path, line: int, what: str) -> NoReturn:
    raise CatalogError(f"{path}:{line}: {what}", code="F102", fix="mend the row or remove it")
