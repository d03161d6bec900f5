"""``negajoule explain``: all about one fact or one error code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from negajoule.cli.output import json_option, print_json
from negajoule.errors import CODES, CatalogError

if TYPE_CHECKING:
    from negajoule.catalog import Fact

__all__ = ["explain"]

_AREAS = {
    "C": "settings, options and the environment",
    "E": "the embedded engine or an upstream server",
    "F": "the catalogue of facts",
    "G": "signals of the electricity grid",
    "K": "making models smaller",
    "L": "the ledger",
    "M": "counters and measurement",
    "R": "what a client asked of the server",
    "U": "values and their units",
    "X": "optional parts",
}


@click.command()
@click.argument("key")
@json_option
def explain(key: str, as_json: bool) -> None:
    """Explain KEY: a key of the catalogue (grid.carbon.FRA) or the code of a message (M101)."""
    code = key.upper()
    if code in CODES:
        _explain_code(code, as_json=as_json)
    elif len(code) == 4 and code[1:].isdigit():
        alike = ", ".join(known for known in CODES if known[0] == code[0]) or ", ".join(CODES)
        raise CatalogError(f"no message has the code {key!r}", code="F101", fix=f"codes: {alike}")
    else:
        _explain_fact(key, as_json=as_json)


def _explain_code(code: str, *, as_json: bool) -> None:
    area = _AREAS.get(code[0], "")
    if as_json:
        print_json(
            {
                "schema": "negajoule.explanation/1",
                "kind": "code",
                "code": code,
                "meaning": CODES[code],
                "area": area,
            }
        )
        return
    click.echo(f"{code}  {CODES[code]}\n")
    click.echo(
        f"It concerns {area}. The message itself says what was tried, what is used instead and what to do."
    )


def _explain_fact(key: str, *, as_json: bool) -> None:
    from negajoule.catalog import default_catalog

    shelf = default_catalog()
    fact = shelf.lookup(key)
    others = shelf.rows(key)[1:]
    value, low, high = fact.si_interval()
    if as_json:
        print_json(
            {
                "schema": "negajoule.explanation/1",
                "kind": "fact",
                "fact": fact.to_dict(),
                "si": {"value": value, "low": low, "high": high, "unit": fact.si_unit},
                "others": [other.to_dict() for other in others],
            }
        )
        return
    lines = [
        ("value", f"{fact.value:g} {fact.unit}".removesuffix(" 1")),
        ("interval", f"{fact.low:g} to {fact.high:g}"),
        ("in SI", f"{value:.3g} {fact.si_unit} ({low:.3g} to {high:.3g})".replace(" 1 (", " (")),
        ("year", str(fact.year)),
        ("source", fact.source),
        ("licence", fact.licence or "not stated"),
        ("note", fact.note),
        ("origin", "comes with negajoule" if not fact.overridden else f"your own row in {fact.origin}"),
    ]
    click.echo(fact.key)
    for label, text in lines:
        if text:
            click.echo(f"  {label:<9} {text}")
    if others:
        click.echo("\nother rows of this key, not used" if fact.overridden else "\nother publishers")
        for other in others:
            click.echo(f"  {_in_short(other)}")


def _in_short(fact: Fact) -> str:
    return f"{fact.value:g} {fact.unit}, {fact.year}, {fact.source} ({fact.licence})"
