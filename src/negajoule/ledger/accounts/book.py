"""The store in memory: the pure rules of budgets, and the fake and the oracle of the durable stores."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from negajoule.errors import LedgerError
from negajoule.ledger.accounts.account import Account, Terms, Usage
from negajoule.ledger.accounts.slices import (
    NO_SLICE,
    Answer,
    Slice,
    Standing,
    grant_for,
    movement,
    returned_whole,
    stated,
)
from negajoule.ledger.accounts.windows import window_at, window_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from negajoule.ledger.accounts.slices import Statement, Want

__all__ = ["MemoryStore", "no_such_budget", "same_terms"]


class _Period(NamedTuple):
    limit: int
    highest_limit: int
    claimed: int = 0
    spent: int = 0
    forfeited: int = 0
    overrun: int = 0
    requests: int = 0
    refusals: int = 0


class _Worker:
    def __init__(self, lease_s: float, expires_s: float) -> None:
        self.lease_s = lease_s
        self.expires_s = expires_s
        self.slices: dict[tuple[int, int], Slice] = {}


class MemoryStore:
    """An ``AccountStore`` that lives and dies with its process: for tests, and to compare others with.

    Args:
        clock: seconds since the epoch [s].
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.identity = uuid4().hex
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[int, Account] = {}
        self._window: dict[int, int] = {}
        self._periods: dict[tuple[int, int], _Period] = {}
        self._workers: dict[str, _Worker] = {}
        self._version = 0

    def create(self, terms: Terms, limit: float) -> Account:
        """See ``AccountStore``."""
        with self._lock:
            if any(not a.closed and a.terms == terms for a in self._accounts.values()):
                raise same_terms(terms)
            account = Account(len(self._accounts) + 1, terms, Account.limit_of(terms, limit))
            self._keep(account)
            return account

    def update(self, account_id: int, limit: float) -> Account:
        """See ``AccountStore``."""
        with self._lock:
            account = self._open(account_id)
            account = account._replace(limit=Account.limit_of(account.terms, limit))
            self._keep(account)
            key = (account_id, self._current(account))
            period = self._periods.get(key)
            if period is not None:
                highest = max(period.highest_limit, account.limit)
                self._periods[key] = period._replace(limit=account.limit, highest_limit=highest)
            return account

    def close_account(self, account_id: int) -> None:
        """See ``AccountStore``."""
        with self._lock:
            self._keep(self._open(account_id)._replace(closed=True))

    def accounts(self, *, closed: bool = False) -> list[Account]:
        """See ``AccountStore``."""
        with self._lock:
            return [a for a in self._accounts.values() if closed or not a.closed]

    def usage(self, *, account_id: int | None = None, windows: int = 1) -> list[Usage]:
        """See ``AccountStore``."""
        with self._lock:
            if account_id is not None and account_id not in self._accounts:
                raise no_such_budget(account_id)
            found = []
            for account in self._accounts.values():
                if account.id == account_id or (account_id is None and not account.closed):
                    current = self._current(account)
                    numbers = {number for owner, number in self._periods if owner == account.id} | {current}
                    found += [self._usage(account, n) for n in sorted(numbers, reverse=True)[:windows]]
            return found

    def open_worker(self, worker: str, lease_s: float) -> None:
        """See ``AccountStore``."""
        with self._lock:
            self._workers[worker] = _Worker(lease_s, self._clock() + lease_s)

    def exchange(
        self,
        worker: str,
        statements: Sequence[Statement],
        wants: Sequence[Want],
        finished: Sequence[tuple[int, int]] = (),
    ) -> Answer | None:
        """See ``AccountStore``."""
        with self._lock:
            state = self._workers.get(worker)
            if state is None:
                return None
            state.expires_s = self._clock() + state.lease_s
            for key in finished:
                if key in state.slices and not state.slices[key].held:
                    del state.slices[key]
            for statement in statements:
                self._state(state, statement)
            concerned = {s.account for s in statements} | {w.account for w in wants}
            for account_id in concerned:
                account = self._accounts.get(account_id)
                if account is not None and not account.closed:
                    self._window[account_id] = self._current(account)
            grants: dict[tuple[int, int], int] = {}
            lacking = []
            for want in wants:
                account = self._accounts.get(want.account)
                if account is None or account.closed:
                    continue
                key = (account.id, self._current(account))
                period = self._periods.setdefault(key, _fresh(account))
                granted = grant_for(want, period.limit - period.claimed)
                if granted is None:
                    lacking.append(want.account)
                else:
                    grants[key] = granted
            for key, granted in () if lacking else grants.items():
                before = state.slices.get(key, NO_SLICE)
                self._move(state, key, before, before._replace(granted=before.granted + granted))
            return self._answer(state, concerned, tuple(lacking))

    def standings(self, worker: str, account_ids: Sequence[int]) -> Answer:
        """See ``AccountStore``."""
        with self._lock:
            return self._answer(self._workers.get(worker), account_ids, ())

    def close_worker(
        self, worker: str, statements: Sequence[Statement] = (), *, forfeit: bool = False
    ) -> bool:
        """See ``AccountStore``."""
        with self._lock:
            state = self._workers.pop(worker, None)
            if state is None:
                return False
            for statement in statements:
                self._state(state, statement)
            known = {(statement.account, statement.window) for statement in statements}
            for key, left in state.slices.items():
                if forfeit and key not in known:
                    period = self._periods[key]
                    forfeited = period.forfeited + left.held
                    self._periods[key] = period._replace(forfeited=forfeited)
                else:
                    self._move(state, key, left, returned_whole(left))
            return True

    def close(self) -> None:
        """Nothing to let go of."""

    def _keep(self, account: Account) -> None:
        self._accounts[account.id] = account
        self._version += 1

    def _open(self, account_id: int) -> Account:
        account = self._accounts.get(account_id)
        if account is None or account.closed:
            raise no_such_budget(account_id)
        return account

    def _current(self, account: Account) -> int:
        """The account's window, which never moves back whatever the clock does."""
        return max(window_at(account.terms.window, self._clock()), self._window.get(account.id, 0))

    def _state(self, state: _Worker, statement: Statement) -> None:
        key = (statement.account, statement.window)
        account = self._accounts.get(statement.account)
        if account is not None:
            self._periods.setdefault(key, _fresh(account))
            before = state.slices.get(key, NO_SLICE)
            self._move(state, key, before, stated(before, statement))

    def _move(self, state: _Worker, key: tuple[int, int], before: Slice, after: Slice) -> None:
        state.slices[key] = after
        period, moved = self._periods[key], movement(before, after)
        self._periods[key] = period._replace(
            claimed=period.claimed + moved.claimed,
            spent=period.spent + moved.spent,
            overrun=period.overrun + moved.overrun,
            requests=period.requests + moved.requests,
            refusals=period.refusals + moved.refusals,
        )

    def _answer(self, state: _Worker | None, account_ids: Iterable[int], lacking: tuple[int, ...]) -> Answer:
        standings = {}
        for account_id in account_ids:
            account = self._accounts.get(account_id)
            if account is None or account.closed:
                continue
            number = self._current(account)
            period = self._periods.get((account_id, number), _fresh(account))
            mine = NO_SLICE if state is None else state.slices.get((account_id, number), NO_SLICE)
            standings[account_id] = Standing(
                account_id,
                number,
                window_end(account.terms.window, number),
                period.limit,
                period.claimed,
                period.spent,
                mine,
            )
        return Answer(self._clock(), self._version, standings, lacking)

    def _usage(self, account: Account, number: int) -> Usage:
        period = self._periods.get((account.id, number), _fresh(account))
        now_s, presumed = self._clock(), 0
        for state in self._workers.values():
            left = state.slices.get((account.id, number), NO_SLICE)
            if state.expires_s < now_s:
                presumed += left.held
        return Usage(
            account,
            number,
            period.limit,
            period.highest_limit,
            period.spent,
            period.claimed - period.spent - period.forfeited - presumed,
            presumed,
            period.forfeited,
            period.overrun,
            period.requests,
            period.refusals,
        )


def _fresh(account: Account) -> _Period:
    return _Period(account.limit, account.limit)


def no_such_budget(account_id: int) -> LedgerError:
    """The error for a number that no open budget has."""
    return LedgerError(
        f"there is no open budget {account_id}", code="L104", fix="negajoule budgets list shows them"
    )


def same_terms(terms: Terms) -> LedgerError:
    """The error for a second open budget of the same terms."""
    return LedgerError(f"there is a budget for {terms} already", code="L104", fix="change its limit instead")
