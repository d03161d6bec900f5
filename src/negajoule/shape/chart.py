"""The frontier as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.picture import draw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from negajoule.shape.frontier import Point
    from negajoule.shape.promise import Promise

__all__ = ["frontier_chart"]


def frontier_chart(points: Sequence[Point], promise: Promise, chosen: str, path: Path) -> None:
    """Energy per request against the promised quantile, with the promise as a line.

    Raises:
        ConfigError: (C101), (C106), as ``draw``.
        ExtraMissingError: (X101) without vl-convert.
    """
    measure = "time to first token" if promise.measure == "ttft" else "latency"
    axis = f"p{100 * promise.quantile:g} of {measure} [s]"
    rows = [{"s": point.reached_s, "J": point.request_j, "policy": point.policy} for point in points]
    axes = {
        "x": {"field": "s", "type": "quantitative", "title": axis, "scale": {"type": "log"}},
        "y": {"field": "J", "type": "quantitative", "title": "J per request"},
    }
    draw(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {
                "text": "What patience buys",
                "subtitle": [f"chosen: {chosen}", f"promised: {promise}"],
            },
            "width": 560,
            "height": 340,
            "background": "white",
            "layer": [
                {
                    "data": {"values": rows},
                    "mark": {"type": "line", "interpolate": "step-after", "point": True},
                    "encoding": axes,
                },
                {
                    "data": {"values": [{"s": promise.limit_s}]},
                    "mark": {"type": "rule", "strokeDash": [5, 3], "color": "#b03030"},
                    "encoding": {"x": axes["x"]},
                },
            ],
        },
        path,
        purpose="draw the frontier",
    )
