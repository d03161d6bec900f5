"""``negajoule route``: learn which model answers what, judge it, ask it, replay it under a budget."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.cli.route_logged import logged
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.route import Outcomes, RouteDecision, RouterFile

__all__ = ["route"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_LEAST_REPLAYED = 30
_BYTES_PER_TOKEN = 4


def _data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option(
            "--data",
            type=click.Path(file_okay=False, path_type=Path),
            required=True,
            help="Folder with queries.parquet and outcomes.parquet.",
        ),
        click.option("--source", default=None, help="Whose queries; needed if there are several."),
        click.option(
            "--beyond",
            type=click.FloatRange(0, 1, max_open=True),
            default=0.0,
            help="Only queries that 'train --share' of this number left out.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def route() -> None:
    """Send each question to the model that answers it well for the least energy."""


route.add_command(logged)


@route.command("train")
@click.argument("queries", type=_FILE)
@click.argument("outcomes", type=_FILE)
@click.option("--out", type=_FILE, required=True, help="The router, for the server's [[pool]] tables.")
@click.option("--source", default=None, help="Whose queries; needed if there are several.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Of the queries, drawn by their text, so that the rest can judge.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds.")
@json_option
def train_command(
    queries: Path, outcomes: Path, out: Path, source: str | None, share: float, seed: int, as_json: bool
) -> None:
    """Learn a router from outcomes: which model did how well on which query.

    QUERIES and OUTCOMES are Parquet tables: query_id, source, benchmark, prompt; and query_id, model, score
    (0..1), in_tokens, out_tokens, energy_j_model. Gaps are allowed. The file that is written holds no query.

    Example: negajoule route train queries.parquet outcomes.parquet --out router.npz --share 0.6
    """
    from negajoule.route import read_outcome_files, train

    table = read_outcome_files(queries, outcomes, source)
    file = train(_drawn(table, share, beyond=False), seed=seed)
    file.save(out)
    figures = ("mean_score", "mean_energy_j", "input_j", "output_j")
    models = [
        {"model": model, **{name: float(getattr(file, name)[column]) for name in figures}}
        for column, model in enumerate(file.models)
    ]
    if as_json:
        print_json(
            {
                "schema": "negajoule.route_train/1",
                "file": str(out),
                "bytes": out.stat().st_size,
                "trained_on": file.trained_on,
                "tasks": file.tasks,
                "terms": len(file.terms),
                "models": models,
            }
        )
        return
    print_table(
        ("model", "mean score", "J/query", "J/token in", "J/token out"),
        [
            (
                row["model"],
                f"{row['mean_score']:.3f}",
                *(f"{row[name]:.4g}" for name in ("mean_energy_j", "input_j", "output_j")),
            )
            for row in models
        ],
    )
    say(
        f"{out}: learned from {file.trained_on} queries in {len(file.tasks)} tasks; "
        "mean scores are means over tasks"
    )


@route.command("evaluate")
@click.argument("file", type=_FILE)
@_data_options
@click.option("--plot", type=_FILE, default=None, help="The curve, as .svg, .png or .json.")
@click.option("--no-guard", is_flag=True, help="Take the learned choice also where it isn't surely better.")
@json_option
def evaluate_command(
    file: Path,
    data: Path,
    source: str | None,
    beyond: float,
    plot: Path | None,
    no_guard: bool,
    as_json: bool,
) -> None:
    """Judge a router: curve, energy at equal accuracy, fair split, regret, calibration, baselines.

    On queries that it was trained on it looks better than it is; see --beyond.

    Example: negajoule route evaluate router.npz --data outcomes --beyond 0.6 --plot curve.svg
    """
    import msgspec

    from negajoule.route import evaluate, load_router_file
    from negajoule.route.chart import curve_chart
    from negajoule.route.evaluation import table_text

    outcomes = _read(data, source, beyond)
    found = evaluate(load_router_file(file), outcomes, safe=not no_guard)
    if plot is not None:
        curve_chart(found, plot)
    if as_json:
        print_json({"schema": "negajoule.route_evaluation/1", **msgspec.to_builtins(found, enc_hook=_plain)})
        return
    click.echo(table_text(found))


@route.command("explain")
@click.argument("file", type=_FILE)
@click.option("--prompt", required=True, help="What is asked; may be empty.")
@click.option("--model", "models", multiple=True, help="A candidate; by default all that the router knows.")
@click.option("--tokens-in", type=click.IntRange(0), default=None, help="Of the prompt; default a quarter.")
@click.option("--max-tokens", type=click.IntRange(1), default=None, help="Limit of the answer.")
@click.option(
    "--price-j", type=click.FloatRange(0), default=0.0, show_default=True, help="Of a joule, in score."
)
@json_option
def explain_command(
    file: Path,
    prompt: str,
    models: tuple[str, ...],
    tokens_in: int | None,
    max_tokens: int | None,
    price_j: float,
    as_json: bool,
) -> None:
    """Show which model would answer a prompt, what is expected of each, and why.

    Example: negajoule route explain router.npz --prompt "What is 2 plus 2?" --price-j 0.001
    """
    from negajoule.route import Candidate, Prices, Router

    router = Router.load(file)
    candidates = [Candidate(model=name, most_tokens=max_tokens) for name in models or router.file.models]
    if tokens_in is None:
        tokens_in = -(-len(prompt.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)
    decision = router.decide(prompt, tokens_in, candidates, Prices(per_joule=price_j))
    if as_json:
        import msgspec

        print_json({"schema": "negajoule.route/1", **msgspec.to_builtins(decision, enc_hook=_plain)})
        return
    _report(decision)


def _report(decision: RouteDecision) -> None:
    click.echo(f"answers  {decision.chosen}")
    click.echo(f"because  {decision.reason}")
    click.echo(f"task     {decision.task} ({decision.task_probability:.0%}), novelty {decision.novelty:.2f}")
    click.echo("")
    print_table(
        ("model", "score", "+-", "tokens", "J", "worth"),
        [
            (
                view.model + ("" if view.known else " (new)"),
                f"{view.score:.3f}",
                f"{view.error:.3f}",
                f"{view.tokens:.0f}",
                "-" if view.energy_j is None else f"{view.energy_j:.4g}",
                f"{view.worth:.4f}",
            )
            for view in decision.candidates
        ],
    )


@route.command("simulate")
@click.argument("file", type=_FILE)
@_data_options
@click.option("--budget", required=True, help="40% of the best single model's joules, or 5000 J in all.")
@click.option(
    "--order", type=click.Choice(["random", "hard-first", "as-given"]), default="random", show_default=True
)
@click.option("--judged", type=click.FloatRange(0, 1), default=0.0, help="Share of answers that are judged.")
@click.option(
    "--warm",
    type=click.FloatRange(0, 0.9),
    default=0.2,
    show_default=True,
    help="Share that came earlier and sets the first price.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def simulate_command(
    file: Path,
    data: Path,
    source: str | None,
    beyond: float,
    budget: str,
    order: str,
    judged: float,
    warm: float,
    seed: int,
    as_json: bool,
) -> None:
    """Replay outcomes as traffic under a budget of joules that must hold.

    Example: negajoule route simulate router.npz --data outcomes --beyond 0.6 --budget 40%
    """
    import numpy as np

    from negajoule.route import Curve, assign, load_router_file
    from negajoule.route.replay import replay_budget, traffic_of

    router = load_router_file(file)
    outcomes = _of_router(router, _read(data, source, beyond))
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(outcomes))
    earlier = int(warm * len(rows))
    if len(rows) - earlier < _LEAST_REPLAYED:
        raise ConfigError(
            f"{len(rows) - earlier} complete queries are left; a replay needs {_LEAST_REPLAYED}", code="C106"
        )
    before = traffic_of(router, outcomes.take(rows[:earlier])) if earlier else None
    traffic = traffic_of(
        router, outcomes.take(rows[earlier:] if order != "as-given" else np.sort(rows[earlier:]))
    )
    score, energy_j = traffic.score, traffic.energy_j
    best = int(np.argmax(score.mean(axis=0)))
    budget_j = _joules(budget, float(energy_j[:, best].sum()))
    came = np.argsort(score.mean(axis=1), kind="stable") if order == "hard-first" else np.arange(len(score))
    replay = replay_budget(
        traffic, budget_j, came, warm=before, judged=rng.random(len(score)) < judged if judged else None
    )
    optimum = assign(traffic.prediction.score, traffic.expected_j, budget_j)
    taken = np.asarray(optimum.choice)
    reached = score[np.arange(len(score)), taken].mean() if (taken >= 0).all() else float("nan")
    blind = Curve(energy_j.mean(axis=0), score.mean(axis=0)).accuracy_at(budget_j / len(score))
    shares = {name: float((replay.choice == column).mean()) for column, name in enumerate(router.models)}
    result = {
        "requests": len(score),
        "budget_j": budget_j,
        "spent_j": replay.energy_j * len(score),
        "spent_share": replay.spent_share,
        "accuracy": replay.accuracy,
        "batch_accuracy": float(reached) if np.isfinite(reached) else None,
        "blind_accuracy": float(blind),
        "best_single": router.models[best],
        "best_single_accuracy": float(score[:, best].mean()),
        "refused": replay.refused,
        "answered_by": shares,
    }
    if as_json:
        print_json({"schema": "negajoule.route_simulation/1", **result})
        return
    click.echo(f"spent     {result['spent_j']:.5g} J of {budget_j:.5g} J: {replay.spent_share:.1%}")
    click.echo(f"accuracy  {replay.accuracy:.4f} over {len(score)} requests, {replay.refused} refused")
    if result["batch_accuracy"] is not None:
        click.echo(f"batch     {reached:.4f} if all requests had been known beforehand")
    click.echo(f"mix       {float(blind):.4f} by the query-blind mix at this budget")
    click.echo(
        f"single    {score[:, best].mean():.4f} by {router.models[best]}, for {energy_j[:, best].sum():.5g} J"
    )
    click.echo("")
    print_table(("model", "share of answers"), [(name, f"{share:.1%}") for name, share in shares.items()])


def _plain(number: Any) -> object:  # noqa: ANN401 (a scalar of numpy)
    return number.item()


def _joules(text: str, best_j: float) -> float:
    """A budget for the whole replay [J]: a share of the best single model's, or an energy."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if found:
        return float(found.group(1)) / 100.0 * best_j
    from negajoule.ledger.accounts.amounts import parse_limit

    try:
        indicator, joules = parse_limit(text)
    except ConfigError:
        indicator, joules = "", 0.0
    if indicator != "J":
        raise ConfigError(
            f"--budget {text!r} can't be read", fix="a share such as 40%, or an energy such as 5000 J"
        )
    return joules


def _read(folder: Path, source: str | None, beyond: float) -> Outcomes:
    from negajoule.route import read_outcome_files

    table = read_outcome_files(folder / "queries.parquet", folder / "outcomes.parquet", source)
    return _drawn(table, beyond, beyond=True) if beyond else table


def _drawn(outcomes: Outcomes, share: float, *, beyond: bool) -> Outcomes:
    """The queries of a share, or those beyond it, by a hash of their text: the same in every run."""
    import numpy as np

    if share >= 1.0:
        return outcomes
    place = np.array([_place(prompt) for prompt in outcomes.prompts])
    kept = outcomes.take(np.asarray(place >= share if beyond else place < share))
    if not len(kept):
        raise ConfigError("no query is left", code="C106", fix="another --share or --beyond")
    return kept


def _place(text: str) -> float:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2.0**64


def _of_router(file: RouterFile, outcomes: Outcomes) -> Outcomes:
    """Complete outcomes of the router's models, in its order."""
    from dataclasses import replace

    missing = [model for model in file.models if model not in outcomes.models]
    if missing:
        raise ConfigError(f"the outcomes lack {', '.join(missing)}, which the router knows", code="C106")
    columns = [outcomes.models.index(model) for model in file.models]
    names = ("score", "in_tokens", "out_tokens", "energy_j")
    tables = {name: getattr(outcomes, name)[:, columns] for name in names}
    return replace(outcomes, models=file.models, **tables).complete()
