"""Between the rows of a measured table: the law, corrected by how far it's off nearby.

What is interpolated is the logarithm of measured over predicted, linearly in the logarithms of the swept
columns. A layer that wasn't measured takes the corrections of the nearest ones, by distance of the logarithms
of its other columns. So between rows the law's curve is kept, and far from all rows the law is what's left.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from negajoule.physics.kernels.law import KernelLaw
    from negajoule.physics.kernels.tables import KernelTable

    Floats = NDArray[np.float64]

__all__ = ["Interpolated", "MeasuredKernels"]

_NEAREST = 4


class Interpolated(NamedTuple):
    """One call of a kernel, from a table.

    Attributes:
        time_s: [s].
        power_w: mean power of the accelerator meanwhile [W].
        is_measured_layer: whether the layer was measured at other sizes; if not, its neighbours stand in.
    """

    time_s: float
    power_w: float
    is_measured_layer: bool


class _Line(NamedTuple):
    """Corrections along the last swept column, at one value of the others."""

    places: list[float]
    time: list[float]
    power_places: list[float]
    power: list[float]


class _Layer(NamedTuple):
    """Corrections of one layer: lines along the last swept column, sorted by the first."""

    places: list[float]
    lines: list[_Line]


class MeasuredKernels:
    """A table to look kernels up in.

    Attributes:
        law: what is corrected.
    """

    def __init__(self, table: KernelTable, law: KernelLaw) -> None:
        """Sort a table for lookups.

        Args:
            table: measured rows of one operator, accelerator and number format.
            law: of the same operator; of the same accelerator and format if there is one.
        """
        self.law = law
        names = table.operator.shape
        self._swept = [names.index(name) for name in table.operator.sweep]
        self._fixed = [index for index in range(len(names)) if index not in self._swept]
        time, power = law.costs(table.shape)
        off_time = np.log(table.latency_s / time)
        off_power = np.where(table.steady, np.log(table.power_w / power), np.nan)
        swept = [np.log1p(table.shape[index]) for index in self._swept]
        inner, outer = swept[-1], swept[0] if len(swept) > 1 else np.zeros(len(time))
        groups = table.groups
        order = np.lexsort((inner, outer, groups))
        self._layers: dict[tuple[float, ...], _Layer] = {}
        for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            key = tuple(float(table.shape[index][rows[0]]) for index in self._fixed)
            layer = _Layer([], [])
            for line in np.split(rows, np.flatnonzero(np.diff(outer[rows])) + 1):
                known = line[np.isfinite(off_power[line])]
                layer.places.append(float(outer[line[0]]))
                layer.lines.append(
                    _Line(
                        inner[line].tolist(),
                        off_time[line].tolist(),
                        inner[known].tolist(),
                        off_power[known].tolist(),
                    )
                )
            self._layers[key] = layer
        self._keys = list(self._layers)
        self._points = np.log1p(np.asarray(self._keys, dtype=np.float64))

    def cost(self, shape: Sequence[float]) -> Interpolated:
        """One call, its shape in the order of the operator's columns."""
        found = self.law.cost(shape)
        key = tuple(float(shape[index]) for index in self._fixed)
        swept = [math.log1p(shape[index]) for index in self._swept]
        inner, outer = swept[-1], swept[0] if len(swept) > 1 else 0.0
        layer = self._layers.get(key)
        if layer is not None:
            time, power = _corrected(layer, outer, inner)
        else:
            time = power = 0.0
            for name, weight in self._neighbours(key):
                one, other = _corrected(self._layers[name], outer, inner)
                time, power = time + weight * one, power + weight * other
        return Interpolated(found.time_s * math.exp(time), found.power_w * math.exp(power), layer is not None)

    def costs(self, shape: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Times [s] and powers [W] of many calls."""
        columns = [np.asarray(column, dtype=np.float64) for column in np.broadcast_arrays(*shape)]
        time, power = self.law.costs(columns)
        keys = np.stack([columns[index] for index in self._fixed], axis=1)
        swept = [np.log1p(columns[index]) for index in self._swept]
        inner, outer = swept[-1], swept[0] if len(swept) > 1 else np.zeros(len(time))
        names, place = np.unique(keys, axis=0, return_inverse=True)
        place = place.reshape(-1)
        off_time, off_power = np.zeros(len(time)), np.zeros(len(time))
        for index, values in enumerate(names):
            rows = place == index
            name = tuple(values.tolist())
            for other, weight in [(name, 1.0)] if name in self._layers else self._neighbours(name):
                one, two = _many_corrected(self._layers[other], outer[rows], inner[rows])
                off_time[rows] += weight * one
                off_power[rows] += weight * two
        return time * np.exp(off_time), power * np.exp(off_power)

    def _neighbours(self, key: tuple[float, ...]) -> list[tuple[tuple[float, ...], float]]:
        """The nearest measured layers, and how much each counts."""
        away = np.linalg.norm(self._points - np.log1p(np.asarray(key)), axis=1)
        nearest = np.argsort(away)[:_NEAREST]
        weights = 1.0 / (away[nearest] + 1e-9) ** 2
        weights /= weights.sum()
        return [(self._keys[int(index)], float(w)) for index, w in zip(nearest, weights, strict=True)]


def _corrected(layer: _Layer, outer: float, inner: float) -> tuple[float, float]:
    """Corrections of the logarithms of time and power at one place of a layer."""
    low, share = _between(layer.places, outer)
    line = layer.lines[low]
    time, power = _along(line.places, line.time, inner), _along(line.power_places, line.power, inner)
    if share > 0.0:
        line = layer.lines[low + 1]
        time += share * (_along(line.places, line.time, inner) - time)
        power += share * (_along(line.power_places, line.power, inner) - power)
    return time, power


def _along(places: list[float], values: list[float], place: float) -> float:
    if not places:
        return 0.0
    low, share = _between(places, place)
    return values[low] if share == 0.0 else values[low] + share * (values[low + 1] - values[low])


def _between(places: list[float], place: float) -> tuple[int, float]:
    """The last place that isn't above, and how far on towards the next one it is; ends count as flat."""
    low = bisect_right(places, place) - 1
    if low < 0:
        return 0, 0.0
    if low >= len(places) - 1:
        return len(places) - 1, 0.0
    return low, (place - places[low]) / (places[low + 1] - places[low])


def _many_corrected(layer: _Layer, outer: Floats, inner: Floats) -> tuple[Floats, Floats]:
    time = np.stack([np.interp(inner, line.places, line.time) for line in layer.lines])
    power = np.stack(
        [
            np.interp(inner, line.power_places, line.power) if line.power_places else np.zeros(len(inner))
            for line in layer.lines
        ]
    )
    if len(layer.lines) == 1:
        return time[0], power[0]
    places = np.asarray(layer.places)
    spot = np.clip(outer, places[0], places[-1])
    low = np.clip(np.searchsorted(places, spot, side="right") - 1, 0, len(places) - 2)
    share = (spot - places[low]) / (places[low + 1] - places[low])
    each = np.arange(len(inner))
    return (
        time[low, each] * (1.0 - share) + time[low + 1, each] * share,
        power[low, each] * (1.0 - share) + power[low + 1, each] * share,
    )
