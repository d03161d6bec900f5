"""A kill costs a heartbeat at most, and what was killed is booked exactly once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest

import negajoule
from negajoule.errors import LedgerError
from negajoule.instrument import find_here, measurement
from negajoule.instrument.interrupted import book_interrupted, done_with
from negajoule.ledger import Ledger
from negajoule.meter import Journal, Meter, journal_folder
from negajoule.meter.journal import read_journal

if TYPE_CHECKING:
    from pathlib import Path


def kill_while_measuring(*, period_s: float = 0.05) -> tuple[str, float]:
    """Kill a program in the middle of ``measure``; returns its id and when [s]."""
    code = f"""
        import time
        from negajoule.instrument import heartbeat, measure
        heartbeat.HEARTBEAT._period_s, heartbeat.HEARTBEAT._youngest_s = {period_s}, 0.0
        with measure("doomed") as m:
            print(m.id, flush=True)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                pass
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as child:
        name = child.stdout.readline().strip()
        path = journal_folder() / f"{name}.jsonl"
        end = time.monotonic() + 20
        while time.monotonic() < end and not (path.exists() and len(read_journal(path)) >= 3):
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        return name, time.time()


def test_a_killed_measurement_is_booked_by_the_next_one_exactly_once():
    name, killed_s = kill_while_measuring()
    measurement._SHARED._looked_back = False
    for _ in range(3):
        with negajoule.measure("next"):
            pass
    with Ledger(read_only=True) as ledger:
        rows = ledger.latest(10)
    (row,) = [row for row in rows if row.label == "doomed"]
    assert (row.id, row.status, row.kind, len(rows)) == (name, "failed", "window", 4)
    assert any("interrupted" in note for note in row.footprint.notes)
    assert row.footprint.it_energy.value > 0
    assert row.footprint.carbon_location.value > 0
    assert killed_s - (row.started_s + row.seconds) < 2.0
    assert list(journal_folder().iterdir()) == []


def test_two_at_once_book_one_row():
    name, _ = kill_while_measuring()
    here = find_here()
    with Ledger() as ledger:
        pass

    def look_back() -> None:
        with Ledger() as ledger:
            book_interrupted(ledger, here)

    threads = [threading.Thread(target=look_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Ledger(read_only=True) as ledger:
        assert [row.id for row in ledger.latest(10)] == [name]


def lasting(label: str = "x") -> negajoule.Measurement:
    one = negajoule.measure(label).start()
    one.beat()
    return one


def test_a_measurement_that_ends_in_order_leaves_one_row_and_no_journal():
    one = lasting()
    assert len(list(journal_folder().iterdir())) == 1
    one.beat()
    one.stop()
    one.beat()
    assert list(journal_folder().iterdir()) == []
    with Ledger(read_only=True) as ledger:
        assert [(row.id, row.status) for row in ledger.latest(5)] == [(one.id, "ok")]


def test_a_living_measurement_is_left_alone():
    one = lasting()
    with Ledger() as ledger:
        assert book_interrupted(ledger, find_here()) == []
        assert ledger.count() == 0
    one.stop()


def test_what_couldnt_be_booked_stays_in_its_journal(monkeypatch):
    one = lasting("kept")

    def full(*_):
        raise LedgerError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", full)
        with pytest.warns(RuntimeWarning, match="not recorded"):
            one.stop()
    assert len(list(journal_folder().iterdir())) == 1


def forged(tmp_path, **fields) -> Path:
    """A journal of a dead process, with some fields changed."""
    meter = Meter.for_process(probes=[])
    journal = Journal(meter, label="forged", heartbeat_s=None)
    entry = json.loads(journal.path.read_text())
    done_with(journal)
    meter.close()
    entry |= {"boot_id": "another boot", **fields}
    journal.path.write_text(json.dumps(entry) + "\n")
    return journal.path


def test_its_own_place_goes_before_the_places_of_those_who_book_it(tmp_path, monkeypatch):
    monkeypatch.setenv("NEGAJOULE_ZONE", "PL")
    forged(tmp_path, zone="FRA")
    with Ledger() as ledger:
        (row,) = book_interrupted(ledger, find_here())
    assert row.zone == "FRA"
    assert "grid.carbon.FRA" in {factor.key for factor in row.footprint.factors}


def test_runs_of_other_machines_are_theirs_to_judge(tmp_path):
    path = forged(tmp_path, host_id="another machine")
    with Ledger() as ledger:
        assert book_interrupted(ledger, find_here()) == []
    assert path.exists()


@pytest.mark.parametrize("fields", [{"seconds": -1.0}, {"zone": "ATLANTIS"}])
def test_a_senseless_journal_harms_nobody(tmp_path, fields):
    forged(tmp_path, **fields)
    with Ledger() as ledger:
        assert book_interrupted(ledger, find_here()) == []


def test_a_run_that_was_booked_before_it_was_killed_counts_once(tmp_path):
    path = forged(tmp_path)
    content = path.read_bytes()
    with Ledger() as ledger:
        book_interrupted(ledger, find_here())
        path.write_bytes(content)
        book_interrupted(ledger, find_here())
        assert ledger.count() == 1


def test_no_journals_no_work():
    with Ledger() as ledger:
        assert book_interrupted(ledger, find_here()) == []
    assert not journal_folder().exists()
