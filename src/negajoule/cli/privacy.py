"""``negajoule privacy``: what is stored, where and how much; what never is; what leaves this machine."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from negajoule.cli.output import json_option, print_json, print_table
from negajoule.cli.stored import MEMORY, NEVER, SENT, STORED
from negajoule.config import home

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.cli.stored import Place

__all__ = ["privacy"]

_BESIDES = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database


@click.command()
@json_option
def privacy(as_json: bool) -> None:
    """Tell what is stored, where and how much of it; what never is; what leaves this machine, and when.

    Prompts and answers are never stored, but for those of batches that clients leave here on purpose.
    """
    found = [(place, _measure(place)) for place in STORED]
    if as_json:
        print_json(
            {
                "schema": "negajoule.privacy/1",
                "home": str(home()),
                "stored": [{**_as_dict(place), **figures} for place, figures in found],
                "memory": MEMORY,
                "never": list(NEVER),
                "sent": SENT,
            }
        )
        return
    click.echo(f"data folder: {home()}\n")
    print_table(
        ("what", "where", "bytes", "rows"),
        [
            (
                place.name,
                place.pattern,
                f"{figures['bytes']:,}" if figures["files"] else "-",
                "-" if figures["rows"] is None else f"{figures['rows']:,}",
            )
            for place, figures in found
        ],
    )
    for place in STORED:
        click.echo(f"\n{place.name}: {place.holds}\n  until {place.until}")
        for table in place.tables:
            click.echo(f"  {table.name}: {'; '.join(table.columns)}")
    click.echo("\nkept in a server's memory only if you set")
    for setting, text in MEMORY.items():
        click.echo(f"  {setting}: {text}")
    click.echo("\nnever stored:")
    for text in NEVER:
        click.echo(f"  {text}")
    click.echo("\nleaves this machine only if you set")
    for setting, text in SENT.items():
        click.echo(f"  {setting}: {text}")


def _as_dict(place: Place) -> dict[str, Any]:
    return {
        "name": place.name,
        "where": place.pattern,
        "holds": place.holds,
        "until": place.until,
        "tables": {table.name: table.columns for table in place.tables},
    }


def _measure(place: Place) -> dict[str, int | None]:
    """Files, bytes and rows of a place; rows are unknown where there are none or they can't be counted."""
    folder = home()
    files = sorted(path for path in folder.glob(place.pattern) if path.is_file())
    besides = [path.with_name(path.name + end) for path in files for end in _BESIDES]
    return {
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in (*files, *besides) if path.exists()),
        "rows": _rows(place, files) if files else None,
    }


def _rows(place: Place, files: list[Path]) -> int | None:
    try:
        if place.tables:
            return sum(_rows_of(path, [table.name for table in place.tables]) for path in files)
        if place.pattern.endswith((".jsonl", ".csv")):
            return sum(path.read_bytes().count(b"\n") for path in files)
    except (sqlite3.Error, OSError):
        return None
    return None


def _rows_of(path: Path, tables: list[str]) -> int:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return sum(int(db.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]) for table in tables)
