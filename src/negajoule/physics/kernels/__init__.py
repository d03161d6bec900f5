"""Measured kernels: what one call of an operator takes in time and energy on an accelerator.

- ``operators``: what each operator computes and reads, and in which numbers its efficiency is smooth
- ``hardware``: data sheets by number format
- ``tables``: reading measured tables, cleaned of power that was sampled too briefly
- ``surface``: a smooth correction between knots
- ``law``: roofline and correction, fitted to the tables; scaled by data sheet to other accelerators
- ``shipped``: the fitted laws, and which of them stands in for what wasn't measured
- ``score``: errors of the shipped laws on a folder of tables
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.lazy import names_from

if TYPE_CHECKING:
    from negajoule.physics.kernels.law import KernelCost, KernelLaw, kernel_law
    from negajoule.physics.kernels.score import KernelScore, score_tables
    from negajoule.physics.kernels.tables import KernelTable, read_table, table_files

__all__ = [
    "KernelCost",
    "KernelLaw",
    "KernelScore",
    "KernelTable",
    "kernel_law",
    "read_table",
    "score_tables",
    "table_files",
]

__getattr__ = names_from(
    globals(),
    {
        "KernelCost": ".law",
        "KernelLaw": ".law",
        "KernelScore": ".score",
        "KernelTable": ".tables",
        "kernel_law": ".law",
        "read_table": ".tables",
        "score_tables": ".score",
        "table_files": ".tables",
    },
)
