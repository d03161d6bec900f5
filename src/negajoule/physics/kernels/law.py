"""What a kernel takes: a roofline for each operator, format and accelerator, and a smooth correction of it.

    time  = start + ((bytes / (bandwidth x reading))^q + (operations / (rate x computing))^q)^(1/q)
    power = idle + reads x bytes/time/bandwidth + computes x operations/time/rate, within the rated power

both times a factor that is smooth in the logarithm of the shape (``surface``). The roofline is that of
Williams, Waterman and Patterson (CACM 2009). Bandwidth, rate and rated power are those of the data sheet, so
the law of a measured accelerator also says something of one that wasn't measured: of the same generation with
the same joules for a byte and an operation, of another one with the same shares of rated power. Coefficients
are fitted by ``fitting/kernel_laws.py``.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.physics.kernels.hardware import Hardware, hardware
from negajoule.physics.kernels.operators import Operator, operator_named
from negajoule.physics.kernels.shipped import Found, shipped_laws
from negajoule.physics.kernels.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "Coefficients",
    "KernelCost",
    "KernelLaw",
    "Watts",
    "kernel_law",
    "roofline",
    "wattage",
    "watts_of",
]

_SHARPNESS = 8.0  # how suddenly the rated power limits; a form, not a fact


class Coefficients(NamedTuple):
    """The fitted numbers of one operator and format.

    Attributes:
        start_s: time of the smallest call, launch included [s].
        reading: share of the bandwidth that is reached; above 1 if the cache serves part of it.
        computing: share of the compute rate that is reached.
        sharpness: exponent that joins both; the larger, the better they overlap.
        idle: share of rated power drawn whatever the kernel does.
        reads: share added at full bandwidth.
        computes: share added at full rate.
    """

    start_s: float
    reading: float
    computing: float
    sharpness: float
    idle: float
    reads: float
    computes: float


class KernelCost(NamedTuple):
    """One call of a kernel.

    Attributes:
        time_s: [s].
        power_w: mean power of the accelerator meanwhile [W].
        energy_j: [J].
        time_error: half-width of the 90 % interval of the logarithm of the time.
        energy_error: half-width of the 90 % interval of the logarithm of the energy.
        basis: accelerator and format that the law was fitted on.
    """

    time_s: float
    power_w: float
    energy_j: float
    time_error: float
    energy_error: float
    basis: str


def roofline(flops: Any, read_bytes: Any, c: Coefficients, rate: Any, bandwidth: Any) -> Any:  # noqa: ANN401
    """Time before the correction [s]."""
    read = read_bytes / (bandwidth * c.reading)
    computed = flops / (rate * c.computing)
    return c.start_s + (read**c.sharpness + computed**c.sharpness) ** (1.0 / c.sharpness)


class Watts(NamedTuple):
    """Where the power of a kernel goes.

    Attributes:
        idle_w: drawn whatever the kernel does [W].
        byte_j: of reading or writing a byte [J].
        flop_j: of an operation [J].
        limit_w: rated power [W].
    """

    idle_w: float
    byte_j: float
    flop_j: float
    limit_w: float


def watts_of(c: Coefficients, measured_on: Hardware, on: Hardware, number_format: str) -> Watts:
    """From shares of rated power to joules.

    Args:
        c: shares.
        measured_on: accelerator that they were fitted on.
        on: accelerator that they are used for.
        number_format: of the kernel.
    """
    of = measured_on if measured_on.generation == on.generation else on
    byte_j, flop_j = c.reads * of.power / of.bandwidth, c.computes * of.power / of.rate(number_format)
    return Watts(c.idle * of.power, byte_j, flop_j, on.power)


def wattage(flops: Any, read_bytes: Any, time_s: Any, watts: Watts) -> Any:  # noqa: ANN401
    """Power before the correction [W]."""
    drawn = (watts.idle_w + (watts.byte_j * read_bytes + watts.flop_j * flops) / time_s) / watts.limit_w
    return watts.limit_w * drawn / (1.0 + drawn**_SHARPNESS) ** (1.0 / _SHARPNESS)


class KernelLaw:
    """The law of one operator and format on one accelerator.

    Attributes:
        operator: what it's a law of.
        on: the accelerator's data sheet.
        number_format: as asked for.
        known: whether it was fitted on this accelerator and format.
        coefficients: of the roofline.
        watts: where its power goes.
        time_correction: on the logarithm of the time.
        power_correction: on the logarithm of the power.
        time_error: half-width of the 90 % interval of the logarithm of the time.
        energy_error: the same of the energy.
        basis: what the law was fitted on, in words.
    """

    def __init__(
        self, operator: Operator, on: Hardware, number_format: str, found: Found, measured_on: Hardware
    ) -> None:
        self.operator = operator
        self.on = on
        self.number_format = number_format
        row = found.row
        self.known = found.accelerator == on.name and found.number_format == number_format
        self.coefficients = Coefficients(**row["coefficients"])
        self.watts = watts_of(self.coefficients, measured_on, on, number_format)
        self.time_correction = _surface(row["time"])
        self.power_correction = _surface(row["power"])
        errors = row["errors" if self.known else "errors_elsewhere"]
        self.time_error: float = errors["time"]
        self.energy_error: float = errors["energy"]
        self.basis = f"kernels of {found.accelerator.upper()}, {found.number_format}"
        self._bytes = on.number_bytes(number_format)
        self._rate = on.rate(number_format)

    def cost(self, shape: Sequence[float]) -> KernelCost:
        """One call, its shape in the order of ``operator.shape``."""
        operator, c = self.operator, self.coefficients
        given = tuple(shape)
        flops, read = operator.work(given, self._bytes)
        point = operator.coordinates(given)
        time = roofline(flops, read, c, self._rate, self.on.bandwidth) * math.exp(
            self.time_correction.at(point)
        )
        power = wattage(flops, read, time, self.watts) * math.exp(self.power_correction.at(point))
        return KernelCost(time, power, time * power, self.time_error, self.energy_error, self.basis)

    def times(self, shape: Sequence[Floats]) -> Floats:
        """Times of many calls [s]."""
        return self.costs(shape)[0]

    def costs(self, shape: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Times [s] and powers [W] of many calls."""
        import numpy as np

        columns = tuple(np.broadcast_arrays(*(np.asarray(c, dtype=np.float64) for c in shape)))
        flops, read = self.operator.work(columns, self._bytes)
        points = self.operator.coordinates(columns)
        base = roofline(flops, read, self.coefficients, self._rate, self.on.bandwidth)
        time = base * np.exp(self.time_correction.many(points))
        drawn = wattage(flops, read, time, self.watts)
        return time, drawn * np.exp(self.power_correction.many(points))


@cache
def kernel_law(accelerator: str, operator: str, number_format: str) -> KernelLaw:
    """The law that fits best: of this accelerator, else of its generation, else of the other one.

    A format that wasn't measured is given the law of the nearest wider one that was, with its own bytes and
    rate; ``basis`` says so, and the interval is that of an accelerator that was left out of the fit.

    Raises:
        CatalogError: (F101) if there's no data sheet of the accelerator.
        ConfigError: (C101) if the operator wasn't measured, or the format isn't known.
    """
    on = hardware(accelerator)
    which = operator_named(operator)
    found = shipped_laws().nearest(on, operator, number_format)
    return KernelLaw(which, on, number_format, found, hardware(found.accelerator))


def _surface(row: dict[str, Any]) -> Surface:
    return Surface(row["knots"], [value * 1e-3 for value in row["milli"]])
