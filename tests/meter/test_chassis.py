"""Recorded answers; no controller and no network is asked."""

import json
import subprocess
import threading

import pytest
from trees import Clock, write

from negajoule.errors import MeterError
from negajoule.meter import chassis
from negajoule.meter.chassis import chassis_probe, ipmi_capability, ipmi_watts, redfish_watts
from negajoule.meter.discovery import find_probes
from negajoule.meter.sampler import SampledProbe

IPMI = """
    Instantaneous power reading:                   220 Watts
    Minimum during sampling period:                 18 Watts
    Maximum during sampling period:                420 Watts
    Average power reading over sample period:      218 Watts
    IPMI timestamp:                           Mon Nov 23 09:00:00 2026
    Sampling period:                          00000010 Seconds.
    Power reading state is:                   activated
"""
POWER = {
    "PowerControl": [{"Name": "Server Power Control", "PowerConsumedWatts": 150, "PowerCapacityWatts": 200}]
}
ENVIRONMENT = {"@odata.type": "#EnvironmentMetrics.v1_3_0", "PowerWatts": {"Reading": 374.5}}


def test_ipmitool_s_answer():
    assert ipmi_watts(IPMI) == 220.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DCMI request failed because: Invalid command (c1)",
        IPMI.replace("activated", "deactivated"),
        IPMI.replace("220", "0"),
        IPMI.replace("220", "n/a"),
    ],
)
def test_answers_without_a_reading(text):
    assert ipmi_watts(text) is None


def test_redfish_documents():
    assert redfish_watts(POWER) == 150.0
    assert redfish_watts(ENVIRONMENT) == 374.5
    assert redfish_watts({"PowerControl": POWER["PowerControl"] * 2}) == 300.0


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"PowerControl": []},
        {"PowerControl": "x"},
        {"PowerControl": [{"PowerConsumedWatts": None}]},
        {"PowerControl": [{"PowerConsumedWatts": -3}]},
        {"PowerControl": [{"PowerConsumedWatts": True}]},
        {"PowerControl": [7]},
        {"PowerWatts": {"Reading": "12"}},
        {"PowerWatts": {"Reading": float("nan")}},
    ],
)
def test_documents_without_a_reading(document):
    assert redfish_watts(document) is None


def test_a_probe_from_each():
    ipmi = chassis_probe("ipmi", run=lambda: IPMI, start=False)
    asked = []

    def fetch(url):
        asked.append(url)
        return json.dumps(POWER).encode()

    redfish = chassis_probe("https://bmc/redfish/v1/Chassis/1/Power", fetch=fetch, start=False)
    for probe, watts in ((ipmi, 220.0), (redfish, 150.0)):
        probe.sample()
        (reading,) = probe.read()
        assert (reading.component, reading.power_w) == ("platform", watts)
    assert asked == ["https://bmc/redfish/v1/Chassis/1/Power"]


def test_an_address_that_is_none():
    with pytest.raises(MeterError) as caught:
        chassis_probe("bmc")
    assert caught.value.code == "M102"
    assert caught.value.fix


def test_it_is_never_asked_by_default(tmp_path):
    write(tmp_path, "dev/ipmi0", "")
    assert find_probes(tmp_path) == []
    (probe,) = find_probes(tmp_path, chassis="ipmi")
    assert probe.name == "ipmi"
    probe.close()


def test_what_doctor_hears(tmp_path, monkeypatch):
    assert ipmi_capability(tmp_path).state == "absent"
    write(tmp_path, "dev/ipmi0", "")
    monkeypatch.setattr(chassis.shutil, "which", lambda name: None)
    assert "ipmitool" in ipmi_capability(tmp_path).fix
    monkeypatch.setattr(chassis.shutil, "which", lambda name: "/usr/bin/ipmitool")
    monkeypatch.setattr(chassis, "_ipmitool", lambda: IPMI)
    assert "220 W" in ipmi_capability(tmp_path).detail

    def refused():
        raise subprocess.CalledProcessError(1, "ipmitool")

    monkeypatch.setattr(chassis, "_ipmitool", refused)
    assert ipmi_capability(tmp_path).state == "unreadable"


def sampled(fetch, clock, **options):
    return SampledProbe(
        "slow",
        fetch,
        {"chassis": "platform"},
        ceiling_w=1000.0,
        accuracy=0.0,
        period_s=1.0,
        clock=clock,
        **{"start": False, **options},
    )


def test_samples_are_integrated():
    clock, watts = Clock(), [100.0, 200.0, 200.0]
    probe = sampled(lambda: {"chassis": watts.pop(0)}, clock)
    for _ in range(3):
        probe.sample()
        clock.forward(1)
    assert probe.read()[0].energy_j == pytest.approx(350.0)


def test_errors_are_bridged_and_flagged():
    clock, answers = Clock(), [{"chassis": 100.0}, {"chassis": 100.0}, OSError("timeout"), {}]

    def fetch():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    probe = sampled(fetch, clock)
    for _ in range(4):
        probe.sample()
        clock.forward(1)
    (reading,) = probe.read()
    assert reading.gap.kind == "failed read"
    assert reading.grade == "E"
    assert reading.energy_j == pytest.approx(300.0)
    assert reading.high_j == pytest.approx(100.0 + 2 * 1000.0)


def test_a_hanging_controller_doesn_t_hang_the_reader():
    clock, release = Clock(), threading.Event()
    first = iter([{"chassis": 100.0}, {"chassis": 100.0}])

    def fetch():
        answer = next(first, None)
        if answer is None:
            release.wait(10)
            return {}
        return answer

    probe = sampled(fetch, clock)
    probe.sample()
    clock.forward(1)
    probe.sample()
    thread = threading.Thread(target=probe.sample)
    thread.start()
    clock.forward(60)
    (reading,) = probe.read()
    assert reading.gap.kind == "failed read"
    assert reading.energy_j == pytest.approx(6100.0)
    assert reading.low_j == pytest.approx(100.0)
    release.set()
    thread.join()


def test_the_thread_asks_and_stops():
    asked = threading.Event()
    probe = SampledProbe(
        "slow",
        lambda: asked.set() or {"chassis": 5.0},
        {"chassis": "platform"},
        ceiling_w=1000.0,
        accuracy=0.0,
        period_s=0.01,
    )
    assert asked.wait(5)
    probe.close()
    assert "negajoule-slow" not in {thread.name for thread in threading.enumerate()}
