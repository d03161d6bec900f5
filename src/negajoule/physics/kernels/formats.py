"""What a number format does to the time and energy of matrices, beside bfloat16, at a number of tokens.

Low precision halves or quarters what is read and computed. What is gained depends on the kernel: block-scaled
8-bit kernels of vLLM 0.22 wait for their host and are slower than bfloat16 at decode sizes; nvfp4 gains at
every size.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from negajoule.errors import ConfigError
from negajoule.physics.kernels.hardware import family, hardware
from negajoule.physics.kernels.law import KernelLaw, kernel_law
from negajoule.physics.kernels.shipped import shipped_laws

__all__ = ["FormatRatio", "format_ratio"]

_KERNELS = {"bfloat16": "bfloat16", "fp8": "fp8_block", "mxfp4": "nvfp4"}  # measured for each width, gemm
_SIDES = (4096.0, 8192.0, 16384.0)  # widths of the layers of models of 7 to 400 billion parameters


class FormatRatio(NamedTuple):
    """A format beside bfloat16. Below 1, it saves. Intervals hold 90 %: other layers, and the laws' errors.

    Attributes:
        time: ratio of the times.
        time_low: lower end.
        time_high: upper end.
        energy: ratio of the energies.
        energy_low: lower end.
        energy_high: upper end.
        measured: whether both formats were measured on this accelerator.
        evidence: which kernels it rests on, in words.
    """

    time: float
    time_low: float
    time_high: float
    energy: float
    energy_low: float
    energy_high: float
    measured: bool
    evidence: str


@lru_cache(maxsize=4096)
def format_ratio(
    accelerator: str, weight_format: str, tokens: float, n: float | None = None, k: float | None = None
) -> FormatRatio:
    """Time and energy of a layer's matrices in a format, divided by those in bfloat16.

    Args:
        accelerator: name, as the catalogue knows it.
        weight_format: such as ``fp8``, ``fp8_block`` or ``nvfp4``; a width stands for the kernel of that
            width that was measured.
        tokens: tokens computed together: the batch when decoding, the tokens of a step's prompts otherwise.
        n: width of the result; default the median over layers of usual widths.
        k: width of the input; default likewise.

    Raises:
        CatalogError: (F101) if there's no data sheet of the accelerator.
        ConfigError: (C101) if the format isn't known or tokens aren't positive, (C113) if its accelerator's
            generation has no kernel of that width among the measured ones.
    """
    if not (math.isfinite(tokens) and tokens >= 1):
        raise ConfigError(f"{tokens!r} tokens can't be computed together", fix="at least 1")
    on = hardware(accelerator)
    wanted = weight_format if weight_format in _KERNELS.values() else _KERNELS[family(weight_format)]
    found = shipped_laws().nearest(on, "gemm", wanted)
    if found.number_format != wanted or hardware(found.accelerator).generation != on.generation:
        raise ConfigError(
            f"no kernel in {weight_format} was measured on {on.name} or its generation",
            code="C113",
            tried=f"gemm on {', '.join(name.upper() for name in sorted(shipped_laws().accelerators))}",
            fix="measure it: negajoule profile",
        )
    low, plain = kernel_law(on.name, "gemm", wanted), kernel_law(on.name, "gemm", "bfloat16")
    shapes = [(tokens, a, b) for a in ((n,) if n else _SIDES) for b in ((k,) if k else _SIDES)]
    times, energies = [], []
    for shape in shapes:
        ours, theirs = low.cost(shape), plain.cost(shape)
        times.append(ours.time_s / theirs.time_s)
        energies.append(ours.energy_j / theirs.energy_j)
    time, time_low, time_high = _spread(times, low.time_error, plain.time_error)
    energy, energy_low, energy_high = _spread(energies, low.energy_error, plain.energy_error)
    return FormatRatio(
        time, time_low, time_high, energy, energy_low, energy_high, low.known and plain.known, _words(low)
    )


def _spread(ratios: list[float], error: float, other_error: float) -> tuple[float, float, float]:
    """Median, and an interval from the other shapes and both laws' errors, which are independent."""
    ordered = sorted(ratios)
    middle = ordered[len(ordered) // 2]
    law = math.hypot(error, other_error)
    low = middle * math.exp(-math.hypot(law, math.log(middle / ordered[0])))
    high = middle * math.exp(math.hypot(law, math.log(ordered[-1] / middle)))
    return middle, low, high


def _words(law: KernelLaw) -> str:
    if law.known:
        return f"vLLM 0.22 {law.number_format} kernels measured on {law.on.name.upper()}"
    return f"{law.basis} (vLLM 0.22), scaled to the data sheet of {law.on.name.upper()}"
