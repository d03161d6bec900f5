"""Damped least squares with a bound on what one outlier can do (Levenberg, Marquardt, Huber)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["minimise"]

_STEP = 1e-5


def minimise(
    residuals: Callable[[Floats], Floats], start: Floats, *, bend: float = 0.3, rounds: int = 40
) -> Floats:
    """The parameters whose residuals have the least sum of Huber losses.

    Args:
        residuals: parameters to residuals.
        start: first guess.
        bend: residual beyond which the loss grows linearly.
        rounds: at most this many steps.
    """
    found, damping = np.array(start, dtype=np.float64), 1e-2
    now = residuals(found)

    def loss(r: Floats) -> float:
        size = abs(r)
        return float(np.where(size < bend, r * r / 2, bend * (size - bend / 2)).sum())

    for _ in range(rounds):
        columns = []
        for index in range(len(found)):
            moved = found.copy()
            moved[index] += _STEP
            columns.append((residuals(moved) - now) / _STEP)
        slope = np.stack(columns, axis=1)
        weight = np.where(abs(now) < bend, 1.0, bend / np.maximum(abs(now), 1e-12))
        normal, gradient = slope.T @ (slope * weight[:, None]), slope.T @ (weight * now)
        for _ in range(8):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -gradient)
            after = residuals(found + step)
            if np.isfinite(after).all() and loss(after) < loss(now):
                break
            damping *= 5
        else:
            return found
        done = loss(now) - loss(after) < 1e-7 * loss(now)
        found, now, damping = found + step, after, damping / 5
        if done:
            return found
    return found
