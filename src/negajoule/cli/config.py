"""``negajoule config``: every setting, its value and its origin."""

from __future__ import annotations

import re

import click

from negajoule.cli.output import json_option, print_json, print_table
from negajoule.config import SETTINGS, Settings, home

__all__ = ["config"]

_PASSWORD = re.compile(r"(://[^:/@\s]+):[^@/\s]+@")


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Show every setting, its value and where the value comes from.

    Order: argument, environment, ./negajoule.toml, config.toml in the data folder, default.
    """
    resolved = Settings().resolved()
    if as_json:
        settings = {
            name: {"value": _shown(value), "origin": origin, "meaning": SETTINGS[name].meaning}
            for name, (value, origin) in resolved.items()
        }
        print_json({"schema": "negajoule.config/1", "home": str(home()), "settings": settings})
        return
    click.echo(f"data folder: {home()}\n")
    print_table(
        ("setting", "value", "from", "environment variable", "meaning"),
        [
            (
                name,
                "-" if value is None else _shown(value),
                origin,
                SETTINGS[name].variable,
                SETTINGS[name].meaning,
            )
            for name, (value, origin) in resolved.items()
        ],
    )


def _shown(value: object) -> object:
    """A value without the password that may stand in an address."""
    return _PASSWORD.sub(r"\1:...@", value) if isinstance(value, str) else value
