"""Damped least squares with Gaussian priors and a robust loss: what both fits of measured runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["least_robust_cost"]


def least_robust_cost(
    residuals: Callable[[Floats], Floats], middle: Floats, precision: Floats, *, enough: float = 1e-6
) -> Floats:
    """Parameters at the least robust cost.

    Levenberg-Marquardt on the pseudo-Huber loss with Gaussian priors, Jacobian by differences.

    Args:
        residuals: of the parameters, in units of an ordinary residual; larger ones count linearly.
        middle: of the priors; where the search starts.
        precision: of the priors, 1 / variance.
        enough: the gain, as a share of the cost, below which the search ends.
    """

    def cost(theta: Floats, z: Floats) -> float:
        return float(np.sum(2 * (np.sqrt(1 + z * z) - 1)) + np.sum((theta - middle) ** 2 * precision))

    theta = middle.copy()
    z = residuals(theta)
    current, damping = cost(theta, z), 1e-2
    for _ in range(60):
        jacobian = np.empty((len(z), len(theta)))
        for index in range(len(theta)):
            moved = theta.copy()
            moved[index] += 1e-5
            jacobian[:, index] = (residuals(moved) - z) / 1e-5
        robust = 1 / np.sqrt(1 + z * z)
        hessian = jacobian.T @ (jacobian * robust[:, None]) + np.diag(precision)
        gradient = jacobian.T @ (robust * z) + (theta - middle) * precision
        for _ in range(10):
            trial = theta - np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
            trial_z = residuals(trial)
            trial_cost = cost(trial, trial_z)
            if trial_cost < current:
                break
            damping *= 4
        else:
            return theta
        done = current - trial_cost < enough * current
        theta, z, current, damping = trial, trial_z, trial_cost, max(damping / 5, 1e-7)
        if done:
            return theta
    return theta
