"""``negajoule advise``: what to change first, and what that does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.cli.advise_clocks import clocks
from negajoule.cli.advise_compression import compression
from negajoule.cli.deployment import serving_setup
from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.advise import BatchAdvice, Effect, PaddingWaste, PrecisionAdvice, Span

__all__ = ["advise"]

_SETUP = (
    click.option("--model", default=None, help="A model's name, or its config.json."),
    click.option("--accelerator", default=None, help="Its name, such as H100."),
    click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Of accelerators."),
    click.option(
        "--format", "weight_format", default=None, help="Of the weights now; default the published."
    ),
    click.option(
        "--profile",
        "profile_path",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        help="A profile by 'negajoule profile', instead of --model and --accelerator.",
    ),
    click.option("--prompt", type=click.FloatRange(1), default=500.0, show_default=True, help="Its tokens."),
    click.option("--output", type=click.FloatRange(1), default=300.0, show_default=True, help="Its tokens."),
)


def _setup_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SETUP):
        command = option(command)
    return command


@click.group()
def advise() -> None:
    """Tell what to change first: number format, batch or clocks, and what that does."""


advise.add_command(clocks)
advise.add_command(compression)


@advise.command()
@_setup_options
@click.option("--batch", type=float, required=True, help="Sequences that decode together.")
@click.option("--engine", type=click.Choice(["vllm", "transformers"]), default="vllm", show_default=True)
@click.option("--eager", is_flag=True, help="vLLM without CUDA graphs.")
@json_option
def precision(
    model: str | None,
    accelerator: str | None,
    count: int,
    weight_format: str | None,
    profile_path: Path | None,
    prompt: float,
    output: float,
    batch: float,
    engine: str,
    eager: bool,
    as_json: bool,
) -> None:
    """Tell whether another number format would save energy here, and what it would cost.

    Says what prefill and decode wait for, and for each format the energy, time, memory and quality beside the
    one in use, with 90 % intervals. Advises a change only if the whole interval saves.

    Example: negajoule advise precision --model llama-3.1-70b --accelerator b200 --count 2 --batch 64
    """
    import msgspec

    from negajoule.advise import advise_precision, advise_precision_from

    if profile_path is not None:
        from negajoule.profile import load_profile

        _no_accelerator(accelerator)
        advice = advise_precision_from(load_profile(profile_path), batch, prompt, output)
    else:
        setup = serving_setup(model, accelerator, count, weight_format)
        setup = msgspec.structs.replace(setup, cuda_graphs=not eager)
        advice = advise_precision(setup, batch, prompt, output, engine=engine)
    if as_json:
        data = msgspec.to_builtins(advice)
        for row, effect in zip(data["effects"], advice.effects, strict=True):
            row["verdict"] = effect.verdict
        print_json({"schema": "negajoule.advise_precision/1", **data})
        return
    _report_precision(advice)


@advise.command()
@_setup_options
@click.option("--batch", type=float, default=None, help="The mean batch of now.")
@click.option(
    "--itl-ms", type=click.FloatRange(0, min_open=True), default=None, help="Longest mean time a token."
)
@click.option("--within", type=float, default=None, help="A knee is within this share of the least energy.")
@click.option("--static-batch", type=int, default=8, show_default=True, help="Whose padding to count.")
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="A file of requests, whose lengths count; default a lognormal spread.",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), default=None, help=".svg, .png or .json."
)
@json_option
def batching(
    model: str | None,
    accelerator: str | None,
    count: int,
    weight_format: str | None,
    profile_path: Path | None,
    prompt: float,
    output: float,
    batch: float | None,
    itl_ms: float | None,
    within: float | None,
    static_batch: int,
    trace: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Tell energy by batch: the knee, the ceiling of what batching gains, the limit of memory.

    Also what static batches waste on padding, which continuous batching doesn't.

    Example: negajoule advise batching --model llama-3.1-8b --accelerator h100 --batch 8
    """
    import msgspec

    from negajoule.advise import advise_batching
    from negajoule.advise.batching import advise_batching_from

    if profile_path is not None:
        from negajoule.profile import load_profile

        _no_accelerator(accelerator)
        if batch is not None or itl_ms is not None:
            raise ConfigError(
                "of a profile the measured batches are shown", fix="leave --batch and --itl-ms out"
            )
        profile = load_profile(profile_path)
        title = f"{profile.model} on {profile.machine.cpu}"
        advice = advise_batching_from(profile, prompt, output, format_=weight_format, within=within)
    else:
        setup = serving_setup(model, accelerator, count, weight_format)
        title = f"{setup.shape.name} on {setup.count} x {setup.hardware.name}"
        limit_s = None if itl_ms is None else itl_ms / 1e3
        advice = advise_batching(setup, prompt, output, batch=batch, token_limit_s=limit_s, within=within)
    waste = _padding(prompt, output, static_batch, trace)
    if plot is not None:
        from negajoule.advise.chart import draw_batching

        draw_batching(advice, title, plot)
    if as_json:
        print_json(
            {
                "schema": "negajoule.advise_batching/1",
                "title": title,
                **msgspec.to_builtins(advice),
                "padding": {side: msgspec.to_builtins(one) for side, one in waste.items()},
            }
        )
        return
    say(title)
    _report_batching(advice, waste)


def _no_accelerator(accelerator: str | None) -> None:
    if accelerator is not None:
        raise ConfigError("a profile says what serves: --accelerator contradicts it", fix="leave it out")


def _padding(prompt: float, output: float, batch: int, trace: Path | None) -> dict[str, PaddingWaste]:
    from negajoule.advise import padding_waste
    from negajoule.advise.padding import spread_lengths

    if trace is None:
        return {
            side: padding_waste(lengths, batch, source=source)
            for side, mean in (("prompts", prompt), ("answers", output))
            for lengths, source in (spread_lengths(mean),)
        }
    from negajoule.simulate import read_trace

    requests = read_trace(trace)
    return {
        side: padding_waste([float(length) for length in lengths], batch, source=requests.title)
        for side, lengths in (("prompts", requests.prompt_tokens), ("answers", requests.answer_tokens))
    }


def _report_precision(advice: PrecisionAdvice) -> None:
    click.echo(f"advice   {advice.decision.chosen}")
    click.echo(f"why      {advice.decision.reason}")
    for phase in advice.phases:
        share = "" if phase.reading_share is None else f", reading {phase.reading_share:.0%} of the work"
        wait = f", host and links {phase.host_share:.0%} of the time" if phase.host_share else ""
        click.echo(
            f"{phase.phase:<8} {phase.bound}-bound by {phase.by:.3g} times: {phase.intensity:.3g} FLOP/B, "
            f"ridge {phase.ridge:.3g}{share}{wait}"
        )
    if advice.effects:
        click.echo("")
        print_table(
            ("format", "energy", "time", "prefill J", "decode J", "weights GB", "verdict"),
            [_row(one) for one in advice.effects],
        )
        click.echo(
            f"ratios to {advice.effects[0].format if not advice.change else 'the format compared with'}; "
            "90 % intervals in brackets"
        )
        click.echo("")
        for one in advice.effects:
            words = "; ".join(
                filter(None, (one.quality and f"quality {one.quality}", one.evidence, one.note))
            )
            click.echo(f"{one.format:<9} {words}")
    for note in advice.notes:
        click.echo(f"note     {note}")


def _row(one: Effect) -> tuple[str, ...]:
    weights = "unknown" if one.memory_gb is None else f"{one.memory_gb:.3g}"
    return (
        one.format,
        _span(one.energy),
        _span(one.time),
        _span(one.prefill_energy),
        _span(one.decode_energy),
        weights if one.fits is not False else f"{weights}, too much",
        one.verdict,
    )


def _span(span: Span | None) -> str:
    if span is None:
        return "unknown"
    return (
        f"{span.value:.2f} ({span.low:.2f}-{span.high:.2f})" if span.low != span.high else f"{span.value:.2f}"
    )


def _report_batching(advice: BatchAdvice, waste: dict[str, PaddingWaste]) -> None:
    click.echo(f"advice   {advice.decision.chosen}")
    click.echo(f"why      {advice.decision.reason}")
    click.echo(f"knee     batch {advice.knee:g}, within {advice.within:.0%} of the least energy per token")
    click.echo(f"ceiling  {_span(advice.ceiling)} times less than a batch of one, by batching alone")
    if advice.left is not None:
        click.echo(f"left     {_span(advice.left)} times less than now")
    memory = "unknown" if advice.kv_limit is None else f"{advice.kv_limit} sequences of this length"
    click.echo(f"memory   {memory}; the curve ends by what is {advice.limited_by}")
    click.echo("")
    print_table(
        ("batch", "J/token", "low", "high", "ms/token", "W"),
        [
            (
                f"{point.batch:g}",
                f"{point.energy_per_token_j:.4g}",
                f"{point.low_j:.3g}",
                f"{point.high_j:.3g}",
                "-" if point.token_s is None else f"{1e3 * point.token_s:.3g}",
                "-" if point.power_w is None else f"{point.power_w:.0f}",
            )
            for point in advice.points
        ],
    )
    click.echo("")
    for side, one in waste.items():
        click.echo(
            f"padding  static batches of {one.batch} waste {one.share:.0%} on {side} "
            f"({one.low:.0%} to {one.high:.0%} a batch); {one.source}"
        )
    for note in advice.notes:
        click.echo(f"note     {note}")
