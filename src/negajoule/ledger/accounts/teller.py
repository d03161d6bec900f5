"""Grants requests from leased slices: in memory and journalled, at the store only when a slice is used up."""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from negajoule.errors import LedgerError
from negajoule.ledger.accounts.amounts import amount_of, scale_of, units_of
from negajoule.ledger.accounts.journal import Journal, reconcile
from negajoule.ledger.accounts.refusal import Headroom, Refusal
from negajoule.ledger.accounts.wallet import Reservation, Shortage, Wallet
from negajoule.ledger.activity import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from negajoule.ledger.accounts.account import Account
    from negajoule.ledger.accounts.slices import Answer, Standing, Want
    from negajoule.ledger.accounts.store import AccountStore
    from negajoule.ledger.accounts.wallet import Receipt

__all__ = ["LEASE_S", "Teller"]

LEASE_S = 30.0
"""How long a worker that isn't heard of is believed alive [s]."""

_TENDS_A_LEASE = 3
_ROUNDS = 4  # a window may end between asking and getting, hardly twice
_REFUSAL_HOLDS_S = 0.5
"""How long an empty budget is believed empty without asking again: refusals mustn't load the store [s]."""


class Teller:
    """One worker's counter: reserve before a request is sent, settle when it is over, whatever happened.

    All methods may be called from any thread. ``reserve_now``, ``settle``, ``release`` and ``accounts_for``
    never wait for the store, so an event loop may call them; ``reserve``, ``quote``, ``tend`` and ``close``
    may wait for a transaction, so an event loop calls them in a thread.

    Args:
        store: owns the budgets; the caller closes it after the teller.
        folder: where journals go; ``None`` for none: then a killed worker's slices are spent.
        lease_s: how long this worker is believed alive after it was last heard of [s].
        expire_s: after what time an open reservation is taken for forgotten and charged at its bound [s].
        monotonic: a clock that never goes back [s].

    Raises:
        LedgerError: (L101) if the store or the folder can't be used.
    """

    def __init__(
        self,
        store: AccountStore,
        folder: Path | None = None,
        *,
        lease_s: float = LEASE_S,
        expire_s: float = 3_600.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tend_s = lease_s / _TENDS_A_LEASE
        """How often ``tend`` wants to be called [s]."""
        self._store = store
        self._folder = folder
        self._lease_s = lease_s
        self._expire_s = expire_s
        self._monotonic = monotonic
        self._lock = threading.Lock()  # purses, reservations and journal; never held while the store works
        self._exchanging = threading.Lock()  # statements reach the store in their order
        self._wallet = Wallet()
        self._offset_s = 0.0
        self._version = -1
        self._accounts: dict[int, Account] = {}
        self._chart: dict[tuple[str, str], tuple[Account, ...]] = {}
        self._empty: dict[int, tuple[Standing, float]] = {}
        self._journal: Journal | None = None
        self.worker = ""
        """This worker's id in the store."""
        if folder is not None:
            reconcile(store, folder)
        self._begin()
        self._exchange(())
        forget_in_child(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def accounts_for(
        self, *, key: str = "", team: str = "", project: str = "", model: str = ""
    ) -> tuple[Account, ...]:
        """The budgets that count a request, as of the last exchange with the store."""
        chart = self._chart
        return (
            *chart.get(("global", ""), ()),
            *chart.get(("team", team), ()),
            *chart.get(("project", project), ()),
            *chart.get(("key", key), ()),
            *chart.get(("model", model), ()),
        )

    def reserve_now(
        self, request_id: str, bounds: Mapping[str, float | None], accounts: Iterable[Account]
    ) -> Reservation | Refusal | None:
        """Reserve without waiting; ``None`` if only the store can tell: then call ``reserve``.

        Args:
            request_id: the caller's name for the request; every attempt reserves anew.
            bounds: by indicator, the most the request can use; this must be true, all promises rest on it.
            accounts: of ``accounts_for``.
        """
        with self._lock:
            found = self._try(request_id, bounds, accounts)
        return None if isinstance(found, Shortage) else found

    def reserve(
        self, request_id: str, bounds: Mapping[str, float | None], accounts: Iterable[Account]
    ) -> Reservation | Refusal:
        """Reserve in all accounts or none, with the store's help if need be; arguments as ``reserve_now``.

        Raises:
            LedgerError: (L101) if the store can't be reached; nothing is reserved then.
        """
        wanted = list(accounts)
        now = self.reserve_now(request_id, bounds, wanted)
        if now is not None:
            return now
        with self._exchanging:
            for _ in range(_ROUNDS):
                with self._lock:
                    found = self._try(request_id, bounds, wanted)
                if not isinstance(found, Shortage):
                    return found
                answer = self._exchange(found.wants)
                closed = {want.account for want in found.wants} - answer.standings.keys()
                wanted = [account for account in wanted if account.id not in closed]
                if answer.lacking:
                    return self._refuse(bounds, answer)
        raise LedgerError("the store's windows move faster than requests", fix="check the clock")

    def settle(self, reservation: Reservation, actual: Mapping[str, float | None] | None) -> Receipt:
        """Charge what a request used: exactly once, however often it is called.

        Args:
            reservation: of this teller.
            actual: by indicator, what it used; ``None``, or an indicator that is missing or no amount, is
                charged at the bound, because it may have been used. More than the bound is charged in full.
        """
        with self._lock:
            done = reservation.receipt is not None
            receipt = self._wallet.settle(reservation, actual)
            if not done and self._journal is not None:
                self._journal.end(reservation)
        return receipt

    def release(self, reservation: Reservation) -> Receipt:
        """Give a reservation back whose request was certainly never sent."""
        with self._lock:
            done = reservation.receipt is not None
            receipt = self._wallet.release(reservation)
            if not done and self._journal is not None:
                self._journal.end(reservation)
        return receipt

    def quote(self, accounts: Sequence[Account]) -> Headroom:
        """The largest bounds that these accounts would grant now.

        Raises:
            LedgerError: (L101) if the store can't be reached.
        """
        answer = self._store.standings(self.worker, [account.id for account in accounts])
        amounts: dict[str, float] = {}
        tightest: dict[str, Account] = {}
        for account in accounts:
            standing = answer.standings.get(account.id)
            if standing is None:
                continue
            with self._lock:
                mine = self._wallet.free(account.id, standing.window)
            indicator = account.terms.indicator
            amount = amount_of(indicator, max(0, standing.free + mine))
            if indicator not in amounts or amount < amounts[indicator]:
                amounts[indicator], tightest[indicator] = amount, account
        return Headroom(amounts, tightest)

    def tend(self) -> None:
        """Renew the lease, tell what was spent, give back what isn't needed, and close dead neighbours.

        Raises:
            LedgerError: (L101) if the store can't be reached; granted slices stay good, try again.
        """
        with self._exchanging:
            with self._lock:
                self._wallet.take_back(self._now_s())
                late_s = self._monotonic() - self._expire_s
                late = [one for one in self._wallet.open.values() if one.made_s < late_s]
            for reservation in late:
                self.settle(reservation, None)
            self._exchange(())
            with self._lock:
                if self._journal is not None:
                    self._journal.compact(self._wallet.purses(), self._wallet.open.values())
        if self._folder is not None:
            reconcile(self._store, self._folder)

    def close(self) -> None:
        """Charge what is open at its bound, tell the store all, and give every slice back.

        Raises:
            LedgerError: (L101) if the store can't be reached; whoever starts next closes this worker then.
        """
        with self._exchanging:
            if not self.worker:
                return
            with self._lock:
                left = list(self._wallet.open.values())
            for reservation in left:
                self.settle(reservation, None)
            told = False
            try:
                self._store.close_worker(self.worker, [p.statement() for p in self._wallet.purses()])
                told = True
            finally:
                with self._lock:
                    self._wallet.orphan()
                    self.worker = ""
                    if self._journal is not None:
                        self._journal.close(remove=told)
                        self._journal = None

    @property
    def open_reservations(self) -> int:
        """Requests that are running."""
        return len(self._wallet.open)

    @property
    def journal_error(self) -> str:
        """Why no journal is written; empty if one is, or none was asked for."""
        return "" if self._journal is None else self._journal.error

    def _now_s(self) -> float:
        """The store's clock as of the last exchange, carried on by one that doesn't jump."""
        return self._offset_s + self._monotonic()

    def _try(
        self, request_id: str, bounds: Mapping[str, float | None], accounts: Iterable[Account]
    ) -> Reservation | Shortage | Refusal:
        made_s = self._monotonic()
        found = self._wallet.reserve(request_id, bounds, accounts, self._offset_s + made_s, made_s)
        if isinstance(found, Reservation):
            if self._journal is not None:
                self._journal.reserve(found)
        elif isinstance(found, Shortage):
            for want in found.wants:
                standing, until_s = self._empty.get(want.account, (None, 0.0))
                if standing is not None and made_s < until_s and want.need > standing.free:
                    return self._refusal(want.account, bounds, standing)
        else:
            self._wallet.count_refusal(found.account.id)
        return found

    def _refuse(self, bounds: Mapping[str, float | None], answer: Answer) -> Refusal:
        with self._lock:
            until_s = self._monotonic() + _REFUSAL_HOLDS_S
            for account_id in answer.lacking:
                self._empty[account_id] = (answer.standings[account_id], until_s)
            refusals = [self._refusal(a, bounds, answer.standings[a], count=False) for a in answer.lacking]
            longest = max(refusals, key=lambda refusal: refusal.lasts_s)
            self._wallet.count_refusal(longest.account.id)
            return longest

    def _refusal(
        self,
        account_id: int,
        bounds: Mapping[str, float | None],
        standing: Standing,
        *,
        count: bool = True,
    ) -> Refusal:
        if count:
            self._wallet.count_refusal(account_id)
        account = self._accounts[account_id]
        indicator = account.terms.indicator
        units = units_of(scale_of(indicator), bounds.get(indicator))
        assert units is not None  # an unknown bound is refused before anything is wanted
        return Refusal.of(account, standing, units, now_s=self._now_s(), returns_s=self.tend_s)

    def _exchange(self, wants: Sequence[Want]) -> Answer:
        if not self.worker:
            raise LedgerError(
                "this teller is closed, or belongs to the process that this one was forked from",
                fix="open a store and a teller of this process's own",
            )
        with self._lock:
            said, finished = self._wallet.statements(), self._wallet.finished()
        answer = self._store.exchange(self.worker, said, wants, finished)
        if answer is None:
            self._begin()
            said, finished = [], []
            answer = self._store.exchange(self.worker, said, wants)
            if answer is None:
                raise LedgerError("the store doesn't keep its workers", fix="check the accounts' database")
        if answer.version != self._version:
            self._load()
        with self._lock:
            self._offset_s = answer.now_s - self._monotonic()
            over = self._wallet.apply(answer, said, finished, self._accounts)
            if self._journal is not None:
                self._journal.finish(over)
            for account_id in answer.standings:
                self._empty.pop(account_id, None)
            self._version = answer.version
        return answer

    def _load(self) -> None:
        accounts = self._store.accounts()
        chart: dict[tuple[str, str], tuple[Account, ...]] = {}
        for account in accounts:
            whose = (account.terms.scope, account.terms.name)
            chart[whose] = (*chart.get(whose, ()), account)
        with self._lock:
            self._accounts = {account.id: account for account in accounts}
            self._chart = chart
            self._empty.clear()

    def _begin(self) -> None:
        """Be a new worker: at the start, and when the store has closed the old one."""
        worker = new_id("worker")
        self._store.open_worker(worker, self._lease_s)
        with self._lock:
            self._wallet.orphan()
            if self._journal is not None:
                self._journal.close(remove=True)
            self.worker = worker
            if self._folder is not None:
                try:
                    self._journal = Journal(self._folder, worker, self._store.identity)
                except OSError as error:
                    raise LedgerError(
                        f"can't keep a journal: {error}",
                        tried=str(self._folder),
                        fix="mend the folder's permissions or disk",
                    ) from None

    def _disown(self) -> None:
        """In a forked child: slices, journal and the store's connection are the parent's."""
        self._lock = threading.Lock()
        self._exchanging = threading.Lock()
        self._wallet = Wallet()
        self.worker = ""
        if self._journal is not None:
            self._journal.disown()
            self._journal = None


def forget_in_child(teller: Teller) -> None:
    """Keep a forked child from spending its parent's slices."""
    alive = weakref.ref(teller)

    def forget() -> None:
        found = alive()
        if found is not None:
            with suppress(OSError):
                found._disown()

    os.register_at_fork(after_in_child=forget)
