import time
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import Clock, ScriptedProbe, host

from negajoule.errors import ConfigError, MeterError
from negajoule.meter.calibrate import calibrate_machine, fit_line, spinning
from negajoule.meter.meter_file import MeterFile
from negajoule.meter.usage import MachineUsage


class Bench:
    """A simulated machine whose power is known: time passes when the calibration sleeps."""

    def __init__(self, *, idle_w=100.0, thread_w=3.0, bend=0.0, component="cpu", neighbours=0.0):
        self.clock = Clock(1.8e9)
        self.idle_w, self.thread_w, self.bend = idle_w, thread_w, bend
        self.neighbours, self.spinners, self.busy_s = neighbours, 0, 0.0
        self.probe = ScriptedProbe("rapl", **({"domain": component} if component else {}))
        self.samples = []

    @property
    def power_w(self):
        busy = self.spinners + self.neighbours
        return self.idle_w + self.thread_w * busy - self.bend * busy**2

    @contextmanager
    def load(self, threads):
        self.spinners = threads
        try:
            yield
        finally:
            self.spinners = 0

    def sleep(self, seconds):
        for _ in range(10):
            self.clock.forward(seconds / 10)
            self.busy_s += (self.spinners + self.neighbours) * seconds / 10
            for domain in self.probe.energy_j:
                self.probe.energy_j[domain] += self.power_w * seconds / 10
            self.samples.append((self.clock.now_s, self.power_w))

    def cpu_s(self):
        return self.busy_s

    def run(self, **options):
        return calibrate_machine(
            host(), self, [self.probe], load=self.load, sleep=self.sleep, wall=self.clock, **options
        )


def test_a_straight_machine_is_found():
    found = Bench().run()
    assert found.idle_w.value == pytest.approx(100.0)
    assert found.thread_w.value == pytest.approx(3.0)
    assert found.boundary == "package"
    assert found.reference == "rapl"
    assert found.points == 20
    assert found.idle_w.low < 100.0 < found.idle_w.high
    assert found.created.startswith("2027")


def test_neighbours_count_as_load():
    found = Bench(neighbours=5.0).run()
    assert found.idle_w.value == pytest.approx(100.0)
    assert found.thread_w.value == pytest.approx(3.0)


def test_a_platform_calibrates_the_machine():
    assert Bench(component="platform").run().boundary == "machine"


def test_a_bent_machine_has_a_wide_slope():
    found = Bench(thread_w=4.0, bend=0.02).run()
    assert found.thread_w.low < 4.0 - 2 * 0.02 * 56
    assert found.thread_w.high > 4.0 - 2 * 0.02 * 8
    assert found.residual_w > 1.0


def test_an_external_meter_beats_the_counter(tmp_path):
    bench = Bench()
    path = tmp_path / "meter.csv"

    def write_up(done, steps):
        rows = [
            f"{datetime.fromtimestamp(at, UTC).isoformat()},{1.25 * watts}" for at, watts in bench.samples
        ]
        path.write_text("\n".join(["time,watts", *rows]) + "\n")

    found = bench.run(meter_file=path, progress=write_up)
    assert found.idle_w.value == pytest.approx(125.0)
    assert found.thread_w.value == pytest.approx(3.75)
    assert (found.boundary, found.reference) == ("machine", "meter.csv")


def test_without_anything_to_read_it_says_so():
    with pytest.raises(MeterError) as caught:
        Bench(component=None).run()
    assert caught.value.code == "M101"
    assert "catalogue" in caught.value.using
    assert caught.value.fix


def test_a_recording_of_another_day_is_refused(tmp_path):
    path = tmp_path / "meter.csv"
    path.write_text("time,watts\n1000,5\n")
    with pytest.raises(MeterError) as caught:
        Bench().run(meter_file=path)
    assert caught.value.code == "M105"
    assert "0 of 20" in caught.value.message


@pytest.mark.parametrize("machine", [Bench(thread_w=0.0), Bench(thread_w=-1.0), Bench(idle_w=-50.0)])
def test_power_that_doesn_t_rise_with_load_is_refused(machine):
    with pytest.raises(MeterError) as caught:
        machine.run()
    assert caught.value.code == "M105"


def test_progress_is_told():
    told = []
    Bench().run(progress=lambda done, steps: told.append((done, steps)))
    assert told == [(step, 5) for step in range(6)]


@given(
    st.floats(10, 500),
    st.floats(0.5, 10),
    st.lists(st.floats(-0.01, 0.01), min_size=20, max_size=20),
    st.floats(0, 0.1),
)
def test_the_interval_covers_the_truth(idle, slope, errors, accuracy):
    points = []
    for number, error in enumerate(errors):
        step = 8 * (number // 4)
        points.append((step, step + 0.01, (idle + slope * (step + 0.01)) * (1 + error)))
    try:
        found_idle, found_slope, _ = fit_line(points, accuracy=max(accuracy, 0.02))
    except MeterError:
        return
    assert found_slope.low <= found_slope.value <= found_slope.high
    assert found_idle.low <= found_idle.value <= found_idle.high
    reach = 0.01 * (idle + 32 * slope)
    assert abs(found_idle.value - idle) <= 3 * reach
    assert abs(found_slope.value - slope) <= reach


def test_the_interval_covers_as_often_as_it_says():
    """Of 200 lines with normal noise, the 95 % interval misses a tenth at most."""
    misses = 0
    noise = NormalDist(0, 2.0)
    for seed in range(200):
        drawn = noise.samples(20, seed=seed)
        points = [(8 * (n // 4), 8.0 * (n // 4), 100 + 3.0 * 8 * (n // 4) + drawn[n]) for n in range(20)]
        slope = fit_line(points, accuracy=0.0)[1]
        misses += not slope.low <= 3.0 <= slope.high
    assert misses <= 20


def test_spinning_spins():
    machine = MachineUsage()
    before = machine.cpu_s(), time.monotonic()
    with spinning(1):
        time.sleep(0.5)
        after = machine.cpu_s(), time.monotonic()
    assert after[0] - before[0] > 0.15


def test_a_meter_s_file(tmp_path):
    path = tmp_path / "meter.csv"
    path.write_text(
        "\ufeffTimestamp , Power\n2026-11-23T10:00:00Z,100\n2026-11-23T12:00:01+02:00,200\n\n9,3\n",
        encoding="utf-8",
    )
    found = MeterFile.read(path)
    start = datetime(2026, 11, 23, 10, tzinfo=UTC).timestamp()
    assert found.times_s == [9.0, start, start + 1]
    assert found.mean_w(start, start + 1) == 150.0
    assert found.mean_w(0.0, 1.0) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1:"),
        ("a,b\n", ":1:"),
        ("time,watts\nsoon,5\n", ":2:"),
        ("time,watts\n1,5\n2,much\n", ":3:"),
        ("time,watts\n1,nan\n", ":2:"),
        ("time,watts\n1,-4\n", ":2:"),
        ("time,watts\ninf,4\n", ":2:"),
        ("time,watts\n1\n", ":2:"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path, text, says):
    path = tmp_path / "meter.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        MeterFile.read(path)
    assert caught.value.code == "C106"
    assert says in caught.value.message


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        MeterFile.read(tmp_path / "none.csv")
    assert caught.value.code == "C106"
