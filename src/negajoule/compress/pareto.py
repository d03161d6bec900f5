"""The picture: accuracy against energy, with intervals, what is dominated hollow. Plain SVG, no library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from negajoule.units.text import number_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.compress.result import Line, Result

__all__ = ["draw"]

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 56, 70
INK, MUTED, MARK, HOLLOW = "#1a1a1a", "#767676", "#0072b2", "#d55e00"


class _Axis(NamedTuple):
    """From values to pixels, by logarithm if wanted."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def draw(result: Result) -> str:
    """Accuracy of each artefact against the energy of 1,000 texts, as SVG.

    Horizontal bars are the rounds' interval of energy saved, vertical ones Wilson's interval of accuracy. A
    hollow mark is dominated: another artefact is at least as right for less energy.
    """
    lines = result.lines
    base_j = lines[0].energy.value
    spans = [_span(line, base_j) for line in lines]
    x = _Axis(
        min(low for low, _ in spans) / 1.3,
        max(high for _, high in spans) * 1.3,
        LEFT,
        WIDTH - RIGHT,
        logarithmic=True,
    )
    bounds = [(line.quality.accuracy.low or 0.0, line.quality.accuracy.high or 1.0) for line in lines]
    lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
    margin = max(0.005, 0.08 * (highest - lowest))
    y = _Axis(100 * (lowest - margin), 100 * min(1.0, highest + margin), HEIGHT - BOTTOM, TOP)
    best = [line for line in lines if not line.dominated_by]
    basis = lines[0].energy.basis
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(_title(result))}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(_title(result))}</text>',
        f'<text x="{LEFT}" y="40" fill="{MUTED}">{escape(_subtitle(result))}</text>',
        *_grid(x, y),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 30}" text-anchor="middle">'
        f"energy of 1,000 texts [J], {basis}, logarithmic</text>",
        f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">accuracy [%]</text>',
        _front(sorted(best, key=lambda line: line.energy.value), x, y),
    ]
    taken: list[float] = []
    for line, span in sorted(
        zip(lines, spans, strict=True), key=lambda item: -item[0].quality.accuracy.value
    ):
        parts += _mark(line, span, x, y, taken)
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 10}" fill="{MUTED}" font-size="11">bars: 95 % intervals; filled: '
        f"nothing is better for less energy; hollow: dominated. {escape(result.machine)}</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _span(line: Line, base_j: float) -> tuple[float, float]:
    """Interval of the energy of 1,000 texts as the rounds tell it, against the baseline [J]."""
    low, high = line.saving.low, line.saving.high
    if low is None or high is None:
        return line.energy.value, line.energy.value
    ends = (base_j * (1 - high), base_j * (1 - low))
    return min(*ends, line.energy.value), max(*ends, line.energy.value)


def _title(result: Result) -> str:
    best = result.best()
    if best is None:
        return f"{result.model} on {result.data}: no recipe stays within a point of accuracy"
    return (
        f"{result.model} on {result.data}: {best.name} saves {best.saving.value:.0%}, "
        f"{best.lost.value:+.1f} points lost"
    )


def _subtitle(result: Result) -> str:
    return (
        f"{result.test_texts} test texts, {result.rounds} rounds of {result.measured_texts} in batches "
        f"of {result.batch}, {result.threads} thread(s)"
    )


def _grid(x: _Axis, y: _Axis) -> list[str]:
    parts = []
    exponent = math.floor(math.log10(x.low))
    while 10**exponent < x.high:
        for digit in (1, 2, 5):
            value = digit * 10.0**exponent
            if x.low <= value <= x.high:
                at = x.place(value)
                parts.append(
                    f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y.end}" y2="{y.start}" stroke="#e4e4e4"/>'
                    f'<text x="{at:.1f}" y="{y.start + 18}" text-anchor="middle">{number_text(value)}</text>'
                )
        exponent += 1
    step = next(size for size in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if (y.high - y.low) / size <= 8)
    value = math.ceil(y.low / step) * step
    while value <= y.high:
        at = y.place(value)
        parts.append(
            f'<line x1="{x.start}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e4e4e4"/>'
            f'<text x="{x.start - 8}" y="{at + 4:.1f}" text-anchor="end">{number_text(value, 3)}</text>'
        )
        value += step
    return parts


def _front(best: Sequence[Line], x: _Axis, y: _Axis) -> str:
    points = " ".join(
        f"{x.place(line.energy.value):.1f},{y.place(100 * line.quality.accuracy.value):.1f}" for line in best
    )
    return f'<polyline points="{points}" fill="none" stroke="{MARK}" stroke-dasharray="4 4" opacity="0.6"/>'


def _mark(line: Line, span: tuple[float, float], x: _Axis, y: _Axis, taken: list[float]) -> list[str]:
    accuracy = line.quality.accuracy
    at_x, at_y = x.place(line.energy.value), y.place(100 * accuracy.value)
    low_y, high_y = y.place(100 * (accuracy.low or 0.0)), y.place(100 * (accuracy.high or 1.0))
    colour = HOLLOW if line.dominated_by else MARK
    fill = "white" if line.dominated_by else colour
    label_y = at_y + 4
    while any(abs(label_y - other) < 15 for other in taken):
        label_y += 4
    taken.append(label_y)
    label_x = WIDTH - RIGHT + 14
    note = f", dominated by {line.dominated_by}" if line.dominated_by else ""
    about = f"{line.name}: {accuracy.value:.1%}, {number_text(line.energy.value, 3)} J{note}"
    return [
        f'<g stroke="{colour}"><title>{escape(about)}</title>'
        f'<line x1="{x.place(span[0]):.1f}" x2="{x.place(span[1]):.1f}" y1="{at_y:.1f}" y2="{at_y:.1f}"/>'
        f'<line x1="{at_x:.1f}" x2="{at_x:.1f}" y1="{low_y:.1f}" y2="{high_y:.1f}"/>'
        f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="5" fill="{fill}" stroke-width="2"/>'
        f'<path d="M{at_x + 8:.1f} {at_y:.1f} L{label_x - 4} {label_y - 4:.1f}" stroke="{MUTED}" '
        f'stroke-width="0.5" fill="none"/></g>',
        f'<text x="{label_x}" y="{label_y:.1f}">{escape(line.name[:28])}</text>',
    ]
