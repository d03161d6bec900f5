"""Many steps at once: sums of steps whose cost grows evenly, and where their joules fall in time.

While nobody joins or leaves, step j of a batch takes ``first + j x slope``; k steps take
``k first + slope k (k - 1) / 2``, and the number of steps until a moment is a root of that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from negajoule.simulate import layout as at

if TYPE_CHECKING:
    from negajoule.simulate.layout import State

__all__ = ["book_steps", "spread", "steps_until", "sum_of_steps"]


def sum_of_steps(steps: int, first: float, slope: float) -> float:
    """Sum of a cost over a number of steps."""
    return steps * first + slope * (0.5 * steps * (steps - 1))


def steps_until(start_s: float, until_s: float, first_s: float, slope_s: float) -> int:
    """The fewest steps, at least one, that end at or after a moment."""
    span_s = until_s - start_s
    if span_s <= first_s:
        return 1
    linear = first_s - 0.5 * slope_s
    steps = max(int(2.0 * span_s / (linear + math.sqrt(linear * linear + 2.0 * slope_s * span_s))), 1)
    while start_s + sum_of_steps(steps, first_s, slope_s) < until_s:
        steps += 1
    while steps > 1 and start_s + sum_of_steps(steps - 1, first_s, slope_s) >= until_s:
        steps -= 1
    return steps


def spread(s: State, phase: int, start_s: float, end_s: float, energy_j: float) -> None:
    """Book energy that flowed evenly over a span, by bins of time."""
    width_s = s.fleet_reals[at.BIN_S]
    low, high = int(start_s / width_s), int(end_s / width_s)
    if low == high:
        s.energy[low * at.PHASES + phase] += energy_j
        return
    power_w = energy_j / (end_s - start_s)
    for place in range(low, high + 1):
        inside_s = min(end_s, (place + 1) * width_s) - max(start_s, place * width_s)
        s.energy[place * at.PHASES + phase] += power_w * inside_s


def book_steps(s: State, replica: int) -> None:
    """Book the decoding energy of a replica's steps in flight; exact where they cross the edges of bins."""
    mine = replica * at.REALS
    width_s = s.fleet_reals[at.BIN_S]
    start_s, end_s = s.reals[mine + at.START], s.reals[mine + at.CLOCK]
    first_s, slope_s = s.reals[mine + at.STEP_S], s.reals[mine + at.SLOPE_S]
    first_j, slope_j = s.reals[mine + at.STEP_J], s.reals[mine + at.SLOPE_J]
    steps = s.wholes[replica * at.WHOLES + at.STEPS]
    low, high = int(start_s / width_s), int(end_s / width_s)
    booked = 0
    for place in range(low, high):
        crossing = min(steps_until(start_s, (place + 1) * width_s, first_s, slope_s), steps)
        if crossing <= booked:
            continue
        before_j = sum_of_steps(booked, first_j, slope_j)
        inside_j = sum_of_steps(crossing - 1, first_j, slope_j)
        s.energy[place * at.PHASES + at.DECODE] += inside_j - before_j
        spread(
            s,
            at.DECODE,
            start_s + sum_of_steps(crossing - 1, first_s, slope_s),
            start_s + sum_of_steps(crossing, first_s, slope_s),
            sum_of_steps(crossing, first_j, slope_j) - inside_j,
        )
        booked = crossing
    rest_j = sum_of_steps(steps, first_j, slope_j) - sum_of_steps(booked, first_j, slope_j)
    s.energy[high * at.PHASES + at.DECODE] += rest_j
