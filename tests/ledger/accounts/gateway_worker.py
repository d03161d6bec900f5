"""A gateway's worker as a process of its own, for tests: asks for requests until it is told to stop.

It writes each request to a file before it is let go and after it was settled, as an upstream would know it.
Started as ``python -m ledger.accounts.gateway_worker PLACE JOURNALS TRUTH REQUESTS SEED``.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from negajoule.ledger.accounts import Refusal, Teller, open_store, workers_folder

BOUND_J = 8.0


def work(place: str, journals: str, truth: str, requests: int, seed: int) -> None:
    """Reserve and settle so many requests; some stay open, so that a kill finds them running."""
    random_ = random.Random(seed)
    folder = None if journals == "-" else Path(journals) if journals else workers_folder()
    file = os.open(truth, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = open_store(place)
    teller = Teller(store, folder, lease_s=2.0)
    accounts = teller.accounts_for(key="alice", model="small")
    running = []
    tended_s = time.monotonic()
    print("ready", flush=True)
    for number in range(requests):
        found = teller.reserve(f"{os.getpid()}-{number}", {"J": BOUND_J, "EUR": 1.0}, accounts)
        if isinstance(found, Refusal):
            os.write(file, b"refused 0\n")
            time.sleep(0.002)
        else:
            used = float(random_.randint(0, int(BOUND_J)))
            os.write(file, f"sent {used}\n".encode())
            running.append((found, used))
        if len(running) > 4:
            reservation, used = running.pop(random_.randrange(len(running)))
            told = random_.random() < 0.8
            teller.settle(reservation, {"J": used, "EUR": 0.5} if told else None)
        if time.monotonic() - tended_s > 0.2:
            teller.tend()
            tended_s = time.monotonic()
    for reservation, used in running:
        teller.settle(reservation, {"J": used, "EUR": 0.5})
    teller.close()
    store.close()


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
