"""Fitting a setup to a few measured points: idle power, active power, one time factor."""

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
        time_factor: measured over predicted time.
        active_factor: measured over predicted power above idle.
        idle_w: power of all accelerators, weights resident and nothing to do [W].
        batches: lowest and highest batch that was measured; ``None`` if only idle was.
        points: number of points.
    """

    time_factor: float
    active_factor: float
    idle_w: float
    batches: tuple[float, float] | None
    points: int


def fit_setup_calibration(
    predictor: Predictor,
    setup: ServingSetup,
    points: Sequence[MeasuredPoint],
    *,
    idle_w: float | None = None,
) -> SetupCalibration:
    """Fit a setup to measured points; use the result with ``Predictor.calibrated``.

    One point is enough. More give the geometric mean of their factors.

    Args:
        predictor: what is calibrated.
        setup: what was measured.
        points: steady batches.
        idle_w: measured power of all accelerators with the weights resident [W]; default the catalogue's.

    Raises:
        MeterError: (M105) if there's nothing to fit, a figure isn't positive, or the points are
            so far from the prediction that a unit must be wrong.
    """
    if not points and idle_w is None:
        raise MeterError(
            "there's nothing to calibrate with: no point and no idle power was given",
            code="M105",
            using="the uncalibrated coefficients",
            fix="measure idle, batch 1 and the largest batch",
        )
    figures = [value for point in points for value in msgspec.structs.astuple(point) if value is not None]
    if idle_w is not None:
        figures.append(idle_w)
    if not all(isfinite(value) and value > 0 for value in figures):
        raise MeterError(
            "a measured figure isn't a positive number",
            code="M105",
            using="the uncalibrated coefficients",
            fix="give seconds, watts and tokens above zero",
        )
    idle = predictor.idle_power(setup) if idle_w is None else idle_w
    times, powers = [], []
    for point in points:
        plain = predictor.uncalibrated().predict(
            setup,
            batch=point.batch,
            tokens_in=point.tokens_in,
            tokens_out=point.tokens_out,
            context=point.context,
            extrapolate=True,
        )
        if point.power_w <= idle:
            raise MeterError(
                f"the accelerators drew {point.power_w:g} W at a batch of {point.batch:g}, "
                f"not more than {idle:g} W when idle",
                code="M105",
                using="the uncalibrated coefficients",
                fix="measure the power of all accelerators of the setup, idle and loaded alike",
            )
        times.append(log(point.token_s / plain.token_s))
        powers.append(log((point.power_w - idle) / max(plain.power_w - idle, 0.05 * plain.power_w)))
    for factor, what in [*((time, "time") for time in times), *((power, "power") for power in powers)]:
        if abs(factor) > _FURTHEST:
            raise MeterError(
                f"a measured {what} is {exp(factor):.2g} times the prediction",
                code="M105",
                using="the uncalibrated coefficients",
                fix="check units (seconds, watts of all accelerators) and that the setup is the one measured",
            )
    count = len(points)
    return SetupCalibration(
        time_factor=exp(sum(times) / count) if count else 1.0,
        active_factor=exp(sum(powers) / count) if count else 1.0,
        idle_w=idle,
        batches=(min(point.batch for point in points), max(point.batch for point in points))
        if count
        else None,
        points=count,
    )
