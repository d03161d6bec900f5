"""``negajoule report``: totals from the ledger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from negajoule.cli.look_back import look_back_before_reading
from negajoule.cli.output import json_option, print_json, print_table
from negajoule.cli.span import span_s
from negajoule.ledger import GROUPS, Ledger
from negajoule.units import INDICATORS, Water
from negajoule.units.text import LABELS, number_text, value_text

if TYPE_CHECKING:
    from negajoule.ledger import IndicatorTotal, Totals

__all__ = ["report"]


@click.command()
@click.option("--since", default=None, help="Only the last 30m, 12h, 7d or 4w.")
@click.option(
    "--by",
    type=click.Choice(GROUPS),
    default="kind",
    show_default=True,
    help="How to group.",
)
@json_option
def report(since: str | None, by: str, as_json: bool) -> None:
    """Totals from the ledger, with their ranges and what is missing.

    Example: negajoule report --since 7d --by model
    """
    since_s = None if since is None else time.time() - span_s(since, "--since")
    look_back_before_reading()
    with Ledger(read_only=True) as ledger:
        groups = ledger.totals(since_s=since_s, by=by)
        whole = ledger.totals(since_s=since_s)
        avoided = ledger.avoided(since_s=since_s)
        path = ledger.path
    if as_json:
        print_json(
            {
                "schema": "negajoule.report/1",
                "ledger": str(path),
                "since_s": since_s,
                "by": by,
                "groups": [_as_dict(group) for group in groups],
                "total": _as_dict(whole[0]) if whole else None,
                "avoided": {**avoided._asdict(), "unit": "J"} if avoided.known else None,
            }
        )
        return
    if not whole:
        click.echo("the ledger holds nothing for this span")
        return
    rows = [_row(group.group or "(none)", group) for group in groups]
    if len(groups) > 1:
        rows.append(_row("total", whole[0]))
    print_table(
        (by, "rows", "tokens in", "tokens out", "CPU-s", "IT energy", "carbon", "water", "embodied"), rows
    )
    click.echo("\ntotal, with ranges")
    for name in INDICATORS:
        total = whole[0].indicators[name]
        if total.value is not None:
            missing = (
                f"; unknown for {total.missing} of {total.known + total.missing}" if total.missing else ""
            )
            click.echo(f"  {LABELS[name]:<18} {_range_text(name, total)}{missing}")
    if avoided.known:
        energy = _range_text("it_energy", avoided)
        click.echo(f"\navoided by the cache, in no sum above: {energy} of IT energy, {avoided.known} answers")


def _row(name: str, group: Totals) -> tuple[str, ...]:
    indicators = group.indicators
    water = [
        indicators[key] for key in ("water_onsite", "water_offsite") if indicators[key].value is not None
    ]
    litres = sum(total.value for total in water if total.value is not None)
    return (
        name if len(name) <= 40 else name[:39] + "…",
        str(group.activities),
        "-" if group.tokens_in is None else str(group.tokens_in),
        "-" if group.tokens_out is None else str(group.tokens_out),
        "-" if group.cpu_seconds is None else number_text(group.cpu_seconds, 3),
        _value("it_energy", indicators["it_energy"]),
        _value("carbon_location", indicators["carbon_location"]),
        value_text(Water.exact(litres)) if water else "unknown",
        _value("embodied", indicators["embodied"]),
    )


def _value(name: str, total: IndicatorTotal) -> str:
    return "unknown" if total.value is None else value_text(INDICATORS[name].exact(total.value))


def _range_text(name: str, total: IndicatorTotal) -> str:
    assert total.value is not None
    kind = INDICATORS[name]
    value, low, high = (
        value_text(kind.exact(number)) for number in (total.value, total.low or 0.0, total.high or 0.0)
    )
    return f"{value} ({low} to {high})"


def _as_dict(group: Totals) -> dict[str, object]:
    return {
        "group": group.group,
        "rows": group.activities,
        "seconds": group.seconds,
        "tokens_in": group.tokens_in,
        "tokens_out": group.tokens_out,
        "cpu_seconds": group.cpu_seconds,
        "indicators": {
            name: {**total._asdict(), "unit": INDICATORS[name].unit}
            for name, total in group.indicators.items()
        },
    }
