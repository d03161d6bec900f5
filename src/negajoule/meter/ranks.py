"""Many ranks on one host are one host: machine-wide readings of the same device counted once.

A rank that measures its own share may be added to the others. One that reads a whole device (a package, a
board) reads what every other rank on the host reads. Devices are told apart by host, boot and device id.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from negajoule.units import Energy, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from negajoule.meter.host import Host
    from negajoule.meter.window import Window

__all__ = ["DeviceReading", "device_readings", "merge_ranks"]


class DeviceReading(msgspec.Struct, frozen=True):
    """A whole device over a stretch, as one rank saw it.

    Attributes:
        host_id: the machine (``Host.host_id``).
        boot_id: its boot; counters start anew with each.
        device: unique on the machine: a board's UUID, else the counter's name.
        start_s: UTC seconds since 1970 [s].
        end_s: likewise [s].
        energy: what the whole device drew [J].
    """

    host_id: str
    boot_id: str
    device: str
    start_s: float
    end_s: float
    energy: Energy


def device_readings(
    window: Window, start_s: float, host: Host, uuids: Mapping[str, str] | None = None
) -> tuple[DeviceReading, ...]:
    """What a window says of whole devices: our share and the unattributed together.

    Args:
        window: of a meter with counters; the model's parts are no devices.
        start_s: when it began, UTC seconds since 1970 [s].
        host: the machine.
        uuids: domain to UUID (``NvmlProbe.uuids``); other devices go by their counter's name.
    """
    energies: dict[str, list[Energy]] = {}
    for part in (*window.parts, *window.unattributed):
        if part.grade in ("A", "B", "E"):
            energies.setdefault(part.source, []).append(part.energy)
    names = uuids or {}
    by_source = {
        source: uuid for domain, uuid in names.items() for source in energies if f" {domain} " in f"{source} "
    }
    return tuple(
        DeviceReading(
            host.host_id,
            host.boot_id,
            by_source.get(source, source),
            start_s,
            start_s + window.seconds,
            _sum(found),
        )
        for source, found in energies.items()
    )


def merge_ranks(readings: Iterable[DeviceReading]) -> dict[tuple[str, str, str], Energy]:
    """Energy of each device, however many ranks read it.

    Where several readings cover the same time their mean power counts, between the lowest and the highest;
    time that only one covers counts as it says. The order of the readings doesn't matter, nor does giving
    one twice.

    Returns:
        Host, boot and device to energy [J].
    """
    groups: dict[tuple[str, str, str], set[DeviceReading]] = {}
    for reading in readings:
        groups.setdefault((reading.host_id, reading.boot_id, reading.device), set()).add(reading)
    return {key: _swept(sorted(group, key=_order)) for key, group in sorted(groups.items())}


def _swept(readings: Sequence[DeviceReading]) -> Energy:
    edges = sorted({edge for reading in readings for edge in (reading.start_s, reading.end_s)})
    pieces = []
    for start_s, end_s in pairwise(edges):
        covering = [reading for reading in readings if reading.start_s <= start_s and reading.end_s >= end_s]
        shares = [
            reading.energy * ((end_s - start_s) / (reading.end_s - reading.start_s)) for reading in covering
        ]
        if shares:
            pieces.append(
                Energy(
                    sum(share.value for share in shares) / len(shares),
                    min(share.low for share in shares),
                    max(share.high for share in shares),
                    shares[0].basis,
                    shares[0].boundary,
                )
            )
    return total(pieces) or Energy.exact(0.0)


def _order(reading: DeviceReading) -> tuple[float, float, float]:
    return reading.start_s, reading.end_s, reading.energy.value


def _sum(energies: Sequence[Energy]) -> Energy:
    found = total(energies)
    assert found is not None, "a source is listed with its first energy"
    return found
