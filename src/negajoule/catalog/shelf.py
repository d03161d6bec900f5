"""Looking facts up: shipped rows, several publishers of one figure, and the user's own rows.

Order of precedence:

1. A row of the user's folder (``NEGAJOULE_HOME/catalog/*.csv``) replaces the shipped one entirely.
2. Among shipped rows of one key the newest year wins; of one year, the file with the freest licence.
3. The winner's interval is widened to the value of the runner-up, another publisher of the same figure: where
   two careful sources disagree, neither may be narrower than their disagreement. The files themselves stay
   apart, because their licences must.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog.files import RawRow, family_of, find_row, parse_row, read_rows, read_text
from negajoule.config import home
from negajoule.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from negajoule.catalog.fact import Fact

__all__ = ["DATA", "Catalog", "default_catalog", "first_of", "lookup", "search"]

DATA = Path(__file__).parent / "data"
"""The folder of the files that come with the package."""

_NEAR = 5
_DECIDING = (
    "NEGAJOULE_HOME",
    "XDG_DATA_HOME",
    "HOME",
)  # what the data folder depends on: cheaper than the path


class Catalog:
    """All facts, read as they are asked for and kept.

    Args:
        folder: the user's own rows; ``None`` for the data folder's ``catalog``.

    Files are read once: a change on disk is seen by the next process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = home() / "catalog" if folder is None else folder
        self._facts: dict[str, Fact | None] = {}
        self._overrides: dict[str, Fact] | None = None

    def lookup(self, key: str) -> Fact:
        """The fact of this key.

        Raises:
            CatalogError: (F101) with near matches if there is none, (F102) if a row is malformed.
        """
        fact = self._find(key)
        if fact is None:
            raise _unknown(key, self.keys())
        return fact

    def first_of(self, keys: Iterable[str]) -> Fact:
        """The fact of the first key that has one: a ladder from the special to the general.

        Raises:
            CatalogError: (F101) if none has, (F102) if a row is malformed.
        """
        tried = []
        for key in keys:
            fact = self._find(key)
            if fact is not None:
                return fact
            tried.append(key)
        raise CatalogError(f"no fact has any of the keys {', '.join(tried) or '(none given)'}", code="F101")

    def search(self, text: str) -> list[Fact]:
        """All facts with this text in their key, by key; upper and lower case are the same.

        Raises:
            CatalogError: (F102) if a row is malformed.
        """
        text = text.lower()
        return [self.lookup(key) for key in self.keys() if text in key.lower()]

    def keys(self, start: str = "") -> list[str]:
        """Every key that starts so, sorted."""
        paths = [
            path
            for path in _files()
            if family_of(path).startswith(start) or start.startswith(family_of(path))
        ]
        known = self._own().keys() | {key for path in paths for key in _raw(path)}
        return sorted(key for key in known if key.startswith(start))

    def rows(self, key: str) -> list[Fact]:
        """Every row of a key, the one that counts first, as the files have it: what ``lookup`` chose from."""
        own = self._own().get(key)
        return ([own] if own else []) + _shipped(key)

    def _find(self, key: str) -> Fact | None:
        try:
            return self._facts[key]
        except KeyError:
            own = self._own().get(key)
            fact = self._facts[key] = _settled(_shipped(key)) if own is None else own
            return fact

    def _own(self) -> dict[str, Fact]:
        if self._overrides is None:
            found: dict[str, Fact] = {}
            for path in sorted(self._folder.glob("*.csv")):
                for key, row in read_rows(path).items():
                    if key in found:
                        raise CatalogError(
                            f"{path}:{row[0]}: column key: {key!r} stands in {found[key].origin} already",
                            code="F102",
                            fix="keep one of the two rows",
                        )
                    found[key] = parse_row(path, row, str(path))
            self._overrides = found
        return self._overrides


def default_catalog() -> Catalog:
    """The catalogue with the rows of the user's data folder."""
    environment = os.environ
    return _catalog_for(tuple(environment.get(name) for name in _DECIDING))


def lookup(key: str) -> Fact:
    """``Catalog.lookup`` of the user's catalogue."""
    return default_catalog().lookup(key)


def first_of(keys: Iterable[str]) -> Fact:
    """``Catalog.first_of`` of the user's catalogue."""
    return default_catalog().first_of(keys)


def search(text: str) -> list[Fact]:
    """``Catalog.search`` of the user's catalogue."""
    return default_catalog().search(text)


@lru_cache(maxsize=8)
def _catalog_for(_environment: tuple[str | None, ...]) -> Catalog:
    return Catalog()


@cache
def _files() -> tuple[Path, ...]:
    # The freest licence first: names without a suffix, then CC-BY-SA, MPL and ODbL, as the alphabet has it.
    return tuple(sorted(path for path in DATA.glob("*.csv") if path.name != "zones.csv"))


@cache
def _text(path: Path) -> str:
    return read_text(path)


@cache
def _raw(path: Path) -> dict[str, RawRow]:
    return read_rows(path)


def _shipped(key: str) -> list[Fact]:
    facts = [
        parse_row(path, row)
        for path in _files()
        if f"{key}.".startswith(f"{family_of(path)}.") and (row := find_row(_text(path), key))
    ]
    return sorted(facts, key=lambda fact: -fact.year)


def _settled(rows: list[Fact]) -> Fact | None:
    """The newest row, its interval widened to the value of the next."""
    if len(rows) < 2:
        return rows[0] if rows else None
    first, second = rows[:2]
    if first.low <= second.value <= first.high:
        return first
    seen = f"interval widened to {second.value:g}: {second.source}, {second.year}, {second.licence}"
    return msgspec.structs.replace(
        first,
        low=min(first.low, second.value),
        high=max(first.high, second.value),
        note=f"{first.note}; {seen}" if first.note else seen,
    )


def _unknown(key: str, known: list[str]) -> CatalogError:
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in known}
    near = [by_lower[name] for name in get_close_matches(key.lower(), by_lower, n=_NEAR, cutoff=0.7)]
    hint = f"near: {', '.join(near)}" if near else "negajoule catalog lists the families of keys"
    return CatalogError(f"no fact has the key {key!r}", code="F101", fix=hint)
