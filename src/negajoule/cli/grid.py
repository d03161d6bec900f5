"""``negajoule grid``: the carbon intensity that counts here and now, and who says so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from negajoule.cli.output import json_option, print_json
from negajoule.config import Settings
from negajoule.units.text import interval_text, number_text

if TYPE_CHECKING:
    from negajoule.grid import Location, Resolved

__all__ = ["grid"]


@click.command()
@click.argument("zone", required=False)
@json_option
def grid(zone: str | None, as_json: bool) -> None:
    """Tell the carbon intensity that is used for ZONE now, or for the place of this machine.

    Configured sources (NEGAJOULE_GRID_SOURCE) are asked; without them nothing is asked of the network.

    Example: negajoule grid FR
    """
    from negajoule.grid import locate, resolve

    settings = Settings({"zone": zone})
    place = locate(settings)
    now_s = time.time()
    found = resolve(settings, place.zone, now_s, now_s)
    if as_json:
        print_json(
            {
                "schema": "negajoule.grid/1",
                "location": {"zone": place.zone, "origin": place.origin, "note": place.note},
                **found.to_dict(),
            }
        )
        return
    for name, text in _lines(place, found):
        click.echo(f"{name:<18} {text}")


def _lines(place: Location, found: Resolved) -> list[tuple[str, str]]:
    age = "" if found.year is None else f", of {found.year}"
    span = f", at {found.to_dict()['start']}" if found.origin not in ("user", "catalogue") else ""
    kind = {"average": "the grid's mix", "forecast": "a forecast of the grid's mix"}.get(
        found.kind, found.kind
    )
    market = "not stated: set NEGAJOULE_MARKET_INTENSITY"
    lines = [
        ("zone", f"{found.zone} (from: {place.origin})"),
        ("location-based", interval_text(found.intensity, 3)),
        ("from", f"{found.origin} [{found.key}]{age}{span}"),
        ("kind", f"{kind}, {found.scope}"),
        ("market-based", market if found.market is None else interval_text(found.market, 3)),
    ]
    if found.marginal_g_per_kwh is not None:
        marginal = number_text(found.marginal_g_per_kwh, 3)
        lines.append(("marginal", f"{marginal} gCO2e/kWh: what one more kWh causes; in no total"))
    lines += [
        (
            f"source {attempt.source}",
            attempt.reason if attempt.answered else f"NO [{attempt.code}] {attempt.reason}",
        )
        for attempt in found.attempts
    ]
    lines += [
        ("note", note) for note in (place.note, *found.notes) if note and not note.startswith("grid source ")
    ]
    return lines
