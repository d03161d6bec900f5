"""What the physics misses of measured runs, as a Gaussian process over setup and batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from fitting.serving_runs import PICTURES

from negajoule.physics.serving.residuals import FEATURES, Residuals, ResidualSetup, features_of
from negajoule.physics.serving.setup_inputs import inputs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fitting.serving_runs import Run
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["PROCESSES", "Likeness", "Process", "likeness_of", "predicted", "residuals_of"]

NOISE = 0.08  # what repeated runs of one setup differ by, in logarithms (B200 chat against B200 chat)
LARGEST = 0.6  # a larger residual is an odd run, not a law


class Process(NamedTuple):
    """What is chosen of the process inside each fold.

    Attributes:
        size: standard deviation of what the physics misses.
        batch: scale of the logarithm of the batch.
        count: scale of the logarithm (base 2) of the number of accelerators.
        generation: scale of a change of generation.
    """

    size: float
    batch: float
    count: float
    generation: float


PROCESSES = (Process(0.12, 1.5, 2.0, 1.0), Process(0.15, 1.5, 4.0, 2.0), Process(0.2, 1.0, 4.0, 2.0))
_MEMORY_SCALE = 1.5  # a factor of 4.5 in the weights on an accelerator
_SWITCH_SCALE = 1.0


def scales_of(process: Process) -> tuple[float, ...]:
    """Scale of each feature, in the order of ``FEATURES``."""
    special = {
        "memory": _MEMORY_SCALE,
        "count": process.count,
        "blackwell": process.generation,
        "ampere": process.generation,
    }
    return tuple(special.get(name, _SWITCH_SCALE) for name in FEATURES)


class Likeness(NamedTuple):
    """Features and logarithm of the batch of runs."""

    features: Floats
    log_batch: Floats

    def kernel(self, process: Process) -> Floats:
        """Covariance of what the physics misses of every two runs."""
        scaled = np.column_stack([self.features / scales_of(process), self.log_batch / process.batch])
        squared = np.sum(scaled**2, axis=1)
        distance = squared[:, None] + squared[None, :] - 2 * scaled @ scaled.T
        kernel: Floats = process.size**2 * np.exp(-0.5 * np.maximum(distance, 0.0))
        return kernel


def likeness_of(runs: Sequence[Run]) -> Likeness:
    """Features of runs."""
    return Likeness(
        np.array([features_of(inputs_of(run.setup), run.task in PICTURES) for run in runs]),
        np.log([run.batch for run in runs]),
    )


def weights_of(kernel: Floats, missed: Floats, weight: Floats) -> Floats:
    """Weights of the measured runs; several columns at once."""
    known = np.clip(missed, -LARGEST, LARGEST)
    found: Floats = np.linalg.solve(kernel + np.diag(NOISE**2 / weight), known)
    return found


def predicted(kernel: Floats, missed: Floats, weight: Floats, left_out: NDArray[np.bool_]) -> Floats:
    """What the process expects the physics to miss of the runs left out."""
    kept = ~left_out
    weights = weights_of(kernel[np.ix_(kept, kept)], missed[kept], weight[kept])
    found: Floats = kernel[np.ix_(left_out, kept)] @ weights
    return found


def residuals_of(runs: Sequence[Run], missed: Floats, weight: Floats, process: Process) -> Residuals:
    """The process in the form that is shipped.

    Args:
        runs: what was measured.
        missed: logarithms of measured over predicted time and energy, a column each.
        weight: of each run.
        process: its scales.
    """
    likeness = likeness_of(runs)
    weights = weights_of(likeness.kernel(process), missed, weight)
    setups: dict[tuple[float, ...], list[tuple[float, float, float]]] = {}
    for features, log_batch, (time, energy) in zip(
        likeness.features.tolist(), likeness.log_batch.tolist(), weights.tolist(), strict=True
    ):
        key = (round(features[0], 4), *(round(value, 4) for value in features[1:]))
        setups.setdefault(key, []).append((round(log_batch, 4), round(time, 4), round(energy, 4)))
    return Residuals(
        size=process.size,
        batch_scale=process.batch,
        scales=scales_of(process),
        setups=[ResidualSetup(features, points) for features, points in sorted(setups.items())],
    )
