import itertools
import os
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import Clock, Powercap, ScriptedMachine, ScriptedProbe, ScriptedTree, coefficients, host

from negajoule.errors import MeterError
from negajoule.meter import Meter, capabilities, find_probes, grade_shares, tree_of
from negajoule.meter.rapl import RaplProbe
from negajoule.units import total


class Scene:
    """A meter over fakes, with everything that moves at hand."""

    def __init__(self, *probes, whole=False, **host_changes):
        self.clock, self.wall = Clock(), Clock(1.7e9)
        self.tree = None if whole else ScriptedTree(resident_bytes=10**9)
        self.machine = ScriptedMachine()
        self.meter = Meter(
            host(**host_changes),
            coefficients(),
            probes=probes,
            tree=self.tree,
            machine=self.machine,
            clock=self.clock,
            wall=self.wall,
        )

    def forward(self, seconds, *, cpu_s=0.0, machine_s=None):
        self.clock.forward(seconds)
        self.wall.forward(seconds)
        if self.tree is not None:
            self.tree.cpu_s += cpu_s
        self.machine.busy_s += cpu_s if machine_s is None else machine_s

    def measure(self, seconds, **more):
        before = self.meter.read()
        self.forward(seconds, **more)
        return self.meter.between(before, self.meter.read())


def parts_of(parts):
    return {part.name: part.energy.value for part in parts}


def test_the_model_alone():
    window = Scene().measure(10, cpu_s=8)
    assert parts_of(window.parts) == pytest.approx({"cpu active": 24.0, "machine idle": 640.0, "memory": 3.0})
    assert window.energy.value == pytest.approx(667.0)
    assert window.energy.boundary == "node"
    assert window.energy.basis == "modelled"
    assert window.energy.low < window.energy.value < window.energy.high
    assert window.seconds == 10
    assert window.cpu_s == 8
    assert window.unattributed == ()
    assert grade_shares(window.parts) == {"D": pytest.approx(1.0)}


def test_sleep_costs_less_than_spin():
    scene = Scene()
    assert scene.measure(30).energy.value < scene.measure(30, cpu_s=30).energy.value


def test_a_window_of_no_length_costs_nothing():
    window = Scene().measure(0)
    assert window.energy.value == 0.0


def test_windows_nest_overlap_and_add_up():
    scene = Scene()
    meter = scene.meter
    snapshots = [meter.read()]
    for step in range(100):
        scene.forward(0.01 * step, cpu_s=0.003 * step)
        snapshots.append(meter.read())
    whole = meter.between(snapshots[0], snapshots[-1]).energy
    pieces = total(meter.between(a, b).energy for a, b in itertools.pairwise(snapshots))
    assert pieces.value == pytest.approx(whole.value, rel=1e-12)
    assert pieces.low == pytest.approx(whole.low, rel=1e-9)
    assert pieces.high == pytest.approx(whole.high, rel=1e-9)
    inner = meter.between(snapshots[10], snapshots[50]).energy.value
    assert inner < meter.between(snapshots[5], snapshots[60]).energy.value < whole.value


def test_the_same_window_twice_is_the_same():
    scene = Scene()
    first = scene.meter.read()
    scene.forward(5, cpu_s=1)
    second = scene.meter.read()
    scene.forward(5, cpu_s=1)
    scene.meter.read()
    assert scene.meter.between(first, second) == scene.meter.between(first, second)


def test_snapshots_in_the_wrong_order_are_an_error():
    scene = Scene()
    first = scene.meter.read()
    scene.forward(1)
    second = scene.meter.read()
    with pytest.raises(MeterError) as caught:
        scene.meter.between(second, first)
    assert caught.value.code == "M104"


def test_another_meter_s_snapshot_is_an_error():
    scene, other = Scene(), Scene()
    with pytest.raises(MeterError) as caught:
        scene.meter.between(other.meter.read(), scene.meter.read())
    assert caught.value.code == "M104"


def test_counters_replace_the_model():
    probe = ScriptedProbe(package="cpu", dram="memory")
    scene = Scene(probe)
    before = scene.meter.read()
    scene.forward(10, cpu_s=8, machine_s=16)
    probe.energy_j.update(package=1000.0, dram=100.0)
    window = scene.meter.between(before, scene.meter.read())
    idle_j = 32 * 1.0 * 10
    assert parts_of(window.parts) == pytest.approx(
        {
            "cpu active": (1000 - idle_j) / 2,
            "cpu idle": idle_j,
            "memory": 100 / 256,
            "rest of the machine": 32 * 1.0 * 10,
        }
    )
    machine_j = window.energy.value + sum(part.energy.value for part in window.unattributed)
    assert machine_j == pytest.approx(1000 + 100 + 320)
    shares = grade_shares(window.parts)
    assert shares["A"] + shares["D"] == pytest.approx(1.0)
    assert {part.energy.basis for part in window.parts if part.grade == "A"} == {"inferred"}


def test_a_whole_machine_is_measured_without_a_split():
    probe = ScriptedProbe(**{"package-0": "cpu", "package-1": "cpu", "dram-0": "memory", "psys": "check"})
    scene = Scene(probe, whole=True)
    before = scene.meter.read()
    scene.forward(10, machine_s=5)
    probe.energy_j.update({"package-0": 100.0, "package-1": 50.0, "dram-0": 30.0, "psys": 900.0})
    window = scene.meter.between(before, scene.meter.read())
    found = parts_of(window.parts)
    assert found.pop("rest of the machine") > 0
    assert found == pytest.approx({"package-0": 100, "package-1": 50, "dram-0": 30})
    assert window.cpu_s == 5
    assert window.unattributed == ()
    assert {part.energy.basis for part in window.parts if part.grade == "A"} == {"measured"}


def test_process_never_costs_more_than_the_machine():
    """CodeCarbon bills a process more than its machine at 10 to 75 % load."""
    for load in (0.0, 0.1, 0.5, 0.75, 1.0):
        cpu_s = 64 * 10 * load
        process = Scene().measure(10, cpu_s=cpu_s).energy.value
        machine = Scene(whole=True).measure(10, machine_s=cpu_s).energy.value
        assert process <= machine * (1 + 1e-12)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.001, 20), st.floats(0, 5), st.floats(0, 20), st.floats(0, 5000), st.floats(0, 500)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_ours_and_the_unattributed_make_the_machine(steps):
    probe = ScriptedProbe(package="cpu", dram="memory", board="gpu")
    scene = Scene(probe)
    before = scene.meter.read()
    for seconds, cpu_s, others_s, package_j, dram_j in steps:
        scene.forward(seconds, cpu_s=cpu_s, machine_s=cpu_s + others_s)
        probe.energy_j["package"] += package_j
        probe.energy_j["dram"] += dram_j
        probe.energy_j["board"] += dram_j
        scene.meter.read()
    window = scene.meter.between(before, scene.meter.read())
    counted = [part for part in (*window.parts, *window.unattributed) if part.grade == "A"]
    assert sum(part.energy.value for part in counted) == pytest.approx(
        sum(probe.energy_j.values()), rel=1e-9, abs=1e-9
    )
    assert window.energy.low <= window.energy.value <= window.energy.high


def test_the_idle_power_of_a_package_never_exceeds_what_was_seen():
    """Else the model's idle share would swallow a laptop's whole power."""
    probe = ScriptedProbe(package="cpu")
    scene = Scene(probe)
    scene.forward(10, machine_s=0.1)
    probe.energy_j["package"] += 50.0
    scene.meter.read()
    before = scene.meter.read()
    scene.forward(10, cpu_s=10, machine_s=10)
    probe.energy_j["package"] += 450.0
    window = scene.meter.between(before, scene.meter.read())
    assert parts_of(window.parts)["cpu idle"] == pytest.approx(50.0)
    assert parts_of(window.parts)["cpu active"] == pytest.approx(400.0)


def test_two_probes_of_one_component_aren_t_added():
    first, second = ScriptedProbe("rapl", package="cpu"), ScriptedProbe("hwmon", socket="cpu")
    scene = Scene(first, second, whole=True)
    before = scene.meter.read()
    scene.forward(1)
    first.energy_j["package"] = second.energy_j["socket"] = 100.0
    window = scene.meter.between(before, scene.meter.read())
    assert parts_of(window.parts)["package"] == 100.0
    assert "socket" not in parts_of(window.parts)


def test_a_probe_that_raises_leaves_a_gap_and_loses_nothing():
    probe = ScriptedProbe(package="cpu")
    scene = Scene(probe, whole=True)
    before = scene.meter.read()
    scene.forward(1)
    probe.broken = True
    middle = scene.meter.read()
    scene.forward(1)
    probe.broken = False
    probe.energy_j["package"] = 100.0
    after = scene.meter.read()
    assert scene.meter.between(before, middle).gaps[0].detail == "the fake is broken"
    assert parts_of(scene.meter.between(before, after).parts)["package"] == 100.0


def test_a_board_plugged_in_later_is_counted_from_then_on():
    probe = ScriptedProbe(**{"gpu 0": "gpu"})
    scene = Scene(probe, whole=True)
    before = scene.meter.read()
    scene.forward(1)
    probe.components["gpu 1"] = "gpu"
    probe.energy_j["gpu 1"] = 1e9
    scene.meter.read()
    scene.forward(1)
    probe.energy_j["gpu 1"] += 70.0
    window = scene.meter.between(before, scene.meter.read())
    assert parts_of(window.parts)["gpu 1"] == pytest.approx(70.0)


def test_a_jump_of_the_wall_clock_is_flagged_and_costs_nothing():
    scene = Scene()
    before = scene.meter.read()
    scene.forward(10)
    scene.wall.forward(-3600)
    window = scene.meter.between(before, scene.meter.read())
    assert [gap.domain for gap in window.gaps] == ["wall clock"]
    assert window.seconds == 10
    assert window.energy.value == pytest.approx(Scene().measure(10).energy.value)


def test_gaps_belong_to_their_windows():
    scene = Scene()
    scene.forward(10)
    scene.wall.forward(60)
    scene.meter.read()
    scene.forward(10)
    assert scene.measure(10).gaps == ()


def test_memory_is_the_container_s_limit_where_there_is_one():
    window = Scene(memory_limit_bytes=8 * 10**9).measure(10)
    assert parts_of(window.parts)["memory"] == pytest.approx(8 * 0.3 * 10)


def test_a_process_that_came_and_went_counts_half_its_peak():
    scene = Scene()
    scene.tree.resident_bytes = 0
    before = scene.meter.read()
    scene.meter.read()
    scene.forward(10)
    scene.tree.passing_bytes = 4 * 10**9
    window = scene.meter.between(before, scene.meter.read())
    memory = next(part.energy for part in window.parts if part.name == "memory")
    assert memory.value == pytest.approx(2 * 0.3 * 10)
    assert memory.high == pytest.approx(4 * 0.4 * 10)


def test_ranks_of_one_host_share_it():
    """Four ranks with a quarter each add to one machine, not to four."""
    ranks = [Scene(affinity=16).measure(10, cpu_s=160).energy.value for _ in range(4)]
    machine = Scene(whole=True).measure(10, machine_s=640).energy.value
    memory = sum(parts_of(Scene().measure(10).parts)["memory"] for _ in range(4))
    assert sum(ranks) - memory <= machine


def test_reading_from_many_threads_keeps_the_sums():
    meter = Meter.for_process()
    before = meter.read()
    snapshots = []

    def work():
        snapshots.extend(meter.read() for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = meter.read()
    snapshots.sort(key=lambda snapshot: snapshot.time_s)
    edges = [before, *snapshots, after]
    pieces = sum(meter.between(a, b).energy.value for a, b in itertools.pairwise(edges))
    assert pieces == pytest.approx(meter.between(before, after).energy.value, rel=1e-9)
    meter.close()


def test_with_the_model_alone_no_thread_is_started():
    before = threading.active_count()
    meter = Meter.for_process(probes=[])
    assert threading.active_count() == before
    meter.close()


def test_a_probe_that_needs_it_gets_a_heartbeat():
    probe = ScriptedProbe(heartbeat_s=0.01, package="cpu")
    reads = []
    original = probe.read
    probe.read = lambda: reads.append(1) or original()
    meter = Meter.for_process(probes=[probe])
    end = time.monotonic() + 5
    while len(reads) < 8 and time.monotonic() < end:
        time.sleep(0.01)
    meter.close()
    assert len(reads) >= 8
    assert probe.closed
    settled = len(reads)
    time.sleep(0.05)
    assert len(reads) == settled


def test_a_real_process_is_measured():
    meter = Meter.for_process()
    before = meter.read()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    window = meter.between(before, meter.read())
    assert window.cpu_s >= 0.05
    assert window.energy.value > 0
    assert before.wall_s == pytest.approx(time.time(), abs=60)
    meter.close()


def test_a_forked_child_meters_itself():
    meter = Meter.for_process()
    reader, writer = os.pipe()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    pid = os.fork()
    if pid == 0:
        first = meter.read()
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        os.write(writer, f"{meter.between(first, meter.read()).cpu_s}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    assert 0.05 <= float(os.read(reader, 100)) < 0.1
    os.close(reader)
    meter.close()


def test_a_command_is_measured_without_its_starter():
    import subprocess
    import sys

    meter = Meter.for_command()
    before = meter.read()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    quiet = meter.between(before, meter.read())
    assert quiet.cpu_s < 0.05
    subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    window = meter.between(before, meter.read())
    assert window.cpu_s > 0.01
    assert parts_of(window.parts)["memory"] > 0
    meter.close()


def test_a_fake_powercap_tree_ends_in_exact_parts(tmp_path):
    """The tree on which CodeCarbon counts 150 J and leaves 45 J of DRAM out."""
    tree = Powercap(tmp_path)
    tree.two_sockets()
    clock = Clock()
    probe = RaplProbe(tmp_path, clock=clock)
    machine = ScriptedMachine()
    meter = Meter(host(), coefficients(), probes=[probe], machine=machine, clock=clock, wall=clock)
    before = meter.read()
    clock.forward(1)
    for number, joules in (("0", 1100), ("0:0", 790), ("0:1", 230), ("1", 2050), ("1:0", 315), ("2", 5400)):
        tree.set(number, joules)
    window = meter.between(before, meter.read())
    counted = [part for part in window.parts if part.grade == "A"]
    assert sum(part.energy.value for part in counted) == pytest.approx(195.0, abs=1e-6)
    assert [part.name for part in window.parts].count("memory") == 0
    assert find_probes(tmp_path)[0].name == "rapl"
    meter.close()


def test_capabilities_have_a_line_each(tmp_path):
    found = capabilities(tmp_path)
    assert [item.name for item in found][:2] == ["rapl", "nvml"]
    assert all(item.state == "absent" for item in found)


def test_grade_shares_of_nothing():
    assert grade_shares(()) == {}


def test_the_tree_is_ours():
    assert os.getpid() in tree_of().pids()


def test_memory_that_grew_and_shrank_within_a_window_isn_t_missed():
    """Trapezoids see only the edges; the kernel remembers the peak."""
    meter = Meter.for_process(probes=[])
    before = meter.read()
    block = bytearray(200 * 10**6)
    del block
    time.sleep(0.02)
    window = meter.between(before, meter.read())
    memory = next(part.energy for part in window.parts if part.name == "memory")
    per_byte = meter.coefficients.memory_w_per_byte
    assert memory.value >= per_byte.value * 100e6 * window.seconds
    assert memory.high >= per_byte.high * 200e6 * window.seconds
    meter.close()


def test_a_failure_that_lasts_is_one_gap():
    probe = ScriptedProbe(package="cpu")
    scene = Scene(probe)
    before = scene.meter.read()
    probe.broken = True
    for _ in range(100):
        scene.forward(1)
        scene.meter.read()
    after = scene.meter.read()
    (gap,) = scene.meter.between(before, after).gaps
    assert gap.end_s - gap.start_s == pytest.approx(99.0)
    probe.broken = False
    scene.forward(100)
    scene.meter.read()
    probe.broken = True
    scene.forward(1)
    assert len(scene.meter.between(before, scene.meter.read()).gaps) == 2


def test_a_board_that_can_t_be_read_is_named_in_every_window(tmp_path, monkeypatch):
    from negajoule.errors import ExtraMissingError
    from negajoule.meter import nvml

    def missing(*_, **__):
        raise ExtraMissingError("no binding", fix="pip install 'negajoule[gpu]'")

    monkeypatch.setattr(nvml, "require", missing)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    meter = Meter.for_process(files=tmp_path)
    window = meter.between(meter.read(), meter.read())
    assert any("NVIDIA" in note and "negajoule[gpu]" in note for note in window.notes)
    meter.close()
