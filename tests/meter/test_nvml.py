"""A stub with the surface of ``pynvml``; no GPU is read."""

from types import SimpleNamespace

import pynvml as real_binding
import pytest
from trees import Clock

from negajoule.errors import ExtraMissingError
from negajoule.meter import nvml
from negajoule.meter.nvml import NvmlProbe, nvml_capability


class NotSupported(Exception):
    pass


class StubBoard:
    def __init__(self, *, counter=True, mig=False, limit_w=700.0):
        self.energy_mj = 5_000_000
        self.power_mw = 100_000
        self.counter, self.mig, self.limit_w = counter, mig, limit_w
        self.lost = False
        self.processes = {}
        self.use = {}


class StubBinding:
    """Functions of pynvml that the probe calls, over boards that the test sets."""

    def __init__(self, *boards):
        self.boards = boards
        self.shut = False

    def nvmlInit(self):
        pass

    def nvmlShutdown(self):
        self.shut = True

    def nvmlDeviceGetCount(self):
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.boards[index]

    def nvmlDeviceGetUUID(self, board):
        return f"GPU-{self.boards.index(board)}"

    def nvmlDeviceGetName(self, board):
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetEnforcedPowerLimit(self, board):
        return int(board.limit_w * 1000)

    def nvmlDeviceGetMigMode(self, board):
        return (int(board.mig), int(board.mig))

    def nvmlDeviceGetTotalEnergyConsumption(self, board):
        if board.lost or not board.counter:
            raise NotSupported
        return board.energy_mj

    def nvmlDeviceGetPowerUsage(self, board):
        if board.lost:
            raise NotSupported
        return board.power_mw

    def nvmlDeviceGetComputeRunningProcesses(self, board):
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in board.processes.items()]

    def nvmlDeviceGetProcessUtilization(self, board, since):
        return [SimpleNamespace(pid=pid, smUtil=use) for pid, use in board.use.items()]


@pytest.fixture
def clock():
    return Clock()


def probe_of(clock, *boards):
    return NvmlProbe(clock=clock, binding=StubBinding(*boards))


def test_the_stub_has_the_binding_s_names():
    for name in vars(StubBinding):
        if name.startswith("nvml"):
            assert callable(getattr(real_binding, name))


def test_the_counter_comes_first(clock):
    board = StubBoard()
    probe = probe_of(clock, board)
    clock.forward(1)
    board.energy_mj += 100_000
    (reading,) = probe.read()
    assert reading.energy_j == pytest.approx(100.0)
    assert reading.grade == "A"
    assert "counter" in reading.source
    assert reading.low_j < 100.0 < reading.high_j


def test_power_is_integrated_only_where_there_is_no_counter(clock):
    board = StubBoard(counter=False)
    probe = probe_of(clock, board)
    board.power_mw = 300_000
    clock.forward(1)
    (reading,) = probe.read()
    assert reading.energy_j == pytest.approx(200.0)
    assert reading.grade == "B"
    assert "power" in reading.source


def test_counter_and_power_that_disagree_widen_and_say_so(clock):
    """The counter says 187 J, the power sensor 327 J in five seconds (ml-energy/zeus#181)."""
    board = StubBoard()
    board.power_mw = 65_400
    probe = probe_of(clock, board)
    gaps = []
    for _ in range(5):
        clock.forward(1)
        board.energy_mj += 37_400
        (reading,) = probe.read()
        gaps += [reading.gap] if reading.gap else []
    assert reading.energy_j == pytest.approx(187.0)
    assert reading.high_j >= 327.0
    assert {gap.kind for gap in gaps} == {"disagreement"}
    assert "37 J" in gaps[0].detail
    assert "65 J" in gaps[0].detail


def test_counter_and_power_that_agree_stay_narrow(clock):
    board = StubBoard()
    probe = probe_of(clock, board)
    for _ in range(10):
        clock.forward(1)
        board.energy_mj += 101_000
        (reading,) = probe.read()
        assert reading.gap is None
    assert reading.high_j - reading.low_j == pytest.approx(0.1 * reading.energy_j)


def test_a_board_that_falls_off_the_bus_is_bridged_and_flagged(clock):
    board, steady = StubBoard(), StubBoard()
    probe = probe_of(clock, board, steady)
    for second in range(6):
        clock.forward(1)
        board.energy_mj += 100_000
        steady.energy_mj += 100_000
        board.lost = second >= 3
        lost, kept = probe.read()
    assert lost.grade == "E"
    assert lost.gap.kind == "failed read"
    assert lost.energy_j == pytest.approx(600.0, rel=0.01)
    assert lost.high_j > 2000.0
    assert lost.low_j < 400.0
    assert kept.energy_j == pytest.approx(600.0)
    assert kept.grade == "A"


def test_mig_says_that_the_whole_board_is_meant(clock):
    probe = probe_of(clock, StubBoard(mig=True))
    assert "whole board, MIG on" in probe.read()[0].source
    assert "MIG" in probe.describe()[0]


def test_shares_by_use_then_by_memory(clock):
    board = StubBoard()
    probe = probe_of(clock, board)
    assert probe.shares([7], numbers_match=True) == {"gpu 0": (0.0, 0.0, 1.0)}
    board.processes = {7: 10}
    assert probe.shares([7], numbers_match=True) == {"gpu 0": (1.0, 1.0, 1.0)}
    board.processes = {7: 10, 8: 30}
    assert probe.shares([7], numbers_match=True) == {"gpu 0": (0.25, 0.0, 1.0)}
    board.use = {7: 60, 8: 20}
    assert probe.shares([7], numbers_match=True) == {"gpu 0": (0.75, 0.25, 0.75)}
    assert probe.shares([9], numbers_match=True) == {"gpu 0": (0.0, 0.0, 0.0)}


def test_in_a_container_the_boards_count_as_its_own_with_nothing_below(clock):
    board = StubBoard()
    board.processes = {4242: 10}
    assert probe_of(clock, board).shares([7], numbers_match=False) == {"gpu 0": (1.0, 0.0, 1.0)}


def test_uuids_tell_boards_apart(clock):
    assert probe_of(clock, StubBoard(), StubBoard()).uuids() == {"gpu 0": "GPU-0", "gpu 1": "GPU-1"}


def test_closing_shuts_the_library_down(clock):
    binding = StubBinding(StubBoard())
    NvmlProbe(clock=clock, binding=binding).close()
    assert binding.shut


def test_driver_without_binding_names_the_extra(monkeypatch):

    def missing(*_, **__):
        raise ExtraMissingError("no pynvml", fix="pip install 'negajoule[gpu]'")

    monkeypatch.setattr(nvml, "require", missing)
    capability = nvml_capability()
    assert capability.state == "unreadable"
    assert capability.fix == "pip install 'negajoule[gpu]'"


def test_boards_are_described(monkeypatch):
    monkeypatch.setattr(nvml, "require", lambda *_, **__: StubBinding(StubBoard(), StubBoard(counter=False)))
    capability = nvml_capability()
    assert capability.state == "ready"
    assert capability.grade == "B"
    assert "H100" in capability.detail


def test_library_that_can_t_start_is_unreadable(monkeypatch):
    binding = StubBinding()
    binding.nvmlInit = lambda: (_ for _ in ()).throw(NotSupported("Driver/library version mismatch"))
    monkeypatch.setattr(nvml, "require", lambda *_, **__: binding)
    assert "mismatch" in nvml_capability().detail


def test_a_lost_counter_is_replaced_by_the_power_sensor(clock):
    board = StubBoard()
    board.power_mw = 300_000
    probe = probe_of(clock, board)
    for second in range(6):
        clock.forward(1)
        board.energy_mj += 300_000
        board.counter = second < 3
        (reading,) = probe.read()
    assert reading.grade == "B"
    assert reading.gap.kind == "failed read"
    assert reading.energy_j == pytest.approx(1800.0)
    assert reading.high_j - reading.low_j < 200.0
    board.counter = True
    clock.forward(1)
    board.energy_mj += 300_000
    (reading,) = probe.read()
    assert reading.grade == "A"
    assert reading.energy_j == pytest.approx(2100.0)


def test_a_counter_that_stands_still_is_replaced_by_the_power_sensor(clock):
    """Some AMD and virtual boards answer the same count for ever (ROCm/amdsmi#22)."""
    board = StubBoard()
    probe = probe_of(clock, board)
    for _ in range(10):
        clock.forward(1)
        (reading,) = probe.read()
    assert reading.gap.kind == "standstill"
    assert reading.grade == "B"
    assert reading.energy_j >= 800.0
