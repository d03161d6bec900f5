"""Tables of outcomes: which model did how well on which query, with what tokens and energy.

The schema is two tables. Queries: ``query_id``, ``source``, ``benchmark``, ``prompt``. Outcomes:
``query_id``, ``model``, ``score`` (0..1), ``in_tokens``, ``out_tokens`` (-1 unknown), ``energy_j_model``
[J]. Gaps are NaN: a missing score, an energy that nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from negajoule.errors import ConfigError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["EVALUATION_ONLY", "Outcomes", "read_outcome_files", "read_outcomes"]

EVALUATION_ONLY = frozenset({"routerarena"})
_QUERIES = ("query_id", "source", "benchmark", "prompt")
_OUTCOMES = ("query_id", "model", "score", "in_tokens", "out_tokens", "energy_j_model")


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of a pool, queries x models; a gap is NaN.

    Attributes:
        prompts: text of each query.
        tasks: benchmark of each query.
        models: name of each model.
        score: 0..1.
        in_tokens: length of the prompt by each model's own count.
        out_tokens: length of the answer.
        energy_j: energy of the answer [J].
        evaluation_only: whether its authors forbid training on it.
    """

    prompts: list[str]
    tasks: NDArray[np.str_]
    models: tuple[str, ...]
    score: Floats
    in_tokens: Floats
    out_tokens: Floats
    energy_j: Floats
    evaluation_only: bool = False

    def __post_init__(self) -> None:
        shape = (len(self.prompts), len(self.models))
        for name in ("score", "in_tokens", "out_tokens", "energy_j"):
            if getattr(self, name).shape != shape:
                raise ConfigError(
                    f"{name} has shape {getattr(self, name).shape}, expected {shape}", code="C106"
                )
        if len(self.tasks) != len(self.prompts):
            raise ConfigError("every query needs a task", code="C106")

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: NDArray[Any]) -> Outcomes:
        """Some of the queries, by index or mask."""
        chosen = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Outcomes(
            [self.prompts[row] for row in chosen.tolist()],
            self.tasks[chosen],
            self.models,
            self.score[chosen],
            self.in_tokens[chosen],
            self.out_tokens[chosen],
            self.energy_j[chosen],
            self.evaluation_only,
        )

    def complete(self) -> Outcomes:
        """The queries with a score and an energy for every model."""
        return self.take(
            np.asarray(np.isfinite(self.score).all(axis=1) & np.isfinite(self.energy_j).all(axis=1))
        )


def read_outcomes(
    folder: Path, source: str, *, keep: Callable[[str], bool] = lambda benchmark: True
) -> Outcomes:
    """Read the outcomes of one source from ``queries.parquet`` and ``outcomes.parquet``.

    Args:
        folder: where both files are.
        source: which source's queries to read.
        keep: which benchmarks to read.

    Raises:
        ConfigError: C106 as ``read_outcome_files``.
        ExtraMissingError: without pyarrow.
    """
    return read_outcome_files(folder / "queries.parquet", folder / "outcomes.parquet", source, keep=keep)


def read_outcome_files(
    queries_path: Path,
    outcomes_path: Path,
    source: str | None = None,
    *,
    keep: Callable[[str], bool] = lambda benchmark: True,
) -> Outcomes:
    """Read the outcomes of one source from two files.

    Scores are clipped to 0..1. Of an outcome given twice the last counts.

    Args:
        queries_path: the queries.
        outcomes_path: the outcomes.
        source: which source's queries to read; ``None`` if there is but one.
        keep: which benchmarks to read.

    Raises:
        ConfigError: C106 if a file or column is missing, nothing is left, or the source is to be named.
        ExtraMissingError: without pyarrow.
    """
    queries = _columns(queries_path, _QUERIES)
    sources = sorted({str(name) for name in queries["source"]})
    if source is None:
        if len(sources) != 1:
            raise ConfigError(
                f"{queries_path} holds queries of {len(sources)} sources",
                code="C106",
                fix=f"name one with --source: {', '.join(sources) or 'there is none'}",
            )
        source = sources[0]
    outcomes = _columns(outcomes_path, _OUTCOMES)
    kept = [
        index
        for index, (origin, benchmark) in enumerate(zip(queries["source"], queries["benchmark"], strict=True))
        if origin == source and keep(benchmark)
    ]
    row_of = {queries["query_id"][index]: row for row, index in enumerate(kept)}
    chosen = [index for index, query in enumerate(outcomes["query_id"]) if query in row_of]
    if not chosen:
        raise ConfigError(
            f"{outcomes_path} holds no outcomes of source {source!r}",
            code="C106",
            fix=f"sources of the queries: {', '.join(sources)}",
        )
    models = tuple(sorted({outcomes["model"][index] for index in chosen}))
    column_of = {model: column for column, model in enumerate(models)}
    tables = {name: np.full((len(kept), len(models)), np.nan) for name in _OUTCOMES[2:]}
    for index in chosen:
        at = row_of[outcomes["query_id"][index]], column_of[outcomes["model"][index]]
        for name, table in tables.items():
            value = outcomes[name][index]
            if value is not None:
                table[at] = value
    for name in ("in_tokens", "out_tokens"):
        tables[name][tables[name] < 0] = np.nan
    return Outcomes(
        [queries["prompt"][index] or "" for index in kept],
        np.array([queries["benchmark"][index] for index in kept]),
        models,
        np.clip(tables["score"], 0.0, 1.0),
        tables["in_tokens"],
        tables["out_tokens"],
        tables["energy_j_model"],
        source in EVALUATION_ONLY,
    )


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, list[Any]]:
    parquet = require("pyarrow.parquet", extra="route", purpose="read tables of outcomes")
    try:
        table = parquet.read_table(path, columns=list(names))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{path} can't be read as a table with the columns {', '.join(names)}: {error}", code="C106"
        ) from error
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ConfigError(f"{path} lacks the columns {', '.join(missing)}", code="C106")
    return {name: table.column(name).to_pylist() for name in names}
