"""Curves as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.picture import draw

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.advise.batching import BatchAdvice
    from negajoule.advise.clocks import ClockAdvice

__all__ = ["draw_batching", "draw_clocks"]


def draw_batching(advice: BatchAdvice, title: str, path: Path) -> None:
    """Energy per token by batch, its interval, and the knee.

    Raises:
        ConfigError: (C101), (C106), as ``negajoule.picture.draw``.
        ExtraMissingError: (X101) without vl-convert.
    """
    rows = [
        {"x": point.batch, "J": point.energy_per_token_j, "low": point.low_j, "high": point.high_j}
        for point in advice.points
    ]
    picture = _band(rows, "batch", "J per output token", title, advice.decision.reason)
    picture["layer"].append(
        {
            "data": {"values": [{"x": advice.knee}]},
            "mark": {"type": "rule", "strokeDash": [5, 3], "color": "#b03030"},
            "encoding": {"x": {"field": "x", "type": "quantitative"}},
        }
    )
    draw(picture, path, purpose="draw energy by batch")


def draw_clocks(advice: ClockAdvice, title: str, path: Path) -> None:
    """Energy by time, each setting a point.

    Raises:
        ConfigError: (C101), (C106), as ``negajoule.picture.draw``.
        ExtraMissingError: (X101) without vl-convert.
    """
    rows = [
        {"x": point.time_s, "J": point.energy_j, "low": point.low_j, "high": point.high_j}
        for point in advice.points
    ]
    picture = _band(rows, "s", "J", title, f"{advice.basis}: {advice.decision.reason}")
    picture["layer"].append(
        {
            "data": {"values": [{"x": advice.chosen.time_s, "J": advice.chosen.energy_j}]},
            "mark": {"type": "point", "filled": True, "size": 140, "color": "#b03030"},
            "encoding": {
                "x": {"field": "x", "type": "quantitative"},
                "y": {"field": "J", "type": "quantitative"},
            },
        }
    )
    draw(picture, path, purpose="draw energy by time")


def _band(rows: list[dict[str, float]], x: str, y: str, title: str, subtitle: str) -> dict[str, Any]:
    across = {"field": "x", "type": "quantitative", "title": x, "scale": {"type": "log"}}
    up: dict[str, Any] = {"type": "quantitative", "title": y, "scale": {"type": "log"}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": title, "subtitle": [subtitle]},
        "width": 560,
        "height": 340,
        "background": "white",
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"x": across, "y": {**up, "field": "low"}, "y2": {"field": "high"}},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "line", "point": True},
                "encoding": {"x": across, "y": {**up, "field": "J"}},
            },
        ],
    }
