"""Fakes of accelerators that can be set. No GPU is touched."""

import time
from pathlib import Path
from types import SimpleNamespace

from negajoule.errors import MeterError


class FakeBoard:
    """A fake behind the Protocol ``Board``: remembers what it was set to, and draws its limit."""

    title = "a fake board"

    def __init__(self, uuid="GPU-1", limit_w=700.0, refuses=False):
        self.uuid = uuid
        self.limit_w = limit_w
        self.locked_mhz = None
        self.refuses = refuses
        self.counts = True
        self.seen_w = []

    def power_limit_w(self):
        return self.limit_w

    def power_range_w(self):
        return 200.0, 700.0

    def clocks_mhz(self):
        return (210.0, 1980.0)

    def set_power_limit(self, power_w):
        if self.refuses:
            raise MeterError("no permission", code="M106")
        self.limit_w = power_w
        self.seen_w.append(power_w)

    def lock_clock(self, clock_mhz):
        self.locked_mhz = clock_mhz

    def unlock_clock(self):
        self.locked_mhz = None

    def energy_j(self):
        return time.monotonic() * self.limit_w if self.counts else None


class FileBoard(FakeBoard):
    """A fake whose limit is kept in a file, so that another process sees it."""

    def __init__(self, path):
        super().__init__()
        self._path = Path(path)

    def power_limit_w(self):
        return float(self._path.read_text() or 700) if self._path.exists() else 700.0

    def set_power_limit(self, power_w):
        fresh = self._path.with_suffix(".new")
        fresh.write_text(str(power_w))
        fresh.replace(self._path)


class FakeNvml:
    """A stub with the surface of ``pynvml``."""

    class NVMLError(Exception):
        pass

    def __init__(self, allowed=True, count=1):
        self.allowed, self.count = allowed, count
        self.limit_mw, self.locked, self.shut = 700_000, None, False

    def nvmlInit(self):
        pass

    def nvmlShutdown(self):
        self.shut = True

    def nvmlDeviceGetCount(self):
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index):
        return SimpleNamespace(index=index)

    def nvmlDeviceGetUUID(self, _):
        return b"GPU-1"

    def nvmlDeviceGetName(self, _):
        return "NVIDIA H100"

    def nvmlDeviceGetPowerManagementLimit(self, _):
        return self.limit_mw

    def nvmlDeviceGetPowerManagementLimitConstraints(self, _):
        return 200_000, 700_000

    def nvmlDeviceGetSupportedMemoryClocks(self, _):
        return [2619, 1593]

    def nvmlDeviceGetSupportedGraphicsClocks(self, _, memory):
        assert memory == 2619
        return [1980, 210]

    def nvmlDeviceGetTotalEnergyConsumption(self, _):
        return 5000

    def nvmlDeviceSetPowerManagementLimit(self, _, milliwatts):
        if not self.allowed:
            raise self.NVMLError("Insufficient Permissions")
        self.limit_mw = milliwatts

    def nvmlDeviceSetGpuLockedClocks(self, _, low, high):
        self.locked = (low, high)

    def nvmlDeviceResetGpuLockedClocks(self, _):
        self.locked = None
