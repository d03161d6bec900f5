"""Which instruments there are: those to read now, and what ``doctor`` says of the others."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.meter.nvml import NvmlProbe, nvml_capability, nvml_present
from negajoule.meter.rapl import RaplProbe, rapl_capability, rapl_zones

if TYPE_CHECKING:
    from negajoule.meter.probe import Capability, Probe

__all__ = ["capabilities", "find_probes"]


def find_probes(root: Path = Path("/")) -> list[Probe]:
    """Open every instrument that can be read now; the better one of a component comes first.

    Args:
        root: where the file system starts; a fake tree in tests.
    """
    probes: list[Probe] = []
    if any(zone.readable for zone in rapl_zones(root)):
        with contextlib.suppress(OSError):
            probes.append(RaplProbe(root))
    if nvml_present(root):
        with contextlib.suppress(Exception):
            probes.append(NvmlProbe())
    return probes


def capabilities(root: Path = Path("/")) -> list[Capability]:
    """What each instrument can do here.

    Args:
        root: where the file system starts; a fake tree in tests.
    """
    return [rapl_capability(root), nvml_capability(root)]
