"""``negajoule compress``: smaller models, with accuracy, energy and break-even measured in pairs."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from negajoule.cli.compress_gguf import climb, is_for_gguf
from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.config import Settings, home
from negajoule.errors import NegajouleError
from negajoule.units.text import number_text

if TYPE_CHECKING:
    from negajoule.compress import Line, Plan, Result, Study
    from negajoule.compress.workshop import Spent

__all__ = ["compress"]

DEFAULT = ("int8",)
ARTICLE_DATA = "sms-spam"


@click.command()
@click.argument("model", default="all-minilm-l6-v2")
@click.option("--data", default=None, help="JSON lines with text and label, or sms-spam, banking77 ...")
@click.option(
    "--recipe", "recipes", multiple=True, help="Steps, NAME=STEPS or FILE.toml; more than one may be."
)
@click.option(
    "--study", "named", type=click.Choice(["article"]), default=None, help="Published tables, here."
)
@click.option("--folder", type=click.Path(path_type=Path), default=None, help="The study's folder.")
@click.option("--data-folder", type=click.Path(path_type=Path), default=None, help="Where named data lies.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Paired rounds.")
@click.option("--texts", type=click.IntRange(1), default=256, show_default=True, help="Texts of a round.")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Texts at once.")
@click.option("--max-length", type=click.IntRange(4), default=128, show_default=True, help="In tokens.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each process.")
@click.option("--limit", type=click.IntRange(10), default=None, help="Rows of each part, at most.")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True, help="If a head is trained.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=5e-5, show_default=True)
@click.option("--fine-tune", is_flag=True, help="Train a new head even if the model has one.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--zone", default=None, help="Where the electricity is used, e.g. FR or US-CAL-CISO.")
@click.option("--no-record", is_flag=True, help="Leave the ledger alone.")
@json_option
def compress(
    model: str,
    data: str | None,
    recipes: tuple[str, ...],
    named: str | None,
    folder: Path | None,
    data_folder: Path | None,
    rounds: int,
    texts: int,
    batch: int,
    max_length: int,
    threads: int,
    limit: int | None,
    epochs: int,
    rate: float,
    fine_tune: bool,
    seed: int,
    zone: str | None,
    no_record: bool,
    as_json: bool,
) -> None:
    """Make MODEL smaller by recipes and tell what each saves, loses and costs.

    MODEL is a folder with a model of Hugging Face, or all-minilm-l6-v2. If it has no head for the labels, one
    is trained first. A GGUF file, or smollm2-135m-instruct, is studied as a generative model: tokens of a
    CPU-second and perplexity, by recipes gguf:Q8_0, gguf:Q4_0 or gguf:Q4_0:calibrated. Everything lies in the
    study's folder: artefacts with their cards, answers, rounds, the result and its picture. An interrupted
    study goes on when the same command is given again.

    Example: negajoule compress all-minilm-l6-v2 --data sms-spam --recipe int8 --recipe "layers(keep=3) +
    recover + int8", or: negajoule compress MODEL.gguf --recipe gguf:Q8_0
    """
    place = folder or home() / "compress" / _folder_name(named, model, data or (named and ARTICLE_DATA))
    data_place = data_folder or Path(os.environ.get("NEGAJOULE_DATA", "../shared/data"))
    settings = Settings({"zone": zone})
    if is_for_gguf(model, recipes):
        climb(
            model,
            data,
            recipes,
            folder=place,
            data_folder=data_place,
            rounds=rounds,
            texts=limit,
            longest=max_length,
            threads=threads,
            book=None if no_record else partial(book, settings=settings),
            as_json=as_json,
        )
        return
    from negajoule.compress import Plan, Recipe, Study
    from negajoule.compress.fine_tune import FineTuning

    if named and recipes:
        raise click.UsageError("--study brings its own recipes")
    if named:
        data = data or ARTICLE_DATA
    if data is None:
        raise click.UsageError("--data is missing: a file of JSON lines with text and label, or a name")
    plan = Plan(
        model=model,
        data=data,
        recipes=tuple(Recipe.parse(text) for text in recipes or DEFAULT),
        data_folder=data_place,
        tuning=FineTuning(epochs=epochs, rate=rate, again=fine_tune),
        max_length=max_length,
        batch=batch,
        threads=threads,
        rounds=rounds,
        measured=texts,
        limit=limit,
        seed=seed,
    )
    booked = None if no_record else settings
    if named:
        _article(plan, place, booked, as_json=as_json)
        return
    result = _studied(Study(plan, place, say), booked)
    if as_json:
        print_json(result)
    else:
        show(result, place)


def _studied(study: Study, booked: Settings | None) -> Result:
    """Run a study, keep what it found, and book what it used."""
    try:
        result = study.run()
    finally:
        # What was used was used, also by a study that was broken off.
        if booked is not None:
            book(study.workshop.spent(), study.plan.model, booked)
    _keep(result, study.workshop.folder)
    return result


def _article(plan: Plan, place: Path, booked: Settings | None, *, as_json: bool) -> None:
    """Published beside measured."""
    import msgspec

    from negajoule.compress import Study
    from negajoule.compress.article import SHAPE_TEXTS, SHAPES, STUDENTS, shape_rows, student_row
    from negajoule.compress.model_card import share_text

    few = msgspec.structs.replace(plan, recipes=SHAPES, limit=SHAPE_TEXTS, measured=SHAPE_TEXTS)
    shapes = Study(few, place / "shapes", say)
    costs = _studied(shapes, booked)
    students = Study(msgspec.structs.replace(plan, recipes=STUDENTS), place / "students", say)
    learnt = _studied(students, booked)
    rows = [*shape_rows(shapes.workshop.rounds([line.name for line in costs.lines])), student_row(learnt)]
    if as_json:
        print_json(
            {"schema": "negajoule.compress-article/1", "rows": rows, "shapes": costs, "students": learnt}
        )
        return
    print_table(
        ("", "published", "measured here"),
        [(row.what, share_text(row.published), share_text(row.measured)) for row in rows],
    )
    for row in rows:
        say(f"{row.what}: {row.remark}. Source: {row.source}")
    for note in dict.fromkeys((*costs.notes, *learnt.notes)):
        say(f"note: {note}")


def _folder_name(*parts: str | None) -> str:
    return "-".join(Path(part).name for part in parts if part)


def show(result: Result, place: Path) -> None:
    """Print the table, what may be claimed, and where the artefacts are."""
    from negajoule.compress.model_card import share_text

    headers = (
        "",
        "accuracy %",
        "lost",
        "J/1,000",
        "saved %",
        "ms/text",
        "p50 ms",
        "MB",
        "peak MB",
        "made J",
        "pays after",
    )
    print_table(headers, [_row(line) for line in result.lines])
    click.echo()
    for line in result.lines[1:]:
        click.echo(f"{line.name}: {'; '.join(line.claims)}")
        if line.rest_saving is not None and line.engine_saving is not None and line.recipe != "onnx":
            engine, rest = share_text(line.engine_saving), share_text(line.rest_saving)
            click.echo(f"  engine alone {engine}; the recipe within that engine {rest}")
    for name, why in result.failed.items():
        click.echo(f"{name}: failed: {why}")
    best = result.best()
    if best is not None:
        click.echo(f"\nbest within one point, chosen on the validation part: {best.name} in {best.folder}")
    say(f"\n{result.test_texts} test texts; {result.rounds} rounds of {result.measured_texts} texts")
    for note in result.notes:
        say(f"note: {note}")
    say(f"result, picture and artefacts: {place}")


def _row(line: Line) -> tuple[str, ...]:
    even = "-" if line.break_even is None else f"{line.break_even.value:,.0f}"
    lost = (
        "-"
        if line.name == "baseline"
        else f"{line.lost.value:+.1f} ({line.lost.low:+.1f} to {line.lost.high:+.1f})"
    )
    saved = (
        "no interval"
        if line.saving.low is None or line.saving.high is None
        else (f"{100 * line.saving.value:.1f} ({100 * line.saving.low:.1f} to {100 * line.saving.high:.1f})")
    )
    mark = f" < {line.dominated_by}" if line.dominated_by else ""
    return (
        line.name + mark,
        f"{100 * line.quality.accuracy.value:.2f}",
        lost,
        number_text(line.energy.value, 3),
        "-" if line.name == "baseline" else saved,
        f"{line.cpu_s:.2f}",
        f"{1e3 * line.latency_s[0]:.1f}",
        f"{line.size_bytes / 1e6:.1f}",
        f"{line.peak_bytes / 1e6:.0f}",
        "-" if line.name == "baseline" else number_text(line.made_j.value, 3),
        even,
    )


def _keep(result: Result, place: Path) -> None:
    """Write the result, its picture and the cards."""
    import msgspec

    from negajoule.compress.model_card import write_cards
    from negajoule.compress.pareto import draw

    (place / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    (place / "pareto.svg").write_text(draw(result), encoding="utf-8")
    write_cards(result)


def book(spent: list[Spent], model: str, settings: Settings) -> None:
    """Put all that was measured into the ledger; what stands there already counts once."""
    from negajoule.instrument import find_here
    from negajoule.ledger import Activity, Ledger

    here = find_here(settings)
    try:
        with Ledger() as ledger:
            ledger.append(
                [
                    Activity(
                        id=piece.id,
                        started_s=piece.started_s,
                        seconds=piece.window.seconds,
                        kind="run",
                        stage=piece.stage,
                        label=piece.label,
                        model=model,
                        host=here.host.host_id,
                        zone=here.factors.zone,
                        cpu_seconds=piece.window.cpu_s,
                        footprint=here.cost_of(piece.window),
                    )
                    for piece in spent
                ]
            )
    except NegajouleError as error:
        say(str(error))
