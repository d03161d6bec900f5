"""``negajoule budget check``: does the ledger stay within a limit? For CI."""

from __future__ import annotations

import sys

import click

from negajoule.cli.budgeted import OVER_BUDGET
from negajoule.cli.look_back import look_back_before_reading
from negajoule.cli.output import json_option, print_json
from negajoule.cli.span import span_s
from negajoule.errors import ConfigError
from negajoule.instrument.budget import Budget
from negajoule.ledger import Ledger

__all__ = ["budget"]


@click.group()
def budget() -> None:
    """Hold the ledger against a limit."""


@budget.command()
@click.option("--limit", required=True, help='What may be used: "5 kWh", "2 kgCO2e", "1.5 L".')
@click.option("--label", default=None, help="Only rows of this label or project; by default all.")
@click.option("--since", default=None, help="Only the last 30m, 12h, 7d or 4w.")
@click.option(
    "--budget-on",
    type=click.Choice(["value", "high"]),
    default="value",
    show_default=True,
    help="Judge on the best estimate or on the upper end.",
)
@json_option
def check(limit: str, label: str | None, since: str | None, budget_on: str, as_json: bool) -> None:
    """Tell whether what the ledger holds stays within a limit.

    Exit code 0 within, 3 over, 1 if it can't be judged because some rows don't know the figure.

    Example: negajoule budget check --limit "5 kWh" --label thesis --since 30d
    """
    allowed = Budget.parse(
        limit,
        judged_on="high" if budget_on == "high" else "value",
        project=label or "",
        window_s=None if since is None else span_s(since, "--since"),
    )
    look_back_before_reading()
    with Ledger(read_only=True) as ledger:
        spent = allowed.spent(ledger)
    standing = allowed.standing(None, spent, running=False)
    if as_json:
        print_json({"schema": "negajoule.budget/1", **standing.to_dict()})
    else:
        click.echo(f"{standing.state}: {standing.text}, from {_rows(spent.activities)} of {allowed.scope}")
    if standing.state == "unknown":
        raise ConfigError(
            f"the budget can't be judged: {_rows(standing.missing)} of {standing.activities} don't know it",
            code="C107",
            fix="judge another figure, for example energy instead of water",
        )
    if standing.state == "over":
        sys.exit(OVER_BUDGET)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
