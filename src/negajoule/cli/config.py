"""``negajoule config``: every setting, its value and its origin."""

from __future__ import annotations

import click

from negajoule.cli.output import json_option, print_json, print_table
from negajoule.config import SETTINGS, Settings, home

__all__ = ["config"]


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Show every setting, its value and where the value comes from.

    Order: argument, environment, ./negajoule.toml, config.toml in the data folder, default.
    """
    resolved = Settings().resolved()
    if as_json:
        settings = {
            name: {"value": value, "origin": origin, "meaning": SETTINGS[name].meaning}
            for name, (value, origin) in resolved.items()
        }
        print_json({"schema": "negajoule.config/1", "home": str(home()), "settings": settings})
        return
    click.echo(f"data folder: {home()}\n")
    print_table(
        ("setting", "value", "from", "environment variable", "meaning"),
        [
            (name, "-" if value is None else value, origin, SETTINGS[name].variable, SETTINGS[name].meaning)
            for name, (value, origin) in resolved.items()
        ],
    )
