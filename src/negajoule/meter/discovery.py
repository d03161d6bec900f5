"""Which instruments there are: those to read now, and what ``doctor`` says of the others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from negajoule.errors import CatalogError, NegajouleError
from negajoule.meter.probe import Capability
from negajoule.meter.rapl import RaplProbe, rapl_capability, rapl_zones

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.meter.probe import Probe

__all__ = ["Discovery", "capabilities", "discover", "find_probes"]


class Discovery(NamedTuple):
    """Instruments that are open, and what of the machine they leave out.

    Attributes:
        probes: the better one of a component first.
        notes: devices that are there but can't be read, and how to change that.
    """

    probes: list[Probe]
    notes: tuple[str, ...] = ()


def find_probes(root: Path = Path("/"), *, chassis: str | None = None) -> list[Probe]:
    """Open every instrument that can be read now; arguments and errors as for ``discover``."""
    return discover(root, chassis=chassis).probes


def discover(root: Path = Path("/"), *, chassis: str | None = None) -> Discovery:
    """Open every instrument that can be read now, and say which devices are left out.

    Args:
        root: where the file system starts; a fake tree in tests.
        chassis: ``ipmi`` or the URL of a Redfish resource, to ask the machine's power supplies as well; never
            asked unless it is given.

    Raises:
        MeterError: (M102) if ``chassis`` is neither.
        CatalogError: if a row of the catalogue that an instrument needs is malformed.
    """
    probes: list[Probe] = []
    notes: list[str] = []
    for device, present, opener in _INSTRUMENTS:
        if not present(root):
            continue
        try:
            probes.append(opener(root))
        except CatalogError:
            raise
        except Exception as error:  # a binding or a chip that won't; errors of bindings share no base
            if device:
                notes.append(f"{device} can't be read and aren't counted: {_reason(error)}")
    if chassis is not None:
        from negajoule.meter.chassis import chassis_probe

        probes.append(chassis_probe(chassis))
    return Discovery(probes, tuple(notes))


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


def _reason(error: Exception) -> str:
    return f"{error.message}; {error.fix}" if isinstance(error, NegajouleError) else str(error)


_INSTRUMENTS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Probe]], ...] = (
    ("", lambda root: any(zone.readable for zone in rapl_zones(root)), RaplProbe),
    ("NVIDIA's GPUs", _nvidia, _open_nvml),
    ("AMD's GPUs", _amd, _open_amd),
    ("", lambda root: (root / "sys/class/hwmon").exists(), _open_hwmon),
    ("", lambda root: sys.platform == "darwin", _open_apple),
)
"""Devices that nothing else accounts for, how to tell cheaply that they're there, how to open them."""
