"""Can budgets be overspent, or requests go uncounted? Random histories, and what a reservation costs.

Each history opens budgets and workers, sends requests, and lets happen what happens: streams that are cut
off, retries, answers of the store that are lost, workers killed with and without their disk, and clocks that
jump both ways. A world beside it knows what every request truly used. Some histories are real processes ended
with ``kill -9``. The last line is one JSON object: ``max_spent_over_budget`` must not exceed 1,
``lost_requests`` and ``uncounted_requests`` must be 0.

    python benchmarks/budget.py [--histories 10000] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from budget_world import Clock, World  # noqa: E402
from negajoule.ledger.accounts import (  # noqa: E402
    MemoryStore,
    Reservation,
    SqliteStore,
    Teller,
    Terms,
    open_store,
    reconcile,
)
from negajoule.ledger.accounts.windows import WINDOWS  # noqa: E402
from postgres_server import postgres_server, why_not  # noqa: E402

if TYPE_CHECKING:
    from negajoule.ledger.accounts import AccountStore

SQLITE_SHARE = 0.3
POSTGRES_HISTORIES = 200
PROCESS_HISTORIES = 10
HISTORIES_A_FILE = 100
TARGET_US = 60.0
JUMPS_S = (-40 * 86_400.0, -7_200.0, -60.0, 60.0, 3_600.0, 86_400.0, 31 * 86_400.0)
PASSES_S = (0.2, 1.0, 15.0, 60.0, 3_600.0)
NAMES = ("a", "b")


class Outcome(NamedTuple):
    """What histories came to; sums, but for the worst share of a budget."""

    histories: int = 0
    worst: float = 0.0
    lost: int = 0
    uncounted: int = 0
    faults: tuple[str, ...] = ()
    asked: int = 0
    sent: int = 0
    refused: int = 0
    unreachable: int = 0
    cut: int = 0
    retried: int = 0
    kills: int = 0
    jumps: int = 0

    def plus(self, other: Outcome) -> Outcome:
        """Both together."""
        sums = Outcome(*(a + b for a, b in zip(self, other, strict=True)))
        return sums._replace(worst=max(self.worst, other.worst))


def history(dice: random.Random, store: AccountStore, clock: Clock, folder: Path, tag: str) -> Outcome:
    """One random history to its end."""
    world = World(store, clock, folder, tag)
    counts = dict.fromkeys(("cut", "retried", "kills", "jumps"), 0)
    for _ in range(dice.randint(1, 4)):
        scope, indicator = (
            dice.choice(("key", "team", "project", "model")),
            dice.choice(("J", "gCO2e", "EUR")),
        )
        world.open(scope, dice.choice(NAMES), indicator, dice.choice(WINDOWS), dice.choice((7, 40, 200, 900)))
    for _ in range(dice.randint(1, 3)):
        world.start(journal=dice.random() < 0.8)
    faults: list[str] = []
    for step in range(dice.randint(15, 40)):
        happening(dice, world, clock, counts)
        if step % 10 == 9:
            faults += world.faults()
    for worker in list(world.workers):
        world.end(worker)
    last = world.start()
    assert last is not None
    world.tend(last)
    world.end(last)
    faults += world.faults(ended=True)
    outcome = Outcome(
        histories=1,
        worst=world.worst,
        lost=world.asked - world.granted - world.refused - world.unreachable + world.lost,
        uncounted=world.uncounted(),
        faults=tuple(faults[:3]),
        asked=world.asked,
        sent=sum(world.sent.values()),
        refused=world.refused,
        unreachable=world.unreachable,
        **counts,
    )
    for account in world.accounts.values():
        store.close_account(account.id)
    return outcome


def happening(dice: random.Random, world: World, clock: Clock, counts: dict[str, int]) -> None:
    """One thing that happens."""
    what = dice.random()
    worker = dice.choice(world.workers) if world.workers else None
    if worker is None or (what > 0.97 and len(world.workers) < 4):
        world.start(journal=dice.random() < 0.8)
    elif what < 0.45:
        names = {scope: dice.choice(NAMES) for scope in ("key", "team", "project", "model")}
        bounds = {name: float(dice.randint(0, 12)) for name in ("J", "gCO2e", "EUR")}
        for attempt in range(dice.choice((1, 1, 1, 2, 3))):
            counts["retried"] += attempt > 0
            world.reserve(worker, names, bounds, dice.choice((0.0, 0.4, 1.0)))
    elif what < 0.70:
        told = dice.random() < 0.7
        counts["cut"] += not told
        world.settle(worker, dice.randrange(100), told=told, times=dice.choice((1, 1, 2)))
    elif what < 0.74:
        world.release(worker, dice.randrange(100))
    elif what < 0.82:
        world.tend(worker)
    elif what < 0.87:
        counts["jumps"] += 1
        clock.skew_s += dice.choice(JUMPS_S)
    elif what < 0.91:
        clock.passed_s += dice.choice(PASSES_S)
    elif what < 0.94:
        worker.store.fail_before, worker.store.fail_after = dice.choice(((True, False), (False, True)))
    elif what < 0.97:
        counts["kills"] += 1
        world.kill(worker, lose_disk=dice.random() < 0.3)


def in_memory(seed: int, histories: int) -> Outcome:
    """Histories over the store in memory, each with a store of its own."""
    dice, result = random.Random(seed), Outcome()
    with tempfile.TemporaryDirectory() as name:
        for number in range(histories):
            clock = Clock()
            store = MemoryStore(clock.wall)
            result = result.plus(history(dice, store, clock, Path(name) / str(number), ""))
    return result


def in_sqlite(seed: int, histories: int) -> Outcome:
    """Histories over real files."""
    dice, result = random.Random(seed), Outcome()
    with tempfile.TemporaryDirectory() as name:
        for first in range(0, histories, HISTORIES_A_FILE):
            clock = Clock()
            store = SqliteStore(Path(name) / f"{first}.sqlite", clock=clock.wall)
            for number in range(first, min(histories, first + HISTORIES_A_FILE)):
                folder = Path(name) / str(number)
                result = result.plus(history(dice, store, clock, folder, f"-{number}"))
                shutil.rmtree(folder, ignore_errors=True)
            result = result._replace(faults=result.faults + tuple(store.check()[:3]))
            store.close()
    return result


def in_postgres(seed: int, histories: int, url: str) -> Outcome:
    """Histories over a real PostgreSQL."""
    from negajoule.ledger.accounts.postgres import PostgresStore

    dice, result, clock = random.Random(seed), Outcome(), Clock()
    with tempfile.TemporaryDirectory() as name:
        store = PostgresStore(url, clock=clock.wall)
        for number in range(histories):
            result = result.plus(history(dice, store, clock, Path(name) / str(number), f"-{number}"))
        result = result._replace(faults=result.faults + tuple(store.check()[:3]))
        store.close()
    return result


def with_processes(seed: int, place: str, folder: Path) -> Outcome:
    """One history of real processes, some of them ended with ``kill -9``."""
    dice = random.Random(seed)
    store = open_store(place)
    store.create(Terms.checked("key", "alice", "J", "total"), dice.choice((500.0, 20_000.0, 1e6)))
    store.create(Terms.checked("model", "small", "EUR", "total"), 1e6)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}

    def start(number: int, requests: int) -> subprocess.Popen[bytes]:
        arguments = (place, str(folder / "workers"), str(folder / f"truth-{number}"), requests, number)
        command = [sys.executable, "-m", "ledger.accounts.gateway_worker", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    workers = [start(number, 1_000_000) for number in range(2)]
    kills = 0
    for victim in list(workers):
        time.sleep(dice.uniform(0.02, 0.3))
        victim.kill()
        victim.wait()
        kills += 1
    workers.append(start(9, 200))
    ended_well = workers[-1].wait(timeout=120) == 0
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.close()
    reconcile(store, folder / "workers")
    joules, euros = store.usage()
    lines = [line.split() for path in folder.glob("truth-*") for line in path.read_text().splitlines()]
    used = [float(line[1]) for line in lines if line[0] == "sent"]
    faults = list(store.check())
    if sum(used) * 1e6 > joules.charged:
        faults.append(f"{sum(used)} J used, {joules.charged / 1e6} J charged")
    if joules.requests > len(used) + kills:
        faults.append(f"{joules.requests} requests counted of {len(used)}")
    store.close()
    return Outcome(
        histories=1,
        worst=max(joules.charged, int(sum(used) * 1e6)) / joules.limit,
        lost=0 if ended_well else 1,
        uncounted=max(0, len(used) - joules.requests) + max(0, len(used) - euros.requests),
        faults=tuple(faults),
        asked=len(lines),
        sent=len(used),
        refused=len(lines) - len(used),
        kills=kills,
    )


def cost_us(store: AccountStore, folder: Path | None, *, limit: float, requests: int) -> tuple[float, float]:
    """CPU time and time of one reservation and its settlement in three budgets [us, us]."""
    store.create(Terms.checked("key", "alice", "J", "day"), limit)
    store.create(Terms.checked("team", "x", "gCO2e", "month"), limit)
    store.create(Terms.checked("global", "", "EUR", "hour"), limit)
    bounds, used = dict.fromkeys(("J", "gCO2e", "EUR"), 2.0), dict.fromkeys(("J", "gCO2e", "EUR"), 1.0)
    with Teller(store, folder) as teller:
        accounts = teller.accounts_for(key="alice", team="x")
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for number in range(requests):
            found = teller.reserve(f"nj-0193a5c2d8f0{number:016x}", bounds, accounts)
            assert isinstance(found, Reservation), str(found)
            teller.settle(found, used)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    return cpu_s / requests * 1e6, wall_s / requests * 1e6


def costs(postgres_url: str | None) -> dict[str, float]:
    """What a reservation costs, by store."""
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def measure(key: str, store: AccountStore, journals: Path | None, **options: float) -> None:
            cpu_us, wall_us = cost_us(store, journals, **options)  # type: ignore[arg-type]
            store.close()
            result[f"{key}_us"] = round(cpu_us, 1)
            print(f"{key:<22} {cpu_us:8.1f} us of CPU, {wall_us:8.1f} us in all")

        measure("memory", MemoryStore(), None, limit=1e6, requests=20_000)
        for key, limit, requests in (("sqlite", 1e6, 20_000), ("sqlite_last_percent", 1_010.0, 1_000)):
            store = SqliteStore(folder / f"{key}.sqlite")
            measure(key, store, folder / "workers", limit=limit, requests=requests)
        if postgres_url is not None:
            measure("postgres", open_store(postgres_url), folder / "workers", limit=1e6, requests=20_000)
    return result


def main() -> None:
    """Run all histories, print the figures and, last, one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2, help="processes that work on histories")
    options = parser.parse_args()
    started_s = time.perf_counter()
    totals: dict[str, Outcome] = {}
    chunks = 2 * options.cores
    sqlite = max(1, int(options.histories * SQLITE_SHARE) // chunks)
    reason = why_not()
    with ExitStack() as stack:
        server = None if reason else stack.enter_context(postgres_server(durable=True))
        if reason:
            print(f"without PostgreSQL: {reason}")
        cost = costs(server.fresh_database() if server else None)
        pool = stack.enter_context(ProcessPoolExecutor(options.cores))
        postgres = min(POSTGRES_HISTORIES, options.histories // 10) if server else 0
        memory = -(-max(1, options.histories - sqlite * chunks - postgres) // chunks)
        seed = options.seed * 1_000_003
        jobs = [("sqlite", pool.submit(in_sqlite, seed + n, sqlite)) for n in range(chunks)]
        if server:
            jobs.append(("postgres", pool.submit(in_postgres, seed + 50, postgres, server.fresh_database())))
        jobs += [("memory", pool.submit(in_memory, seed + 100 + n, memory)) for n in range(chunks)]
        for name, job in jobs:
            totals[name] = totals.get(name, Outcome()).plus(job.result())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number in range(PROCESS_HISTORIES):
            here = folder / str(number)
            here.mkdir()
            on_postgres = server is not None and number % 2
            place = server.fresh_database() if server and on_postgres else str(here / "accounts.sqlite")
            outcome = with_processes(options.seed + number, place, here)
            totals["processes"] = totals.get("processes", Outcome()).plus(outcome)
    whole = Outcome()
    print(
        f"\n{'':<10} {'histories':>9} {'requests':>9} {'refused':>8} {'kills':>6} {'jumps':>6} {'worst':>7}"
    )
    for name, total in totals.items():
        whole = whole.plus(total)
        print(
            f"{name:<10} {total.histories:>9} {total.asked:>9} {total.refused:>8} {total.kills:>6} "
            f"{total.jumps:>6} {total.worst:>7.4f}"
        )
    for fault in whole.faults[:10]:
        print(f"fault: {fault}")
    seconds = time.perf_counter() - started_s
    print(f"{whole.histories} histories in {seconds:.0f} s; faults: {len(whole.faults)}")
    print(
        json.dumps(
            {
                "schema": "negajoule.benchmark.budget/1",
                "max_spent_over_budget": whole.worst,
                "lost_requests": whole.lost,
                "uncounted_requests": whole.uncounted,
                "histories": whole.histories,
                **{f"histories_{name}": total.histories for name, total in totals.items()},
                "requests": whole.asked,
                "refused": whole.refused,
                "cut_streams": whole.cut,
                "retries": whole.retried,
                "kills": whole.kills,
                "clock_jumps": whole.jumps,
                "store_failures": whole.unreachable,
                "faults": len(whole.faults),
                **cost,
                "target_us": TARGET_US,
                "seconds": round(seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
