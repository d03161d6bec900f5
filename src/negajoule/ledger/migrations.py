"""The schema, as a numbered list of steps; a step that has landed is never edited."""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID = 0x6E656761  # "nega": tells our files from other people's databases

_FIRST = """
CREATE TABLE context (
    id      TEXT PRIMARY KEY,
    content TEXT NOT NULL              -- factors and notes, shared by many activities
) WITHOUT ROWID;

CREATE TABLE activity (
    number        INTEGER PRIMARY KEY, -- order of writing
    id            TEXT NOT NULL UNIQUE,
    started_s     REAL NOT NULL,
    seconds       REAL NOT NULL,
    kind          TEXT NOT NULL,
    stage         TEXT NOT NULL,
    status        TEXT NOT NULL,
    label         TEXT NOT NULL,
    model         TEXT NOT NULL,
    host          TEXT NOT NULL,
    zone          TEXT NOT NULL,
    tokens_in     INTEGER,
    tokens_cached INTEGER,
    tokens_out    INTEGER,
    cpu_seconds   REAL,
    boundary      TEXT NOT NULL,
    it_energy REAL,           it_energy_low REAL,           it_energy_high REAL,
    facility_energy REAL,     facility_energy_low REAL,     facility_energy_high REAL,
    carbon_location REAL,     carbon_location_low REAL,     carbon_location_high REAL,
    carbon_market REAL,       carbon_market_low REAL,       carbon_market_high REAL,
    water_onsite REAL,        water_onsite_low REAL,        water_onsite_high REAL,
    water_offsite REAL,       water_offsite_low REAL,       water_offsite_high REAL,
    embodied REAL,            embodied_low REAL,            embodied_high REAL,
    abiotic_depletion REAL,   abiotic_depletion_low REAL,   abiotic_depletion_high REAL,
    primary_energy REAL,      primary_energy_low REAL,      primary_energy_high REAL,
    bases         TEXT NOT NULL,       -- basis and boundary of each indicator, JSON
    parts         TEXT NOT NULL,       -- parts of the IT energy, JSON
    context       TEXT NOT NULL REFERENCES context (id)
);

CREATE INDEX activity_by_time ON activity (started_s);

CREATE TRIGGER activity_is_never_changed BEFORE UPDATE ON activity
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TRIGGER activity_is_never_deleted BEFORE DELETE ON activity
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""

_SECOND = """
CREATE TRIGGER context_is_never_changed BEFORE UPDATE ON context
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TRIGGER context_is_never_deleted BEFORE DELETE ON context
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""

_THIRD = """
ALTER TABLE activity ADD COLUMN inside TEXT NOT NULL DEFAULT ''; -- id of the row that holds this one's energy
"""

MIGRATIONS: tuple[tuple[int, str], ...] = ((1, _FIRST), (2, _SECOND), (3, _THIRD))
"""(number, SQL) of every step, in order."""
