import os
from pathlib import Path

import pytest
from trees import CPUINFO, Clock, Powercap, write

from negajoule.meter.discovery import find_probes
from negajoule.meter.rapl import RaplProbe, rapl_capability


@pytest.fixture
def tree(tmp_path):
    return Powercap(tmp_path)


def energies(probe):
    return {reading.domain: reading.energy_j for reading in probe.read()}


def test_package_and_dram_are_exact_and_nothing_else_is_counted(tree):
    tree.two_sockets()
    tree.zone("0", "package-0", 1000, kind="intel-rapl-mmio")
    clock = Clock()
    probe = RaplProbe(tree.root, clock=clock)
    clock.forward(1)
    for number, joules in (("0", 1100), ("0:1", 230), ("1", 2050), ("1:0", 315), ("2", 5300)):
        tree.set(number, joules)
    readings = {reading.domain: reading for reading in probe.read()}
    added = [reading for reading in readings.values() if reading.component != "check"]
    assert {reading.domain: reading.energy_j for reading in added} == pytest.approx(
        {"package-0": 100, "dram-0": 30, "package-1": 50, "dram-1": 15}
    )
    assert readings["psys"].component == "check"
    assert all(reading.grade == "A" and reading.gap is None for reading in added)
    probe.close()


def test_wrap_follows_the_range_of_the_zone(tmp_path):
    tree = Powercap(tmp_path, wrap_j=500.0)
    tree.zone("0", "package-0", 490)
    clock = Clock()
    probe = RaplProbe(tmp_path, clock=clock)
    clock.forward(0.1)
    tree.set("0", 20)
    assert energies(probe) == pytest.approx({"package-0": 30})
    probe.close()


def test_heartbeat_is_twice_the_wrap_rate(tmp_path):
    tree = Powercap(tmp_path, wrap_j=65_536.0)
    tree.zone("0", "package-0", 0)
    probe = RaplProbe(tmp_path)
    assert probe.heartbeat_s <= 65_536.0 / 1000 / 2
    probe.close()


def test_wrap_in_one_domain_leaves_the_others_alone(tmp_path):
    tree = Powercap(tmp_path, wrap_j=500.0)
    tree.zone("0", "package-0", 490)
    tree.zone("0:1", "dram", 10)
    clock = Clock()
    probe = RaplProbe(tmp_path, clock=clock)
    clock.forward(1)
    tree.set("0", 20)
    tree.set("0:1", 25)
    assert energies(probe) == pytest.approx({"package-0": 30, "dram-0": 15})
    probe.close()


def test_sockets_that_happen_to_be_equal_once_are_two(tree):
    tree.zone("0", "package-0", 0)
    tree.zone("1", "package-1", 0)
    clock = Clock()
    probe = RaplProbe(tree.root, clock=clock)
    for step in range(1, 6):
        clock.forward(1)
        tree.set("0", 100 * step)
        tree.set("1", 70 * step)
        probe.read()
    assert energies(probe) == pytest.approx({"package-0": 500, "package-1": 350})
    assert not probe.mirrored
    probe.close()


def test_a_mirrored_die_is_counted_once(tree):
    tree.zone("0", "package-0-die-0", 100)
    tree.zone("1", "package-0-die-1", 100)
    clock = Clock()
    probe = RaplProbe(tree.root, clock=clock)
    for step in range(1, 6):
        clock.forward(1)
        tree.set("0", 100 + 50 * step)
        tree.set("1", 100 + 50 * step)
        readings = probe.read()
        assert sum(reading.energy_j for reading in readings) == pytest.approx(50 * step)
    assert probe.mirrored == {"package-0-die-1"}
    probe.close()


def test_a_zone_that_vanishes_is_bridged(tree, monkeypatch):
    tree.two_sockets()
    clock = Clock()
    probe = RaplProbe(tree.root, clock=clock)
    clock.forward(1)
    tree.set("0", 1100)
    probe.read()

    def gone(*_):
        raise OSError("no such device")

    monkeypatch.setattr(os, "pread", gone)
    clock.forward(1)
    reading = next(item for item in probe.read() if item.domain == "package-0")
    assert reading.energy_j == pytest.approx(200)
    assert reading.grade == "E"
    assert reading.gap.kind == "failed read"
    assert reading.high_j - reading.low_j > 100
    monkeypatch.undo()
    probe.close()


def test_garbage_in_the_file_is_a_failed_read(tree):
    tree.zone("0", "package-0", 10)
    clock = Clock()
    probe = RaplProbe(tree.root, clock=clock)
    clock.forward(1)
    (tree.root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("<busy>\n")
    assert probe.read()[0].gap.kind == "failed read"
    probe.close()


def test_no_tree_is_absent(tmp_path):
    assert rapl_capability(tmp_path).state == "absent"
    assert find_probes(tmp_path) == []


def test_absent_on_bare_metal_names_the_module(tmp_path):
    write(tmp_path, "proc/cpuinfo", CPUINFO.format(extra="sse2"))
    assert "modprobe" in rapl_capability(tmp_path).fix
    write(tmp_path, "proc/cpuinfo", CPUINFO.format(extra="hypervisor"))
    assert rapl_capability(tmp_path).fix == ""


def test_unreadable_names_the_line_that_helps(tree, monkeypatch):
    tree.two_sockets()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    capability = rapl_capability(tree.root)
    assert capability.state == "unreadable"
    assert capability.fix.startswith("sudo chmod")
    assert "energy_uj" in capability.fix
    assert find_probes(tree.root) == []


def test_without_any_package_there_is_no_probe(tree):
    tree.zone("0:1", "dram", 10)
    with pytest.raises(OSError, match="no RAPL package"):
        RaplProbe(tree.root)
    assert find_probes(tree.root) == []


def test_real_tree_if_there_is_one():
    if rapl_capability(Path("/")).state != "ready":
        pytest.skip("no readable RAPL on this machine")
    probe = RaplProbe(Path("/"))
    assert all(reading.energy_j >= 0 for reading in probe.read())
    probe.close()


@pytest.mark.parametrize(("psys", "says"), [(5300, None), (5020, "disagreement")])
def test_psys_smaller_than_what_it_contains_is_flagged(tree, psys, says):
    tree.two_sockets()
    clock = Clock()
    probe = RaplProbe(tree.root, clock=clock)
    clock.forward(1)
    tree.set("0", 1100)
    tree.set("2", psys)
    gap = next(reading.gap for reading in probe.read() if reading.domain == "psys")
    assert (gap.kind if gap else None) == says
    probe.close()
