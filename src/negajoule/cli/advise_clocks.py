"""``negajoule advise clocks``: the trade-off of clocks and power limits, and applying one."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from negajoule.cli.deployment import serving_setup
from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from negajoule.advise import ClockAdvice, CurvePoint
    from negajoule.advise.nvml_board import NvmlBoard

__all__ = ["clocks"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--model", default=None, help="A model's name, or its config.json.")
@click.option("--accelerator", default=None, help="Its name, such as H100.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Of accelerators.")
@click.option("--format", "weight_format", default=None, help="Of the weights.")
@click.option("--batch", type=float, default=16.0, show_default=True, help="Sequences that decode together.")
@click.option("--prompt", type=click.FloatRange(1), default=500.0, show_default=True, help="Its tokens.")
@click.option("--output", type=click.FloatRange(1), default=300.0, show_default=True, help="Its tokens.")
@click.option("--lever", type=click.Choice(["clock", "power"]), default="clock", show_default=True)
@click.option(
    "--curve",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Measured: CSV with clock_mhz or power_limit_w, energy_j, time_s; repeats as rows.",
)
@click.option(
    "--limit-s", type=click.FloatRange(0, min_open=True), default=None, help="Of a request or command."
)
@click.option("--itl-ms", type=click.FloatRange(0, min_open=True), default=None, help="From token to token.")
@click.option("--ttft-ms", type=click.FloatRange(0, min_open=True), default=None, help="To the first token.")
@click.option("--apply", "apply_", is_flag=True, help="Run COMMAND at the chosen setting, then undo it.")
@click.option("--measure", is_flag=True, help="Run COMMAND at each of --settings, and keep the curve.")
@click.option("--settings", default=None, help="MHz or W by --lever, with commas: 1980,1500,1200.")
@click.option("--repeats", type=click.IntRange(2), default=3, show_default=True, help="Of each setting.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="The measured curve."
)
@click.option("--restore", is_flag=True, help="Undo what a killed process left behind, and nothing else.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), default=None, help=".svg, .png or .json."
)
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def clocks(
    model: str | None,
    accelerator: str | None,
    count: int,
    weight_format: str | None,
    batch: float,
    prompt: float,
    output: float,
    lever: str,
    curve: Path | None,
    limit_s: float | None,
    itl_ms: float | None,
    ttft_ms: float | None,
    apply_: bool,
    measure: bool,
    settings: str | None,
    repeats: int,
    out: Path | None,
    restore: bool,
    plot: Path | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Choose a clock or power limit of least energy that keeps limits of latency.

    From a measured curve (--curve), from measuring now (--measure), or else from a model with wide ranges,
    which says so. --apply sets what was chosen through NVML while COMMAND runs; it's undone when that ends,
    by an error or a signal too, and after a crash at the next start.

    Example: negajoule advise clocks --curve curve.csv --limit-s 60 --apply -- python serve.py
    """
    from negajoule.advise.clocks import Limits

    if restore:
        with _boards() as boards:
            say(f"{len(boards)} boards looked at")
        return
    if bool(command) != (apply_ or measure):
        raise ConfigError(
            "a COMMAND goes with --apply or --measure, and they need one", fix="--apply -- COMMAND ARGUMENTS"
        )
    if apply_ and curve is None and not measure:
        raise ConfigError(
            "a setting is only applied from a measured curve: a model's choice isn't sure enough",
            fix="--measure --settings 1980,1500,1200 -- COMMAND, then --curve FILE --apply -- COMMAND",
        )
    limits = Limits(
        time_s=limit_s,
        token_s=None if itl_ms is None else itl_ms / 1e3,
        prefill_s=None if ttft_ms is None else ttft_ms / 1e3,
    )
    if measure:
        curve = _measure(lever, settings, repeats, out, command)
    points, basis, name = _points(
        curve, model, accelerator, count, weight_format, (batch, prompt, output), lever
    )
    from negajoule.advise import advise_clocks

    advice = advise_clocks(points, limits, basis=basis, accelerator=name)
    if plot is not None:
        from negajoule.advise.chart import draw_clocks

        draw_clocks(advice, name or str(curve), plot)
    _report(advice, name, as_json=as_json)
    if apply_:
        sys.exit(_apply(advice, command))


def _points(
    curve: Path | None,
    model: str | None,
    accelerator: str | None,
    count: int,
    weight_format: str | None,
    load: tuple[float, float, float],
    lever: str,
) -> tuple[Sequence[CurvePoint], str, str | None]:
    """The curve, what it rests on and the accelerator's name."""
    if curve is not None:
        from negajoule.advise import read_curve

        return read_curve(curve), "measured", accelerator
    from negajoule.advise.slower import phases_of, slower_curve
    from negajoule.physics.serving import load_predictor

    setup = serving_setup(model, accelerator, count, weight_format)
    batch, prompt, output = load
    setup.require_fit(batch, prompt + output)
    predicted = load_predictor().predict(setup, batch=batch, tokens_in=prompt, tokens_out=output)
    return slower_curve(phases_of(setup, predicted), lever=lever), "modelled", setup.hardware.name


@contextmanager
def _boards() -> Iterator[list[NvmlBoard]]:
    """All GPUs, after undoing what was left behind."""
    from negajoule.advise import restore_left_over
    from negajoule.advise.nvml_board import nvml_boards

    with nvml_boards() as boards:
        for words in restore_left_over(boards):
            say(words)
        yield boards


def _measure(
    lever: str, settings: str | None, repeats: int, out: Path | None, command: Sequence[str]
) -> Path:
    from negajoule.advise import Setting, measure_settings, write_curve
    from negajoule.config import home

    try:
        numbers = [float(part) for part in (settings or "").split(",") if part.strip()]
    except ValueError:
        numbers = []
    if len(numbers) < 2:
        raise ConfigError(
            f"--settings {settings!r} can't be measured", fix="numbers with commas: 1980,1500,1200"
        )
    wanted = [
        Setting(clock_mhz=number) if lever == "clock" else Setting(power_limit_w=number) for number in numbers
    ]
    with _boards() as boards:
        runs = measure_settings(
            boards, wanted, command, repeats=repeats,
            progress=lambda done, whole: say(f"run {done} of {whole}"),
        )  # fmt: skip
    path = out or home() / "curve.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        (number, energy, seconds)
        for setting, energy, seconds in runs
        for number in (setting.clock_mhz, setting.power_limit_w)
        if number is not None
    ]
    write_curve(path, "MHz" if lever == "clock" else "W", rows)
    say(f"curve kept in {path}")
    return path


def _apply(advice: ClockAdvice, command: Sequence[str]) -> int:
    from negajoule.advise import Setting
    from negajoule.advise.measured import run_at

    chosen = advice.chosen
    setting = (
        Setting(power_limit_w=chosen.setting) if chosen.unit == "W" else Setting(clock_mhz=chosen.setting)
    )
    with _boards() as boards:
        say(f"{setting.text} on {len(boards)} boards while the command runs")
        return run_at(boards, setting, command)


def _report(advice: ClockAdvice, accelerator: str | None, *, as_json: bool) -> None:
    import msgspec

    from negajoule.advise.clocks import highest_clock_hz

    highest = None if accelerator is None else highest_clock_hz(accelerator)
    if as_json:
        print_json(
            {
                "schema": "negajoule.advise_clocks/1",
                **msgspec.to_builtins(advice),
                "highest_clock_hz": highest,
            }
        )
        return
    click.echo(f"advice   {advice.decision.chosen}")
    click.echo(f"why      {advice.decision.reason}")
    click.echo(f"basis    {advice.basis}")
    if highest is not None and advice.chosen.unit == "share":
        click.echo(f"highest  {highest / 1e6:.0f} MHz, so {advice.chosen.setting * highest / 1e6:.0f} MHz")
    click.echo("")
    print_table(
        (advice.points[0].unit, "J", "low", "high", "s", "ms/token", "first token ms"),
        [
            (
                f"{point.setting:.3g}" if point.unit == "share" else f"{point.setting:.0f}",
                f"{point.energy_j:.4g}",
                f"{point.low_j:.3g}",
                f"{point.high_j:.3g}",
                f"{point.time_s:.4g}",
                "-" if point.token_s is None else f"{1e3 * point.token_s:.3g}",
                "-" if point.prefill_s is None else f"{1e3 * point.prefill_s:.3g}",
            )
            for point in advice.points
        ],
    )
    for fact in advice.published:
        say(f"published: {fact.value:.0%} less, {fact.source}")
    for note in advice.notes:
        click.echo(f"note     {note}")
