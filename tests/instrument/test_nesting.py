"""Work inside work is booked in both and counted once; overlaps lose nothing and double nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

import negajoule
from negajoule.ledger import Ledger


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def total_j(**options) -> float:
    with Ledger(read_only=True) as ledger:
        (whole,) = ledger.totals(**options)
    return whole.indicators["it_energy"].value


def rows() -> dict[str, list]:
    with Ledger(read_only=True) as ledger:
        found = ledger.latest(20)
    return {label: [row for row in found if row.label == label] for label in {row.label for row in found}}


def test_an_inner_window_is_booked_and_not_counted_again():
    with negajoule.measure("outer") as outer, negajoule.measure("inner"):
        spin(0.02)
    assert {label: len(found) for label, found in rows().items()} == {"outer": 1, "inner": 1}
    assert rows()["inner"][0].inside == outer.id
    assert total_j() == pytest.approx(outer.footprint.it_energy.value)


def test_a_label_of_its_own_is_still_summed():
    with negajoule.measure("outer"), negajoule.measure("inner") as inner:
        spin(0.02)
    assert total_j(labels=["inner"]) == pytest.approx(inner.footprint.it_energy.value)


def test_a_window_that_isnt_recorded_holds_nothing_back():
    with negajoule.measure("outer", record=False), negajoule.measure("inner") as inner:
        spin(0.02)
    assert total_j() == pytest.approx(inner.footprint.it_energy.value)


def test_windows_one_after_the_other_are_both_counted():
    with negajoule.measure("a") as a:
        spin(0.01)
    with negajoule.measure("b") as b:
        spin(0.01)
    assert total_j() == pytest.approx(a.footprint.it_energy.value + b.footprint.it_energy.value)


def test_a_window_that_outlasts_its_holder_is_cut_where_the_holder_ends():
    a, b = negajoule.measure("a"), negajoule.measure("b")
    a.start()
    spin(0.01)
    b.start()
    spin(0.02)
    a.stop()
    spin(0.03)
    b.stop()
    first, last = sorted(rows()["b"], key=lambda row: row.started_s)
    assert (first.inside, last.inside) == (a.id, "")
    parts = first.footprint.it_energy.value + last.footprint.it_energy.value
    assert parts == pytest.approx(b.footprint.it_energy.value, rel=1e-6)
    assert total_j() == pytest.approx(a.footprint.it_energy.value + last.footprint.it_energy.value)


def test_many_threads_at_once_never_count_the_process_twice():
    with negajoule.measure("whole", record=False) as whole:

        def work() -> None:
            with negajoule.measure("task"):
                spin(0.02)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert total_j() <= whole.footprint.it_energy.value * (1 + 1e-9)


def test_windows_of_a_measured_command_lie_inside_its_run():
    code = "import negajoule\nwith negajoule.measure('inner'):\n    sum(range(10**6))\n"
    subprocess.run(
        [sys.executable, "-m", "negajoule", "run", "--label", "run", "--", sys.executable, "-c", code],
        check=True,
        capture_output=True,
    )
    (run,), (inner,) = rows()["run"], rows()["inner"]
    assert inner.inside == run.id
    assert total_j() == pytest.approx(run.footprint.it_energy.value)
