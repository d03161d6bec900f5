"""The curve of a router as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.picture import draw

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.route.evaluation import Evaluation

__all__ = ["curve_chart"]


def curve_chart(evaluation: Evaluation, path: Path) -> None:
    """Accuracy against energy: the router, and the query-blind mix fitted on these very queries.

    Raises:
        ConfigError: (C101), (C106), as ``draw``.
        ExtraMissingError: (X101) without vl-convert.
    """
    policies = {
        "router": (evaluation.curve_energy_j, evaluation.curve_accuracy),
        "query-blind mix": (evaluation.blind_curve_energy_j, evaluation.blind_curve_accuracy),
    }
    rows = [
        {"J": energy_j, "accuracy": accuracy, "policy": policy}
        for policy, points in policies.items()
        for energy_j, accuracy in zip(*points, strict=True)
    ]
    draw(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {
                "text": "What looking at the question buys",
                "subtitle": [f"best single model: {evaluation.best}", f"{evaluation.queries} queries"],
            },
            "width": 560,
            "height": 340,
            "background": "white",
            "data": {"values": rows},
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {"field": "J", "type": "quantitative", "title": "J per query"},
                "y": {"field": "accuracy", "type": "quantitative", "scale": {"zero": False}},
                "color": {"field": "policy", "type": "nominal", "title": None},
            },
        },
        path,
        purpose="draw the curve of a router",
    )
