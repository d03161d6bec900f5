"""``negajoule catalog``: the facts behind the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from negajoule.cli.output import json_option, print_json, print_table, say

if TYPE_CHECKING:
    from negajoule.catalog import Fact

__all__ = ["catalog"]


@click.command()
@click.argument("pattern", default="")
@json_option
def catalog(pattern: str, as_json: bool) -> None:
    """List the facts whose key holds PATTERN, or that belong to a place of that name.

    Without PATTERN: the families of keys (with --json: every fact). Your own rows in the data folder,
    catalog/*.csv, replace those that come with negajoule.
    """
    from negajoule.catalog import search

    if not pattern and not as_json:
        _print_families()
        return
    facts = search(pattern) or _facts_of_place(pattern)
    if as_json:
        print_json({"schema": "negajoule.catalog/1", "facts": [fact.to_dict() for fact in facts]})
    elif facts:
        print_table(
            ("key", "value", "low", "high", "unit", "year", "licence", "source"),
            [
                (f.key, f"{f.value:g}", f"{f.low:g}", f"{f.high:g}", f.unit, f.year, f.licence, f.source)
                for f in facts
            ],
        )
    own = sum(fact.overridden for fact in facts)
    if own:
        say(f"{own} of {len(facts)} are your own rows")
    if not facts:
        say(f"no key holds {pattern!r}, no place has that name; negajoule catalog lists the families")


def _facts_of_place(name: str) -> list[Fact]:
    from negajoule.catalog import search, zones
    from negajoule.errors import CatalogError

    try:
        place = zones.canonical(name)
    except CatalogError:
        return []
    return [fact for fact in search(place) if fact.key.endswith(f".{place}")]


def _print_families() -> None:
    from negajoule.catalog import search

    families: dict[str, list[Fact]] = {}
    for fact in search(""):
        words = fact.key.split(".")
        families.setdefault(".".join(words[: 2 if len(words) > 2 else 1]), []).append(fact)
    print_table(
        ("family", "rows", "years", "units"),
        [
            (
                name,
                len(facts),
                _years([fact.year for fact in facts]),
                ", ".join(sorted({fact.unit for fact in facts})),
            )
            for name, facts in sorted(families.items())
        ],
    )
    say("negajoule catalog PATTERN lists rows, negajoule explain KEY tells all about one")


def _years(years: list[int]) -> str:
    return str(min(years)) if min(years) == max(years) else f"{min(years)}-{max(years)}"
