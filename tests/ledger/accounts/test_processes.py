"""Many processes on one store, killed in the middle with a signal that nothing can catch."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger.accounts.gateway_worker import BOUND_J
from negajoule.ledger.accounts import Teller, Terms, open_store, reconcile

LIMIT_J = 6_000.0


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where the store is."""
    if request.param == "sqlite":
        return str(tmp_path / "accounts.sqlite")
    return request.getfixturevalue("postgres").fresh_database()


def start(place, journals, folder, requests, seed):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ledger.accounts.gateway_worker"),
            *(place, str(journals), str(folder / f"truth-{seed}"), str(requests), str(seed)),
        ],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def truth(folder):
    """Requests sent, refused, and joules truly used, as the upstream knows."""
    lines = [line.split() for path in folder.glob("truth-*") for line in path.read_text().splitlines()]
    sent = [float(used) for event, used in lines if event == "sent"]
    return len(sent), len(lines) - len(sent), sum(sent)


@pytest.mark.slow
@pytest.mark.parametrize("journals", ["journals", "-"])
def test_killed_workers_neither_overspend_nor_lose_a_request(place, journals, tmp_path):
    folder = tmp_path / journals if journals != "-" else None
    store = open_store(place)
    store.create(Terms.checked("key", "alice", "J", "total"), LIMIT_J)
    store.create(Terms.checked("global", "", "EUR", "total"), 1e6)
    dice = random.Random(7)
    workers = [start(place, folder or "-", tmp_path, 100_000, seed) for seed in range(3)]
    kills = 3
    for round_ in range(kills):
        time.sleep(dice.uniform(0.1, 0.4))
        victim = workers.pop(0)
        victim.kill()
        victim.wait()
        victim.stdout.close()
        workers.append(start(place, folder or "-", tmp_path, 400, 10 + round_))
    for worker in workers:
        worker.wait(timeout=60)
        worker.stdout.close()
    if folder is not None:
        reconcile(store, folder)
    joules, _ = store.usage()
    sent, _, used_j = truth(tmp_path)
    assert sent > 100
    assert used_j * 1e6 <= joules.charged <= joules.limit
    assert store.check() == []
    if folder is not None:
        # A worker may be killed between its journal's line and the sending.
        assert sent <= joules.requests <= sent + kills
        assert (joules.held, joules.presumed, joules.forfeited) == (0, 0, 0)
    else:
        assert joules.held + joules.presumed > 0
    store.close()


@pytest.mark.slow
def test_many_processes_use_a_budget_up_to_its_last_request(place, tmp_path):
    store = open_store(place)
    store.create(Terms.checked("key", "alice", "J", "total"), 1_000.0)
    workers = [start(place, tmp_path / "journals", tmp_path, 300, seed) for seed in range(3)]
    for worker in workers:
        assert worker.wait(timeout=60) == 0
        worker.stdout.close()
    (joules,) = store.usage()
    sent, refused, used_j = truth(tmp_path)
    assert refused > 0
    assert joules.charged == joules.spent <= joules.limit
    assert joules.spent >= used_j * 1e6
    # What is left is less than one more request, or was still held when the last ones asked.
    assert joules.limit - joules.spent < 3 * 5 * BOUND_J * 1e6
    assert joules.requests == sent
    with Teller(store) as teller:
        left_j = teller.quote(teller.accounts_for(key="alice")).amounts["J"]
    assert left_j == (joules.limit - joules.spent) / 1e6
    store.close()
