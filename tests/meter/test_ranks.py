import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import Clock, ScriptedMachine, ScriptedProbe, ScriptedTree, coefficients, host

from negajoule.meter import Meter
from negajoule.meter.ranks import DeviceReading, device_readings, merge_ranks
from negajoule.units import Energy


def reading(joules, start_s=0.0, end_s=10.0, device="GPU-1", host_id="h", boot_id="b"):
    return DeviceReading(
        host_id, boot_id, device, start_s, end_s, Energy.around(joules, 0.05, "measured", "node")
    )


def test_four_ranks_of_one_host_add_to_one_node():
    """CodeCarbon and its callbacks bill N ranks N times the node."""
    merged = merge_ranks([reading(1000.0 + rank) for rank in range(4)])
    (energy,) = merged.values()
    assert energy.value == pytest.approx(1001.5)
    assert energy.low == pytest.approx(950.0)
    assert energy.high == pytest.approx(1.05 * 1003)


def test_hosts_boots_and_devices_are_kept_apart():
    merged = merge_ranks(
        [reading(1), reading(2, host_id="i"), reading(4, boot_id="c"), reading(8, device="GPU-2")]
    )
    assert sum(energy.value for energy in merged.values()) == pytest.approx(15.0)


def test_staggered_ranks_cover_the_union():
    (energy,) = merge_ranks([reading(100, 0, 10), reading(100, 5, 15)]).values()
    assert energy.value == pytest.approx(150.0)


def test_stretches_apart_are_added():
    (energy,) = merge_ranks([reading(100, 0, 10), reading(50, 20, 30)]).values()
    assert energy.value == pytest.approx(150.0)


def test_a_reading_without_length_adds_nothing():
    (energy,) = merge_ranks([reading(100, 5, 5)]).values()
    assert energy.value == 0.0


READINGS = st.lists(
    st.builds(
        lambda joules, start, length, device: reading(joules, start, start + length, device),
        st.floats(0, 1e6),
        st.floats(0, 100),
        st.floats(0.1, 100),
        st.sampled_from(["GPU-1", "GPU-2"]),
    ),
    max_size=8,
)


@given(READINGS, st.randoms())
def test_merging_is_idempotent_and_blind_to_order(readings, random):
    once = merge_ranks(readings)
    again = list(readings) * 2
    random.shuffle(again)
    assert merge_ranks(again) == once
    for device, energy in once.items():
        own = [item.energy.value for item in readings if item.device == device[2]]
        assert energy.value <= sum(own) * (1 + 1e-9)
        assert energy.value >= max(own) / len(own) * (1 - 1e-9)


def test_devices_of_a_window_are_whole():
    class SharingFake(ScriptedProbe):
        def shares(self, pids, *, numbers_match):
            return {"gpu 0": (0.25, 0.25, 0.25)}

        def uuids(self):
            return {"gpu 0": "GPU-abc", "gpu 1": "GPU-def"}

    probe = SharingFake("nvml", **{"gpu 0": "gpu", "package-0": "cpu"})
    clock = Clock()
    meter = Meter(
        host(),
        coefficients(),
        probes=[probe],
        tree=ScriptedTree(),
        machine=ScriptedMachine(),
        clock=clock,
        wall=clock,
    )
    before = meter.read()
    clock.forward(10)
    probe.energy_j.update({"gpu 0": 400.0, "package-0": 900.0})
    window = meter.between(before, meter.read())
    found = {item.device: item for item in device_readings(window, 7.0, meter.host, meter.probes.uuids())}
    assert {device: item.energy.value for device, item in found.items()} == pytest.approx(
        {"GPU-abc": 400.0, "nvml package-0": 900.0}
    )
    assert (found["GPU-abc"].start_s, found["GPU-abc"].end_s) == (7.0, 17.0)
    assert next(part.energy.value for part in window.parts if part.name == "gpu 0") == pytest.approx(100.0)
