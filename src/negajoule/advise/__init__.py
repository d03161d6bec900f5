"""What to change first, and what that does to energy, time and quality.

- ``bound``: whether prefill and decode wait for arithmetic or memory
- ``effect``: ratios with intervals, and what can be claimed of them
- ``engine_formats``: number formats in serving engines, by fitted runs and measured kernels
- ``eager``: formats whose weights are widened in eager kernels, by measured rows
- ``quality``: what a format loses, by published measurements
- ``precision``: the choice of a number format
- ``batching``: energy by batch, its knee, its ceiling and the limit of memory
- ``compression``: which way to make a model smaller comes first, and from which volume on it pays
- ``padding``: what static batches waste
- ``slower``: energy and time at lower clocks, by a model
- ``curve_file``: the same from a file of measurements
- ``clocks``: the choice of a clock or power limit under limits of latency
- ``board``: setting an accelerator's clock or power limit, always undone
- ``nvml_board``: the same through NVML
- ``measured``: running a command at several settings
- ``chart``: the curves as pictures
"""

from negajoule.advise.batching import BatchAdvice, BatchPoint, advise_batching
from negajoule.advise.board import Board, Setting, held_at, restore_left_over
from negajoule.advise.bound import PhaseBound, phase_bounds
from negajoule.advise.clocks import ClockAdvice, advise_clocks
from negajoule.advise.curve_file import read_curve, write_curve
from negajoule.advise.eager import EagerLaw, EagerRow, eager_law, eager_ratio, eager_rows
from negajoule.advise.effect import Effect, Span
from negajoule.advise.measured import measure_settings
from negajoule.advise.padding import PaddingWaste, padding_waste
from negajoule.advise.precision import PrecisionAdvice, advise_precision, advise_precision_from
from negajoule.advise.slower import CurvePoint, slower_curve

__all__ = [
    "BatchAdvice",
    "BatchPoint",
    "Board",
    "ClockAdvice",
    "CurvePoint",
    "EagerLaw",
    "EagerRow",
    "Effect",
    "PaddingWaste",
    "PhaseBound",
    "PrecisionAdvice",
    "Setting",
    "Span",
    "advise_batching",
    "advise_clocks",
    "advise_precision",
    "advise_precision_from",
    "eager_law",
    "eager_ratio",
    "eager_rows",
    "held_at",
    "measure_settings",
    "padding_waste",
    "phase_bounds",
    "read_curve",
    "restore_left_over",
    "slower_curve",
    "write_curve",
]
