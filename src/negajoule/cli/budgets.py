"""``negajoule budgets``: what keys, teams, projects and models may use, kept by the gateway."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.config import Settings
from negajoule.ledger.accounts import WINDOWS, Terms, amount_text, open_store, parse_limit
from negajoule.ledger.accounts.account import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.ledger.accounts import Usage
    from negajoule.ledger.accounts.sql import SqlStore

__all__ = ["budgets"]


@click.group()
@click.option("--accounts", default=None, help="Where budgets are kept: postgresql://... or a file.")
@click.pass_context
def budgets(context: click.Context, accounts: str | None) -> None:
    """Budgets of the gateway: what a key, team, project or model may use, and what became of it.

    Windows are those of the calendar in UTC. A request counts to the window it was let through in.

    Example: negajoule budgets set "2 kWh" --key alice --per day
    """
    context.obj = accounts


@budgets.command(name="list")
@json_option
@click.pass_obj
def list_(place: str | None, as_json: bool) -> None:
    """Open budgets and how they stand now."""
    store = _open(place)
    try:
        _print(store.usage(), as_json)
    finally:
        store.close()


@budgets.command(name="set")
@click.argument("limit")
@click.option("--key", default=None, help="Count the requests of this API key.")
@click.option("--team", default=None, help="Count the requests of this team.")
@click.option("--project", default=None, help="Count the requests of this project.")
@click.option("--model", default=None, help="Count the requests to this model.")
@click.option(
    "--per", type=click.Choice(WINDOWS), default="month", show_default=True, help="What the limit is for."
)
@json_option
@click.pass_obj
def set_(
    place: str | None,
    limit: str,
    key: str | None,
    team: str | None,
    project: str | None,
    model: str | None,
    per: str,
    as_json: bool,
) -> None:
    """Open a budget of LIMIT, such as "2 kWh", "50 gCO2e", "1.5 L" or "20 EUR", or change its limit.

    Without --key, --team, --project or --model it counts all requests. A running gateway follows within
    seconds; a lower limit calls back nothing that is spent or held already.
    """
    given = {"key": key, "team": team, "project": project, "model": model}
    named = [(scope, name) for scope, name in given.items() if name is not None]
    if len(named) > 1:
        raise click.UsageError("give one of --key, --team, --project and --model")
    scope, name = named[0] if named else ("global", "")
    indicator, amount = parse_limit(limit)
    terms = Terms.checked(scope, name, indicator, per)
    store = _open(place)
    try:
        found = [account for account in store.accounts() if account.terms == terms]
        account = store.update(found[0].id, amount) if found else store.create(terms, amount)
        _print(store.usage(account_id=account.id), as_json)
    finally:
        store.close()
    say(f"{'changed' if found else 'opened'} budget {account.id}")


@budgets.command()
@click.argument("budget", type=int)
@click.option("--windows", type=click.IntRange(1, 1000), default=12, show_default=True, help="How many.")
@json_option
@click.pass_obj
def show(place: str | None, budget: int, windows: int, as_json: bool) -> None:
    """What became of BUDGET in its latest windows, newest first."""
    store = _open(place)
    try:
        usages = store.usage(account_id=budget, windows=windows)
    finally:
        store.close()
    _print(usages, as_json, windows=True)


@budgets.command()
@click.argument("budget", type=int)
@json_option
@click.pass_obj
def close(place: str | None, budget: int, as_json: bool) -> None:
    """Let BUDGET count no more; what it counted stays."""
    store = _open(place)
    try:
        store.close_account(budget)
        _print(store.usage(account_id=budget), as_json)
    finally:
        store.close()
    say(f"closed budget {budget}")


@budgets.command()
@json_option
@click.pass_obj
def check(place: str | None, as_json: bool) -> None:
    """Add the journal up and compare; exit code 1 if anything doesn't agree."""
    store = _open(place)
    try:
        faults = store.check()
    finally:
        store.close()
    if as_json:
        print_json({"schema": "negajoule.budgets.check/1", "faults": faults})
    else:
        click.echo("\n".join(faults) or "the books agree with the journal, and no limit was exceeded")
    if faults:
        sys.exit(1)


def _open(place: str | None) -> SqlStore:
    return open_store(Settings({"accounts": place})["accounts"])


def _print(usages: Sequence[Usage], as_json: bool, *, windows: bool = False) -> None:
    if as_json:
        print_json({"schema": "negajoule.budgets/1", "budgets": [usage.to_dict() for usage in usages]})
        return
    if not usages:
        say('there are no budgets; open one: negajoule budgets set "2 kWh" --key NAME --per day')
        return
    first = ("window from",) if windows else ("id", "of", "per")
    print_table(
        (*first, "limit", "spent", "held", "left", "requests", "refused", "resets"),
        [(*_name(usage, windows), *_amounts(usage)) for usage in usages],
    )
    lost = [usage for usage in usages if usage.presumed or usage.forfeited]
    for usage in lost:
        amounts = _text(usage, usage.presumed + usage.forfeited)
        say(f"budget {usage.account.id}: {amounts} counts as spent, because workers died and left no journal")
    for usage in usages:
        if usage.overrun:
            overrun = _text(usage, usage.overrun)
            say(f"budget {usage.account.id}: {overrun} beyond the bounds of requests: a bound is wrong")


def _name(usage: Usage, windows: bool) -> tuple[str, ...]:
    if windows:
        return ("the beginning" if usage.starts_s is None else stamp(usage.starts_s),)
    terms = usage.account.terms
    return (str(usage.account.id), f"{terms.scope} {terms.name}".strip(), terms.window)


def _amounts(usage: Usage) -> tuple[str, ...]:
    return (
        _text(usage, usage.limit),
        _text(usage, usage.spent + usage.presumed + usage.forfeited),
        _text(usage, usage.held),
        _text(usage, max(0, usage.limit - usage.charged)),
        str(usage.requests),
        str(usage.refusals),
        "closed" if usage.account.closed else "never" if usage.ends_s is None else stamp(usage.ends_s),
    )


def _text(usage: Usage, units: int) -> str:
    return amount_text(usage.account.terms.indicator, units)
