"""The live view's books: processes, others and idle add to the machine, whatever happens in between."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.instrument import find_here
from negajoule.instrument.live import Live
from negajoule.instrument.processes import Running, running, tree_under
from negajoule.meter import Meter, read_host
from negajoule.meter.model import from_catalog
from negajoule.meter.probe import Reading


class Clock:
    """A fake clock, moved by hand [s]."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Machine:
    """A fake of the machine's busy time."""

    def __init__(self) -> None:
        self.busy_s = 50.0

    def cpu_s(self) -> float:
        return self.busy_s

    def close(self) -> None:
        """Nothing to give back."""


class Instrument:
    """A fake probe whose energies are set by hand; boards are shared by the processes named."""

    name, heartbeat_s = "fake", None

    def __init__(self, **kinds: str) -> None:
        self.kinds, self.energy_j = kinds, dict.fromkeys(kinds, 0.0)
        self.users: dict[int, float] = {}
        self.closed = False

    def read(self) -> tuple[Reading, ...]:
        return tuple(
            Reading(domain, self.energy_j[domain], None, f"fake {domain}", "A", kind)
            for domain, kind in self.kinds.items()
        )

    def shares(self, pids, *, numbers_match: bool) -> dict[str, tuple[float, float, float]]:
        assert numbers_match
        used = sum(self.users.get(pid, 0.0) for pid in pids)
        return {domain: (used, used, used) for domain, kind in self.kinds.items() if kind == "gpu"}

    def uuids(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self.closed = True


class World:
    """A live view of a fake machine."""

    def __init__(self, *kinds: str, namespace: bool = True, **options) -> None:
        self.clock, self.machine = Clock(), Machine()
        self.instrument = Instrument(**{f"{kind}_{i}": kind for i, kind in enumerate(kinds)})
        probes = [self.instrument] if kinds else []
        real = read_host()
        host = type(real)(
            **{name: getattr(real, name) for name in real.__struct_fields__}
            | {"threads": 4, "affinity": 4, "memory_bytes": 8 * 10**9, "first_pid_namespace": namespace}
        )
        self.people: dict[int, Running] = {}
        meter = Meter(
            host, from_catalog(host), probes=probes, machine=self.machine, clock=self.clock, wall=self.clock
        )
        self.live = Live(find_here(), meter, probes, processes=lambda: list(self.people.values()), **options)

    def person(
        self, pid: int, cpu_s: float = 0.0, *, parent: int = 1, memory: int = 0, born_s: float = 1.0
    ) -> None:
        self.people[pid] = Running(pid, parent, born_s, f"name{pid}", cpu_s, memory, memory // 2)

    def run(self, pid: int, seconds: float) -> None:
        one = self.people[pid]
        self.people[pid] = one._replace(cpu_s=one.cpu_s + seconds)
        self.machine.busy_s += seconds

    def forward(self, seconds: float, **energy_j: float) -> None:
        self.clock.now_s += seconds
        for domain, joules in energy_j.items():
            self.instrument.energy_j[domain] += joules


def adds_up(frame) -> None:
    for figure in ("power", "energy"):
        whole = getattr(frame.whole, figure).value
        people = [getattr(line.share, figure).value for line in frame.processes]
        parts = sum(people) + getattr(frame.others, figure).value + getattr(frame.idle, figure).value
        assert parts == pytest.approx(whole, rel=1e-9, abs=1e-9)
        devices = sum(getattr(line.share, figure).value for line in frame.devices)
        assert devices == pytest.approx(whole, rel=1e-9, abs=1e-9)


steps = st.lists(
    st.tuples(
        st.floats(0.1, 10.0),  # seconds
        st.dictionaries(st.integers(10, 16), st.floats(0.0, 5.0), max_size=5),  # CPU time by process
        st.floats(0.0, 3.0),  # CPU time of those we can't see
        st.lists(st.floats(0.0, 500.0), min_size=4, max_size=4),  # joules by domain
        st.sets(st.integers(10, 16), max_size=2),  # who ends
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        ("cpu",),
        ("cpu", "memory", "gpu"),
        ("platform",),
        ("platform", "cpu", "memory", "gpu"),
        ("check", "cpu"),
    ],
)
@given(steps=steps)
def test_the_parts_add_to_the_whole(kinds, steps):
    world = World(*kinds, top=3)
    for seconds, burnt, unseen_s, joules, ended in steps:
        for pid, cpu_s in burnt.items():
            if pid not in world.people:
                world.person(pid, memory=pid * 10**8)
            world.run(pid, cpu_s)
        world.machine.busy_s += unseen_s
        for pid in ended:
            world.people.pop(pid, None)
        given_j = dict(zip(world.instrument.kinds, joules, strict=False))
        inner = sum(
            given_j.get(name, 0.0) for name, kind in world.instrument.kinds.items() if kind != "platform"
        )
        if "platform" in kinds:
            given_j["platform_0"] += inner
        world.forward(seconds, **given_j)
        frame = world.live.look()
        adds_up(frame)
        assert len(frame.processes) <= 3
        assert frame.others.power.value >= -1e-9
        assert frame.idle.power.value >= -1e-9


def test_active_energy_goes_by_cpu_time_and_idle_stays_apart():
    world = World("cpu")
    world.person(10)
    world.person(11)
    world.live.look()
    world.forward(100.0, cpu_0=100_000.0)
    world.run(10, 60.0)
    world.run(11, 20.0)
    world.machine.busy_s += 20.0
    frame = world.live.look()
    first, second = frame.processes
    assert (first.pid, second.pid) == (10, 11)
    assert first.share.energy.value == pytest.approx(3 * second.share.energy.value)
    assert frame.others.energy.value == pytest.approx(second.share.energy.value)
    assert (first.cpu_share, frame.others_cpu_share) == pytest.approx((0.6, 0.2))
    assert frame.idle.energy.value > 0
    assert first.share.power.low <= first.share.power.value <= first.share.power.high


def test_a_board_goes_to_who_uses_it_and_else_to_nobody():
    world = World("cpu", "gpu")
    world.person(10)
    world.person(11)
    world.instrument.users = {10: 0.75}
    world.live.look()
    world.forward(10.0, gpu_1=1000.0)
    frame = world.live.look()
    energies = {line.pid: line.share.energy.value for line in frame.processes}
    assert energies == pytest.approx({10: 750.0, 11: 0.0})
    assert frame.idle.energy.value >= 250.0


def test_in_a_container_the_drivers_process_numbers_arent_believed():
    world = World("cpu", "gpu", namespace=False)
    world.person(10)
    world.instrument.users = {10: 1.0}
    world.live.look()
    world.forward(10.0, gpu_1=1000.0)
    assert world.live.look().processes[0].share.energy.value == 0.0


def test_what_ended_stays_in_the_sum_and_a_new_process_of_its_number_begins_anew():
    world = World("cpu")
    world.person(10)
    world.live.look()
    world.forward(10.0, cpu_0=5000.0)
    world.run(10, 10.0)
    (line,) = world.live.look().processes
    before = line.share.energy.value
    assert before > 0
    world.person(10, born_s=2.0)
    world.forward(1.0)
    frame = world.live.look()
    assert frame.processes[0].share.energy.value == 0.0
    assert frame.others.energy.value >= before
    adds_up(frame)


def test_by_name_only_one_tree():
    world = World(root=20)
    for pid, parent in ((10, 1), (20, 1), (21, 20), (22, 21)):
        world.person(pid, parent=parent)
    world.live.look()
    world.forward(10.0)
    for pid in world.people:
        world.run(pid, 1.0)
    frame = world.live.look()
    assert {line.pid for line in frame.processes} == {20, 21, 22}
    assert frame.others.energy.value > 0
    assert world.live.root_lives
    del world.people[20]
    world.live.look()
    assert not world.live.root_lives


def test_nothing_happened_is_no_division_by_zero():
    frame = World("cpu").live.look()
    assert frame.whole.energy.value == 0.0
    adds_up(frame)


def test_the_total_holds_all_looks_and_the_instruments_are_given_back():
    world = World("cpu")
    for _ in range(3):
        world.forward(10.0, cpu_0=100.0)
        last = world.live.look()
    seconds, footprint = world.live.total()
    assert seconds == 30.0
    assert footprint.it_energy.value == pytest.approx(last.whole.energy.value)
    world.live.close()
    assert world.instrument.closed


class TestRunning:
    def test_this_process_is_among_them(self):
        (me,) = [one for one in running() if one.pid == os.getpid()]
        assert me.parent == os.getppid()
        assert me.cpu_s == pytest.approx(sum(os.times()[:2]), abs=0.2)
        assert 0 < me.own_bytes <= me.memory_bytes

    def test_cpu_time_grows_with_work(self):
        def mine() -> float:
            return next(one.cpu_s for one in running() if one.pid == os.getpid())

        before, end = mine(), time.process_time() + 0.1
        while time.process_time() < end:
            pass
        assert mine() - before >= 0.05

    def test_trees(self):
        people = [
            Running(pid, parent, 0.0, "", 0.0, 0, 0) for pid, parent in ((1, 0), (2, 1), (3, 2), (4, 1))
        ]
        assert tree_under(2, people) == {2, 3}
        assert tree_under(1, people) == {1, 2, 3, 4}
        assert tree_under(9, people) == frozenset()
        loop = [Running(pid, parent, 0.0, "", 0.0, 0, 0) for pid, parent in ((1, 2), (2, 1))]
        assert tree_under(1, loop) == {1, 2}
