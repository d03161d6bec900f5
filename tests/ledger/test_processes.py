"""Several processes share a ledger, and one that is killed takes nothing with it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from negajoule.ledger import Ledger, LedgerWriter

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 4
RUNNING_S = (0.0, 0.05)

# Writes rows for ever and says the id of each once it is told that the row is safe.
WRITES = """
import os, sys
from pathlib import Path
from negajoule.ledger import Activity, Ledger, LedgerWriter, new_id
from negajoule.units import Footprint

def rows():
    while True:
        yield Activity(id=new_id(), started_s=1.0, seconds=1.0, kind="run", footprint=Footprint("node"))

ledger = Ledger(Path(sys.argv[1]))
if sys.argv[2] == "alone":
    for row in rows():
        ledger.append([row])
        os.write(1, f"{row.id}\\n".encode())
else:
    journal = sys.argv[2] == "journal"
    writer = LedgerWriter(ledger, linger_s=0.01 * journal, journal=journal)
    while True:
        batch = [(row, writer.append(row)) for row, _ in zip(rows(), range(5))]
        for row, written in batch:
            assert written.result()
            os.write(1, f"{row.id}\\n".encode())
"""

# Opens the ledger and appends when all have been started.
JOINS = """
import sys, time
from pathlib import Path
from negajoule.ledger import Activity, Ledger, new_id
from negajoule.units import Footprint

home, name, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
with Ledger(home / "ledger.sqlite") as ledger:
    for number in range(25):
        footprint = Footprint("node")
        row = Activity(id=new_id(), started_s=1.0, seconds=1.0, kind="run", label=name, footprint=footprint)
        ledger.append([row])
"""


def started(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    # Unbuffered: what a buffer had taken in, communicate() would not return.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


@pytest.mark.parametrize("through", ["alone", "writer", "journal"])
def test_a_killed_process_loses_no_row_that_was_safe(fresh_home: Path, through):
    path = fresh_home / "ledger.sqlite"
    promised: list[str] = []
    for _ in range(KILLS):
        process = started(WRITES, path, through)
        first = process.stdout.readline()
        time.sleep(random.uniform(*RUNNING_S))
        process.kill()
        said, complaint = process.communicate()
        assert complaint == b""
        promised += [line.decode() for line in (first + said).split(b"\n")[:-1]]
        with Ledger(path) as ledger:
            assert ledger.check() == []
            if through == "journal":
                LedgerWriter(ledger).close()  # brings what waited for its commit
            kept = {one.id for one in ledger.latest(10**6)}
            LedgerWriter(ledger).close()
        assert set(promised) <= kept
        # What was on its way may have arrived as well: a row, or a batch of five, for each kill.
        assert len(kept) <= len(promised) + 5 * KILLS
    assert len(promised) >= KILLS


def test_processes_that_start_at_once_make_one_ledger_together(fresh_home: Path):
    start = time.time() + 0.8
    processes = [started(JOINS, fresh_home, f"process {number}", start) for number in range(4)]
    for process in processes:
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (0, b"")
    with Ledger(fresh_home / "ledger.sqlite") as ledger:
        assert {group.group: group.activities for group in ledger.totals(by="label")} == {
            f"process {number}": 25 for number in range(4)
        }
        assert ledger.check() == []
