"""The rules of ``slices`` as transactions, the same for every SQL database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from negajoule.ledger.accounts.account import Account, Terms, Usage
from negajoule.ledger.accounts.book import no_such_budget, same_terms
from negajoule.ledger.accounts.postings import (
    ACCOUNT,
    SLICE,
    Session,
    account_of,
    answer_for,
    enter,
    grant_wants,
    move,
    select_accounts,
    take,
    usage_of,
)
from negajoule.ledger.accounts.slices import Answer, Slice, returned_whole
from negajoule.ledger.accounts.windows import window_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from negajoule.ledger.accounts.slices import Statement, Want

__all__ = ["SqlStore"]

_T = TypeVar("_T")


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
        sql = f"SELECT {ACCOUNT} FROM budget_account WHERE closed <= ? ORDER BY id"
        return self._transact(
            lambda db: [account_of(row) for row in db.rows(sql, (int(closed),))], writes=False
        )

    def usage(self, *, account_id: int | None = None, windows: int = 1) -> list[Usage]:
        """See ``AccountStore``."""

        def work(db: Session) -> list[Usage]:
            which, arguments = ("closed = 0", ()) if account_id is None else ("id = ?", (account_id,))
            sql = f"SELECT {ACCOUNT}, window_number FROM budget_account WHERE {which} ORDER BY id"
            accounts = db.rows(sql, arguments)
            if account_id is not None and not accounts:
                raise no_such_budget(account_id)
            now_s = db.now_s()
            found = []
            for *columns, number in accounts:
                account = account_of(columns)
                current = max(number, window_at(account.terms.window, now_s))
                found += usage_of(db, account, current, windows, now_s)
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
                take(db, worker, statement, now_s)
            lacking = grant_wants(db, worker, accounts, wants, now_s)
            return answer_for(db, worker, accounts, now_s, lacking)

        return self._transact(work)

    def standings(self, worker: str, account_ids: Sequence[int]) -> Answer:
        """See ``AccountStore``."""

        def work(db: Session) -> Answer:
            now_s = db.now_s()
            rows = select_accounts(db, account_ids, "")
            accounts = {
                account.id: (account, max(number, window_at(account.terms.window, now_s)))
                for account, number in rows
            }
            return answer_for(db, worker, accounts, now_s, ())

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
                take(db, worker, statement, now_s)
            known = {(statement.account, statement.window) for statement in statements}
            rows = db.rows(f"SELECT account, window_number, {SLICE} {slices}", (worker,))
            for account_id, number, *columns in rows:
                left = Slice(*columns)
                if forfeit and (account_id, number) not in known:
                    amount = left.held
                    db.run(
                        "UPDATE budget_period SET forfeited = forfeited + ? "
                        "WHERE account = ? AND window_number = ?",
                        (amount, account_id, number),
                    )
                    enter(db, now_s, "forfeit", account_id, number, worker, amount)
                else:
                    move(db, worker, account_id, number, left, returned_whole(left), now_s)
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
        enter(db, db.now_s(), event, account_id, None, None, amount)

    def _locked(self, db: Session, account_ids: Iterable[int]) -> dict[int, tuple[Account, int]]:
        """Open accounts and their windows, locked in the order of their ids: nobody waits in a ring."""
        rows = select_accounts(db, account_ids, self._for_update)
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
