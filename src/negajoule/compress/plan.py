"""What is studied, and what was made for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.compress.fine_tune import FineTuning
from negajoule.compress.recipe import Recipe

if TYPE_CHECKING:
    from negajoule.compress.passes import Cost

__all__ = ["BASELINE", "TWIN", "Made", "Plan"]

BASELINE = "baseline"
TWIN = "engine"
"""Name of the row that changes the engine and nothing else, where recipes change it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is studied, and how.

    Attributes:
        model: folder of a model, or a packaged one's name.
        data: name of a set of labelled texts, or a file.
        recipes: to try.
        data_folder: where named sets lie.
        tuning: how the model gets a head, if it has none for these labels.
        max_length: tokens after which texts are cut, for all artefacts.
        batch: texts at once, for all artefacts.
        threads: of each worker.
        rounds: how often each artefact is measured.
        measured: texts of a round; the first of the test part.
        single: texts of a round that are timed one by one.
        limit: rows of each part at most; all by default.
        seed: of all that is random.
    """

    model: str
    data: str
    recipes: tuple[Recipe, ...]
    data_folder: Path
    tuning: FineTuning = FineTuning()
    max_length: int = 128
    batch: int = 32
    threads: int = 1
    rounds: int = 9
    measured: int = 256
    single: int = 16
    limit: int | None = None
    seed: int = 0


class Made(NamedTuple):
    """An artefact, and what each step on the way to it took."""

    name: str
    folder: Path
    costs: tuple[Cost, ...]
    recipe: str = ""
