"""Traffic on the command line: a file of requests, or a law that makes them, and what is kept of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.simulate import Lengths, Trace

__all__ = ["TRAFFIC", "read_traffic", "traffic_options"]

_LAWS = {
    "poisson": "poisson:RATE",
    "fixed": "fixed:GAP",
    "uniform": "uniform:LEAST,MOST",
    "bursts": "bursts:SIZE,GAP",
    "markov": "markov:RATE,SECONDS,RATE,SECONDS...",
    "diurnal": "diurnal:RATE,SWING",
}

_OPTIONS = (
    click.option("--requests", type=click.IntRange(1), default=10_000, show_default=True, help="To make."),
    click.option("--prompt", type=click.FloatRange(1), default=391.0, show_default=True, help="Mean tokens."),
    click.option("--answer", type=click.FloatRange(1), default=230.0, show_default=True, help="Mean tokens."),
    click.option("--spread", type=click.FloatRange(0), default=1.0, show_default=True, help="Of logs."),
    click.option(
        "--lengths-of",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        help="Draw lengths from this trace instead.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn."),
    click.option("--from", "from_s", type=click.FloatRange(0), default=0.0, help="Start in the trace, in s."),
    click.option("--to", "to_s", type=click.FloatRange(0), default=math.inf, help="End in the trace, in s."),
    click.option(
        "--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Of the requests to keep."
    ),
    click.option(
        "--rate", type=click.FloatRange(0, min_open=True), default=None, help="Stretch time to requests/s."
    ),
)

TRAFFIC = (
    "requests", "prompt", "answer", "spread", "lengths_of", "seed", "from_s", "to_s", "share", "rate",
)  # fmt: skip
"""Names of the options that ``read_traffic`` takes."""


def traffic_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that ``read_traffic`` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_traffic(
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
) -> Trace:
    """The requests that the options say.

    Raises:
        ConfigError: (C106) for a file that can't be read; (C101) for a law that isn't known.
    """
    from negajoule.simulate import LengthsOf, LognormalLengths, read_trace

    lengths: Lengths = LognormalLengths(prompt, answer, spread)
    if lengths_of is not None:
        lengths = LengthsOf(read_trace(lengths_of, seed=seed))
    law, colon, numbers = trace.partition(":")
    if law in _LAWS and (colon or not Path(trace).exists()):
        made = _made(law, numbers, requests, lengths, seed)
        if (from_s, to_s) != (0.0, math.inf):
            made = made.between(from_s, to_s)
    else:
        made = read_trace(Path(trace), span_s=(from_s, to_s), share=share, lengths=lengths, seed=seed)
    return made if rate is None else made.at_rate(rate)


def _made(law: str, text: str, requests: int, lengths: Lengths, seed: int) -> Trace:
    from negajoule.simulate import bursts, diurnal, fixed, markov_modulated, poisson, uniform

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    match law, numbers:
        case "poisson", [rate]:
            return poisson(requests, rate, lengths, seed=seed)
        case "fixed", [gap]:
            return fixed(requests, gap, lengths, seed=seed)
        case "uniform", [least, most]:
            return uniform(requests, least, most, lengths, seed=seed)
        case "bursts", [size, gap]:
            return bursts(requests, int(size), gap, lengths, seed=seed)
        case "diurnal", [rate, swing]:
            return diurnal(requests, rate, swing, lengths, seed=seed)
        case "markov", [_, _, *rest] if len(rest) % 2 == 0:
            return markov_modulated(requests, numbers[::2], numbers[1::2], lengths, seed=seed)
    raise ConfigError(f"{law}:{text} can't be read", fix=f"write {_LAWS[law]}, in 1/s and s")
