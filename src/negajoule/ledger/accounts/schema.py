"""The tables of the durable stores, in numbered steps; a step that has landed is never edited.

One text serves SQLite and PostgreSQL but for the type of numbers that the database hands out, and for the
guards that keep the journal append-only.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["APPLICATION_ID", "VERSION", "Dialect", "steps"]

Dialect = Literal["sqlite", "postgres"]

APPLICATION_ID = 0x6E656762  # "negb": tells our files from other people's databases

_FIRST = (
    """
CREATE TABLE budget_store (
    only_row       INTEGER PRIMARY KEY CHECK (only_row = 1),
    identity       TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    version        BIGINT NOT NULL         -- counts changes of budgets
)""",
    """
CREATE TABLE budget_account (
    id            {numbered},
    scope         TEXT NOT NULL,
    name          TEXT NOT NULL,
    indicator     TEXT NOT NULL,
    window_kind   TEXT NOT NULL,
    allowed       BIGINT NOT NULL,
    closed        INTEGER NOT NULL DEFAULT 0,
    window_number BIGINT NOT NULL DEFAULT 0  -- the latest window seen: it never falls
)""",
    """
CREATE UNIQUE INDEX budget_account_terms
    ON budget_account (scope, name, indicator, window_kind) WHERE closed = 0""",
    """
CREATE TABLE budget_period (
    account       BIGINT NOT NULL REFERENCES budget_account (id),
    window_number BIGINT NOT NULL,
    allowed       BIGINT NOT NULL,
    highest       BIGINT NOT NULL,
    claimed       BIGINT NOT NULL DEFAULT 0, -- sum of the slices' claims, closed workers' included
    spent         BIGINT NOT NULL DEFAULT 0,
    forfeited     BIGINT NOT NULL DEFAULT 0,
    overrun       BIGINT NOT NULL DEFAULT 0,
    requests      BIGINT NOT NULL DEFAULT 0,
    refusals      BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account, window_number)
)""",
    """
CREATE TABLE budget_worker (
    id        TEXT PRIMARY KEY,
    lease_s   DOUBLE PRECISION NOT NULL,
    expires_s DOUBLE PRECISION NOT NULL,
    closed    INTEGER NOT NULL DEFAULT 0
)""",
    """
CREATE TABLE budget_slice (
    worker        TEXT NOT NULL REFERENCES budget_worker (id),
    account       BIGINT NOT NULL,
    window_number BIGINT NOT NULL,
    granted       BIGINT NOT NULL,
    returned      BIGINT NOT NULL,
    spent         BIGINT NOT NULL,
    overrun       BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    refusals      BIGINT NOT NULL,
    PRIMARY KEY (worker, account, window_number),
    FOREIGN KEY (account, window_number) REFERENCES budget_period (account, window_number)
)""",
    "CREATE INDEX budget_slice_by_account ON budget_slice (account, window_number)",
    """
CREATE TABLE budget_entry (
    number        {numbered},              -- order of writing
    at_s          DOUBLE PRECISION NOT NULL,
    event         TEXT NOT NULL,           -- grant, return, overrun, forfeit; open, limit, close
    account       BIGINT NOT NULL,
    window_number BIGINT,
    worker        TEXT,
    amount        BIGINT NOT NULL          -- what the claims changed by, or the limit
)""",
)

_NUMBERED: dict[Dialect, str] = {
    "sqlite": "INTEGER PRIMARY KEY",
    "postgres": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
}

_APPEND_ONLY: dict[Dialect, tuple[str, ...]] = {
    "sqlite": tuple(
        f"CREATE TRIGGER budget_entry_{verb} BEFORE {verb} ON budget_entry "
        "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    "postgres": (
        "CREATE FUNCTION budget_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'the journal is append-only'; END$$",
        "CREATE TRIGGER budget_entry_append_only BEFORE UPDATE OR DELETE ON budget_entry "
        "FOR EACH ROW EXECUTE FUNCTION budget_entry_refuse()",
    ),
}

VERSION = 1
"""The newest step."""


def steps(dialect: Dialect) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Every step's number and statements, in order."""
    first = tuple(statement.format(numbered=_NUMBERED[dialect]) for statement in _FIRST)
    return ((1, first + _APPEND_ONLY[dialect]),)
