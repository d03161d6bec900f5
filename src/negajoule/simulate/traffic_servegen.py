"""ServeGen's traces: for each client, windows of time with a rate and a law of the gaps in between.

A row is the client, the window's start [s], its rate [1/s], the coefficient of variation of its gaps, the law
(Gamma or Weibull; none where nobody came) and the law's shape and scale. Gaps are drawn by the law and its
shape, and scaled to the window's rate, for fitted scales and observed rates don't always agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from negajoule.errors import ConfigError
from negajoule.simulate.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from negajoule.simulate.traffic_made import Lengths

__all__ = ["draw_servegen"]

_WINDOW_S = 600.0


_MOST = 20_000_000  # requests; two weeks of one of these traces are a billion


def draw_servegen(
    rows: Iterable[list[str]],
    name: str,
    lengths: Lengths | None,
    seed: int,
    span_s: tuple[float, float],
    share: float,
) -> Trace:
    """Draw one realisation of the arrivals; each client's windows must follow one another.

    Args:
        rows: the cells of the file's rows.
        name: what to call the file.
        lengths: where lengths come from.
        seed: of the random numbers.
        span_s: windows that start in this span are drawn [s].
        share: share of each client's rate that is drawn.

    Raises:
        ConfigError: (C106) for windows that overlap, a law that isn't known, too many requests, or without
            lengths.
    """
    if lengths is None:
        raise ConfigError(
            f"{name} tells when requests come, but not how long they are",
            code="C106",
            fix="give lengths: means of a lognormal, or another trace to draw from",
        )
    random = np.random.default_rng(seed)
    parts: list[NDArray[np.float64]] = []
    ends_s: dict[str, float] = {}
    expected = 0.0
    for number, row in enumerate(rows, start=2):
        try:
            client, start_s, rate, law = row[0], float(row[1]), float(row[2]), row[4]
            shape = float(row[5]) if row[5] else 0.0
        except (ValueError, IndexError):
            raise ConfigError(
                f"line {number} of {name} can't be read: {','.join(row)}", code="C106"
            ) from None
        if start_s < ends_s.get(client, 0.0):
            raise ConfigError(
                f"line {number} of {name}: a window of client {client} starts at {start_s:g} s, "
                f"before the one above it ends",
                code="C106",
                fix="leave out windows that overlap",
            )
        ends_s[client] = start_s + _WINDOW_S
        if rate > 0 and span_s[0] <= start_s < span_s[1]:
            expected += rate * share * _WINDOW_S
            if expected > _MOST:
                raise ConfigError(
                    f"{name} stands for more than {_MOST / 1e6:.0f} million requests",
                    code="C106",
                    fix="take a shorter span, or a share of the requests",
                )
            gaps = _gaps(law, shape, rate * share, random, f"line {number} of {name}")
            parts.append(start_s - span_s[0] + gaps)
    times = np.sort(np.concatenate(parts)) if parts else np.empty(0)
    if not times.size:
        raise ConfigError(f"{name} holds no arrivals in that span", code="C106")
    prompts, answers = lengths.draw(times.size, random)
    return Trace(
        times, prompts, answers, title=f"{name} (ServeGen)",
        notes=(f"arrivals and lengths drawn with seed {seed}: the file holds rates",),
    )  # fmt: skip


def _gaps(
    law: str, shape: float, rate: float, random: np.random.Generator, where: str
) -> NDArray[np.float64]:
    """Arrivals within one window, from its start [s]."""
    expected = rate * _WINDOW_S
    number = int(expected + 10 * math.sqrt(expected) + 10)
    if law == "Gamma" and shape > 0:
        gaps = random.gamma(shape, 1.0 / (shape * rate), number)
    elif law == "Weibull" and shape > 0:
        gaps = random.weibull(shape, number) / (rate * math.gamma(1.0 + 1.0 / shape))
    elif law in ("", "Exponential", "Expon"):
        gaps = random.exponential(1.0 / rate, number)
    else:
        raise ConfigError(f"{where}: gaps of law {law!r} with shape {shape:g} aren't known", code="C106")
    times = np.cumsum(gaps)
    return np.asarray(times[times < _WINDOW_S])
