"""``negajoule simulate``: what a trace would cost on a fleet, and how long its requests would wait."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.cli.deployment import deployment_options, step_table
from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.cli.traffic import read_traffic, traffic_options
from negajoule.errors import ConfigError
from negajoule.units.text import number_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from negajoule.simulate import Fleet, Outcome, Policy, Trace

__all__ = ["simulate"]

_POLICIES = {
    "join": "join:WAIT[,RUNNING]",
    "gated": "gated:WAIT[,COUNT]",
    "limit": "limit:COUNT,WAIT",
    "pace": "pace:RATE[,BURST]",
}
_PERCENTILES = (50, 95, 99)
_BATCHING = ("chunked", "prefill-first", "orca", "static")
_ROUTING = ("least-loaded", "round-robin", "fewest")
_TIMES = (("ttft_s", "first token"), ("inter_token_s", "token to token"), ("latency_s", "whole answer"))


@click.command()
@click.argument("trace")
@traffic_options
@deployment_options
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Of the deployment.")
@click.option("--batching", type=click.Choice(_BATCHING), default="chunked", show_default=True)
@click.option("--step-tokens", type=click.IntRange(1), default=2048, show_default=True, help="In a step.")
@click.option("--context", type=click.IntRange(2), default=None, help="Longest prompt and answer, in tokens.")
@click.option("--prefix-cache", is_flag=True, help="Don't compute the parts of prompts that came before.")
@click.option("--routing", type=click.Choice(_ROUTING), default="least-loaded", show_default=True)
@click.option("--fill", type=click.IntRange(1), default=8, show_default=True, help="A replica, for fewest.")
@click.option("--sleep-after", type=click.FloatRange(0), default=math.inf, help="Idle s before sleep.")
@click.option(
    "--power-cap", type=click.FloatRange(0, min_open=True), default=None, help="Of a replica, in W."
)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=math.inf, help="Clients', in s.")
@click.option("--most-open", type=click.IntRange(1), default=None, help="Requests before others are refused.")
@click.option("--prefill-replicas", type=click.IntRange(0), default=0, help="That only compute prompts.")
@click.option("--transfer-s", type=click.FloatRange(0), default=0.0, help="To hand over a prompt token.")
@click.option("--transfer-j", type=click.FloatRange(0), default=0.0, help="To hand over a prompt token.")
@click.option("--host-w", type=click.FloatRange(0), default=0.0, help="Power of a replica's host.")
@click.option("--release", default=None, help=f"When requests go: {', '.join(_POLICIES.values())}.")
@click.option("--carbon", default=None, help="Intensity by hour in gCO2e/kWh, with commas.")
@click.option(
    "--vidur", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write the trace for it."
)
@json_option
def simulate(
    trace: str,
    requests: int,
    prompt: float,
    answer: float,
    spread: float,
    lengths_of: Path | None,
    seed: int,
    from_s: float,
    to_s: float,
    share: float,
    rate: float | None,
    replicas: int,
    batching: str,
    step_tokens: int,
    context: int | None,
    prefix_cache: bool,
    routing: str,
    fill: int,
    sleep_after: float,
    power_cap: float | None,
    timeout: float,
    most_open: int | None,
    prefill_replicas: int,
    transfer_s: float,
    transfer_j: float,
    host_w: float,
    release: str | None,
    carbon: str | None,
    vidur: Path | None,
    as_json: bool,
    **deployment: Any,  # noqa: ANN401 (the options of step_table, passed on)
) -> None:
    """Serve a trace on a fleet that needn't exist: energy by phase, latencies, who was served.

    TRACE is a file of requests (Azure LLM, Mooncake, BurstGPT, ServeGen, Vidur, vLLM or guidellm benchmarks,
    CSV; .gz too) or a law: poisson:4, fixed:0.05, uniform:0.05,0.3, bursts:16,2, markov:1,60,20,5,
    diurnal:4,0.5.

    Example: negajoule simulate poisson:4 --model llama-3.1-8b --accelerator h100
    """
    from negajoule.simulate import Batching, Fleet, Routing, Service, write_vidur
    from negajoule.simulate import simulate as serve

    made = read_traffic(
        trace, requests, prompt, answer, spread, lengths_of, seed, from_s, to_s, share, rate
    )  # fmt: skip
    if vidur is not None:
        write_vidur(made, vidur)
        say(f"wrote {vidur}")
    fleet = Fleet(
        table=step_table(**deployment),
        replicas=replicas,
        batching=Batching(batching),
        step_tokens=step_tokens,
        context_tokens=context,
        prefix_cache=prefix_cache,
        routing=Routing(routing),
        fill=fill,
        sleep_after_s=sleep_after,
        power_cap_w=power_cap,
        most_open=most_open,
        prefill_replicas=prefill_replicas,
        transfer_token_s=transfer_s,
        transfer_token_j=transfer_j,
        host_w=host_w,
    )
    service = Service(policy=None if release is None else _policy(release), timeout_s=timeout)
    intensity = None if carbon is None else _numbers(carbon, "--carbon 310,290,240")
    with _progress() as progress:
        outcome = serve(made, fleet, service, carbon_g_per_kwh=intensity, progress=progress)
    if as_json:
        print_json(_as_json(made, fleet, outcome))
    else:
        _report(made, fleet, outcome)
    for verdict in outcome.verdicts():
        say(verdict)


def _policy(text: str) -> Policy:
    from negajoule.shape import ControlLimit, Gated, JoinBusy, TokenBucket

    name, _, rest = text.partition(":")
    if name in _POLICIES:
        numbers = _numbers(rest, f"--release {_POLICIES[name]}, in s and 1/s")
        match name, numbers:
            case "join", [wait]:
                return JoinBusy(wait_s=wait)
            case "join", [wait, running]:
                return JoinBusy(wait_s=wait, running=int(running))
            case "gated", [wait]:
                return Gated(wait_s=wait)
            case "gated", [wait, count]:
                return Gated(wait_s=wait, count=count)
            case "limit", [count, wait]:
                return ControlLimit(count=count, wait_s=wait)
            case "pace", [rate]:
                return TokenBucket(rate_per_s=rate)
            case "pace", [rate, burst]:
                return TokenBucket(rate_per_s=rate, burst=int(burst))
    raise ConfigError(f"--release {text!r} isn't known", fix=f"one of {', '.join(_POLICIES.values())}")


def _numbers(text: str, fix: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{text!r} isn't a row of numbers", fix=fix) from None


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, if that's a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="simulating", file=sys.stderr) as bar:

        def report(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield report


def _percentiles(values: NDArray[np.float64]) -> list[float | None]:
    import numpy as np

    known = np.asarray(values)[np.isfinite(values)]
    return [float(value) for value in np.percentile(known, _PERCENTILES)] if known.size else [None] * 3


def _report(trace: Trace, fleet: Fleet, outcome: Outcome) -> None:
    table = fleet.table
    served = outcome.fates["served"]
    click.echo(f"{trace.title}: {len(trace):,} requests over {outcome.end_time_s:,.0f} s, {served:,} served")
    kinds = f"{fleet.replicas} x {table.title}, {fleet.batching} batching"
    click.echo(f"{kinds}; costs of steps {table.basis}, energy within {math.expm1(table.doubt):.0%} (90 %)")
    click.echo()
    rows = []
    for name, words in _TIMES:
        values = _percentiles(getattr(outcome, name))
        rows.append((words, *("" if value is None else f"{value:.3g} s" for value in values)))
    print_table(("time to", "p50", "p95", "p99"), rows)
    click.echo()
    total_j = outcome.total_j
    print_table(
        ("energy", "J", "J/request", "share"),
        [
            (
                name,
                number_text(joules, 3),
                number_text(joules / served, 3) if served else "",
                f"{joules / total_j:.0%}" if total_j else "",
            )
            for name, joules in [*outcome.energy_j.items(), ("all", total_j)]
            if joules > 0
        ],
    )
    click.echo()
    steps = int(outcome.steps.sum())
    busy = float(outcome.busy_s.sum() / (outcome.busy_s.size * max(outcome.end_time_s, 1e-9)))
    click.echo(f"  busy             {busy:.0%} of the time, {steps:,} steps")
    if steps:
        click.echo(f"  mean batch       {outcome.decoded_tokens.sum() / steps:.3g} sequences that decode")
    if outcome.preempted.any():
        click.echo(f"  pre-empted       {int(outcome.preempted.sum()):,} times for want of KV cache")
    if outcome.woken.any():
        click.echo(f"  woken            {int(outcome.woken.sum()):,} times")
    if outcome.carbon_g is not None:
        click.echo(f"  emissions        {number_text(outcome.carbon_g)} gCO2e")


def _as_json(trace: Trace, fleet: Fleet, outcome: Outcome) -> dict[str, object]:
    import numpy as np

    return {
        "schema": "negajoule.simulate/1",
        "trace": {"title": trace.title, "requests": len(trace), "span_s": trace.span_s},
        "fleet": {
            "table": fleet.table.title,
            "basis": fleet.table.basis,
            "doubt": fleet.table.doubt,
            "replicas": fleet.replicas,
            "batching": fleet.batching.value,
        },
        "end_time_s": outcome.end_time_s,
        "requests": outcome.fates,
        "overloaded": outcome.overloaded,
        "verdicts": list(outcome.verdicts()),
        "energy_j": outcome.energy_j,
        "total_j": outcome.total_j,
        "request_j": outcome.request_j,
        "carbon_g": outcome.carbon_g,
        "energy_by_hour_j": outcome.energy_by_hour_j.sum(axis=1).tolist(),
        "carbon_by_hour_g": [
            None if np.isnan(grams) else grams for grams in outcome.carbon_by_hour_g.tolist()
        ],
        "percentiles": list(_PERCENTILES),
        **{name: _percentiles(getattr(outcome, name)) for name, _ in _TIMES},
        "hold_s": _percentiles(outcome.hold_s),
        "busy_s": outcome.busy_s.tolist(),
        "steps": int(outcome.steps.sum()),
        "decoded_tokens": int(outcome.decoded_tokens.sum()),
        "prefilled_tokens": int(outcome.prefilled_tokens.sum()),
        "preempted": int(outcome.preempted.sum()),
        "woken": int(outcome.woken.sum()),
    }
