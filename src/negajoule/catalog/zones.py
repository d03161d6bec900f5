"""Places: one canonical name for a country or grid zone, whatever way it's written.

Canonical names are ISO 3166-1 alpha-3 codes (``FRA``), names of grid zones or states inside a country
(``US-CAL-CISO``, ``SE-SE3``, ``US-VA``), ``EU`` and ``world``.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

from negajoule.catalog.shelf import DATA, default_catalog
from negajoule.errors import CatalogError

__all__ = ["Country", "canonical", "countries", "country_of", "keys_of", "zone_of_timezone"]

_ZONEINFO = Path("/usr/share/zoneinfo")
_CARBON = "grid.carbon."
_NEAR = 5


class Country(NamedTuple):
    """A country or territory of ISO 3166-1."""

    alpha3: str
    alpha2: str
    name: str


@cache
def countries() -> tuple[Country, ...]:
    """All countries and territories, by alpha-3 code."""
    with (DATA / "zones.csv").open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        next(reader)
        return tuple(Country(*cells) for cells in reader)


def canonical(zone: str) -> str:
    """The canonical name of a place.

    Args:
        zone: ISO alpha-2 or alpha-3 code, English name of a country, name of a grid zone as Electricity Maps
            writes it, ``EU`` or ``world``; upper and lower case are the same.

    Raises:
        CatalogError: (F101) with near matches if there is no such place.
    """
    text = zone.strip()
    found = _names().get(text.casefold())
    if found is None and "-" in text:
        found = _inner_zones().get(text.casefold())
    if found is None:
        raise _unknown(zone)
    return found


def country_of(zone: str) -> str:
    """The country that a place lies in; a country, ``EU`` and ``world`` are their own.

    Raises:
        CatalogError: (F101) if there is no such place.
    """
    place = canonical(zone)
    return canonical(place.split("-")[0]) if "-" in place else place


def keys_of(family: str, zone: str) -> tuple[str, ...]:
    """Keys to try for a place, from the special to the general: zone, country, world.

    Args:
        family: start of the keys, e.g. ``grid.water``.
        zone: as for ``canonical``.

    Raises:
        CatalogError: (F101) if there is no such place.
    """
    places = (canonical(zone), country_of(zone), "world")
    return tuple(f"{family}.{place}" for place in dict.fromkeys(places))


def zone_of_timezone(name: str, root: Path = _ZONEINFO) -> str | None:
    """The country of a time zone such as ``Europe/Paris``, as an offline hint to the place.

    Args:
        name: a name of the tz database.
        root: the folder of the tz database; the package ``tzdata`` stands in where it is missing.

    Returns:
        Alpha-3 code; ``None`` for zones of no country (``Etc/UTC``), old names without a region (``EST``) and
        names that aren't known.
    """
    if "/" not in name or name.startswith("Etc/"):
        return None
    table = _timezones(root)
    alpha2 = table.get(name) or table.get(_current_name(root, name))
    return None if alpha2 is None else _names().get(alpha2.casefold())


@cache
def _names() -> dict[str, str]:
    names = {country.name.casefold(): country.alpha3 for country in countries()}
    for country in countries():
        names[country.alpha2.casefold()] = names[country.alpha3.casefold()] = country.alpha3
    return names | {"world": "world", "eu": "EU", "uk": "GBR"}


def _inner_zones() -> dict[str, str]:
    places = (
        key.removeprefix(_CARBON) for key in default_catalog().keys("grid.carbon") if key.startswith(_CARBON)
    )
    return {place.casefold(): place for place in places if "-" in place}


def _unknown(zone: str) -> CatalogError:
    from difflib import get_close_matches

    known = _names() | _inner_zones()
    near = dict.fromkeys(known[name] for name in get_close_matches(zone.strip().casefold(), known, n=_NEAR))
    hint = f"near: {', '.join(near)}" if near else "give a code such as FRA, US-CAL-CISO or world"
    return CatalogError(
        f"no zone is called {zone!r}",
        code="F101",
        tried="ISO 3166 codes, names of countries, grid zones of Electricity Maps",
        fix=f"{hint}; negajoule catalog grid.carbon lists all",
    )


@cache
def _timezones(root: Path) -> dict[str, str]:
    """Alpha-2 code by name; of several countries the first, which has most people."""
    for name in ("zone.tab", "zone1970.tab"):
        text = _tz_file(root, name)
        if text:
            lines = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
            return {cells[2]: cells[0].split(",")[0] for cells in lines if len(cells) > 2}
    return {}


@cache
def _current_name(root: Path, name: str) -> str:
    """What an old name such as ``Asia/Calcutta`` is called now; empty if it has no other name."""
    for line in _tz_file(root, "tzdata.zi").splitlines():
        if line.startswith("L ") and line.endswith(f" {name}"):
            return line.split(" ")[1]
    return ""


def _tz_file(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except OSError:
        return _packaged_tz_file(name)


def _packaged_tz_file(name: str) -> str:
    from importlib.resources import files

    try:
        return (files("tzdata") / "zoneinfo" / name).read_text(encoding="utf-8")
    except (ModuleNotFoundError, OSError):
        return ""
