"""Which instruments there are: those to read now, and what ``doctor`` says of the others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.errors import CatalogError
from negajoule.meter.probe import Capability
from negajoule.meter.rapl import RaplProbe, rapl_capability, rapl_zones

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.meter.probe import Probe

__all__ = ["capabilities", "find_probes"]


def find_probes(root: Path = Path("/"), *, chassis: str | None = None) -> list[Probe]:
    """Open every instrument that can be read now; the better one of a component comes first.

    An instrument that can't be opened is left out; ``capabilities`` says why.

    Args:
        root: where the file system starts; a fake tree in tests.
        chassis: ``ipmi`` or the URL of a Redfish resource, to ask the machine's power supplies as well; never
            asked unless it is given.

    Raises:
        MeterError: (M102) if ``chassis`` is neither.
        CatalogError: if a row of the catalogue that an instrument needs is malformed.
    """
    probes: list[Probe] = []
    for present, opener in _INSTRUMENTS:
        if not present(root):
            continue
        try:
            probes.append(opener(root))
        except CatalogError:
            raise
        except Exception:  # a binding or a chip that won't; errors of bindings share no base
            continue
    if chassis is not None:
        from negajoule.meter.chassis import chassis_probe

        probes.append(chassis_probe(chassis))
    return probes


def capabilities(root: Path = Path("/"), platform: str = sys.platform) -> list[Capability]:
    """What each instrument can do here.

    Args:
        root: where the file system starts; a fake tree in tests.
        platform: as ``sys.platform``.
    """
    from negajoule.meter.amdsmi import amd_capability
    from negajoule.meter.apple import apple_capability
    from negajoule.meter.chassis import ipmi_capability
    from negajoule.meter.hwmon import hwmon_capability
    from negajoule.meter.nvml import nvml_capability

    if platform == "darwin":
        return [apple_capability()]
    if platform == "win32":
        detail = "Windows' energy meter interface isn't read; energy is modelled"
        return [Capability("emi", "absent", detail)]
    return [
        rapl_capability(root),
        nvml_capability() if _nvidia(root) else Capability("nvml", "absent", "no NVIDIA driver is loaded"),
        amd_capability() if _amd(root) else Capability("amdsmi", "absent", "no AMD compute driver is loaded"),
        hwmon_capability(root),
        ipmi_capability(root),
    ]


def _nvidia(root: Path) -> bool:
    return any((root / path).exists() for path in ("dev/nvidiactl", "proc/driver/nvidia", "dev/dxg"))


def _amd(root: Path) -> bool:
    return (root / "dev/kfd").exists()


def _open_nvml(root: Path) -> Probe:
    from negajoule.meter.nvml import NvmlProbe

    return NvmlProbe()


def _open_amd(root: Path) -> Probe:
    from negajoule.meter.amdsmi import AmdProbe

    return AmdProbe()


def _open_hwmon(root: Path) -> Probe:
    from negajoule.meter.hwmon import HwmonProbe

    return HwmonProbe(root)


def _open_apple(root: Path) -> Probe:
    from negajoule.meter.apple import AppleProbe

    return AppleProbe()


_INSTRUMENTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Probe]], ...] = (
    (lambda root: any(zone.readable for zone in rapl_zones(root)), RaplProbe),
    (_nvidia, _open_nvml),
    (_amd, _open_amd),
    (lambda root: (root / "sys/class/hwmon").exists(), _open_hwmon),
    (lambda root: sys.platform == "darwin", _open_apple),
)
"""How to tell cheaply that an instrument may be there, and how to open it."""
