"""What the physics misses, learned from setups that are alike: a Gaussian process by setup and batch.

The correction depends on the setup and the batch and on no length, so energy still rises with every token.
Far from every measured setup it vanishes and the physics stands alone.
"""

from __future__ import annotations

from math import exp, log, log2
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from negajoule.physics.serving.step_physics import Inputs

__all__ = ["FEATURES", "STEP", "Correction", "ResidualSetup", "Residuals", "features_of"]

FEATURES = (
    "memory",
    "count",
    "moe",
    "hybrid",
    "fp8",
    "fp4",
    "old",
    "slow_host",
    "blackwell",
    "ampere",
    "pictures",
)
"""What tells setups apart: logarithms of weights on an accelerator [GB] and of the count; switches."""

STEP = 0.25
"""Distance of the batches at which a correction is worked out, as a logarithm."""

_KNOTS = 41  # to a batch of exp(10) = 22,026, where nothing was measured
_NEGLIGIBLE = 1e-4


class ResidualSetup(msgspec.Struct, frozen=True, array_like=True):
    """A measured setup.

    Attributes:
        features: in the order of ``FEATURES``.
        points: for each measured batch its logarithm and its weights for time and for energy.
    """

    features: tuple[float, ...]
    points: list[tuple[float, float, float]]


class Residuals(msgspec.Struct, frozen=True):
    """The fitted process.

    Attributes:
        size: standard deviation of what the physics misses, as a logarithm.
        batch_scale: distance in the logarithm of the batch over which it changes.
        scales: the same for each feature.
        setups: what was measured.
    """

    size: float
    batch_scale: float
    scales: tuple[float, ...]
    setups: list[ResidualSetup]

    def correction(self, features: tuple[float, ...]) -> Correction:
        """The correction of a setup at every batch."""
        times, energies = [0.0] * _KNOTS, [0.0] * _KNOTS
        for setup in self.setups:
            distance = sum(
                ((ours - theirs) / scale) ** 2
                for ours, theirs, scale in zip(features, setup.features, self.scales, strict=True)
            )
            alike = self.size**2 * exp(-0.5 * distance)
            if alike < _NEGLIGIBLE * self.size**2:
                continue
            for batch, time, energy in setup.points:
                for knot in range(_KNOTS):
                    near = alike * exp(-0.5 * ((knot * STEP - batch) / self.batch_scale) ** 2)
                    times[knot] += near * time
                    energies[knot] += near * energy
        return Correction(tuple(times), tuple(energies))


class Correction(NamedTuple):
    """Logarithms of factors on time and energy, at batches ``STEP`` apart in the logarithm, from 1 on."""

    time: tuple[float, ...]
    energy: tuple[float, ...]

    def factors(self, log_batch: float) -> tuple[float, float]:
        """Factors on time and on energy at a batch."""
        place = min(log_batch / STEP, len(self.time) - 1.001)
        knot = int(place)
        share = place - knot
        time, energy = self.time, self.energy
        return (
            exp(time[knot] + share * (time[knot + 1] - time[knot])),
            exp(energy[knot] + share * (energy[knot + 1] - energy[knot])),
        )


def features_of(inputs: Inputs, pictures: bool = False) -> tuple[float, ...]:
    """What tells a setup from others, in the order of ``FEATURES``.

    Args:
        inputs: numbers, not arrays.
        pictures: whether prompts hold images or video, which take time that the physics doesn't know.
    """
    return (
        log((inputs.dense_bytes + inputs.expert_bytes) / 1e9),
        log2(inputs.count),
        inputs.is_moe,
        inputs.is_hybrid,
        inputs.is_fp8,
        inputs.is_fp4,
        inputs.is_old,
        inputs.is_slow_host,
        inputs.is_blackwell,
        inputs.is_ampere,
        float(pictures),
    )
