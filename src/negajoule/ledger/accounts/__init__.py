"""Budgets that hold: what a key, team, project or model may use in an hour, day, week, month or in all.

- ``windows``: calendar windows in UTC, numbered
- ``amounts``: joules, grams, litres and money as whole numbers
- ``account``: a budget's terms, and what became of it in a window
- ``slices``: the arithmetic of what a worker's slice claims of a window
- ``store``: the Protocol of what owns the budgets
- ``book``: the store in memory, for tests
- ``schema``, ``postings``, ``sql``: tables, rows and transactions of the durable stores
- ``sqlite``: the store of one host; ``postgres``: the store of many
- ``opening``: from a setting to a store
- ``wallet``: a worker's purses and reservations
- ``journal``: what a worker leaves behind when it is killed
- ``refusal``: which budget refuses, how it stands, when to try again
- ``teller``: reserve before a request is sent, settle when it is over

``docs/design/budgets.md`` states the promise and why it holds.
"""

from negajoule.ledger.accounts.account import SCOPES, Account, Terms, Usage
from negajoule.ledger.accounts.amounts import amount_of, amount_text, parse_limit
from negajoule.ledger.accounts.book import MemoryStore
from negajoule.ledger.accounts.journal import reconcile, workers_folder
from negajoule.ledger.accounts.opening import open_store
from negajoule.ledger.accounts.refusal import Headroom, Refusal
from negajoule.ledger.accounts.sqlite import SqliteStore, default_accounts_path
from negajoule.ledger.accounts.store import AccountStore
from negajoule.ledger.accounts.teller import Teller
from negajoule.ledger.accounts.wallet import Receipt, Reservation
from negajoule.ledger.accounts.windows import WINDOWS

__all__ = [
    "SCOPES",
    "WINDOWS",
    "Account",
    "AccountStore",
    "Headroom",
    "MemoryStore",
    "Receipt",
    "Refusal",
    "Reservation",
    "SqliteStore",
    "Teller",
    "Terms",
    "Usage",
    "amount_of",
    "amount_text",
    "default_accounts_path",
    "open_store",
    "parse_limit",
    "reconcile",
    "workers_folder",
]
