"""``negajoule route logged``: what other policies would have been worth on the server's own traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.config import home
from negajoule.errors import ConfigError

__all__ = ["logged"]


@click.command()
@click.option(
    "--log",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Default: the data folder's.",
)
@click.option("--pool", default="negajoule", show_default=True, help="Whose decisions.")
@click.option(
    "--price-j", "prices", multiple=True, type=click.FloatRange(0), help="Of a joule, in score; several."
)
@json_option
def logged(path: Path | None, pool: str, prices: tuple[float, ...], as_json: bool) -> None:
    """Judge policies on logged decisions, doubly robust: each single model, and the router at prices.

    Only answers that somebody judged (POST /v1/feedback) say how good predictions were. What was chosen by
    chance (explore in the [[pool]] table) says something of the other models; without it their values rest on
    predictions alone.

    Example: negajoule route logged --price-j 0.001 --price-j 0.01
    """
    import numpy as np

    from negajoule.route.learn import doubly_robust

    rows, judged = _read(home() / "routes" / "decisions.jsonl" if path is None else path, pool)
    models = sorted({name for row in rows for name in row["score"]} | {row["served"] for row in rows})
    predicted = np.array([[row["score"].get(name, np.nan) for name in models] for row in rows])
    energy_j = np.array(
        [[np.nan if (j := row["energy_j"].get(name)) is None else j for name in models] for row in rows]
    )
    offered = np.isfinite(predicted)
    served = np.array([models.index(row["served"]) for row in rows])
    propensity = np.array([row["propensity"] if row["served"] == row["chosen"] else 0.0 for row in rows])
    score = np.array([judged.get(row["id"], np.nan) for row in rows])
    each = np.arange(len(rows))
    policies: dict[str, Any] = {f"always {name}": np.full(len(rows), k) for k, name in enumerate(models)}
    for price in prices:
        worth = np.where(
            offered, predicted - price * np.nan_to_num(energy_j, nan=np.inf if price else 0.0), -np.inf
        )
        policies[f"router at {price:g} a joule"] = np.argmax(worth, axis=1)
    policies["as it was"] = served
    filled = np.where(offered, predicted, 0.0)
    table = []
    for name, choice in policies.items():
        could = offered[each, choice]
        share = float(could.mean())
        policy = np.zeros_like(filled)
        policy[each, choice] = 1.0
        value, error = doubly_robust(
            filled[could], policy[could], served[could], propensity[could], score[could]
        )
        used = energy_j[each, choice][could]
        table.append(
            {
                "policy": name,
                "value": None if not np.isfinite(value) else value,
                "error": None if not np.isfinite(error) else error,
                "expected_j": float(np.nanmean(used)) if np.isfinite(used).any() else None,
                "offered": share,
            }
        )
    count = int(np.isfinite(score).sum())
    if as_json:
        print_json(
            {
                "schema": "negajoule.route_logged/1",
                "decisions": len(rows),
                "judged": count,
                "explored": sum(bool(row["explored"]) for row in rows),
                "policies": table,
            }
        )
        return
    print_table(
        ("policy", "score", "+-", "expected J", "offered"),
        [
            (
                row["policy"],
                *(
                    "-" if row[name] is None else f"{row[name]:.4g}"
                    for name in ("value", "error", "expected_j")
                ),
                f"{row['offered']:.0%}",
            )
            for row in table
        ],
    )
    say(f"{len(rows)} decisions, {count} judged")
    if not count:
        say("nobody judged any: no value can be told; POST /v1/feedback")


def _read(path: Path, pool: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Decisions of a pool that looked at the prompt, and judgements by id; broken lines are left out."""
    rows: list[dict[str, Any]] = []
    judged: dict[str, float] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    if "judged" in row:
                        judged[row["id"]] = float(row["judged"])
                    elif row["pool"] == pool and row["score"]:
                        rows.append(row)
                except (ValueError, KeyError, TypeError):
                    continue
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}", code="C106", fix="let a pool answer calls first"
        ) from None
    if not rows:
        raise ConfigError(
            f"{path} holds no decision of the pool {pool!r} that looked at a prompt",
            code="C106",
            fix="give the [[pool]] table a router",
        )
    return rows, judged
