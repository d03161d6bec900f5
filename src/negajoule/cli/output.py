"""Data to stdout, words to stderr; readable without colour and at any width."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["json_option", "print_json", "print_table", "say"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


def say(text: str) -> None:
    """Write words for people to stderr."""
    click.echo(text, err=True)


def print_json(data: object) -> None:
    """Write one JSON value and a line end to stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
    sys.stdout.flush()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write aligned columns to stdout; columns of numbers align right."""
    body = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(header), *(len(row[i]) for row in body), 0) for i, header in enumerate(headers)]
    right = [bool(body) and all(_numeric(row[i]) for row in body) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    click.echo("\n".join([line(list(headers)), line(["-" * width for width in widths]), *map(line, body)]))


def _numeric(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return cell in ("", "-")
    return True
