"""How grants, statements and sums are written and read, within a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from negajoule.ledger.accounts.account import Account, Terms, Usage
from negajoule.ledger.accounts.slices import (
    NO_SLICE,
    Answer,
    Slice,
    Standing,
    grant_for,
    movement,
    stated,
)
from negajoule.ledger.accounts.windows import window_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from negajoule.ledger.accounts.slices import Statement, Want

__all__ = [
    "ACCOUNT",
    "SLICE",
    "Session",
    "account_of",
    "answer_for",
    "enter",
    "free_of",
    "grant_wants",
    "move",
    "select_accounts",
    "slice_of",
    "take",
    "usage_of",
]

ACCOUNT = "id, scope, name, indicator, window_kind, allowed, closed"
"""Columns of an account."""

SLICE = "granted, returned, spent, overrun, requests, refusals"
"""Columns of a slice."""

_STANDING = (
    f"SELECT p.allowed, p.claimed, p.spent, {', '.join(f's.{name}' for name in SLICE.split(', '))} "
    "FROM budget_period p LEFT JOIN budget_slice s "
    "ON s.worker = ? AND s.account = p.account AND s.window_number = p.window_number "
    "WHERE p.account = ? AND p.window_number = ?"
)


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


def select_accounts(db: Session, account_ids: Iterable[int], lock: str) -> list[tuple[Account, int]]:
    """Accounts of these ids, open or closed, and the latest window of each."""
    wanted = sorted(account_ids)
    if not wanted:
        return []
    marks = ", ".join("?" * len(wanted))
    sql = f"SELECT {ACCOUNT}, window_number FROM budget_account WHERE id IN ({marks}) ORDER BY id{lock}"
    return [(account_of(columns), number) for *columns, number in db.rows(sql, wanted)]


def account_of(row: Sequence[Any]) -> Account:
    """An account from its row."""
    return Account(row[0], Terms(*row[1:5]), row[5], bool(row[6]))


def slice_of(db: Session, worker: str, account_id: int, number: int) -> Slice | None:
    """A worker's slice; ``None`` if it has none."""
    sql = f"SELECT {SLICE} FROM budget_slice WHERE worker = ? AND account = ? AND window_number = ?"
    rows = db.rows(sql, (worker, account_id, number))
    return Slice(*rows[0]) if rows else None


def free_of(db: Session, account: Account, number: int) -> int:
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


def grant_wants(
    db: Session,
    worker: str,
    accounts: dict[int, tuple[Account, int]],
    wants: Sequence[Want],
    now_s: float,
) -> tuple[int, ...]:
    """Grant all wants of open accounts or none, and return those that can't be met."""
    grants: list[tuple[int, int, int]] = []
    lacking = []
    for want in wants:
        if want.account not in accounts:
            continue
        account, number = accounts[want.account]
        granted = grant_for(want, free_of(db, account, number))
        if granted is None:
            lacking.append(account.id)
        else:
            grants.append((account.id, number, granted))
    for account_id, number, granted in () if lacking else grants:
        before = slice_of(db, worker, account_id, number) or NO_SLICE
        after = before._replace(granted=before.granted + granted)
        move(db, worker, account_id, number, before, after, now_s)
    return tuple(lacking)


def take(db: Session, worker: str, statement: Statement, now_s: float) -> None:
    """Take a worker's statement."""
    key = (statement.account, statement.window)
    before = slice_of(db, worker, *key)
    if before is None:
        # The window may be new to the store too: a refusal is counted where nothing was granted.
        db.run(
            "INSERT INTO budget_period (account, window_number, allowed, highest) "
            "SELECT id, ?, allowed, allowed FROM budget_account WHERE id = ? ON CONFLICT DO NOTHING",
            (statement.window, statement.account),
        )
    after = stated(before or NO_SLICE, statement)
    if after != before:
        move(db, worker, *key, before or NO_SLICE, after, now_s)


def move(
    db: Session, worker: str, account_id: int, number: int, before: Slice, after: Slice, now_s: float
) -> None:
    """Change a slice, the sums of its window with it, and write the journal if its claim changes."""
    db.run(
        f"INSERT INTO budget_slice (worker, account, window_number, {SLICE}) "
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
        enter(db, now_s, event, account_id, number, worker, moved.claimed)


def enter(
    db: Session,
    now_s: float,
    event: str,
    account_id: int,
    number: int | None,
    worker: str | None,
    amount: int,
) -> None:
    """Write a line of the journal."""
    db.run(
        "INSERT INTO budget_entry (at_s, event, account, window_number, worker, amount) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (now_s, event, account_id, number, worker, amount),
    )


def answer_for(
    db: Session,
    worker: str,
    accounts: dict[int, tuple[Account, int]],
    now_s: float,
    lacking: tuple[int, ...],
) -> Answer:
    """How accounts stand, and a worker in them."""
    version = int(db.rows("SELECT version FROM budget_store")[0][0])
    standings = {}
    for account_id, (account, number) in accounts.items():
        if account.closed:
            continue
        rows = db.rows(_STANDING, (worker, account_id, number))
        limit, claimed, spent, *columns = rows[0] if rows else (account.limit, 0, 0, None)
        mine = NO_SLICE if columns[0] is None else Slice(*columns)
        ends_s = window_end(account.terms.window, number)
        standings[account_id] = Standing(account_id, number, ends_s, limit, claimed, spent, mine)
    return Answer(now_s, version, standings, lacking)


def usage_of(db: Session, account: Account, current: int, windows: int, now_s: float) -> list[Usage]:
    """What became of an account in its latest windows, newest first."""
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
