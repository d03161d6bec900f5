import pytest
from trees import Clock, write

from negajoule.meter.discovery import find_probes
from negajoule.meter.hwmon import HwmonProbe, hwmon_capability

CHIP = "sys/class/hwmon/hwmon"


@pytest.fixture
def clock():
    return Clock()


def energies(probe):
    return {reading.domain: (reading.component, reading.energy_j) for reading in probe.read()}


def test_sockets_of_amd_energy_and_not_its_cores(tmp_path, clock):
    write(tmp_path, f"{CHIP}0/name", "amd_energy")
    for number, label in ((1, "Ecore000"), (2, "Esocket0"), (3, "Esocket1")):
        write(tmp_path, f"{CHIP}0/energy{number}_label", label)
        write(tmp_path, f"{CHIP}0/energy{number}_input", 10**9)
    probe = HwmonProbe(tmp_path, clock=clock)
    clock.forward(1)
    for number in (1, 2, 3):
        write(tmp_path, f"{CHIP}0/energy{number}_input", 10**9 + 50 * 10**6)
    assert energies(probe) == {"Esocket0": ("cpu", pytest.approx(50)), "Esocket1": ("cpu", pytest.approx(50))}
    assert probe.heartbeat_s is None


def test_acpi_power_meter_is_the_platform(tmp_path, clock):
    write(tmp_path, f"{CHIP}3/name", "power_meter")
    write(tmp_path, f"{CHIP}3/power1_average", 250_000_000)
    probe = HwmonProbe(tmp_path, clock=clock)
    clock.forward(1)
    assert energies(probe) == {"acpi power meter": ("platform", pytest.approx(250))}
    assert probe.read()[0].grade == "B"
    assert probe.heartbeat_s is not None


@pytest.mark.parametrize("labels", [{1: "card", 2: "pkg"}, {1: "pkg"}, {}])
def test_intel_cards_whole(tmp_path, clock, labels):
    write(tmp_path, f"{CHIP}1/name", "xe")
    for number in (1, 2):
        write(tmp_path, f"{CHIP}1/energy{number}_input", number * 10**6)
    for number, label in labels.items():
        write(tmp_path, f"{CHIP}1/energy{number}_label", label)
    probe = HwmonProbe(tmp_path, clock=clock)
    clock.forward(1)
    write(tmp_path, f"{CHIP}1/energy1_input", 101 * 10**6)
    assert energies(probe) == {"intel gpu 0": ("gpu", pytest.approx(100))}


def rail(root, number, label, millivolts, milliamperes, chip=2):
    write(root, f"{CHIP}{chip}/name", "ina3221")
    write(root, f"{CHIP}{chip}/in{number}_label", label)
    write(root, f"{CHIP}{chip}/in{number}_input", millivolts)
    write(root, f"{CHIP}{chip}/curr{number}_input", milliamperes)


def test_jetson_with_a_total_rail(tmp_path, clock):
    """Orin Nano: the module's total contains the rails beside it, one of which mixes CPU and GPU."""
    rail(tmp_path, 1, "VDD_IN", 5000, 2000)
    rail(tmp_path, 2, "VDD_CPU_GPU_CV", 5000, 800)
    rail(tmp_path, 3, "VDD_SOC", 5000, 300)
    probe = HwmonProbe(tmp_path, clock=clock)
    clock.forward(1)
    assert energies(probe) == {"VDD_IN": ("platform", pytest.approx(10))}


def test_jetson_without_a_total_adds_its_rails_once(tmp_path, clock):
    """AGX Orin: VDDQ is fed by VIN_SYS and not added; an unused channel isn't a rail."""
    rail(tmp_path, 1, "VDD_GPU_SOC", 20_000, 500)
    rail(tmp_path, 2, "VDD_CPU_CV", 20_000, 200)
    rail(tmp_path, 3, "VIN_SYS_5V0", 5000, 1000)
    rail(tmp_path, 1, "NC", 0, 0, chip=4)
    rail(tmp_path, 2, "VDDQ_VDD2_1V8AO", 5000, 100, chip=4)
    probe = HwmonProbe(tmp_path, clock=clock)
    clock.forward(1)
    assert energies(probe) == {
        "VDD_GPU_SOC": ("gpu", pytest.approx(10)),
        "VDD_CPU_CV": ("cpu", pytest.approx(4)),
        "all rails": ("platform", pytest.approx(19)),
    }


def test_jetson_with_the_older_driver(tmp_path, clock):
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    for number, (name, milliwatts) in enumerate(
        (("POM_5V_IN", 4000), ("POM_5V_GPU", 900), ("POM_5V_CPU", 700))
    ):
        write(tmp_path, f"{folder}/rail_name_{number}", name)
        write(tmp_path, f"{folder}/in_power{number}_input", milliwatts)
    probe = HwmonProbe(tmp_path, clock=clock)
    clock.forward(1)
    assert energies(probe) == {
        "POM_5V_IN": ("platform", pytest.approx(4)),
        "POM_5V_GPU": ("gpu", pytest.approx(0.9)),
        "POM_5V_CPU": ("cpu", pytest.approx(0.7)),
    }


def test_a_rail_that_fails_is_bridged(tmp_path, clock):
    rail(tmp_path, 1, "VDD_IN", 5000, 2000)
    probe = HwmonProbe(tmp_path, clock=clock)
    clock.forward(1)
    probe.read()
    write(tmp_path, f"{CHIP}2/curr1_input", "nan")
    clock.forward(1)
    (reading,) = probe.read()
    assert reading.grade == "E"
    assert reading.energy_j == pytest.approx(20)


def test_chips_nobody_vouches_for_aren_t_counted(tmp_path):
    write(tmp_path, f"{CHIP}0/name", "nct6775")
    write(tmp_path, f"{CHIP}0/power1_input", 5_000_000)
    with pytest.raises(OSError, match="no known sensor"):
        HwmonProbe(tmp_path)
    assert hwmon_capability(tmp_path).state == "absent"
    assert find_probes(tmp_path) == []


def test_what_doctor_hears(tmp_path):
    write(tmp_path, f"{CHIP}3/name", "power_meter")
    write(tmp_path, f"{CHIP}3/power1_average", 250_000_000)
    capability = hwmon_capability(tmp_path)
    assert (capability.state, capability.grade) == ("ready", "B")
    assert [probe.name for probe in find_probes(tmp_path)] == ["hwmon"]


def test_unreadable_counters_name_the_line(tmp_path):
    write(tmp_path, f"{CHIP}0/name", "amd_energy")
    write(tmp_path, f"{CHIP}0/energy1_label", "Esocket0")
    write(tmp_path, f"{CHIP}0/energy1_input", "")
    capability = hwmon_capability(tmp_path)
    assert capability.state == "unreadable"
    assert "chmod" in capability.fix
