"""Recorded shapes and a stub; no Apple chip is read."""

from types import SimpleNamespace

import pytest
from trees import Clock

from negajoule.errors import ExtraMissingError
from negajoule.meter import apple
from negajoule.meter.apple import AppleProbe, apple_capability, powermetrics_probe, powermetrics_watts

PLIST = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
<key>is_delta</key><true/>
<key>elapsed_ns</key><integer>1002345678</integer>
<key>hw_model</key><string>Mac15,9</string>
<key>processor</key>
<dict>
  <key>cpu_energy</key><integer>4291</integer>
  <key>cpu_power</key><real>4280.93</real>
  <key>gpu_power</key><real>12310.5</real>
  <key>ane_power</key><real>0</real>
  <key>combined_power</key><real>16591.4</real>
</dict>
<key>gpu</key><dict><key>idle_ratio</key><real>0.25</real></dict>
</dict>
</plist>
"""


class StubBinding:
    """The surface of ``zeus_apple_silicon``."""

    def __init__(self, **millijoules):
        self.metrics = SimpleNamespace(
            **{"cpu_total_mj": 0, "gpu_mj": 0, "gpu_sram_mj": None, "dram_mj": 0, "ane_mj": 0, **millijoules}
        )
        self.broken = False

    def AppleEnergyMonitor(self):
        return self

    def get_cumulative_energy(self):
        if self.broken:
            raise RuntimeError("IOReport is gone")
        return self.metrics


@pytest.fixture
def clock():
    return Clock()


def test_counters_of_the_chip(clock):
    binding = StubBinding(gpu_sram_mj=0)
    probe = AppleProbe(clock=clock, binding=binding)
    clock.forward(1)
    binding.metrics = SimpleNamespace(
        cpu_total_mj=5000, gpu_mj=20_000, gpu_sram_mj=500, dram_mj=900, ane_mj=0
    )
    readings = {reading.domain: reading for reading in probe.read()}
    assert readings["apple cpu"].energy_j == pytest.approx(5.0)
    assert readings["apple gpu"].energy_j == pytest.approx(20.5)
    assert readings["apple dram"].component == "memory"
    assert {reading.grade for reading in readings.values()} == {"A"}


def test_counters_that_a_chip_lacks_are_left_out(clock):
    probe = AppleProbe(clock=clock, binding=StubBinding(ane_mj=None))
    assert "apple neural engine" not in {reading.domain for reading in probe.read()}


def test_a_failing_binding_is_bridged(clock):
    binding = StubBinding()
    probe = AppleProbe(clock=clock, binding=binding)
    clock.forward(1)
    binding.broken = True
    assert {reading.gap.kind for reading in probe.read()} == {"failed read"}


def test_powermetrics_gives_milliwatts():
    assert powermetrics_watts(PLIST) == pytest.approx(
        {"apple cpu": 4.28093, "apple gpu": 12.3105, "apple neural engine": 0.0}
    )


def test_the_last_of_several_samples_counts():
    first = PLIST.replace(b"4280.93", b"1.0")
    assert powermetrics_watts(first + b"\0" + PLIST + b"\0")["apple cpu"] == pytest.approx(4.28093)


@pytest.mark.parametrize("document", [b"", b"\0\0", b"sudo: a password is required", PLIST[:400]])
def test_what_is_no_property_list_is_refused(document):
    with pytest.raises(ValueError, match=r"powermetrics|property list"):
        powermetrics_watts(document)


def test_a_list_without_power_has_none():
    assert powermetrics_watts(PLIST.replace(b"_power", b"_other")) == {}


def test_powermetrics_as_a_probe(clock):
    answers = [PLIST, PLIST, b"broken"]
    probe = powermetrics_probe(run=lambda: answers.pop(0), clock=clock, start=False)
    probe.sample()
    clock.forward(2)
    probe.sample()
    readings = {reading.domain: reading for reading in probe.read()}
    assert readings["apple gpu"].energy_j == pytest.approx(24.621)
    assert readings["apple gpu"].grade == "B"
    clock.forward(2)
    probe.sample()
    readings = {reading.domain: reading for reading in probe.read()}
    assert readings["apple gpu"].grade == "E"
    assert readings["apple gpu"].energy_j == pytest.approx(49.242)


def test_what_doctor_hears(monkeypatch):
    monkeypatch.setattr(apple, "require", lambda *_, **__: StubBinding())
    assert apple_capability().state == "ready"

    def missing(*_, **__):
        raise ExtraMissingError("no binding")

    monkeypatch.setattr(apple, "require", missing)
    assert apple_capability().fix == "pip install zeus-apple-silicon"
