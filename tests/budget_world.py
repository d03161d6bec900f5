"""A small world of budgets for tests and the benchmark: workers, a clock that jumps, and the truth.

The world knows what every request really used, whatever its worker lived to tell. ``faults`` compares that
with the store's books and names everything that breaks the promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import LedgerError
from negajoule.ledger.accounts import Account, Refusal, Reservation, Teller, Terms
from negajoule.ledger.accounts.amounts import scale_of

if TYPE_CHECKING:
    from pathlib import Path

    from negajoule.ledger.accounts import AccountStore, Receipt

LEASE_S = 30.0
START_S = 1_700_000_000.0


class Clock:
    """Real time that only passes, and a wall clock that may be wrong."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.skew_s = START_S

    def wall(self) -> float:
        return self.passed_s + self.skew_s

    def monotonic(self) -> float:
        return self.passed_s


class FlakyStore:
    """A store whose exchanges can fail before or after they were committed (fake: for tests)."""

    def __init__(self, store: AccountStore) -> None:
        self._store = store
        self.fail_before = self.fail_after = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def exchange(self, *arguments: Any) -> Any:
        if self.fail_before:
            self.fail_before = False
            raise LedgerError("the store can't be reached")
        answer = self._store.exchange(*arguments)
        if self.fail_after:
            self.fail_after = False
            raise LedgerError("the answer was lost")
        return answer


class Running(NamedTuple):
    """A request that was sent; ``used`` is what it truly costs, told or not."""

    reservation: Reservation
    bounds: dict[str, float]
    used: dict[str, float]


class Worker:
    """A process of a gateway."""

    def __init__(self, store: AccountStore, folder: Path | None, clock: Clock) -> None:
        self.store = FlakyStore(store)
        self.folder = folder
        self.teller = Teller(self.store, folder, lease_s=LEASE_S, expire_s=7_200.0, monotonic=clock.monotonic)
        self.running: list[Running] = []
        self.pots: set[tuple[int, int]] = set()

    def kill(self, *, lose_disk: bool) -> None:
        """End as ``kill -9`` ends a process: nothing is told, the locks are let go."""
        journal = self.teller._journal
        if journal is not None:
            journal.disown()
            if lose_disk:
                journal.path.unlink()


class World:
    """Everything together.

    Args:
        store: owns the budgets; its clock must be ``clock.wall``.
        clock: of this world.
        folder: for journals.
        tag: goes into names, so that many worlds can share a store.
    """

    def __init__(self, store: AccountStore, clock: Clock, folder: Path, tag: str = "") -> None:
        self.store, self.clock, self.folder, self.tag = store, clock, folder, tag
        self.accounts: dict[int, Account] = {}
        self.highest: dict[int, int] = {}
        self.workers: list[Worker] = []
        self.truth: dict[tuple[int, int], int] = {}
        self.sent: dict[tuple[int, int], int] = {}
        self.untold: set[tuple[int, int]] = set()
        self.refused = self.unreachable = self.untended = self.lost = self.traceless = 0
        self.asked = self.granted = 0

    def open(self, scope: str, name: str, indicator: str, window: str, limit: float) -> Account | None:
        """Open a budget unless there is one already."""
        terms = Terms.checked(scope, "" if scope == "global" else name + self.tag, indicator, window)
        if any(account.terms == terms and not account.closed for account in self.accounts.values()):
            return None
        account = self.store.create(terms, limit)
        self.accounts[account.id] = account
        self.highest[account.id] = account.limit
        return account

    def limit(self, account: Account, limit: float) -> None:
        """Change a limit."""
        changed = self.store.update(account.id, limit)
        self.accounts[account.id] = changed
        self.highest[account.id] = max(self.highest[account.id], changed.limit)

    def close(self, account: Account) -> None:
        """Close a budget."""
        self.store.close_account(account.id)
        self.accounts[account.id] = account._replace(closed=True)

    def start(self, *, journal: bool = True) -> Worker | None:
        """Start a worker."""
        worker = Worker(self.store, self.folder if journal else None, self.clock)
        self.workers.append(worker)
        return worker

    def reserve(
        self, worker: Worker, names: dict[str, str], bounds: dict[str, float], share: float
    ) -> Reservation | Refusal | None:
        """Ask for a request; if it is let through it is sent and uses that share of its bounds."""
        self.asked += 1
        tagged = {scope: name + self.tag for scope, name in names.items()}
        try:
            found = worker.teller.reserve(f"r{self.asked}", bounds, worker.teller.accounts_for(**tagged))
        except LedgerError:
            self.unreachable += 1
            return None
        if isinstance(found, Refusal):
            self.refused += 1
            return found
        self.granted += 1
        used = {name: float(int(bound * share)) for name, bound in bounds.items()}
        worker.running.append(Running(found, bounds, used))
        for purse, _ in found.takes:
            indicator = purse.account.terms.indicator
            pot = (purse.account.id, purse.window)
            self.truth[pot] = self.truth.get(pot, 0) + int(used[indicator] * scale_of(indicator))
            self.sent[pot] = self.sent.get(pot, 0) + 1
            worker.pots.add(pot)
        return found

    def settle(self, worker: Worker, number: int, *, told: bool, times: int = 1) -> Receipt | None:
        """A running request ends; its upstream says what it used, or was cut off before it could."""
        if not worker.running:
            return None
        running = worker.running.pop(number % len(worker.running))
        first = worker.teller.settle(running.reservation, running.used if told else None)
        for _ in range(times - 1):
            self.lost += worker.teller.settle(running.reservation, running.bounds) != first
        return first

    def release(self, worker: Worker, number: int) -> None:
        """A request turns out never to have been sent."""
        if not worker.running:
            return
        running = worker.running.pop(number % len(worker.running))
        receipt = worker.teller.release(running.reservation)
        if receipt.outcome != "released":
            return
        for purse, _ in running.reservation.takes:
            indicator = purse.account.terms.indicator
            pot = (purse.account.id, purse.window)
            self.truth[pot] -= int(running.used[indicator] * scale_of(indicator))
            self.sent[pot] -= 1

    def tend(self, worker: Worker) -> None:
        """A worker's regular call to the store."""
        try:
            worker.teller.tend()
        except LedgerError:
            self.untended += 1

    def kill(self, worker: Worker, *, lose_disk: bool = False) -> None:
        """A worker dies with all it runs; what was sent is used all the same."""
        worker.kill(lose_disk=lose_disk)
        if lose_disk or worker.folder is None:
            self.untold |= worker.pots
            self.traceless += 1
        self.workers.remove(worker)

    def end(self, worker: Worker) -> None:
        """A worker stops in order; what still runs is charged at its bound."""
        try:
            worker.teller.close()
        except LedgerError:
            self.untended += 1
        self.workers.remove(worker)

    def usages(self) -> list[Any]:
        """The store's books of all windows of all budgets, open or closed."""
        return [usage for i in self.accounts for usage in self.store.usage(account_id=i, windows=10_000)]

    def faults(self, *, ended: bool = False) -> list[str]:
        """What breaks the promise now.

        Args:
            ended: whether all workers are gone, and closed by themselves or by their journals; what those
                that left no journal held stays charged.
        """
        found = []
        books = {(usage.account.id, usage.window): usage for usage in self.usages()}
        for pot, usage in books.items():
            parts = (usage.spent, usage.held, usage.presumed, usage.forfeited)
            if min(parts) < 0:
                found.append(f"{pot}: negative parts {parts}")
            if usage.charged > self.highest[pot[0]] or usage.charged > usage.highest_limit:
                found.append(f"{pot}: {usage.charged} charged of {usage.highest_limit}")
            if ended and not self.traceless and any(parts[1:]):
                found.append(f"{pot}: {parts} held by nobody")
            if ended and pot not in self.untold and usage.requests != self.sent.get(pot, 0):
                found.append(f"{pot}: {usage.requests} requests counted of {self.sent.get(pot, 0)}")
        for pot, used in self.truth.items():
            if used and (pot not in books or used > books[pot].charged):
                found.append(f"{pot}: {used} used, {books[pot].charged if pot in books else 0} charged")
        return found

    def uncounted(self) -> int:
        """When all have ended: requests that were sent and that the books don't cover.

        How many requests ran in a worker that died with its disk nobody can say; what they used is covered.
        """
        books = {(usage.account.id, usage.window): usage for usage in self.usages()}
        missing = 0
        for pot, sent in self.sent.items():
            charged, requests = (books[pot].charged, books[pot].requests) if pot in books else (0, 0)
            if self.truth[pot] > charged:
                missing += sent
            elif pot not in self.untold:
                missing += abs(sent - requests)
        return missing

    @property
    def worst(self) -> float:
        """The largest share of a limit that was charged or truly used."""
        shares = [0.0]
        for usage in self.usages():
            used = max(usage.charged, self.truth.get((usage.account.id, usage.window), 0))
            if usage.highest_limit:
                shares.append(used / usage.highest_limit)
            elif used:
                shares.append(float("inf"))
        return max(shares)
