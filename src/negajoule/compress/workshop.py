"""The study's folder: what is finished stays finished, what isn't doesn't count.

    plan.json                     what is studied
    baseline/                     the artefact before
    engine-onnx/                  the same weights in the engine that recipes change to
    recipes/NAME/0-distil/        an artefact for each step, with cost.json
    answers/NAME.PART.json        what each artefact answered
    rounds.jsonl                  a line for each round in which *all* artefacts were measured
    peaks.json                    the most memory that each process held
    spent.jsonl                   all that was measured, whether or not it came into the result
    logs/                         what workers printed

An artefact is made under another name and moved into place when it is whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from negajoule.compress.artefact import ABOUT
from negajoule.compress.passes import Cost, Latency, Pass
from negajoule.errors import CompressError, ConfigError
from negajoule.ledger import Stage, new_id
from negajoule.meter import Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from negajoule.compress.recipe import Recipe
    from negajoule.compress.texts import Part

__all__ = ["Answered", "Round", "Seen", "Spent", "Workshop"]

_T = TypeVar("_T")


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work for the ledger.

    Attributes:
        id: its row's.
        label: what was done to what.
        stage: of the life cycle.
        started_s: UTC seconds since 1970 [s].
        window: what the meter saw.
    """

    id: str
    label: str
    stage: Stage
    started_s: float
    window: Window


class Seen(msgspec.Struct, frozen=True):
    """One artefact in one round."""

    measured: Pass
    latency: Latency


class Round(msgspec.Struct, frozen=True):
    """One round: every artefact once, in the order of the keys."""

    seen: dict[str, Seen]


class Answered(msgspec.Struct, frozen=True):
    """What an artefact answered to a part, and to which texts."""

    fingerprint: str
    rows: list[list[float]]


class Workshop:
    """The folder of a study.

    Args:
        folder: made if it isn't there.

    Raises:
        ConfigError: (C106) if it can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            for name in ("recipes", "answers", "logs"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"can't use the folder {folder}: {error.strerror}", code="C106") from None

    def keep_plan(self, plan: dict[str, object]) -> None:
        """Write down what is studied, or find that it is the same as before.

        Raises:
            CompressError: (K107) if this folder holds another study.
        """
        file = self.folder / "plan.json"
        text = msgspec.json.encode(plan, order="sorted")
        if not file.exists():
            file.write_bytes(msgspec.json.format(text, indent=1))
            return
        known = msgspec.json.decode(file.read_bytes())
        new = msgspec.json.decode(text)
        differing = sorted(key for key in {*known, *new} if known.get(key) != new.get(key))
        if differing:
            key = differing[0]
            raise CompressError(
                f"the folder {self.folder} holds a study with another {key}: {known.get(key)!r} there, "
                f"{new.get(key)!r} here",
                code="K107",
                fix="give another --folder, or delete this one",
            )

    def recipe_folder(self, recipe: Recipe) -> Path:
        """Where a recipe's artefacts lie; emptied if they were made by other steps under this name."""
        folder = self.folder / "recipes" / recipe.name
        note = folder / "recipe.json"
        text = msgspec.json.encode(recipe)
        if folder.exists() and (not note.exists() or note.read_bytes() != text):
            shutil.rmtree(folder)
            for file in (self.folder / "answers").glob(f"{recipe.name}.*.json"):
                file.unlink()
            (self.folder / "rounds.jsonl").unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        note.write_bytes(text)
        return folder

    @contextmanager
    def making(self, target: Path) -> Iterator[Path]:
        """A scratch folder that becomes the target if all goes well, and vanishes if not."""
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
            inside = target.parent / os.path.basename(scratch) / "artefact"  # noqa: PTH119
            inside.mkdir()
            yield inside
            inside.rename(target)

    @staticmethod
    def finished(target: Path) -> Cost | None:
        """What a finished artefact took; ``None`` if there is none."""
        if not (target / ABOUT).exists():
            return None
        return msgspec.json.decode((target / "cost.json").read_bytes(), type=Cost)

    def keep_cost(self, target: Path, cost: Cost, label: str) -> None:
        """Write down what an artefact took, beside it and in the list of all."""
        (target / "cost.json").write_bytes(msgspec.json.encode(cost))
        stage: Stage = "training" if cost.losses or cost.step in _TRAINING else "development"
        self.spend(label, stage, cost.started_s, cost.window)

    def spend(self, label: str, stage: Stage, started_s: float, window: Window) -> None:
        """Add a piece of work to the list of all."""
        spent = Spent(id=new_id("run"), label=label, stage=stage, started_s=started_s, window=window)
        self._append("spent.jsonl", spent)

    def spent(self) -> list[Spent]:
        """All that was measured, by every run in this folder."""
        return self._lines("spent.jsonl", Spent)

    def keep_answers(self, name: str, part: Part, fingerprint: str, rows: list[list[float]]) -> None:
        """Write down what an artefact answered."""
        file = self.folder / "answers" / f"{name}.{part}.json"
        scratch = file.with_suffix(".part")
        scratch.write_bytes(msgspec.json.encode(Answered(fingerprint, rows)))
        scratch.rename(file)

    def answers(self, name: str, part: Part, fingerprint: str) -> list[list[float]] | None:
        """What an artefact answered; ``None`` if it wasn't asked.

        Raises:
            CompressError: (K107) if it was asked other texts.
        """
        file = self.folder / "answers" / f"{name}.{part}.json"
        if not file.exists():
            return None
        found = msgspec.json.decode(file.read_bytes(), type=Answered)
        if found.fingerprint != fingerprint:
            raise CompressError(f"{name} was asked other texts", code="K107", fix=f"delete {file}")
        return found.rows

    def keep_round(self, found: Round) -> None:
        """Add a round; only a whole one is ever given."""
        self._append("rounds.jsonl", found)

    def rounds(self, names: list[str]) -> list[Round]:
        """Whole rounds of exactly these artefacts."""
        return [one for one in self._lines("rounds.jsonl", Round) if set(one.seen) == set(names)]

    def keep_peaks(self, peaks: dict[str, int]) -> dict[str, int]:
        """Write down the most memory that processes held; the most of all runs in this folder [B]."""
        file = self.folder / "peaks.json"
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, int]) if file.exists() else {}
        most = {**known, **{name: max(peak, known.get(name, 0)) for name, peak in peaks.items()}}
        file.write_bytes(msgspec.json.encode(most))
        return most

    def _append(self, name: str, row: object) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")

    def _lines(self, name: str, kind: type[_T]) -> list[_T]:
        file = self.folder / name
        if not file.exists():
            return []
        # A line without its end was cut off by whatever interrupted us.
        lines = file.read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line, type=kind) for line in lines]


_TRAINING = frozenset({"distil", "recover", "bag"})
