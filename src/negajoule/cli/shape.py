"""``negajoule shape``: when requests should go, under a promise, and what that saves."""

from __future__ import annotations

import sys
from math import expm1
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.cli.deployment import deployment_options, step_table
from negajoule.cli.output import json_option, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.shape import Part, Point, Promise, Shaped
    from negajoule.simulate import Fleet, Trace

__all__ = ["shape"]


@click.command()
@click.argument("trace", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--slo", "promises", multiple=True, required=True, help="p95<=10s, ttft-p99<=500ms, batch:p99<=24h."
)
@deployment_options
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Of the deployment.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=None, help="Stretch time to it.")
@click.option("--objective", type=click.Choice(["energy", "carbon"]), default="energy", show_default=True)
@click.option("--carbon", default=None, help="Intensity by hour in gCO2e/kWh, with commas, for carbon.")
@click.option(
    "--lever", "levers", multiple=True, type=click.Choice(["sleep", "consolidate", "clocks"]),
    help="What may be done beside timing.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), default=None, help=".svg, .png or .json."
)
@json_option
def shape(
    trace: Path,
    promises: tuple[str, ...],
    replicas: int,
    rate: float | None,
    objective: str,
    carbon: str | None,
    levers: tuple[str, ...],
    plot: Path | None,
    as_json: bool,
    **deployment: Any,  # noqa: ANN401 (the options of step_table, passed on)
) -> None:
    """Choose when requests go, so that a promise is kept at the least energy or carbon.

    TRACE is a file of requests: Azure LLM, Mooncake, BurstGPT, ServeGen, vLLM or guidellm benchmarks, or CSV.
    Its first 60 % tune, the rest judges. It is said plainly when timing can't help.

    Example: negajoule shape trace.csv --slo "p95<=30s" --model llama-3.1-8b --accelerator h100
    """
    from negajoule.shape import frontier, gain_by_part, parse_promise
    from negajoule.shape import shape as choose
    from negajoule.simulate import Fleet
    from negajoule.simulate.traffic_files import read_trace

    promised = [parse_promise(text) for text in promises]
    requests = read_trace(trace)
    if rate is not None:
        requests = requests.at_rate(rate)
    fleet = Fleet(table=step_table(**deployment), replicas=replicas)
    intensity = None if carbon is None else _numbers(carbon)
    shaped = choose(
        requests,
        fleet,
        promised,
        objective=objective,
        carbon_g_per_kwh=intensity,
        levers=levers,
        progress=_progress(),
    )
    points = frontier(requests, fleet, promised[0])
    parts = gain_by_part(requests, fleet, shaped.plan)
    if plot is not None:
        _draw(points, shaped, promised[0], plot)
    if as_json:
        print_json(_as_json(requests, fleet, promised, shaped, points, parts))
        return
    _report(requests, fleet, promised, shaped, points, parts)


def _numbers(text: str) -> list[float]:
    from negajoule.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--carbon {text!r} can't be read", fix="numbers with commas: 320,280,190"
        ) from None


def _progress() -> Callable[[int, int], None] | None:
    """A line on stderr, on terminals only."""
    if not sys.stderr.isatty():
        return None

    def tell(done: int, whole: int) -> None:
        click.echo(f"\rtrying policies: {done} of {whole}", err=True, nl=done == whole)

    return tell


def _report(
    trace: Trace,
    fleet: Fleet,
    promises: list[Promise],
    shaped: Shaped,
    points: tuple[Point, ...],
    parts: tuple[Part, ...],
) -> None:
    unit = "J" if shaped.objective == "energy" else "gCO2e"
    rate = trace.rate_per_s
    say(
        f"{trace.title}: {len(trace)} requests, {rate:.3g}/s"
        if rate
        else f"{trace.title}: {len(trace)} requests at once"
    )
    doubt = expm1(fleet.table.doubt)
    say(f"{fleet.table.title}: costs {fleet.table.basis}, energies within {doubt:.0%} (90 %)")
    click.echo(f"policy   {shaped.decision.chosen}")
    click.echo(
        f"saves    {shaped.cost:.4g} {unit} a request instead of {shaped.at_once:.4g} at once: "
        f"{shaped.gain:.2f} times less ({shaped.gain_low:.2f} to {shaped.gain_high:.2f})"
    )
    for promise, kept in zip(promises, shaped.kept, strict=True):
        click.echo(
            f"promise  {promise}: {kept.reached_s:.3g} s, {'kept' if kept.kept else 'NOT kept'}; "
            f"late {100 * kept.late_share:.2g} %, at most {100 * kept.late_share_high:.2g} % elsewhere"
        )
    decision = shaped.decision
    if decision.runner_up is not None and decision.margin is not None:
        click.echo(f"next     {decision.runner_up}: {100 * decision.margin:.2g} % dearer")
    for note in shaped.notes:
        click.echo(f"note     {note}")
    click.echo("")
    print_table(
        ("where it comes from", "J/request", "times less", "idle J"),
        [(part.name, f"{part.request_j:.4g}", f"{part.factor:.2f}", f"{part.idle_j:.3g}") for part in parts],
    )
    click.echo("")
    print_table(
        (f"p{100 * promises[0].quantile:g} s", "J/request", "policy"),
        [(f"{point.reached_s:.3g}", f"{point.request_j:.4g}", point.policy) for point in points],
    )
    say("The naive loop is assumed, not measured; see 'negajoule explain serving.naive-loop.step'.")


def _as_json(
    trace: Trace,
    fleet: Fleet,
    promises: list[Promise],
    shaped: Shaped,
    points: tuple[Point, ...],
    parts: tuple[Part, ...],
) -> dict[str, object]:
    return {
        "schema": "negajoule.shape/1",
        "trace": {"title": trace.title, "requests": len(trace), "rate_per_s": trace.rate_per_s},
        "deployment": {
            "title": fleet.table.title,
            "replicas": fleet.replicas,
            "basis": fleet.table.basis,
            "energy_doubt": fleet.table.doubt,
            "boundary": "accelerator",
        },
        "decision": shaped.decision,
        "objective": shaped.objective,
        "cost_per_request": shaped.cost,
        "at_once_per_request": shaped.at_once,
        "unit": "J" if shaped.objective == "energy" else "gCO2e",
        "gain": shaped.gain,
        "gain_low": shaped.gain_low,
        "gain_high": shaped.gain_high,
        "promises": [
            {"promise": str(promise), "limit_s": promise.limit_s, "kept": kept.kept, "surely": kept.surely,
             "reached_s": kept.reached_s, "late_share": kept.late_share}
            for promise, kept in zip(promises, shaped.kept, strict=True)
        ],
        "notes": shaped.notes,
        "parts": [part._asdict() for part in parts],
        "frontier": [point._asdict() for point in points],
    }  # fmt: skip


def _draw(points: tuple[Point, ...], shaped: Shaped, promise: Promise, path: Path) -> None:
    from negajoule.shape.chart import frontier_chart

    frontier_chart(points, promise, str(shaped.plan), path)
