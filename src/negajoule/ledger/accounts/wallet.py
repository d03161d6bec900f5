"""A worker's side, pure: purses filled with slices, and reservations that take from all of them or none.

No clock, file or lock in here; ``teller`` adds those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from negajoule.ledger.accounts.amounts import scale_of, units_of
from negajoule.ledger.accounts.refusal import Refusal
from negajoule.ledger.accounts.slices import Statement, Want

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from negajoule.ledger.accounts.account import Account
    from negajoule.ledger.accounts.slices import Answer, Standing

__all__ = ["WISH_REQUESTS", "Outcome", "Purse", "Receipt", "Reservation", "Shortage", "Wallet"]

WISH_REQUESTS = 256
"""For how many requests of the present size a worker asks at once: the store is then visited so rarely that
its cost per request vanishes, and a worker that dies holds no more than that."""

_FOREVER = float("inf")

Outcome = Literal["settled", "at bound", "released"]


class Purse:
    """A slice as its worker knows it: ``spent + held <= granted - returned`` unless bounds were dishonest."""

    __slots__ = (
        "account",
        "acknowledged",
        "ends_s",
        "granted",
        "held",
        "index",
        "overrun",
        "refusals",
        "requests",
        "returned",
        "running",
        "scale",
        "spent",
        "touched",
        "window",
    )

    def __init__(self, index: int, account: Account, standing: Standing) -> None:
        mine = standing.mine
        self.index = index
        self.account = account
        self.scale = scale_of(account.terms.indicator)
        self.window = standing.window
        self.ends_s = _FOREVER
        self.granted, self.returned, self.spent = mine.granted, mine.returned, mine.spent
        self.overrun, self.requests, self.refusals = mine.overrun, mine.requests, mine.refusals
        self.held = self.running = 0
        self.touched = False
        self.acknowledged = self.statement()

    @property
    def free(self) -> int:
        """What can be granted from memory; negative after overruns."""
        return self.granted - self.returned - self.spent - self.held

    def statement(self) -> Statement:
        """What there is to say to the store."""
        return Statement(
            self.account.id,
            self.window,
            self.spent,
            self.returned,
            self.overrun,
            self.requests,
            self.refusals,
        )


class Receipt(NamedTuple):
    """How a reservation ended.

    Attributes:
        outcome: settled on what was used, charged at its bound, or released without use.
        charged: by account id, in units.
        overrun: whether an account was charged more than was reserved: the bound wasn't one.
        at_bound: accounts charged at the bound because what was used isn't known.
    """

    outcome: Outcome
    charged: tuple[tuple[int, int], ...]
    overrun: bool = False
    at_bound: tuple[int, ...] = ()


class Reservation:
    """A request that may run: its upper bound is set aside in every budget that counts it.

    Attributes:
        number: unique in its worker.
        request_id: the caller's name for the request; each attempt is a reservation of its own.
        takes: purses, and what is set aside in each [units].
        made_s: when, on the worker's monotonic clock [s].
        receipt: how it ended; ``None`` while it is open.
    """

    __slots__ = ("made_s", "number", "receipt", "request_id", "takes")

    def __init__(self, number: int, request_id: str, takes: list[tuple[Purse, int]], made_s: float) -> None:
        self.number = number
        self.request_id = request_id
        self.takes = takes
        self.made_s = made_s
        self.receipt: Receipt | None = None


class Shortage(NamedTuple):
    """Purses hold too little; the store may give more."""

    wants: list[Want]


class Wallet:
    """The purses and open reservations of one worker."""

    def __init__(self) -> None:
        self.open: dict[int, Reservation] = {}
        self._current: dict[int, Purse] = {}
        self._past: dict[tuple[int, int], Purse] = {}
        self._finished: dict[tuple[int, int], None] = {}
        self._purses = 0
        self._reservations = 0

    def reserve(
        self,
        request_id: str,
        bounds: Mapping[str, float | None],
        accounts: Iterable[Account],
        now_s: float,
        made_s: float = 0.0,
    ) -> Reservation | Shortage | Refusal:
        """Set a request's bounds aside in all accounts, or in none.

        Args:
            request_id: the caller's name for the request.
            bounds: by indicator, the most the request can use.
            accounts: the budgets that count it.
            now_s: the store's clock [s].
            made_s: the worker's monotonic clock [s].
        """
        current = self._current
        takes: list[tuple[Purse, int]] = []
        wants: list[Want] | None = None
        for account in accounts:
            indicator = account.terms.indicator
            purse = current.get(account.id)
            units = units_of(scale_of(indicator), bounds.get(indicator))
            if units is None:
                return Refusal(account, "unknown")
            free = purse.granted - purse.returned - purse.spent - purse.held if purse is not None else 0
            if purse is None or purse.ends_s <= now_s:
                wants = wants or []
                wants.append(Want(account.id, units, units * WISH_REQUESTS))
            elif free < units:
                wants = wants or []
                wants.append(Want(account.id, units - free, units * WISH_REQUESTS))
            else:
                takes.append((purse, units))
        if wants is not None:
            return Shortage(wants)
        for purse, units in takes:
            purse.held += units
            purse.running += 1
            purse.touched = True
        self._reservations += 1
        reservation = Reservation(self._reservations, request_id, takes, made_s)
        self.open[reservation.number] = reservation
        return reservation

    def settle(self, reservation: Reservation, actual: Mapping[str, float | None] | None) -> Receipt:
        """Charge what a request used; again changes nothing.

        Args:
            reservation: of this wallet.
            actual: by indicator, what was used; what isn't there, or is no amount, is charged at the bound.
        """
        if reservation.receipt is not None:
            return reservation.receipt
        charged, at_bound, overrun = [], [], False
        for purse, bound in reservation.takes:
            account = purse.account
            units = None
            if actual is not None:
                units = units_of(purse.scale, actual.get(account.terms.indicator))
            if units is None:
                units = bound
                at_bound.append(account.id)
            elif units > bound:
                overrun = True
                purse.overrun += units - bound
            purse.held -= bound
            purse.running -= 1
            purse.spent += units
            purse.requests += 1
            charged.append((account.id, units))
        outcome: Outcome = "at bound" if actual is None else "settled"
        return self._end(reservation, Receipt(outcome, tuple(charged), overrun, tuple(at_bound)))

    def release(self, reservation: Reservation) -> Receipt:
        """Give back what was set aside for a request that was never sent; again changes nothing."""
        if reservation.receipt is not None:
            return reservation.receipt
        for purse, bound in reservation.takes:
            purse.held -= bound
            purse.running -= 1
        return self._end(reservation, Receipt("released", ()))

    def take_back(self, now_s: float) -> None:
        """Mark what isn't needed as returned: all of past windows, and purses unused since the last call."""
        for purse in list(self._current.values()):
            if purse.ends_s <= now_s:
                self._retire(purse)
            elif not purse.touched and purse.free > 0:
                purse.returned += purse.free
            purse.touched = False
        for purse in self._past.values():
            if purse.free > 0:
                purse.returned += purse.free

    def statements(self) -> list[Statement]:
        """What the store hasn't heard yet."""
        statements = ((purse, purse.statement()) for purse in self.purses())
        return [statement for purse, statement in statements if statement != purse.acknowledged]

    def finished(self) -> list[tuple[int, int]]:
        """Accounts and windows that the store has heard all of."""
        return list(self._finished)

    def apply(
        self,
        answer: Answer,
        said: Iterable[Statement],
        finished: Iterable[tuple[int, int]],
        accounts: Mapping[int, Account],
    ) -> list[Purse]:
        """Take over a store's answer to what was said; accounts it doesn't name any more are retired.

        Args:
            answer: of the store.
            said: the statements it answers.
            finished: what the store was told is finished.
            accounts: those it may name.

        Returns:
            Purses that are finished by this: the store has heard all of them.
        """
        over = []
        for key in finished:
            self._finished.pop(key, None)
        spoken = {(statement.account, statement.window): statement for statement in said}
        for purse in self.purses():
            key = (purse.account.id, purse.window)
            purse.acknowledged = spoken.get(key, purse.acknowledged)
            told = not purse.running and purse.free <= 0 and purse.statement() == purse.acknowledged
            if told and key in self._past:
                del self._past[key]
                self._finished[key] = None
                over.append(purse)
        for account_id, _ in spoken:
            if account_id not in answer.standings and account_id in self._current:
                self._retire(self._current[account_id])
        for account_id, standing in answer.standings.items():
            if account_id in accounts:
                self._follow(accounts[account_id], standing)
        return over

    def free(self, account_id: int, window: int) -> int:
        """What could be granted from memory in an account's window."""
        purse = self._current.get(account_id)
        return 0 if purse is None or purse.window != window else purse.free

    def count_refusal(self, account_id: int) -> None:
        """Count a refused request in the account that refused."""
        purse = self._current.get(account_id)
        if purse is not None:
            purse.refusals += 1

    def orphan(self) -> None:
        """Forget all purses, because the store listens to this worker no more; reservations stay open."""
        self._current.clear()
        self._past.clear()
        self._finished.clear()

    def purses(self) -> list[Purse]:
        """All purses that the store may still hear of."""
        return [*self._current.values(), *self._past.values()]

    def _follow(self, account: Account, standing: Standing) -> None:
        purse = self._current.get(account.id)
        if purse is None or purse.window != standing.window:
            if purse is not None:
                self._retire(purse)
            purse = self._past.pop((account.id, standing.window), None)
            if purse is None:
                self._purses += 1
                self._finished.pop((account.id, standing.window), None)
                purse = Purse(self._purses, account, standing)
            self._current[account.id] = purse
        purse.account = account
        purse.ends_s = _FOREVER if standing.ends_s is None else standing.ends_s
        purse.granted = max(purse.granted, standing.mine.granted)

    def _retire(self, purse: Purse) -> None:
        del self._current[purse.account.id]
        self._past[purse.account.id, purse.window] = purse

    def _end(self, reservation: Reservation, receipt: Receipt) -> Receipt:
        reservation.receipt = receipt
        self.open.pop(reservation.number, None)
        return receipt
