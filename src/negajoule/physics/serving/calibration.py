"""Fitting a setup to a few measured points: idle power, active power and a time factor.

A point says most about batches near its own: its factors fade with the distance in the logarithm of the
batch, as an Ornstein-Uhlenbeck process does. Both numbers below were chosen on held-out pairs of ML.ENERGY
v3, where any correlation length from 1.5 to 3 does as well.
"""

from __future__ import annotations

from math import exp, isfinite, log
from typing import TYPE_CHECKING

import msgspec

from negajoule.errors import MeterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.physics.serving.predictor import Predictor
    from negajoule.physics.serving.setup import ServingSetup

__all__ = ["MeasuredPoint", "SetupCalibration", "fit_setup_calibration"]

_FURTHEST = log(5.0)  # a factor further from the model than any residual of the fit is a mistake of units
_LENGTH = 2.0  # distance in the logarithm of the batch over which a point's factors fade by e
_DOUBT = 1.0 / 9.0  # variance of a point's own error over that of what the model misses


class MeasuredPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A steady batch that was measured.

    Attributes:
        batch: sequences that decoded together, on average.
        tokens_in: mean length of the prompts [tokens].
        tokens_out: mean length of the answers [tokens].
        token_s: mean time from token to token: batch / output rate [s].
        power_w: mean of all accelerators [W].
        context: mean tokens in front of a token being made; default tokens_in + tokens_out / 2 [tokens].
    """

    batch: float
    tokens_in: float
    tokens_out: float
    token_s: float
    power_w: float
    context: float | None = None


class SetupCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a few measurements say of one setup.

    Attributes:
        idle_w: power of one accelerator, weights resident and nothing to do [W].
        batches: logarithms of the measured batches.
        times: weight of each for the logarithm of time.
        powers: weight of each for the logarithm of power above idle.
    """

    idle_w: float
    batches: tuple[float, ...]
    times: tuple[float, ...]
    powers: tuple[float, ...]

    @property
    def time_factor(self) -> float:
        """Measured over predicted time in the middle of the measured batches; 1 if only idle was measured."""
        return self.factors(self._middle())[0]

    @property
    def active_factor(self) -> float:
        """The same of power above idle."""
        return self.factors(self._middle())[1]

    def _middle(self) -> float:
        return sum(self.batches) / len(self.batches) if self.batches else 0.0

    def factors(self, log_batch: float) -> tuple[float, float, float]:
        """Factors on time and on power above idle at a batch; how near the nearest point is (1: there)."""
        time = power = nearest = 0.0
        for batch, for_time, for_power in zip(self.batches, self.times, self.powers, strict=True):
            near = exp(-abs(log_batch - batch) / _LENGTH)
            time += near * for_time
            power += near * for_power
            nearest = max(nearest, near)
        return exp(time), exp(power), nearest


def fit_setup_calibration(
    predictor: Predictor,
    setup: ServingSetup,
    points: Sequence[MeasuredPoint],
    *,
    idle_w: float | None = None,
) -> SetupCalibration:
    """Fit a setup to measured points; use the result with ``Predictor.calibrated``.

    One point is enough; three (idle, batch 1, the largest batch) say more.

    Args:
        predictor: what is calibrated.
        setup: what was measured.
        points: steady batches.
        idle_w: measured power of all accelerators with the weights resident [W]; default the catalogue's.

    Raises:
        MeterError: (M105) if there's nothing to fit, a figure isn't positive, or the points are so far from
            the prediction that a unit must be wrong.
    """
    if not points and idle_w is None:
        raise _failed(
            "there's nothing to calibrate with: no point and no idle power was given",
            "measure idle, batch 1 and the largest batch",
        )
    figures = [value for point in points for value in msgspec.structs.astuple(point) if value is not None]
    if idle_w is not None:
        figures.append(idle_w)
    if not all(isfinite(value) and value > 0 for value in figures):
        raise _failed(
            "a measured figure isn't a positive number", "give seconds, watts and tokens above zero"
        )
    plain = predictor.uncalibrated()
    assumed = plain.idle_power(setup)
    idle = assumed if idle_w is None else idle_w
    batches, times, powers = [], [], []
    for point in points:
        expected = plain.predict(
            setup,
            batch=point.batch,
            tokens_in=point.tokens_in,
            tokens_out=point.tokens_out,
            context=point.context,
            extrapolate=True,
        )
        if point.power_w <= idle:
            raise _failed(
                f"the accelerators drew {point.power_w:g} W at a batch of {point.batch:g}, "
                f"not more than {idle:g} W when idle",
                "measure the power of all accelerators of the setup, idle and loaded alike",
            )
        batches.append(log(point.batch))
        times.append(log(point.token_s / expected.token_s))
        powers.append(log((point.power_w - idle) / (expected.power_w - assumed)))
    for factor, what in [*((time, "time") for time in times), *((power, "power") for power in powers)]:
        if abs(factor) > _FURTHEST:
            raise _failed(
                f"a measured {what} is {exp(factor):.2g} times the prediction",
                "check units (seconds, watts of all accelerators) and that the setup is the one measured",
            )
    return SetupCalibration(
        idle_w=idle / setup.count,
        batches=tuple(batches),
        times=_weights(batches, times),
        powers=_weights(batches, powers),
    )


def _weights(batches: Sequence[float], values: Sequence[float]) -> tuple[float, ...]:
    """Weights of an Ornstein-Uhlenbeck process at these places that give these values, within their doubt."""
    rows = [
        [
            exp(-abs(one - other) / _LENGTH) + (_DOUBT if index == place else 0.0)
            for place, other in enumerate(batches)
        ]
        + [value]
        for index, (one, value) in enumerate(zip(batches, values, strict=True))
    ]
    size = len(rows)
    for pivot in range(size):  # symmetric and positive definite: elimination needs no exchange of rows
        for row in range(pivot + 1, size):
            factor = rows[row][pivot] / rows[pivot][pivot]
            rows[row] = [a - factor * b for a, b in zip(rows[row], rows[pivot], strict=True)]
    found = [0.0] * size
    for row in reversed(range(size)):
        known = sum(rows[row][column] * found[column] for column in range(row + 1, size))
        found[row] = (rows[row][size] - known) / rows[row][row]
    return tuple(found)


def _failed(message: str, fix: str) -> MeterError:
    return MeterError(message, code="M105", using="the uncalibrated coefficients", fix=fix)
