"""Where the electricity is used: said by the user, or said to be unknown.

Order: argument, environment or file, the cloud's metadata if the user allows it, the machine's time zone as a
hint, unknown. No network call is made unless ``cloud_metadata`` is set, and then only to the machine's own
metadata server. An unknown place is the world's mean with the spread of the world's grids, never a favourable
guess.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from negajoule.catalog import zones

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.config import Settings
    from negajoule.grid.cloud import CloudRegion

__all__ = ["Location", "locate", "system_timezone"]

Origin = Literal["user", "configured", "cloud metadata", "time zone", "unknown"]


class Location(NamedTuple):
    """A place and how it is known.

    Attributes:
        zone: canonical zone; ``None`` if unknown.
        origin: how it came about.
        note: the remark that goes with every footprint of this place; empty if the user said it.
    """

    zone: str | None
    origin: Origin
    note: str


def locate(
    settings: Settings,
    *,
    timezone: str | None = None,
    metadata: Callable[[], CloudRegion | None] | None = None,
) -> Location:
    """Find the place, without asking the network unless ``cloud_metadata`` is set.

    Args:
        settings: resolved settings; ``zone`` and ``cloud_metadata`` count.
        timezone: name of the machine's time zone; looked up if not given.
        metadata: asks the cloud, by default its metadata server.

    Raises:
        CatalogError: (F101) if the stated zone doesn't exist.
    """
    stated = settings["zone"]
    if stated is not None:
        origin: Origin = "user" if settings.origin("zone") == "argument" else "configured"
        return Location(zones.canonical(stated), origin, "")
    remark = ""
    if settings["cloud_metadata"]:
        found, remark = _in_cloud(metadata)
        if found is not None:
            return Location(found, "cloud metadata", remark)
    name = system_timezone() if timezone is None else timezone
    hint = zones.zone_of_timezone(name) if name else None
    if hint is not None:
        note = f"location guessed from the time zone {name}: {hint}; set NEGAJOULE_ZONE to be sure{remark}"
        return Location(hint, "time zone", note)
    note = "location unknown: the world's mean is used, with the spread of its grids; set NEGAJOULE_ZONE"
    return Location(None, "unknown", note + remark)


def _in_cloud(metadata: Callable[[], CloudRegion | None] | None) -> tuple[str | None, str]:
    """The place by the cloud's metadata, and the remark on it."""
    from negajoule.grid.cloud import cloud_region, zone_of_region

    region = (metadata or cloud_region)()
    if region is None:
        return None, "; no cloud's metadata server answered"
    where = f"{region.provider} {region.region}"
    zone = zone_of_region(region)
    if zone is None:
        return None, f"; the cloud's metadata say {where}, which isn't in the table of regions"
    return zone, f"location from the cloud's metadata: {where} draws from {zone}"


def system_timezone(root: Path = Path("/")) -> str | None:
    """Name of the machine's time zone, e.g. ``Europe/Paris``; ``None`` if it can't be told."""
    named = os.environ.get("TZ", "").lstrip(":")
    if named:
        return named
    try:
        target = (root / "etc/localtime").resolve(strict=True)
        if "zoneinfo" in target.parts:
            return "/".join(target.parts[target.parts.index("zoneinfo") + 1 :])
        return (root / "etc/timezone").read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
