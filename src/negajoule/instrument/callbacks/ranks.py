"""Many ranks on one host are one host: the first of them measures for all.

Each rank could measure its own share, but what nobody uses (idle power, a container's whole memory) would be
claimed once by every rank. So local rank 0 measures the whole group of processes and the others nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from negajoule.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LocalRank", "local_rank", "meter_of_ranks"]

_VARIABLES = (
    ("LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
)
"""What torchrun, Open MPI, MPICH and Intel MPI, and Slurm tell their ranks: number and count on the host."""


class LocalRank(NamedTuple):
    """Which of the ranks on this host we are.

    Attributes:
        number: from 0.
        size: how many there are; 1 if nobody says.
    """

    number: int
    size: int


def local_rank(environment: Mapping[str, str] | None = None) -> LocalRank:
    """Read from the environment which rank this is; the only one if no launcher says otherwise.

    Args:
        environment: the variables, by default this process's.
    """
    variables = os.environ if environment is None else environment
    for number, size in _VARIABLES:
        found = variables.get(number, "")
        if found.isdigit():
            total = variables.get(size, "")
            return LocalRank(int(found), max(int(total) if total.isdigit() else 1, 1))
    return LocalRank(0, 1)


def meter_of_ranks(rank: LocalRank) -> Meter:
    """The meter of all ranks on this host, for local rank 0.

    A launcher starts the ranks as its children, so they are the descendants of our parent. Where rank 0
    itself starts the others, no launcher says how many there are, and they are our own children.
    """
    if rank.size > 1:
        return Meter.for_process(os.getppid(), only_descendants=True)
    return Meter.for_process()
