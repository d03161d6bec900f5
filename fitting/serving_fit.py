"""The fit of the serving physics: priors, residuals of time, gap and power, damped least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from fitting.damped_squares import least_robust_cost
from fitting.serving_runs import TASKS, Columns

from negajoule.physics.serving.step_physics import Coefficients, steady_of, terms_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "MIDDLE",
    "NAMES",
    "SPREAD",
    "Choice",
    "Physics",
    "coefficients_of",
    "fit",
    "physics_of",
    "prompts_of",
]

# Logarithm of each number's prior middle, and its standard deviation.
PRIORS: dict[str, tuple[float, float]] = {
    name: (float(np.log(middle)), spread)
    for name, (middle, spread) in {
        "read": (0.85, 0.1),
        "blackwell_read": (0.9, 0.1),
        "ampere_read": (1.0, 0.1),
        "expert_read": (1.8, 0.4),
        "fp8_read": (0.9, 0.2),
        "block_read": (0.3, 0.6),
        "fp8_expert_read": (0.9, 0.2),
        "block_expert_read": (0.6, 0.4),
        "fp4_expert_read": (1.0, 0.4),
        "expert_spread": (0.85, 0.15),
        "compute": (0.6, 0.12),
        "blackwell_compute": (1.0, 0.3),
        "moe_compute": (0.6, 0.4),
        "fp8_compute": (1.0, 0.4),
        "fp4_compute": (1.2, 0.4),
        "attention_compute": (0.6, 0.5),
        "prompt": (1.0, 0.1),
        "hybrid_prompt": (0.7, 0.5),
        "step_s": (1e-3, 0.7),
        "layer_s": (5e-5, 0.5),
        "blackwell_layer": (1.0, 0.3),
        "ampere_layer": (1.2, 0.3),
        "moe_layer_s": (5e-5, 0.7),
        "block_layer_s": (5e-5, 0.7),
        "hybrid_layer_s": (3e-5, 0.7),
        "hybrid_sequence_s": (2e-5, 1.0),
        "sequence_s": (1e-5, 0.7),
        "sample_s": (1e-10, 0.7),
        "prompt_step_s": (2e-3, 0.7),
        "prompt_layer_s": (5e-5, 0.7),
        "old_host": (2.0, 0.7),
        "old_sequence": (3.0, 1.0),
        "old_prompt": (2.0, 0.7),
        "eager_layer_s": (1e-4, 0.7),
        "slow_host_s": (35e-3, 0.2),
        "link_s": (1e-5, 0.7),
        "link_count_s": (2e-6, 0.7),
        "link_rate": (1e11, 0.7),
        "replica_wait": (1.0, 0.3),
        "base": (0.3, 0.3),
        "reading": (0.4, 0.4),
        "computing": (0.8, 0.4),
        "linking": (0.15, 0.5),
        "launching": (0.15, 0.5),
        "blackwell_base": (1.0, 0.3),
        "blackwell_reading": (1.0, 0.3),
        "ampere_power": (0.9, 0.2),
        "moe_reading": (0.9, 0.3),
        "fp8_reading": (1.0, 0.3),
        "prompting": (1.0, 0.3),
        **{
            f"prompt {task}": (tokens, 0.6)
            for task, tokens in zip(TASKS, (100, 250, 1500, 3000, 1500, 200, 200, 1000), strict=True)
        },
    }.items()
}
NAMES = tuple(PRIORS)
MIDDLE = np.array([middle for middle, _ in PRIORS.values()])
SPREAD = np.array([spread for _, spread in PRIORS.values()])
NOISE = 0.12  # size of a residual that counts as ordinary, in logarithms; larger ones count linearly


class Choice(NamedTuple):
    """What is chosen inside each fold.

    Attributes:
        prior: strength of the priors against the data.
        gap: weight of the median gap between tokens against the mean time.
    """

    prior: float
    gap: float


class Physics(NamedTuple):
    """What the physics says of runs: logarithms."""

    log_token_s: Floats
    log_gap_s: Floats
    log_power: Floats

    @property
    def log_energy(self) -> Floats:
        """Energy of a sequence's step; less the logarithm of the batch, of a token."""
        return self.log_token_s + self.log_power


def coefficients_of(theta: Floats) -> Coefficients:
    """The part of the parameters that isn't a task's prompt."""
    value = dict(zip(NAMES, np.exp(theta), strict=True))
    return Coefficients(**{name: float(value[name]) for name in Coefficients._fields})


def prompts_of(theta: Floats) -> dict[str, float]:
    """The prompt length that each task's figures imply [tokens]."""
    value = dict(zip(NAMES, np.exp(theta), strict=True))
    return {task: float(value[f"prompt {task}"]) for task in TASKS}


def physics_of(theta: Floats, columns: Columns) -> Physics:
    """Predict runs."""
    coefficients = Coefficients(*np.exp(theta[: len(Coefficients._fields)]))
    prompts = np.exp(columns.tasks @ theta[len(Coefficients._fields) :])
    terms = terms_of(columns.inputs, coefficients)
    decode, mixed, share = steady_of(
        terms, columns.batch, prompts + columns.context_out, prompts, columns.tokens_out, np.exp
    )
    token_s = (1.0 - share) * decode.time_s + share * mixed.time_s
    energy = (1.0 - share) * decode.time_s * decode.power_w + share * mixed.time_s * mixed.power_w
    return Physics(np.log(token_s), np.log(decode.time_s), np.log(energy / token_s))


def fit(columns: Columns, choice: Choice) -> Floats:
    """Parameters (logarithms) at the least robust cost."""
    # The median gap is a step without a prompt as long as most steps have none.
    known = np.isfinite(columns.log_gap_s) & (columns.batch < 0.5 * columns.tokens_out)
    root = np.sqrt(columns.weight)
    gap_weight = np.where(known, root * np.sqrt(choice.gap), 0.0)
    weights = np.concatenate([root, root, gap_weight]) / NOISE
    measured = np.concatenate(
        [
            columns.log_token_s + columns.log_power,
            columns.log_token_s,
            np.where(known, columns.log_gap_s, 0.0),
        ]
    )
    precision = choice.prior / SPREAD**2

    def residuals(theta: Floats) -> Floats:
        found = physics_of(theta, columns)
        return (np.concatenate([found.log_energy, found.log_token_s, found.log_gap_s]) - measured) * weights

    return least_robust_cost(residuals, MIDDLE, precision, enough=1e-4)
