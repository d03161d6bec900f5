"""The devices of this machine, for ``hw.energy`` and ``hw.power``: read when a scrape asks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from negajoule.meter import find_probes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from negajoule.meter import Probe, Reading

__all__ = ["DeviceReader", "DeviceSample"]

_TYPES = {"cpu": "cpu", "memory": "memory", "gpu": "gpu"}


class DeviceSample(NamedTuple):
    """One figure of one device.

    Attributes:
        metric: name of a row of ``DEVICE_METRICS``.
        value: energy since an arbitrary start [J], or power [W].
        hw_id: the device, unique on this machine.
        hw_type: ``cpu``, ``memory``, ``gpu``; ``enclosure`` for a whole machine.
    """

    metric: str
    value: float
    hw_id: str
    hw_type: str


class DeviceReader:
    """Reads the probes for one exporter.

    Counters that would wrap between two scrapes are read in the background as often as their probe asks.

    Args:
        probes: instruments; ``None`` for those found here.
    """

    def __init__(self, probes: Sequence[Probe] | None = None) -> None:
        self._probes = list(find_probes() if probes is None else probes)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._read()
        periods = [probe.heartbeat_s for probe in self._probes if probe.heartbeat_s]
        if periods:
            threading.Thread(
                target=self._beat, args=(min(periods),), name="negajoule-devices", daemon=True
            ).start()

    def samples(self) -> Iterator[DeviceSample]:
        """What every device has drawn and draws; a device that has given nothing gives no sample."""
        for name, reading in self._read():
            host = reading.component == "platform"
            hw_type = "enclosure" if host else _TYPES.get(reading.component)
            if hw_type is None:
                continue
            space, hw_id = "hw.host" if host else "hw", f"{name} {reading.domain}"
            if reading.energy_j is not None:
                yield DeviceSample(f"{space}.energy", reading.energy_j, hw_id, hw_type)
            if reading.power_w is not None:
                yield DeviceSample(f"{space}.power", reading.power_w, hw_id, hw_type)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        with self._lock:
            for probe in self._probes:
                probe.close()
            self._probes = []

    def _read(self) -> list[tuple[str, Reading]]:
        with self._lock:
            return [(probe.name, reading) for probe in self._probes for reading in probe.read()]

    def _beat(self, period_s: float) -> None:
        while not self._stop.wait(period_s):
            self._read()
