"""A deployment and traffic for policies: an 8B model on one accelerator, by round numbers."""

import numpy as np
import pytest

from negajoule.physics.serving import StepTable
from negajoule.simulate import Fleet, Trace

BATCH = 64


def step_table() -> StepTable:
    """7 ms a step and a little for each sequence, some 450 W while busy, 120 W idle."""
    return StepTable(
        decode_s=(0.0, *(0.007 + 0.00005 * n for n in range(1, BATCH + 1))),
        decode_context_s=(0.0, *(4e-8 for _ in range(BATCH))),
        decode_j=(0.0, *(3.1 + 0.05 * n for n in range(1, BATCH + 1))),
        decode_context_j=(0.0, *(2e-5 for _ in range(BATCH))),
        prefill_token_s=3e-5,
        prefill_context_s=1e-10,
        prefill_step_s=0.006,
        prefill_token_j=0.02,
        prefill_context_j=5e-8,
        prefill_step_j=2.5,
        idle_w=120.0,
        sleep_w=60.0,
        wake_s=3.0,
        wake_j=900.0,
        kv_tokens=400_000,
        title="8B on one accelerator",
        basis="assumed",
        doubt=0.2,
    )


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(table=step_table())


def poisson(rate: float, number: int, seed: int, **more: object) -> Trace:
    random = np.random.default_rng(seed)
    return Trace(
        np.cumsum(random.exponential(1.0 / rate, number)),
        np.clip(np.round(random.lognormal(5.6, 0.8, number)), 1, 2000),
        np.clip(np.round(random.lognormal(5.1, 0.8, number)), 1, 1500),
        **more,
    )
