"""From settings to sources: which are configured, in which order, with which keys.

Keys are read from the environment only, never from a file or an argument, and never written anywhere:
``NEGAJOULE_ELECTRICITYMAPS_KEY``, ``NEGAJOULE_WATTTIME_USER``, ``NEGAJOULE_WATTTIME_PASSWORD``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from negajoule.errors import ConfigError, GridError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from negajoule.config import Settings
    from negajoule.grid.fetch import Fetch
    from negajoule.grid.signal import GridSource

__all__ = ["CATALOG", "Configured", "configured_sources", "is_configured"]

CATALOG = "catalog"
_LIVE = ("electricitymaps", "uk", "watttime")
_FILES = (".csv", ".parquet")


class Configured(NamedTuple):
    """A source that the settings name.

    Attributes:
        name: as the settings name it.
        cache_name: under which its answers are kept; ``None`` if they aren't.
        make: makes the source; raises GridError (G103) if a key or region is missing.
    """

    name: str
    cache_name: str | None
    make: Callable[[], GridSource]


def is_configured(settings: Settings) -> bool:
    """Whether anything but the catalogue is to be asked."""
    return bool(settings["grid_source"].replace(CATALOG, "").strip(" ,"))


def configured_sources(
    settings: Settings, *, environment: Mapping[str, str], fetch: Fetch, clock: Callable[[], float]
) -> list[Configured]:
    """The sources of ``grid_source``, in its order; the catalogue comes last anyway and isn't among them.

    Raises:
        ConfigError: (C101) for a source or region that can't be.
    """
    regions = _regions(settings["grid_region"])
    timeout_s: float = settings["grid_timeout_s"]
    key = _Keys(environment)

    def electricity_maps() -> GridSource:
        from negajoule.grid.electricity_maps import ElectricityMaps

        return ElectricityMaps(
            key("electricitymaps", "ELECTRICITYMAPS_KEY"),
            region=regions.get("electricitymaps"),
            timeout_s=timeout_s,
            fetch=fetch,
            clock=clock,
        )

    def united_kingdom() -> GridSource:
        from negajoule.grid.united_kingdom import UnitedKingdom

        return UnitedKingdom(region=regions.get("uk"), timeout_s=timeout_s, fetch=fetch, clock=clock)

    def watttime() -> GridSource:
        from negajoule.grid.watttime import WattTime

        if "watttime" not in regions:
            raise GridError(
                "watttime has its own names for regions",
                code="G103",
                fix="NEGAJOULE_GRID_REGION=watttime=CAISO_NORTH",
            )
        return WattTime(
            key("watttime", "WATTTIME_USER"),
            key("watttime", "WATTTIME_PASSWORD"),
            regions["watttime"],
            timeout_s=timeout_s,
            fetch=fetch,
            clock=clock,
        )

    makers = dict(zip(_LIVE, (electricity_maps, united_kingdom, watttime), strict=True))
    found = []
    for name in (part.strip() for part in settings["grid_source"].split(",")):
        if name in makers:
            region = regions.get(name)
            found.append(Configured(name, f"{name}-{region}" if region else name, _once(makers[name])))
        elif name.lower().endswith(_FILES):
            found.append(Configured(Path(name).name, None, _once(_series(name, clock))))
        elif name not in ("", CATALOG):
            raise ConfigError(
                f"{settings.origin('grid_source')}: grid_source names {name!r}, which isn't a source",
                fix=f"use {CATALOG}, {', '.join(_LIVE)}, or a file ending in {' or '.join(_FILES)}",
            )
    return found


def _series(path: str, clock: Callable[[], float]) -> Callable[[], GridSource]:
    def make() -> GridSource:
        from negajoule.grid.series_file import SeriesFile

        return SeriesFile(Path(path).expanduser(), clock=clock)

    return make


def _once(make: Callable[[], GridSource]) -> Callable[[], GridSource]:
    """Make a source when it's first needed and keep it, with its log-in or what it has read."""
    made: list[GridSource] = []

    def kept() -> GridSource:
        if not made:
            made.append(make())
        return made[0]

    return kept


def _regions(text: str | None) -> dict[str, str]:
    regions = {}
    for part in (text or "").split(","):
        name, equals, region = (word.strip() for word in part.partition("="))
        if not part.strip():
            continue
        if not equals or name not in _LIVE or not region:
            raise ConfigError(
                f"grid_region {part.strip()!r} isn't SOURCE=REGION with a source of {', '.join(_LIVE)}",
                fix="for example watttime=CAISO_NORTH,uk=13",
            )
        regions[name] = region
    return regions


class _Keys:
    """Reads keys, and never says one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, source: str, name: str) -> str:
        variable = f"NEGAJOULE_{name}"
        key = self._environment.get(variable, "").strip()
        if not key:
            raise GridError(f"{source} needs a key", code="G103", fix=f"export {variable}=...")
        if not (key.isascii() and key.isprintable()):
            raise GridError(f"{variable} holds characters that can't be sent", code="G103")
        return key
