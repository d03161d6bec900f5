"""Everything that is stored, column by column; a test fails for what isn't in this list."""

from __future__ import annotations

from typing import NamedTuple

from negajoule.units import INDICATORS

__all__ = ["MEMORY", "NEVER", "SENT", "STORED", "Place", "Table"]


class Table(NamedTuple):
    """A table of a database.

    Attributes:
        name: its name.
        columns: meaning of columns, to their names with blanks between.
    """

    name: str
    columns: dict[str, str]

    def column_names(self) -> set[str]:
        """Every column that the list knows."""
        return {name for names in self.columns.values() for name in names.split()}


class Place(NamedTuple):
    """A file, or files, in the data folder.

    Attributes:
        name: what people call it.
        pattern: where it is, relative to the data folder; ``*`` stands for any name.
        holds: what is in it.
        until: when it goes away.
        tables: its tables, if it is a database.
    """

    name: str
    pattern: str
    holds: str
    until: str
    tables: tuple[Table, ...] = ()


_FIGURES = " ".join(f"{name}{end}" for name in INDICATORS for end in ("", "_low", "_high"))

STORED: tuple[Place, ...] = (
    Place(
        "ledger",
        "ledger.sqlite",
        "one row for each request, command or window measured, and for idle time of the server",
        "you remove it: it is append-only",
        (
            Table(
                "activity",
                {
                    "order, id, start and length": "number id started_s seconds",
                    "what sort of work it was and how it ended": "kind stage status",
                    "the label you gave, or the command line": "label",
                    "name of the model": "model",
                    "hash of the machine's id": "host",
                    "place of the electricity": "zone",
                    "counts of tokens, CPU time": "tokens_in tokens_cached tokens_out cpu_seconds",
                    "id of the row that it is part of": "inside",
                    "footprint with ranges": f"boundary {_FIGURES} bases parts",
                    "what it shares with other rows": "context",
                },
            ),
            Table(
                "context",
                {"name of the API key with team and project, factors, notes, joules avoided": "id content"},
            ),
        ),
    ),
    Place(
        "rows on their way",
        "ledger.*.journal",
        "rows of the ledger that wait for their commit",
        "the server when they are in the ledger, or the next start",
    ),
    Place(
        "rescued rows",
        "ledger.rescue.jsonl",
        "rows of the ledger that couldn't be written",
        "the next start, which merges them",
    ),
    Place(
        "unread rows",
        "ledger.rescue.unread.jsonl",
        "rescued rows that couldn't be read",
        "you remove it",
    ),
    Place(
        "journals of runs",
        "journal/*.jsonl",
        "running totals of measured work, with label, process id and hash of the machine's id",
        "the run ends, or the next command books what was killed",
    ),
    Place(
        "API keys",
        "keys.sqlite",
        "who may use the server; of the keys themselves only SHA-256 hashes",
        "you remove it: revoked keys stay, so that no name is given twice",
        (
            Table(
                "api_key",
                {
                    "names you gave": "name team project",
                    "what it may do": "scopes models",
                    "days of making, last use and revocation": "created_day last_used_day revoked_day",
                    "when it ends": "expires_s",
                },
            ),
            Table("api_key_secret", {"hash of the secret, whose it is, when it ends": "digest name until_s"}),
        ),
    ),
    Place(
        "budgets",
        "accounts.sqlite",
        "limits and sums of use; in your PostgreSQL instead if the setting accounts says so",
        "you remove it",
        (
            Table(
                "budget_store",
                {"identity and version of the store": "only_row identity schema_version version"},
            ),
            Table(
                "budget_account",
                {
                    "whose requests count: a key, team, project or model": "id scope name",
                    "what counts, how long, how much": "indicator window_kind window_number allowed closed",
                },
            ),
            Table(
                "budget_period",
                {
                    "which budget and window": "account window_number",
                    "sums of the window": (
                        "allowed highest claimed spent forfeited overrun requests refusals"
                    ),
                },
            ),
            Table("budget_worker", {"servers that lease from it": "id lease_s expires_s closed"}),
            Table(
                "budget_slice",
                {
                    "what a server has leased and used": (
                        "worker account window_number granted returned spent overrun requests refusals"
                    )
                },
            ),
            Table(
                "budget_entry",
                {"every change of a budget": ("number at_s event account window_number worker amount")},
            ),
        ),
    ),
    Place(
        "journals of servers",
        "workers/*.jsonl",
        "costs of requests that budgets count, by number, since a server started",
        "the server ends, or the next one closes it",
    ),
    Place(
        "routing decisions",
        "routes/*.jsonl",
        "of each call for a pool of models: id, who answered with which probability, what was expected of "
        "each model, joules used, and the score if somebody judged it; no text, no caller",
        "you remove it; at 64 MiB the file before goes",
    ),
    Place(
        "grid hours",
        "grid/hours/*",
        "intensities that grid sources told, by source, zone and hour",
        "40 days later",
    ),
    Place(
        "grid failures",
        "grid/circuits/*",
        "which grid source failed last and until when it is left alone; never a key",
        "the source answers again",
    ),
    Place(
        "batches",
        "batches/*",
        "batches that clients left here: endpoint, times, counts, metadata, name of the API key",
        "batch_keep_days after they were made",
    ),
    Place(
        "files of batches",
        "batches/files/*",
        "PROMPTS AND ANSWERS of batches, with the file's name and its owner's API key's name",
        "their owner deletes them, or batch_keep_days later",
    ),
    Place("calibration", "calibration.json", "watts of this machine, as it was calibrated", "you remove it"),
    Place(
        "calibrations of serving",
        "serving-calibrations.json",
        "idle and active power and a factor on time of models that you calibrated, with server's address",
        "you remove it, or negajoule calibrate --serving --forget",
    ),
    Place(
        "profiles",
        "profiles/*.json",
        "times, CPU times and energies of a model's phases, with processor and hash of the machine's id",
        "you remove them",
    ),
    Place(
        "boards held at a setting",
        "boards/*.json",
        "power limit of a GPU before it was changed, with its UUID and the process that changed it",
        "the setting is undone",
    ),
    Place("curve of clocks", "curve.csv", "energy and time by clock or power limit", "you remove it"),
    Place(
        "siblings of the packaged model",
        "models/*",
        "the packaged model in other number formats, with their hashes",
        "you remove them; they're made again when they're needed",
    ),
    Place(
        "studies of compression",
        "compress/*",
        "compressed models, their cards, and what a study measured on your texts: labels told and their "
        "times, not the texts",
        "you remove them",
    ),
    Place(
        "compiled simulator",
        "compiled/*",
        "the core of the simulator of serving, compiled for this machine",
        "you remove it; it's made again when it's needed",
    ),
    Place("your facts", "catalog/*.csv", "rows that you put beside the catalogue's", "you remove them"),
    Place("your settings", "config.toml", "settings that you wrote", "you remove it"),
)
"""Everything that is stored."""

MEMORY: dict[str, str] = {
    "cache": "a hash of each question with its caller's name, and its answer, until it is 24 times "
    "cache_ttl_s old, has to make room, or the server ends; prompts aren't kept",
    "pool": "of the last 10,000 calls for pools a hash of the conversation, the caller's name, and what was "
    "predicted, so that answers can be judged; no text",
}
"""What a running server keeps in memory once you switch it on, by setting; it reaches no disk."""

NEVER: tuple[str, ...] = (
    "prompts, answers, and what stands in them: they pass through memory only, but for files of batches",
    "API keys in clear, of yours and of upstreams: ours as hashes, theirs in the environment that you set",
    "addresses, cookies and names of programs of clients",
    "contents of a chat archive (negajoule estimate --chatgpt-export)",
)
"""What is never stored."""

SENT: dict[str, str] = {
    "grid_source": "zone or region, hours asked for and your key, to the grid sources that you name",
    "cloud_metadata": "a question for its region, to the metadata server of your own machine",
    "upstream": "requests with their bodies and the upstream's key, to the servers that you name",
    "accounts": "names and sums of budgets, to the PostgreSQL server that you name",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "a span a request (model, tokens, energy, key's name), to that address",
}
"""What leaves this machine once you switch it on, by setting; without these nothing does."""
