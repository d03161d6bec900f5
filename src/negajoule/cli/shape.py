"""``negajoule shape``: when requests should go, under a promise, and what that saves."""

from __future__ import annotations

import sys
from math import expm1
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.cli.deployment import deployment_options, step_table
from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.cli.traffic import TRAFFIC, read_traffic, traffic_options
from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.shape import Part, Point, Promise, Shaped
    from negajoule.simulate import Fleet, Trace

__all__ = ["shape"]

_SAVED = "# written by negajoule shape"
_DAY_H = 24
_SPARE_H = 72  # beyond the last request, for a server that falls behind


@click.command()
@click.argument("trace")
@click.option(
    "--slo", "promises", multiple=True, required=True, help="p95<=10s, ttft-p99<=500ms, batch:p99<=24h."
)
@deployment_options
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Of the deployment.")
@traffic_options
@click.option(
    "--objective", type=click.Choice(["energy", "carbon", "money"]), default="energy", show_default=True
)
@click.option("--carbon", default=None, help="Intensity by hour in gCO2e/kWh, with commas, for carbon.")
@click.option("--price", default=None, help='Of a kWh, for money: "0.25 EUR", or by hour "0.31,0.22 EUR".')
@click.option(
    "--lever", "levers", multiple=True, type=click.Choice(["sleep", "consolidate", "clocks"]),
    help="What may be done beside timing.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), default=None, help=".svg, .png or .json."
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write [[shape]] tables for a server.",
)
@json_option
def shape(
    trace: str,
    promises: tuple[str, ...],
    replicas: int,
    objective: str,
    carbon: str | None,
    price: str | None,
    levers: tuple[str, ...],
    plot: Path | None,
    save: Path | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 (the options of step_table and read_traffic, passed on)
) -> None:
    """Choose when requests go, so that a promise is kept at the least energy, carbon or money.

    TRACE is a file of requests (Azure LLM, Mooncake, BurstGPT, ServeGen, vLLM or guidellm benchmarks, or
    CSV), or a law such as poisson:2 or bursts:16,2. One number of --carbon or --price holds always, 24 hold
    every day. The trace's first 60 % tune, the rest judges. It is said plainly when timing can't help.

    Example: negajoule shape trace.csv --slo "p95<=30s" --model llama-3.1-8b --accelerator h100
    """
    from negajoule.shape import frontier, gain_by_part, parse_promise
    from negajoule.shape import shape as choose
    from negajoule.simulate import Fleet

    promised = [parse_promise(text) for text in promises]
    if save is not None:
        _check_saving(save)
    requests = read_traffic(trace, **{name: options.pop(name) for name in TRAFFIC})
    fleet = Fleet(table=step_table(**options), replicas=replicas)
    hours = int((float(requests.arrival_s[-1]) + max(each.limit_s for each in promised)) // 3600.0) + _SPARE_H
    amounts, currency = (None, "") if price is None else _price(price)
    shaped = choose(
        requests,
        fleet,
        promised,
        objective=objective,
        carbon_g_per_kwh=None if carbon is None else _by_hour(_numbers("--carbon", carbon), hours),
        price_per_kwh=None if amounts is None else _by_hour(amounts, hours),
        currency=currency,
        levers=levers,
        progress=_progress(),
    )
    points = frontier(requests, fleet, promised[0])
    parts = gain_by_part(requests, fleet, shaped.plan)
    if plot is not None:
        _draw(points, shaped, promised[0], plot)
    if save is not None:
        _save(shaped, promised, requests, save)
    if as_json:
        print_json(_as_json(requests, fleet, promised, shaped, points, parts))
        return
    _report(requests, fleet, promised, shaped, points, parts)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option} {text!r} can't be read", fix="numbers with commas: 320,280,190"
        ) from None


def _price(text: str) -> tuple[list[float], str]:
    """Prices of a kWh and their currency."""
    amounts, _, currency = text.strip().rpartition(" ")
    if not (len(currency) == 3 and currency.isalpha() and currency.isupper()):
        raise ConfigError(f"--price {text!r} has no currency", fix='write "0.25 EUR"')
    return _numbers("--price", amounts), currency


def _by_hour(numbers: list[float], hours: int) -> list[float]:
    """A number for each hour: one holds always, those of a day hold every day."""
    if len(numbers) not in (1, _DAY_H) and len(numbers) < hours - _SPARE_H:
        raise ConfigError(
            f"{len(numbers)} hours are given, and the requests go on for longer",
            fix=f"give 1, {_DAY_H} or at least {hours - _SPARE_H} numbers",
        )
    repeated = numbers * (hours // len(numbers) + 1) if len(numbers) in (1, _DAY_H) else numbers
    return [*repeated, *numbers[-1:] * (hours - len(repeated))]


def _check_saving(path: Path) -> None:
    """Only what this command wrote is written over: a settings file may hold more.

    Raises:
        ConfigError: (C101) if the file holds anything else.
    """
    try:
        ours = path.read_text(encoding="utf-8").startswith(_SAVED)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise ConfigError(
            f"{path} wasn't written by this command", fix="name another file, and copy its tables from there"
        )


def _save(shaped: Shaped, promises: list[Promise], trace: Trace, path: Path) -> None:
    from negajoule.shape.live import rules_of, write_rules

    rules = rules_of(shaped, promises, trace.classes)
    lines = [_SAVED, f"# {shaped.decision.reason}"]
    if shaped.plan.variant.title:
        lines.append(f"# not done by the server: {shaped.plan.variant.title}")
    try:
        path.write_text("\n".join([*lines, "", write_rules(rules)]), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None
    say(f"{path}: {len(rules)} [[shape]] table(s); put them into negajoule.toml, then SIGHUP")


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
    unit = shaped.unit
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
        "unit": shaped.unit,
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
