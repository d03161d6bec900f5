"""``negajoule advise compression``: which way to make a model smaller comes first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.config import home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from negajoule.advise.compression import CompressionOption, MeasuredCompression, Task
    from negajoule.compress import Result
    from negajoule.compress.ladder import LadderResult

__all__ = ["compression"]

STUDY, LADDER = "negajoule.compress/1", "negajoule.compress-ladder/1"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([MmBb])")


@click.command()
@click.option("--model", required=True, help="A model's name, or its size such as 135M or 7B.")
@click.option("--task", type=click.Choice(["classify", "generate", "fine-tune"]), required=True)
@click.option("--accelerator", default="cpu", show_default=True, help="cpu, or a board such as 'RTX 4090'.")
@click.option("--batch", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
@click.option(
    "--volume",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help="Texts, tokens or steps over its life.",
)
@click.option(
    "--loss",
    "allowed",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Points of accuracy, or per cent of perplexity, that may be lost.",
)
@click.option("--studies", type=click.Path(path_type=Path), default=None, help="Folder of your studies.")
@json_option
def compression(
    model: str,
    task: Task,
    accelerator: str,
    batch: float,
    volume: float | None,
    allowed: float,
    studies: Path | None,
    as_json: bool,
) -> None:
    """Tell which technique comes first, what it saves and loses, and from which volume on it pays.

    It rests on what was measured, your own studies first, and says nothing of models far from those.

    Example: negajoule advise compression --model 22M --task classify --volume 100000
    """
    import msgspec

    from negajoule.advise.compression import advise_compression

    advice = advise_compression(
        _millions(model),
        task,
        accelerator=accelerator,
        batch=batch,
        volume=volume,
        allowed_loss=allowed,
        own=tuple(_own_rows(studies or home() / "compress")),
    )
    if as_json:
        print_json({"schema": "negajoule.advise_compression/1", **msgspec.to_builtins(advice)})
        return
    headers = ("technique", "recipe", "saves %", "loses", "pays after", "verdict")
    print_table(headers, [_row(option) for option in advice.options])
    click.echo(f"\n{advice.decision.chosen}: {advice.decision.reason}")
    for line in advice.when_not:
        click.echo(line)
    for option in advice.options:
        say(f"{option.technique}: {option.evidence}")


def _row(option: CompressionOption) -> tuple[str, ...]:
    saves = "-"
    if option.saving is not None:
        saves = f"{100 * option.saving:.0f}"
        if option.saving_low is not None and option.saving_high is not None:
            saves += f" ({100 * option.saving_low:.0f} to {100 * option.saving_high:.0f})"
    even = "-" if option.break_even is None else f"{option.break_even:,.0f} {option.item}s"
    return option.technique, option.recipe or "-", saves, option.loss or "unknown", even, option.verdict


def _millions(model: str) -> float:
    """Parameters of a model [1e6]."""
    size = _SIZE.fullmatch(model.strip())
    if size:
        return float(size[1]) * (1e3 if size[2] in "Bb" else 1.0)
    from negajoule.physics.model_size import find_model

    found = find_model(model)
    return 1e3 * (found.total or found.active_high)


def _own_rows(folder: Path) -> Iterator[MeasuredCompression]:
    """What the studies in a folder found."""
    import msgspec

    from negajoule.compress import Result
    from negajoule.compress.ladder import LadderResult

    for file in sorted(folder.glob("*/result.json")):
        try:
            data = msgspec.json.decode(file.read_bytes(), type=dict[str, object])
            if data.get("schema") == LADDER:
                yield from _from_ladder(msgspec.convert(data, LadderResult))
            elif data.get("schema") == STUDY:
                yield from _from_study(msgspec.convert(data, Result))
        except (OSError, msgspec.DecodeError) as error:
            say(f"{file} can't be read, so it counts for nothing: {error}")


def _from_study(result: Result) -> Iterator[MeasuredCompression]:
    from negajoule.advise.compression import MeasuredCompression

    base = result.lines[0]
    if base.parameters is None:
        return
    for line in result.lines:
        if line.recipe and line.name != "engine":
            yield MeasuredCompression(
                technique=line.name,
                recipe=line.recipe,
                task="classify",
                parameters_million=base.parameters / 1e6,
                saving=line.saving.value,
                saving_low=line.saving.low,
                saving_high=line.saving.high,
                loss=line.lost.value,
                loss_low=line.lost.low,
                loss_high=line.lost.high,
                loss_unit="points",
                base_cpu_s=base.cpu_s / 1000,
                made_cpu_s=line.made_s,
                item="text",
                note=f"{result.model} on {result.data}, {result.test_texts} texts",
                own=True,
            )


def _from_ladder(result: LadderResult) -> Iterator[MeasuredCompression]:
    from negajoule.advise.compression import MeasuredCompression

    base = result.rungs[0]
    for rung in result.rungs:
        if rung.recipe and rung.made_s is not None:
            yield MeasuredCompression(
                technique=rung.name,
                recipe=rung.recipe,
                task="generate",
                parameters_million=base.size_bytes / 4e6,
                saving=rung.saving.value,
                saving_low=rung.saving.low,
                saving_high=rung.saving.high,
                loss=100 * rung.added.value,
                loss_low=None if rung.added.low is None else 100 * rung.added.low,
                loss_high=None if rung.added.high is None else 100 * rung.added.high,
                loss_unit="% perplexity",
                base_cpu_s=1 / base.decode,
                made_cpu_s=rung.made_s,
                item="token",
                note=f"{result.model} on {result.data}, {result.judged_tokens} tokens",
                own=True,
            )
