"""``measure``: windows that nest, overlap, fail, and never harm the program they measure."""

from __future__ import annotations

import threading
import time

import pytest

import negajoule
from negajoule.errors import MeterError
from negajoule.ledger import Ledger


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_block_has_a_footprint_and_a_row():
    with negajoule.measure("tickets", stage="evaluation") as m:
        spin(0.05)
    assert m.cpu_seconds >= 0.05
    assert m.seconds >= 0.05
    assert m.footprint.it_energy.value > 0
    with Ledger(read_only=True) as ledger:
        (row,) = ledger.latest(5)
    assert (row.id, row.label, row.kind, row.stage) == (m.id, "tickets", "window", "evaluation")
    assert row.footprint.it_energy == m.footprint.it_energy


def test_parts_add_up_to_the_energy():
    with negajoule.measure(record=False) as m:
        spin(0.02)
    parts = sum(part.energy.value for part in m.footprint.parts)
    assert parts == pytest.approx(m.footprint.it_energy.value, rel=1e-9)


def test_windows_nest_and_the_outer_one_costs_at_least_the_inner_ones():
    with negajoule.measure(record=False) as outer:
        with negajoule.measure(record=False) as first:
            spin(0.03)
        with negajoule.measure(record=False) as second:
            spin(0.03)
    inner = first.footprint.it_energy.value + second.footprint.it_energy.value
    assert inner <= outer.footprint.it_energy.value * (1 + 1e-9)


def test_windows_of_several_threads_overlap():
    measurements: list[negajoule.Measurement] = []

    def work() -> None:
        with negajoule.measure(record=False) as m:
            spin(0.02)
        measurements.append(m)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measurements) == 4
    assert all(m.footprint.it_energy.value > 0 for m in measurements)


def test_an_exception_passes_and_its_cost_is_still_known():
    measurement = negajoule.measure("fails")
    with pytest.raises(ZeroDivisionError), measurement:
        _ = 1 / 0
    assert measurement.footprint.it_energy.value >= 0
    with Ledger(read_only=True) as ledger:
        assert ledger.count() == 1


def test_the_decorator_measures_each_call_under_the_functions_name():
    @negajoule.measured()
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert (add(1, 2), add(3, b=4)) == (3, 7)
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    with Ledger(read_only=True) as ledger:
        assert [row.label.rsplit(".", 1)[-1] for row in ledger.latest(5)] == ["add", "add"]


def test_wrong_order_is_an_error_that_says_so():
    measurement = negajoule.measure("x", record=False)
    with pytest.raises(MeterError, match="never started"):
        measurement.stop()
    with pytest.raises(MeterError, match="hasn't ended"):
        _ = measurement.footprint
    measurement.start()
    with pytest.raises(MeterError, match="started before"):
        measurement.start()
    measurement.stop()
    with pytest.raises(MeterError, match="stopped before"):
        measurement.stop()


def test_an_unwritable_ledger_warns_and_the_program_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEGAJOULE_HOME", str(tmp_path / "file" / "home"))
    with pytest.warns(RuntimeWarning, match="not recorded"), negajoule.measure("x") as m:
        spin(0.001)
    assert m.footprint.it_energy.value > 0


def test_sleeping_costs_less_than_spinning():
    with negajoule.measure(record=False) as spinning:
        spin(0.1)
    with negajoule.measure(record=False) as sleeping:
        time.sleep(spinning.seconds)
    per_second = [m.footprint.it_energy.value / m.seconds for m in (sleeping, spinning)]
    assert per_second[0] < per_second[1]


def test_work_nobody_named_is_of_an_unknown_stage():
    with negajoule.measure("x"):
        pass
    with Ledger(read_only=True) as ledger:
        assert ledger.latest(1)[0].stage == "unknown"
