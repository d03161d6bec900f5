"""The rules of ``slices`` as transactions, the same for every SQL database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import uuid4

from negajoule.ledger.accounts.account import Account, Terms, Usage
from negajoule.ledger.accounts.book import no_such_budget, same_terms
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

__all__ = ["Session", "SqlStore"]

_T = TypeVar("_T")
_ACCOUNT = "id, scope, name, indicator, window_kind, allowed, closed"
_SLICE = "granted, returned, spent, overrun, requests, refusals"


class Session(Protocol):
    """An open transaction."""

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """Run a query with ``?`` for arguments."""
        ...

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        ...

    def now_s(self) -> float:
        """The store's clock [s]."""
        ...


class SqlStore(ABC):
    """An ``AccountStore`` over a database; subclasses open it and run transactions."""

    identity: str
    _for_update = ""  # what keeps rows that were read from being changed by others until the end

    @abstractmethod
    def _transact(self, work: Callable[[Session], _T], *, writes: bool = True) -> _T:
        """Run ``work`` in one transaction that others see whole or not at all."""

    @abstractmethod
    def close(self) -> None:
        """Let go of file or connection."""

    def create(self, terms: Terms, limit: float) -> Account:
        """See ``AccountStore``."""
        allowed = Account.limit_of(terms, limit)

        def work(db: Session) -> Account:
            found = db.rows(
                "INSERT INTO budget_account (scope, name, indicator, window_kind, allowed) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
                (*terms, allowed),
            )
            if not found:
                raise same_terms(terms)
            self._changed(db, "open", found[0][0], allowed)
            return Account(found[0][0], terms, allowed)

        return self._transact(work)

    def update(self, account_id: int, limit: float) -> Account:
        """See ``AccountStore``."""

        def work(db: Session) -> Account:
            account, number = self._locked(db, [account_id]).get(account_id, (None, 0))
            if account is None:
                raise no_such_budget(account_id)
            number = max(number, window_at(account.terms.window, db.now_s()))
            allowed = Account.limit_of(account.terms, limit)
            db.run("UPDATE budget_account SET allowed = ? WHERE id = ?", (allowed, account_id))
            db.run(
                "UPDATE budget_period SET allowed = ?, "
                "highest = CASE WHEN highest < ? THEN ? ELSE highest END "
                "WHERE account = ? AND window_number = ?",
                (allowed, allowed, allowed, account_id, number),
            )
            self._changed(db, "limit", account_id, allowed)
            return account._replace(limit=allowed)

        return self._transact(work)

    def close_account(self, account_id: int) -> None:
        """See ``AccountStore``."""

        def work(db: Session) -> None:
            if not db.run("UPDATE budget_account SET closed = 1 WHERE id = ? AND closed = 0", (account_id,)):
                raise no_such_budget(account_id)
            self._changed(db, "close", account_id, 0)

        self._transact(work)

    def accounts(self, *, closed: bool = False) -> list[Account]:
        """See ``AccountStore``."""
        sql = f"SELECT {_ACCOUNT} FROM budget_account WHERE closed <= ? ORDER BY id"
        return self._transact(
            lambda db: [_account(row) for row in db.rows(sql, (int(closed),))], writes=False
        )

    def usage(self, *, account_id: int | None = None, windows: int = 1) -> list[Usage]:
        """See ``AccountStore``."""

        def work(db: Session) -> list[Usage]:
            which, arguments = ("closed = 0", ()) if account_id is None else ("id = ?", (account_id,))
            sql = f"SELECT {_ACCOUNT}, window_number FROM budget_account WHERE {which} ORDER BY id"
            accounts = db.rows(sql, arguments)
            if account_id is not None and not accounts:
                raise no_such_budget(account_id)
            now_s = db.now_s()
            found = []
            for *columns, number in accounts:
                account = _account(columns)
                current = max(number, window_at(account.terms.window, now_s))
                found += _usage(db, account, current, windows, now_s)
            return found

        return self._transact(work, writes=False)

    def open_worker(self, worker: str, lease_s: float) -> None:
        """See ``AccountStore``."""
        self._transact(
            lambda db: db.run(
                "INSERT INTO budget_worker (id, lease_s, expires_s) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (worker, lease_s, db.now_s() + lease_s),
            )
        )

    def exchange(
        self,
        worker: str,
        statements: Sequence[Statement],
        wants: Sequence[Want],
        finished: Sequence[tuple[int, int]] = (),
    ) -> Answer | None:
        """See ``AccountStore``."""

        def work(db: Session) -> Answer | None:
            now_s = db.now_s()
            renewed = db.run(
                "UPDATE budget_worker SET expires_s = ? + lease_s WHERE id = ? AND closed = 0",
                (now_s, worker),
            )
            if not renewed:
                return None
            concerned = {s.account for s in statements} | {w.account for w in wants}
            accounts = self._moved_on(db, concerned, now_s)
            for account_id, number in finished:
                db.run(
                    "DELETE FROM budget_slice WHERE worker = ? AND account = ? AND window_number = ? "
                    "AND granted - returned <= spent",
                    (worker, account_id, number),
                )
            for statement in statements:
                _state(db, worker, statement, now_s)
            lacking = _grant(db, worker, accounts, wants, now_s)
            return _answer(db, worker, accounts, now_s, lacking)

        return self._transact(work)

    def standings(self, worker: str, account_ids: Sequence[int]) -> Answer:
        """See ``AccountStore``."""

        def work(db: Session) -> Answer:
            now_s = db.now_s()
            rows = _select_accounts(db, account_ids, "")
            accounts = {
                account.id: (account, max(number, window_at(account.terms.window, now_s)))
                for account, number in rows
            }
            return _answer(db, worker, accounts, now_s, ())

        return self._transact(work, writes=False)

    def close_worker(
        self, worker: str, statements: Sequence[Statement] = (), *, forfeit: bool = False
    ) -> bool:
        """See ``AccountStore``."""

        def work(db: Session) -> bool:
            if not db.run("UPDATE budget_worker SET closed = 1 WHERE id = ? AND closed = 0", (worker,)):
                return False
            now_s = db.now_s()
            slices = "FROM budget_slice WHERE worker = ?"
            held = {row[0] for row in db.rows(f"SELECT account {slices}", (worker,))}
            self._locked(db, held | {statement.account for statement in statements})
            for statement in statements:
                _state(db, worker, statement, now_s)
            known = {(statement.account, statement.window) for statement in statements}
            rows = db.rows(f"SELECT account, window_number, {_SLICE} {slices}", (worker,))
            for account_id, number, *columns in rows:
                left = Slice(*columns)
                if forfeit and (account_id, number) not in known:
                    amount = left.held
                    db.run(
                        "UPDATE budget_period SET forfeited = forfeited + ? "
                        "WHERE account = ? AND window_number = ?",
                        (amount, account_id, number),
                    )
                    _enter(db, now_s, "forfeit", account_id, number, worker, amount)
                else:
                    _move(db, worker, account_id, number, left, returned_whole(left), now_s)
            db.run("DELETE FROM budget_slice WHERE worker = ?", (worker,))
            return True

        return self._transact(work)

    def check(self) -> list[str]:
        """Add the journal up and return what it doesn't agree with; empty if all is right."""

        def work(db: Session) -> list[str]:
            rows = db.rows(
                "SELECT p.account, p.window_number, p.claimed, p.highest, p.overrun, coalesce(("
                "SELECT sum(e.amount) FROM budget_entry e WHERE e.account = p.account "
                "AND e.window_number = p.window_number AND e.event IN ('grant', 'return', 'overrun')), 0) "
                "FROM budget_period p"
            )
            found = [
                f"budget {account}, window {number}: {claimed} claimed, the journal says {journal}"
                for account, number, claimed, _, _, journal in rows
                if claimed != journal
            ]
            found += [
                f"budget {account}, window {number}: {claimed} claimed of {highest}, {overrun} overrun"
                for account, number, claimed, highest, overrun, _ in rows
                if claimed > highest + overrun
            ]
            return found

        return self._transact(work, writes=False)

    def _begin_identity(self, db: Session, version: int) -> None:
        db.run(
            "INSERT INTO budget_store (only_row, identity, schema_version, version) VALUES (1, ?, ?, 0)",
            (uuid4().hex, version),
        )

    def _changed(self, db: Session, event: str, account_id: int, amount: int) -> None:
        db.run("UPDATE budget_store SET version = version + 1")
        _enter(db, db.now_s(), event, account_id, None, None, amount)

    def _locked(self, db: Session, account_ids: Iterable[int]) -> dict[int, tuple[Account, int]]:
        """Open accounts and their windows, locked in the order of their ids: nobody waits in a ring."""
        rows = _select_accounts(db, account_ids, self._for_update)
        return {account.id: (account, number) for account, number in rows if not account.closed}

    def _moved_on(
        self, db: Session, account_ids: Iterable[int], now_s: float
    ) -> dict[int, tuple[Account, int]]:
        accounts = self._locked(db, account_ids)
        for account_id, (account, before) in accounts.items():
            number = window_at(account.terms.window, now_s)
            if number > before:
                db.run("UPDATE budget_account SET window_number = ? WHERE id = ?", (number, account_id))
                accounts[account_id] = (account, number)
        return accounts


def _select_accounts(db: Session, account_ids: Iterable[int], lock: str) -> list[tuple[Account, int]]:
    wanted = sorted(account_ids)
    if not wanted:
        return []
    marks = ", ".join("?" * len(wanted))
    sql = f"SELECT {_ACCOUNT}, window_number FROM budget_account WHERE id IN ({marks}) ORDER BY id{lock}"
    return [(_account(columns), number) for *columns, number in db.rows(sql, wanted)]


def _account(row: Sequence[Any]) -> Account:
    return Account(row[0], Terms(*row[1:5]), row[5], bool(row[6]))


def _slice(db: Session, worker: str, account_id: int, number: int) -> Slice | None:
    sql = f"SELECT {_SLICE} FROM budget_slice WHERE worker = ? AND account = ? AND window_number = ?"
    rows = db.rows(sql, (worker, account_id, number))
    return Slice(*rows[0]) if rows else None


def _free(db: Session, account: Account, number: int) -> int:
    """What a window has left; a window that nobody has used yet gets its row."""
    sql = "SELECT allowed - claimed FROM budget_period WHERE account = ? AND window_number = ?"
    rows = db.rows(sql, (account.id, number))
    if rows:
        return int(rows[0][0])
    db.run(
        "INSERT INTO budget_period (account, window_number, allowed, highest) VALUES (?, ?, ?, ?)",
        (account.id, number, account.limit, account.limit),
    )
    return account.limit


def _grant(
    db: Session,
    worker: str,
    accounts: dict[int, tuple[Account, int]],
    wants: Sequence[Want],
    now_s: float,
) -> tuple[int, ...]:
    grants: list[tuple[int, int, int]] = []
    lacking = []
    for want in wants:
        if want.account not in accounts:
            continue
        account, number = accounts[want.account]
        granted = grant_for(want, _free(db, account, number))
        if granted is None:
            lacking.append(account.id)
        else:
            grants.append((account.id, number, granted))
    for account_id, number, granted in () if lacking else grants:
        before = _slice(db, worker, account_id, number) or NO_SLICE
        after = before._replace(granted=before.granted + granted)
        _move(db, worker, account_id, number, before, after, now_s)
    return tuple(lacking)


def _state(db: Session, worker: str, statement: Statement, now_s: float) -> None:
    key = (statement.account, statement.window)
    before = _slice(db, worker, *key)
    if before is None:
        # The window may be new to the store too: a refusal is counted where nothing was granted.
        db.run(
            "INSERT INTO budget_period (account, window_number, allowed, highest) "
            "SELECT id, ?, allowed, allowed FROM budget_account WHERE id = ? ON CONFLICT DO NOTHING",
            (statement.window, statement.account),
        )
    after = stated(before or NO_SLICE, statement)
    if after != before:
        _move(db, worker, *key, before or NO_SLICE, after, now_s)


def _move(
    db: Session, worker: str, account_id: int, number: int, before: Slice, after: Slice, now_s: float
) -> None:
    db.run(
        f"INSERT INTO budget_slice (worker, account, window_number, {_SLICE}) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (worker, account, window_number) DO UPDATE SET "
        "granted = excluded.granted, returned = excluded.returned, spent = excluded.spent, "
        "overrun = excluded.overrun, requests = excluded.requests, refusals = excluded.refusals",
        (worker, account_id, number, *after),
    )
    moved = movement(before, after)
    db.run(
        "UPDATE budget_period SET claimed = claimed + ?, spent = spent + ?, overrun = overrun + ?, "
        "requests = requests + ?, refusals = refusals + ? WHERE account = ? AND window_number = ?",
        (*moved, account_id, number),
    )
    if moved.claimed:
        event = "return" if moved.claimed < 0 else "grant" if after.granted > before.granted else "overrun"
        _enter(db, now_s, event, account_id, number, worker, moved.claimed)


def _enter(
    db: Session,
    now_s: float,
    event: str,
    account_id: int,
    number: int | None,
    worker: str | None,
    amount: int,
) -> None:
    db.run(
        "INSERT INTO budget_entry (at_s, event, account, window_number, worker, amount) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (now_s, event, account_id, number, worker, amount),
    )


def _answer(
    db: Session,
    worker: str,
    accounts: dict[int, tuple[Account, int]],
    now_s: float,
    lacking: tuple[int, ...],
) -> Answer:
    version = int(db.rows("SELECT version FROM budget_store")[0][0])
    standings = {}
    for account_id, (account, number) in accounts.items():
        if account.closed:
            continue
        sql = "SELECT allowed, claimed, spent FROM budget_period WHERE account = ? AND window_number = ?"
        rows = db.rows(sql, (account_id, number))
        limit, claimed, spent = rows[0] if rows else (account.limit, 0, 0)
        mine = _slice(db, worker, account_id, number) or NO_SLICE
        ends_s = window_end(account.terms.window, number)
        standings[account_id] = Standing(account_id, number, ends_s, limit, claimed, spent, mine)
    return Answer(now_s, version, standings, lacking)


def _usage(db: Session, account: Account, current: int, windows: int, now_s: float) -> list[Usage]:
    periods = db.rows(
        "SELECT window_number, allowed, highest, claimed, spent, forfeited, overrun, requests, refusals "
        "FROM budget_period WHERE account = ? ORDER BY window_number DESC LIMIT ?",
        (account.id, windows),
    )
    presumed = {
        number: int(amount)
        for number, amount in db.rows(
            "SELECT s.window_number, sum(CASE WHEN s.granted - s.returned > s.spent "
            "THEN s.granted - s.returned - s.spent ELSE 0 END) "
            "FROM budget_slice s JOIN budget_worker w ON w.id = s.worker "
            "WHERE s.account = ? AND w.expires_s < ? GROUP BY s.window_number",
            (account.id, now_s),
        )
    }
    found = [Usage(account, current, account.limit, account.limit)]
    if periods and periods[0][0] == current:
        found = []
    for number, limit, highest, claimed, spent, forfeited, *counts in periods:
        lost = presumed.get(number, 0)
        held = claimed - spent - forfeited - lost
        found.append(Usage(account, number, limit, highest, spent, held, lost, forfeited, *counts))
    return found[:windows]
