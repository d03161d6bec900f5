"""The roofline of a profile: how much of the machine's arithmetic and reading each phase uses.

    arithmetic of a step = 2 x weights x tokens            bytes of a step = weights once + context kept
    roof                 = min(arithmetic, bytes per second x intensity)

Attention's own arithmetic is left out, which is small at the lengths profiled here (Williams, Waterman and
Patterson, Communications of the ACM 52(4), 2009). The roof is measured with numpy in 32-bit floats on as many
threads as the engine has, in CPU time, so that others on the machine don't lower it. A kernel on 8-bit
integers may rise above it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from negajoule.errors import ConfigError
from negajoule.profile.profile import Ceilings

if TYPE_CHECKING:
    from negajoule.profile.cell import PhaseSample
    from negajoule.profile.profile import Profile, WeightsFacts

__all__ = ["RooflinePoint", "measure_ceilings", "roofline_points"]

_PROBE = """
import json, time
import numpy as np
size = 1024
a = np.random.default_rng(1).random((size, size), dtype=np.float32)
big = np.ones(32_000_000, dtype=np.float32)
def rate(work, amount, rounds):
    work()
    best = 0.0
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        cpu = time.process_time() - cpu
        best = max(best, amount / max(cpu / THREADS, 1e-9))
    return best
flop = rate(lambda: a @ a, 2 * size**3, 8)
read = rate(lambda: big.sum(), big.nbytes, 6)
print(json.dumps([flop, read * THREADS]))
"""
_PROBE_WITHIN_S = 120.0


class RooflinePoint(NamedTuple):
    """One cell's phase under the roof.

    Attributes:
        format: number format.
        phase: ``prefill`` or ``decode``.
        batch: requests at once.
        prompt_tokens: length of a prompt [tokens].
        flop_per_byte: intensity.
        flop_per_s: arithmetic done.
    """

    format: str
    phase: str
    batch: int
    prompt_tokens: int
    flop_per_byte: float
    flop_per_s: float


def measure_ceilings(threads: int) -> Ceilings | None:
    """Measure the roof in a process of its own; ``None`` if that fails.

    Args:
        threads: as many as the engine has.
    """
    count = str(threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"THREADS = {threads}\n{_PROBE}"],
            capture_output=True,
            timeout=_PROBE_WITHIN_S,
            check=True,
            env={**os.environ, **dict.fromkeys(names, count)},
        )
        flop_per_s, bytes_per_s = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Ceilings(
        flop_per_s=flop_per_s,
        bytes_per_s=bytes_per_s,
        source=f"numpy in 32-bit floats: a matrix product, and a sum; {count} thread(s)",
    )


def roofline_points(profile: Profile) -> list[RooflinePoint]:
    """Every cell's two phases, medians over rounds.

    Speed is by CPU time where it is known, so that it compares with the roof.

    Raises:
        ConfigError: (C107) if the weights' number and size aren't known.
    """
    weights = {one.format: one for one in profile.weights}
    unknown = [one.format for one in profile.weights if not (one.parameters and one.size_bytes)]
    if unknown:
        raise ConfigError(
            f"no roofline of {profile.model}: the number and size of its weights aren't known",
            code="C107",
            fix="profile a file or folder on this machine instead of a server",
        )
    points = []
    for cell in sorted({sample.cell for sample in profile.samples}):
        taken = [sample for sample in profile.samples if sample.cell == cell]
        facts, threads = weights[cell.format], profile.engine.threads or 1
        phases: tuple[tuple[str, list[PhaseSample]], ...] = (
            ("prefill", [sample.prefill for sample in taken]),
            ("decode", [sample.decode for sample in taken]),
        )
        for name, samples in phases:
            steps = [
                ceil(one.tokens / profile.engine.step_tokens)
                if name == "prefill"
                else one.tokens / cell.batch
                for one in samples
            ]
            work = [2.0 * (facts.parameters or 0) * one.tokens for one in samples]
            read = [_bytes(facts, one, count) for one, count in zip(samples, steps, strict=True)]
            seconds = [
                max(one.seconds if one.cpu_s is None else one.cpu_s / threads, 1e-9) for one in samples
            ]
            points.append(
                RooflinePoint(
                    cell.format,
                    name,
                    cell.batch,
                    cell.prompt_tokens,
                    median(flop / size for flop, size in zip(work, read, strict=True)),
                    median(flop / max(length, 1e-9) for flop, length in zip(work, seconds, strict=True)),
                )
            )
    return points


def _bytes(facts: WeightsFacts, phase: PhaseSample, steps: float) -> float:
    """Weights once a step, and the context kept."""
    return steps * ((facts.size_bytes or 0) + (facts.kv_bytes_per_token or 0) * phase.context_tokens)
