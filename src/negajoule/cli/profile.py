"""``negajoule profile``: what a model takes on this machine, prefill and decode apart."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.config import home
from negajoule.errors import ConfigError
from negajoule.units.text import number_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.profile import Profile, Spread, Sweep

__all__ = ["profile", "server_key"]


@click.command()
@click.argument("model", default="smollm2-135m-instruct")
@click.option("--formats", default="", help="Number formats, e.g. F16,Q8_0,Q4_0.")
@click.option("--batch", default="1,2,4,8", show_default=True, help="Requests at once.")
@click.option("--prompt", default="64,256", show_default=True, help="Lengths of prompts, in tokens.")
@click.option("--output", default="32", show_default=True, help="Lengths of answers, in tokens.")
@click.option("--repeats", type=int, default=5, show_default=True, help="Rounds over all of it.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Threads of an engine here.")
@click.option("--served-model", default=None, help="Which of a server's models.")
@click.option("--key-variable", default=None, help="Environment variable with the server's API key.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="The profile.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Roofline with the measured points: .svg, .png, or .json (Vega-Lite).",
)
@click.option("--wait", type=click.FloatRange(0), default=60.0, show_default=True, help="For a free machine.")
@click.option("--allow-load", is_flag=True, help="Measure a busy machine all the same.")
@click.option("--show", is_flag=True, help="MODEL is a profile: show it, measure nothing.")
@json_option
def profile(
    model: str,
    formats: str,
    batch: str,
    prompt: str,
    output: str,
    repeats: int,
    threads: int | None,
    served_model: str | None,
    key_variable: str | None,
    out: Path | None,
    plot: Path | None,
    wait: float,
    allow_load: bool,
    show: bool,
    as_json: bool,
) -> None:
    """Measure the phases of a model on this machine, by batch, lengths and number format.

    MODEL is the packaged model, a GGUF file, a folder with a model of transformers, or the address of an
    OpenAI-compatible server. Prefill and decode are measured apart, several times in mixed order. The profile
    is a file that other commands read.

    Example: negajoule profile --batch 1,8 --prompt 64 --plot roofline.svg
    """
    from negajoule.profile import Sweep, load_profile

    if show:
        found, path = load_profile(model), Path(model)
    else:
        sweep = Sweep(
            batches=_numbers("--batch", batch),
            prompts=_numbers("--prompt", prompt),
            outputs=_numbers("--output", output),
            repeats=repeats,
        )
        names = tuple(name.strip() for name in formats.split(",") if name.strip())
        key = server_key(key_variable)
        found = _measured(model, sweep, names, threads, served_model, key, wait, allow_load)
        path = out or _default_path(found)
        found.save(path)
    if plot is not None:
        from negajoule.profile.chart import draw_roofline

        draw_roofline(found, plot)
    _report(found, path, plot, as_json=as_json)


def server_key(variable: str | None) -> str | None:
    """The API key in an environment variable.

    Raises:
        ConfigError: (C101) if the variable is named and empty.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(f"the environment variable {variable} is empty", fix=f"export {variable}=...")
    return key


def _measured(
    model: str,
    sweep: Sweep,
    formats: tuple[str, ...],
    threads: int | None,
    served_model: str | None,
    key: str | None,
    wait_s: float,
    allow_load: bool,
) -> Profile:
    from negajoule.profile import measure_ceilings, open_target, run_sweep, wait_until_quiet

    quiet = wait_until_quiet(
        os.cpu_count() or 1,
        wait_s=wait_s,
        allow_load=allow_load,
        waiting=lambda load, limit: say(f"waiting for a free machine: load {load:.1f}, limit {limit:.1f}"),
    )
    with open_target(
        model, sweep, formats=formats, threads=threads, served_model=served_model, key=key
    ) as target:
        here = target.facts.where == "here" and target.facts.threads is not None
        ceilings = measure_ceilings(target.facts.threads or 1) if here else None
        with _progress() as progress:
            return run_sweep(target, sweep, quiet=quiet, ceilings=ceilings, progress=progress)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(
            f"{option} {text!r} is no list of whole numbers", fix=f"write {option} 1,2,4"
        ) from None


def _default_path(found: Profile) -> Path:
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in found.model)
    stamp = found.created.replace(":", "").replace("+0000", "Z")
    return home() / "profiles" / f"{name}-{stamp}.json"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, if that's a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="measuring", file=sys.stderr) as bar:

        def report(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield report


def _report(found: Profile, path: Path, plot: Path | None, *, as_json: bool) -> None:
    from negajoule.profile import summarise

    rows = summarise(found)
    if as_json:
        facts = msgspec.to_builtins(found)
        del facts["samples"], facts["schema"]
        print_json(
            {
                "schema": "negajoule.profile_summary/1",
                "path": str(path),
                **facts,
                "cells": msgspec.to_builtins(rows),
            }
        )
        return
    click.echo(f"{found.model} on {found.machine.cpu}, {found.engine.name} {found.engine.version}".rstrip())
    print_table(
        (
            "format", "batch", "prompt", "output", "first token s", "token to token ms",
            "prefill CPU ms", "decode CPU ms", "prefill J", "decode J",
        ),
        [
            (
                row.cell.format,
                row.cell.batch,
                row.cell.prompt_tokens,
                row.cell.output_tokens,
                _text(row.ttft_s, 1),
                _text(row.itl_s, 1e3),
                _text(row.prefill_cpu_s, 1e3),
                _text(row.decode_cpu_s, 1e3),
                _text(row.prefill_j, 1),
                _text(row.decode_j, 1),
            )
            for row in rows
        ],
    )  # fmt: skip
    click.echo("CPU time and energy of a token; 90 % intervals over rounds in brackets")
    basis = "unknown" if found.energy_basis is None else found.energy_basis
    click.echo(f"energy             {basis}: {found.energy_source}")
    if found.idle_w is not None:
        value, low, high = (number_text(watts) for watts in found.idle_w)
        click.echo(f"idle               {value} W ({low} to {high}), weights resident")
    for note in found.notes:
        click.echo(f"note               {note}")
    if not found.quiet:
        click.echo(
            "note               the machine was under load: times are too long, the order may be wrong"
        )
    click.echo(f"kept in            {path}")
    if plot is not None:
        click.echo(f"roofline           {plot}")


def _text(spread: Spread | None, scale: float) -> str:
    if spread is None:
        return "unknown"
    value, low, high = (number_text(number * scale, 3) for number in (spread.value, spread.low, spread.high))
    return value if low == high else f"{value} ({low}-{high})"
