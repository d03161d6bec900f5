"""The roofline as a picture: a Vega-Lite description, drawn by vl-convert, which needs no browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.picture import draw
from negajoule.profile.roofline import roofline_points

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.profile.profile import Profile

__all__ = ["draw_roofline", "roofline_spec"]


def roofline_spec(profile: Profile) -> dict[str, Any]:
    """The Vega-Lite description, its data inside.

    Raises:
        ConfigError: (C107) if the weights' number and size aren't known.
    """
    points = roofline_points(profile)
    rows = [
        {
            "format": point.format,
            "phase": point.phase,
            "batch": point.batch,
            "prompt": point.prompt_tokens,
            "intensity": point.flop_per_byte,
            "speed": point.flop_per_s / 1e9,
        }
        for point in points
    ]
    axes = {
        "x": {
            "field": "intensity",
            "type": "quantitative",
            "scale": {"type": "log"},
            "title": "FLOP per byte",
        },
        "y": {
            "field": "speed",
            "type": "quantitative",
            "scale": {"type": "log"},
            "title": "GFLOP per second of the engine's threads",
        },
    }
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": rows},
            "mark": {"type": "point", "filled": True, "opacity": 0.8},
            "encoding": {
                **axes,
                "color": {"field": "format", "type": "nominal", "title": "format"},
                "shape": {"field": "phase", "type": "nominal", "title": "phase"},
                "size": {
                    "field": "batch",
                    "type": "ordinal",
                    "title": "batch",
                    "scale": {"range": [40, 260]},
                },
            },
        }
    ]
    roof = _roof(profile, [point.flop_per_byte for point in points])
    if roof:
        layers.insert(
            0,
            {
                "data": {"values": roof},
                "mark": {"type": "line", "color": "#888888", "strokeDash": [5, 3]},
                "encoding": axes,
            },
        )
    ceilings = profile.ceilings
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {
            "text": f"{profile.model} on {profile.machine.cpu}",
            "subtitle": [
                f"{profile.engine.name} {profile.engine.version}, {profile.created[:10]}",
                "no roof was measured" if ceilings is None else f"roof: {ceilings.source}",
            ],
        },
        "width": 560,
        "height": 380,
        "background": "white",
        "layer": layers,
    }


def draw_roofline(profile: Profile, path: Path) -> None:
    """Write the picture as SVG or PNG, or its description as JSON, by the file's ending.

    Raises:
        ConfigError: (C101) for another ending, (C106) if it can't be written, (C107) as ``roofline_spec``.
        ExtraMissingError: (X101) without vl-convert.
    """
    draw(roofline_spec(profile), path, purpose="draw a roofline")


def _roof(profile: Profile, intensities: list[float]) -> list[dict[str, float]]:
    """Three corners of the roof over the points."""
    ceilings = profile.ceilings
    if ceilings is None:
        return []
    ridge = ceilings.flop_per_s / ceilings.bytes_per_s
    corners = sorted({min(intensities) / 2, ridge, max(*intensities, ridge) * 2})
    return [
        {"intensity": corner, "speed": min(ceilings.flop_per_s, ceilings.bytes_per_s * corner) / 1e9}
        for corner in corners
    ]
