"""What was learnt about this machine: kept in the data folder, used by the model as grade C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from negajoule.config import home
from negajoule.meter.model import ONE, ZERO, Coefficients, Span, from_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.meter.host import Host

__all__ = [
    "Calibration",
    "calibrated",
    "calibration_path",
    "coefficients_for",
    "load_calibration",
    "save_calibration",
]

SCHEMA = "negajoule.calibration/1"


class Calibration(msgspec.Struct, frozen=True, tag_field="schema", tag=SCHEMA):
    """Idle power and power of a busy thread, fitted on one machine.

    Attributes:
        host_id: the machine.
        cpu: its processor, for people.
        created: UTC, ISO 8601.
        boundary: ``package`` if it was fitted to package counters, ``machine`` if to the whole machine's
            power.
        reference: the counter or the meter's file.
        idle_w: power without load [W].
        thread_w: what a busy hardware thread adds [W].
        residual_w: standard deviation of what the line leaves [W].
        points: measurements behind it.
    """

    host_id: str
    cpu: str
    created: str
    boundary: Literal["package", "machine"]
    reference: str
    idle_w: Span
    thread_w: Span
    residual_w: float
    points: int


def calibrated(coefficients: Coefficients, calibration: Calibration, host: Host) -> Coefficients:
    """Put a calibration's figures in the place of the catalogue's.

    A busy thread's power is used as it is, without asking which part of a core it occupies. A machine's idle
    power includes its memory, whose share stays the catalogue's; a package's idle power says only how much
    of the server's the counter sees.

    Args:
        coefficients: the catalogue's.
        calibration: of this machine.
        host: the machine.
    """
    threads = coefficients.cores_per_reserved_thread.value * host.threads
    source = f"calibration {calibration.created[:10]} ({calibration.reference})"
    result = msgspec.structs.replace(
        coefficients,
        active_w=calibration.thread_w,
        cores_per_busy_thread=ONE,
        active_grade="C",
        active_source=source,
        notes=(f"calibrated on {calibration.created[:10]} against {calibration.reference}",),
    )
    if calibration.boundary == "package":
        return msgspec.structs.replace(result, package_idle_w=calibration.idle_w.scaled(1 / threads))
    memory_w = coefficients.memory_w_per_byte.scaled(host.memory_bytes)
    idle_w = calibration.idle_w.minus(memory_w).scaled(1 / threads)
    return msgspec.structs.replace(
        result,
        idle_w=idle_w,
        package_idle_w=Span(*map(min, coefficients.package_idle_w, idle_w)),
        cores_per_reserved_thread=ONE.scaled(coefficients.cores_per_reserved_thread.value),
        idle_grade="C",
        idle_source=source,
    )


def coefficients_for(host: Host) -> Coefficients:
    """This machine's calibration where there is one, else the catalogue's coefficients.

    Raises:
        CatalogError: if the catalogue lacks a row.
    """
    coefficients = from_catalog(host)
    calibration = load_calibration(host)
    return coefficients if calibration is None else calibrated(coefficients, calibration, host)


def calibration_path() -> Path:
    """``calibration.json`` in the data folder."""
    return home() / "calibration.json"


def save_calibration(calibration: Calibration, path: Path | None = None) -> Path:
    """Write a calibration, the old one staying until the new one is whole.

    Raises:
        OSError: if it can't be written.
    """
    path = calibration_path() if path is None else path
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(calibration)) + b"\n")
    fresh.replace(path)
    return path


def load_calibration(host: Host, path: Path | None = None) -> Calibration | None:
    """The calibration of this machine; ``None`` without one, or if it is another machine's or malformed."""
    path = calibration_path() if path is None else path
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError):
        return None
    sound = all(ZERO.value <= span.low <= span.value <= span.high for span in (found.idle_w, found.thread_w))
    return found if sound and found.host_id == host.host_id else None
