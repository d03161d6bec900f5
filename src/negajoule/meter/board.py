"""A device with energy counter, power sensor or both: the counter first, the sensor as check and stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from negajoule.meter.probe import Component, Gap, Reading
from negajoule.meter.track import CounterTrack, PowerTrack

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Board", "Sensors"]

MIN_COMPARED_J = 5.0
"""Counter and sensor are compared over at least this much, for both move in steps."""


class Sensors(NamedTuple):
    """How a device is asked.

    Attributes:
        counter_j: its energy counter, ``None`` if the device has none; gives ``None`` when a read fails [J].
        power_w: its power sensor, likewise [W].
    """

    counter_j: Callable[[], float | None] | None
    power_w: Callable[[], float | None] | None


class Board:
    """One device.

    Where both are read, a counter that fails or stands still is replaced by the sensor's integral, and a
    lasting difference between the two widens the interval and is reported.

    Args:
        domain: its name.
        source: family and kind, e.g. ``nvml``.
        sensors: how it is asked; at least one of the two.
        component: what it feeds.
        ceiling_w: more than this it can't draw [W].
        accuracy: relative error of counter and sensor [1].
        period_s: how often it will be read [s].
        wrap_j: range of the counter, ``None`` if it doesn't wrap [J].
        remark: what the source must say besides.
    """

    def __init__(
        self,
        domain: str,
        source: str,
        sensors: Sensors,
        *,
        component: Component = "gpu",
        ceiling_w: float,
        accuracy: float,
        period_s: float,
        wrap_j: float | None = None,
        remark: str = "",
    ) -> None:
        self.domain = domain
        self.counts = sensors.counter_j is not None
        self._sensors = sensors
        self._component: Component = component
        self._source = f"{source} {domain} {'counter' if self.counts else 'power'}{remark}"
        self._counter = CounterTrack(domain, ceiling_w=ceiling_w, accuracy=accuracy, wrap_j=wrap_j)
        self._power = PowerTrack(domain, ceiling_w=ceiling_w, accuracy=accuracy, period_s=period_s)
        self._tolerance = 2 * accuracy
        self._counted_j = self._sampled_j = 0.0
        self._below_j = self._above_j = 0.0

    def read(self, now_s: float) -> Reading:
        """The device now; never raises as long as its sensors don't."""
        counter_j, sensor_w = self._sensors
        power_w = sensor_w() if sensor_w else None
        if sensor_w:
            self._power.advance(power_w, now_s)
        track: CounterTrack | PowerTrack = self._power
        gap = self._power.gap
        if counter_j:
            sampled = self._power.added if sensor_w and not self._power.bridging else None
            self._counter.advance(counter_j(), now_s, instead=sampled)
            track, gap = self._counter, self._counter.gap
            if sampled is not None and not self._counter.bridging:
                gap = self._compare(self._counter.added[0], sampled[0], now_s) or gap
        return Reading(
            domain=self.domain,
            energy_j=track.energy_j,
            power_w=power_w,
            source=self._source,
            grade=track.grade,
            component=self._component,
            low_j=track.low_j - self._below_j,
            high_j=track.high_j + self._above_j,
            gap=gap,
        )

    def _compare(self, counted_j: float, sampled_j: float, now_s: float) -> Gap | None:
        """Widen by what the two differ, judged over joules enough to tell."""
        self._counted_j += counted_j
        self._sampled_j += sampled_j
        counted_j, sampled_j = self._counted_j, self._sampled_j
        if max(counted_j, sampled_j) < MIN_COMPARED_J:
            return None
        self._counted_j = self._sampled_j = 0.0
        difference_j = sampled_j - counted_j
        if abs(difference_j) <= self._tolerance * max(counted_j, sampled_j):
            return None
        if difference_j > 0:
            self._above_j += difference_j
        else:
            self._below_j -= difference_j
        detail = f"the counter says {counted_j:.0f} J, the power sensor {sampled_j:.0f} J"
        return Gap("disagreement", self.domain, now_s, now_s, detail)
