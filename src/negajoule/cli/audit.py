"""``negajoule audit``: whether published figures of serving can be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from negajoule.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from negajoule.audit import Audit

__all__ = ["audit"]

_SHOWN = ("implausible", "doubtful")


@click.command()
@click.argument("table", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option(
    "--source", type=click.Choice(["article"]), default=None, help="A table that is shipped, instead."
)
@json_option
def audit(table: Path | None, source: str | None, as_json: bool) -> None:
    """Check published figures of serving: idle power, the floor of arithmetic, who was served, sums.

    TABLE is CSV or JSON with name, requests, seconds and kwh, and where it is known served, failed,
    accelerator, accelerators, parameters, tokens, bits, total_kwh and request_j.

    Example: negajoule audit --source article
    """
    from negajoule.audit import article_runs, read_runs
    from negajoule.audit import audit as judge

    if (table is None) == (source is None):
        raise click.UsageError("give a TABLE, or --source article")
    found = judge(article_runs() if table is None else read_runs(table))
    if as_json:
        print_json(_as_json(found))
        return
    print_table(
        ("run", "W each", "J/request", "verdict"),
        [
            (one.run.name, f"{one.run.mean_w:.1f}", f"{one.run.each_j:.3g}", one.verdict)
            for one in found.judged
        ],
    )
    click.echo("")
    for one in found.judged:
        for finding in one.findings:
            if finding.verdict in _SHOWN:
                click.echo(f"{one.run.name}: {finding.verdict} by {finding.rule}: {finding.text}")
    unknown = sorted(
        {
            f"{each.rule}: {each.text}"
            for one in found.judged
            for each in one.findings
            if each.verdict == "unknown"
        }
    )
    for text in unknown:
        click.echo(f"not checked, {text}")
    for ratio in found.ratios:
        model = "" if ratio.parameters is None else f" of the model of {ratio.parameters:.3g} parameters"
        left = "nothing to compare" if ratio.left is None else f"{ratio.left:.3g} times"
        click.echo(
            f"dearest over cheapest run{model}: {ratio.stated:.3g} times; without what can't be: {left}"
        )


def _as_json(found: Audit) -> dict[str, object]:
    return {
        "schema": "negajoule.audit/1",
        "implausible": found.implausible,
        "runs": [
            {
                "name": one.run.name,
                "mean_w": one.run.mean_w,
                "request_j": one.run.each_j,
                "verdict": one.verdict,
                "findings": [finding._asdict() for finding in one.findings],
            }
            for one in found.judged
        ],
        "ratios": [ratio._asdict() for ratio in found.ratios],
    }
