"""A stub with the surface of ``amdsmi``; no GPU is read."""

import pytest
from trees import Clock

from negajoule.errors import ExtraMissingError
from negajoule.meter import amdsmi
from negajoule.meter.amdsmi import AmdProbe, amd_capability


class LibraryError(Exception):
    pass


class StubBinding:
    """Functions of amdsmi that the probe calls; a handle is a dictionary that the test sets."""

    def __init__(self, *boards):
        self.boards = boards
        self.shut = False

    def amdsmi_init(self):
        pass

    def amdsmi_shut_down(self):
        self.shut = True

    def amdsmi_get_processor_handles(self):
        return self.boards

    def amdsmi_get_gpu_device_uuid(self, board):
        return f"uuid-{self.boards.index(board)}"

    def amdsmi_get_gpu_asic_info(self, board):
        return {"market_name": board.get("name", "AMD Instinct MI300X")}

    def amdsmi_get_power_cap_info(self, board):
        return {"power_cap": 750_000_000}

    def amdsmi_get_energy_count(self, board):
        if board.get("lost") or "steps" not in board:
            raise LibraryError
        return {board.get("key", "energy_accumulator"): board["steps"], "counter_resolution": 15.3}

    def amdsmi_get_power_info(self, board):
        if board.get("lost"):
            raise LibraryError
        return {
            "current_socket_power": board.get("current", "N/A"),
            "average_socket_power": board.get("average", "N/A"),
        }

    def amdsmi_get_gpu_process_list(self, board):
        return [
            {"pid": pid, "memory_usage": {"vram_mem": size}} for pid, size in board.get("held", {}).items()
        ]


@pytest.fixture
def clock():
    return Clock()


def probe_of(clock, *boards):
    return AmdProbe(clock=clock, binding=StubBinding(*boards))


@pytest.mark.parametrize("key", ["energy_accumulator", "power"])
def test_steps_of_the_accumulator_are_joules(clock, key):
    board = {"steps": 1000, "key": key}
    probe = probe_of(clock, board)
    clock.forward(1)
    board["steps"] += 10_000_000
    (reading,) = probe.read()
    assert reading.energy_j == pytest.approx(153.0)
    assert reading.grade == "A"


def test_power_where_there_is_no_accumulator(clock):
    board = {"average": 200}
    probe = probe_of(clock, board)
    clock.forward(1)
    (reading,) = probe.read()
    assert reading.energy_j == pytest.approx(200.0)
    assert reading.grade == "B"


def test_the_odd_die_of_a_two_die_board_isn_t_counted(clock):
    boards = [{"name": "AMD Instinct MI250X", "steps": 0, "current": 300}, {"name": "AMD Instinct MI250X"}]
    readings = probe_of(clock, *boards).read()
    assert [reading.component for reading in readings] == ["gpu", "check"]
    assert "second die" in probe_of(clock, *boards).describe()[1]


def test_an_impossible_count_makes_no_spike(clock):
    """Impossible AMD counters: ml-energy/zeus#113."""
    board = {"steps": 0, "current": 300}
    probe = probe_of(clock, board)
    for _ in range(3):
        clock.forward(1)
        board["steps"] += int(300e6 / 15.3)
        probe.read()
    clock.forward(1)
    board["steps"] += 10**15
    (reading,) = probe.read()
    assert reading.gap.kind == "jump"
    assert reading.grade == "B"
    assert reading.energy_j == pytest.approx(1200.0, rel=0.01)


def test_a_lost_board_is_bridged(clock):
    board = {"steps": 0, "current": 300}
    probe = probe_of(clock, board)
    clock.forward(1)
    board["steps"] += int(300e6 / 15.3)
    probe.read()
    board["lost"] = True
    clock.forward(1)
    (reading,) = probe.read()
    assert reading.grade == "E"
    assert reading.energy_j == pytest.approx(600.0, rel=0.01)


def test_shares_by_memory(clock):
    board = {"steps": 0}
    probe = probe_of(clock, board)
    assert probe.shares([7], numbers_match=True) == {"amd gpu 0": (0.0, 0.0, 1.0)}
    board["held"] = {7: 30, 8: 10}
    assert probe.shares([7], numbers_match=True) == {"amd gpu 0": (0.75, 0.0, 1.0)}
    assert probe.shares([9], numbers_match=True) == {"amd gpu 0": (0.0, 0.0, 0.0)}
    assert probe.shares([7, 8], numbers_match=True) == {"amd gpu 0": (1.0, 1.0, 1.0)}
    assert probe.shares([9], numbers_match=False) == {"amd gpu 0": (1.0, 0.0, 1.0)}
    assert probe.uuids() == {"amd gpu 0": "uuid-0"}


def test_what_doctor_hears(monkeypatch):
    binding = StubBinding({"steps": 0})
    monkeypatch.setattr(amdsmi, "require", lambda *_, **__: binding)
    capability = amd_capability()
    assert capability.state == "ready"
    assert "MI300X: energy counter" in capability.detail
    assert binding.shut


def test_without_the_binding(monkeypatch):
    def missing(*_, **__):
        raise ExtraMissingError("no amdsmi")

    monkeypatch.setattr(amdsmi, "require", missing)
    capability = amd_capability()
    assert capability.state == "unreadable"
    assert "/opt/rocm" in capability.fix


def test_a_driver_that_refuses(monkeypatch):
    binding = StubBinding()
    binding.amdsmi_init = lambda: (_ for _ in ()).throw(LibraryError("no permission"))
    monkeypatch.setattr(amdsmi, "require", lambda *_, **__: binding)
    capability = amd_capability()
    assert capability.state == "unreadable"
    assert "render" in capability.fix
