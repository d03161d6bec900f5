"""``negajoule estimate``: what requests to models cost that run elsewhere, and one's own chat history."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from negajoule.cli.card import card
from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.errors import ConfigError
from negajoule.units.text import LABELS, interval_text, number_text, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.instrument.chat_export import ChatHistory, ChatRow
    from negajoule.physics import HostedFootprint
    from negajoule.units import Quantity

__all__ = ["estimate"]

_TELLING = 1.005  # contributors narrower than this aren't worth a line
_SHOWN = ("it_energy", "facility_energy", "carbon_location", "water_onsite", "water_offsite", "embodied")


@click.command()
@click.option("--model", default=None, help="Name of the model, as its provider writes it.")
@click.option("--in", "tokens_in", type=float, default=None, help="Tokens of the prompt, cached ones too.")
@click.option("--out", "tokens_out", type=float, default=None, help="Tokens of the answer.")
@click.option("--cached", type=float, default=0.0, help="Tokens of the prompt that came out of a cache.")
@click.option("--reasoning", type=float, default=0.0, help="Hidden tokens, if --out doesn't have them.")
@click.option("--batch", default=None, help="Requests served together: 32, or an interval 8-64.")
@click.option("--zone", default=None, help="Where the model is served, e.g. FR or US-CAL-CISO.")
@click.option("--provider", default=None, help="Who serves it: openai, azure, google ...; world for anybody.")
@click.option("--accelerator", default=None, help="What it's served on, e.g. H100.")
@click.option("--active-parameters", type=float, default=None, help="Instead of a model's size: 8e9.")
@click.option("--total-parameters", type=float, default=None, help="All parameters of a mixture of experts.")
@click.option(
    "--chatgpt-export", type=click.Path(path_type=Path), help="Your archive of ChatGPT: zip or JSON."
)
@click.option("--claude-export", type=click.Path(path_type=Path), help="Your archive of Claude: zip or JSON.")
@json_option
def estimate(
    model: str | None,
    tokens_in: float | None,
    tokens_out: float | None,
    cached: float,
    reasoning: float,
    batch: str | None,
    zone: str | None,
    provider: str | None,
    accelerator: str | None,
    active_parameters: float | None,
    total_parameters: float | None,
    chatgpt_export: Path | None,
    claude_export: Path | None,
    as_json: bool,
) -> None:
    """Estimate a request to a hosted model, or your whole chat history.

    With an export, --model is the model to take where the archive names none that is known.

    Example: negajoule estimate --model gpt-4o --in 1200 --out 300
    """
    exports = [("chatgpt", chatgpt_export), ("claude", claude_export)]
    given = [(kind, path) for kind, path in exports if path is not None]
    sequences = None if batch is None else _batch(batch)
    if given:
        if len(given) > 1 or tokens_in is not None or tokens_out is not None or active_parameters is not None:
            raise ConfigError(
                "an export stands alone", fix="give one export, without --in, --out and parameters"
            )
        kind, path = given[0]
        from negajoule.instrument.chat_export import read_history

        with _progress() as progress:
            history = read_history(
                path,
                kind,
                model=model,
                zone=zone,
                provider=provider,
                progress=progress,
                batch=sequences,
                accelerator=accelerator,
            )
        _print_history(history, as_json=as_json)
        return
    if tokens_out is None or tokens_in is None:
        missing = "--in" if tokens_in is None else "--out"
        raise ConfigError(
            f"{missing} is missing", fix="negajoule estimate --model gpt-4o --in 1200 --out 300"
        )
    from negajoule.instrument.hosted import estimate as estimate_request

    footprint = estimate_request(
        model,
        tokens_in,
        tokens_out,
        batch=sequences,
        zone=zone,
        provider=provider,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
        accelerator=accelerator,
        active_parameters_b=None if active_parameters is None else active_parameters / 1e9,
        total_parameters_b=None if total_parameters is None else total_parameters / 1e9,
    )
    if as_json:
        print_json(
            {
                "schema": "negajoule.estimate/1",
                "model": footprint.model,
                "tokens_in": tokens_in,
                "tokens_out": tokens_out,
                "cached_tokens": cached,
                "reasoning_tokens": reasoning,
                "footprint": footprint.to_dict(),
            }
        )
        return
    hidden = f" + {reasoning:.0f} hidden" if reasoning else ""
    click.echo(card(f"{footprint.model}: {tokens_in:.0f} tokens in, {tokens_out:.0f}{hidden} out", footprint))
    _print_causes(footprint)


def _batch(text: str) -> float | tuple[float, float]:
    ends = text.replace("..", "-").replace(":", "-").split("-")
    try:
        numbers = [float(end) for end in ends]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ConfigError(
            f"--batch {text!r} is neither a number nor an interval", fix="write 32, or 8-64 if unsure"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _print_causes(footprint: HostedFootprint) -> None:
    """What makes the interval wide, most first."""
    causes = [
        cause for cause in footprint.to_dict()["contributors"] if cause["high"] > _TELLING * cause["low"]
    ]
    if causes:
        click.echo("  what makes it wide, each alone")
        for cause in causes:
            low, high = (number_text(cause[end], 2) for end in ("low", "high"))
            click.echo(f"    {cause['name']:<33} x{low} to x{high}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, if that's a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = click.progressbar(length=1, label="reading", file=sys.stderr)
    with bar:

        def report(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield report


def _print_history(history: ChatHistory, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "schema": "negajoule.chat_history/1",
                "kind": history.kind,
                "conversations": history.conversations,
                **{name: [_row_dict(row) for row in getattr(history, name)] for name in ("months", "models")},
                "rows": [_row_dict(row, detail=False) for row in history.rows],
                "total": None if history.total is None else _row_dict(history.total),
                "unknown": [
                    {"month": month, "what": what, "number": number}
                    for (month, what), number in history.unknown.items()
                ],
            }
        )
        return
    total = history.total
    if total is not None:
        assert total.footprint is not None, "a total is of known rows"
        _print_rows("month", [*((row.month, row) for row in history.months), ("total", total)])
        click.echo()
        _print_rows("model", [(row.model, row) for row in history.models])
        click.echo("\ntotal, with ranges")
        for name in _SHOWN:
            quantity: Quantity | None = getattr(total.footprint, name)
            click.echo(f"  {LABELS[name]:<18} {'unknown' if quantity is None else interval_text(quantity)}")
        _print_causes(total.footprint)
    _print_unknown(history)
    if total is not None and total.footprint is not None:
        for note in total.footprint.notes:
            click.echo(f"  note               {note}")


def _print_rows(heading: str, rows: list[tuple[str, ChatRow]]) -> None:
    cells = []
    for name, row in rows:
        cost = row.footprint
        assert cost is not None, "months and models are of known rows"
        water = (cost.water_onsite, cost.water_offsite)
        cells.append(
            (
                name,
                row.replies,
                _count(row.tokens_in.value),
                _count(row.tokens_out.value),
                "unknown" if cost.facility_energy is None else interval_text(cost.facility_energy),
                "unknown" if cost.carbon_location is None else value_text(cost.carbon_location),
                "unknown" if water[0] is None or water[1] is None else value_text(water[0] + water[1]),
                "unknown" if cost.embodied is None else value_text(cost.embodied),
            )
        )
    print_table(
        (heading, "replies", "tokens in", "out", "energy with PUE", "carbon", "water", "embodied"), cells
    )


def _print_unknown(history: ChatHistory) -> None:
    if not history.unknown:
        return
    numbers: dict[str, int] = {}
    for (_, what), number in history.unknown.items():
        numbers[what] = numbers.get(what, 0) + number
    click.echo("not in the sums, for their energy isn't known")
    for what, number in sorted(numbers.items(), key=lambda item: (-item[1], item[0])):
        click.echo(f"  {number:>6} x {what}")
    if any("size isn't known" in what for what in numbers):
        say("--model NAME takes that model for replies whose model isn't known")


def _row_dict(row: ChatRow, *, detail: bool = True) -> dict[str, object]:
    return {
        "month": row.month,
        "model": row.model,
        "replies": row.replies,
        "tokens_in": row.tokens_in._asdict(),
        "tokens_out": row.tokens_out._asdict(),
        "footprint": None if row.footprint is None else row.footprint.to_dict(detail=detail),
    }


def _count(number: float) -> str:
    """Tokens in a table: 950, 12k, 3.4M."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number_text(number / scale)}{letter}"
    return f"{number:.0f}"
