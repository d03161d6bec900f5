"""Measured kernels: time and energy of one call of an operator, and what follows for whole engines.

- ``operators``: what each operator computes and reads, and in which numbers its efficiency is smooth
- ``hardware``: data sheets by number format
- ``tables``: reading measured tables, cleaned of power that was sampled too briefly
- ``surface``: a smooth correction between knots
- ``law``: roofline and correction, fitted to the tables; scaled by data sheet to other accelerators
- ``shipped``: the fitted laws, and which of them stands in for what wasn't measured
- ``interpolation``: looking kernels up in a table that is at hand
- ``score``: errors of the shipped laws on a folder of tables
- ``formats``: what a number format does to time and energy, beside bfloat16
- ``passes``: kernel times of a decode step or a prompt
- ``latency_law``: from kernel times to those of a loaded engine
- ``latency``: time to the first token and between tokens of a deployment
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.lazy import names_from

if TYPE_CHECKING:
    from negajoule.physics.kernels.formats import FormatRatio, format_ratio
    from negajoule.physics.kernels.interpolation import Interpolated, MeasuredKernels
    from negajoule.physics.kernels.latency import Deployed, Latency, factors_of, latency_of
    from negajoule.physics.kernels.law import KernelCost, KernelLaw, kernel_law
    from negajoule.physics.kernels.passes import PassTimes, Split, decode_pass, prompt_pass
    from negajoule.physics.kernels.score import KernelScore, score_tables
    from negajoule.physics.kernels.tables import KernelTable, read_table, table_files

__all__ = [
    "Deployed",
    "FormatRatio",
    "Interpolated",
    "KernelCost",
    "KernelLaw",
    "KernelScore",
    "KernelTable",
    "Latency",
    "MeasuredKernels",
    "PassTimes",
    "Split",
    "decode_pass",
    "factors_of",
    "format_ratio",
    "kernel_law",
    "latency_of",
    "prompt_pass",
    "read_table",
    "score_tables",
    "table_files",
]

__getattr__ = names_from(
    globals(),
    {
        "Deployed": ".latency",
        "FormatRatio": ".formats",
        "Interpolated": ".interpolation",
        "KernelCost": ".law",
        "KernelLaw": ".law",
        "KernelScore": ".score",
        "KernelTable": ".tables",
        "Latency": ".latency",
        "MeasuredKernels": ".interpolation",
        "PassTimes": ".passes",
        "Split": ".passes",
        "decode_pass": ".passes",
        "factors_of": ".latency",
        "format_ratio": ".formats",
        "kernel_law": ".law",
        "latency_of": ".latency",
        "prompt_pass": ".passes",
        "read_table": ".tables",
        "score_tables": ".score",
        "table_files": ".tables",
    },
)
