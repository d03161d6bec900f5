"""What is said between a study and its workers: orders and replies, as JSON lines."""

from __future__ import annotations

from pathlib import Path

import msgspec

from negajoule.compress.fine_tune import FineTuning
from negajoule.compress.passes import Cost, Latency, Opened, Pass
from negajoule.compress.steps import Step
from negajoule.compress.texts import LabelledTexts, Part, load_texts
from negajoule.errors import CompressError

__all__ = ["Order", "Reply", "TextSource"]


class TextSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker reads the texts; it must find the very same.

    Attributes:
        source: name or file.
        folder: where named sets lie.
        seed: of the split.
        limit: rows of each part.
        fingerprint: of the texts that are expected.
    """

    source: str
    folder: str
    seed: int
    limit: int | None
    fingerprint: str

    def load(self) -> LabelledTexts:
        """Read them.

        Raises:
            CompressError: (K107) if they changed meanwhile.
        """
        texts = load_texts(self.source, folder=Path(self.folder), seed=self.seed, limit=self.limit)
        if texts.fingerprint != self.fingerprint:
            raise CompressError(
                f"the texts of {self.source} changed while they were studied",
                code="K107",
                fix="begin a new study in another folder",
            )
        return texts


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker shall do.

    Attributes:
        do: begin (with texts), baseline, step, open, answer, single or end.
        texts: for begin.
        threads: for begin.
        seed: for begin.
        source: folder of an artefact, or of a model for baseline.
        target: empty folder to write to.
        teacher: folder of the baseline.
        step: what to do to the source.
        name: of the model.
        tuning: how to train a head.
        max_length: tokens after which texts are cut.
        part: of the texts.
        count: the first so many of them; all by default.
        batch: texts at once.
        rows: whether the answers are wanted.
    """

    do: str
    texts: TextSource | None = None
    threads: int = 1
    seed: int = 0
    source: str = ""
    target: str = ""
    teacher: str = ""
    step: Step | None = None
    name: str = ""
    tuning: FineTuning | None = None
    max_length: int = 128
    part: Part = "test"
    count: int | None = None
    batch: int = 32
    rows: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of an order: one of these fields.

    Attributes:
        cost: of a step.
        opened: the artefact is ready.
        rows: answers, one a text.
        measured: a pass.
        latency: times of single texts.
        peak_bytes: the most memory that the process ever held [B].
        error: code, message and fix of what went wrong.
    """

    cost: Cost | None = None
    opened: Opened | None = None
    rows: list[list[float]] | None = None
    measured: Pass | None = None
    latency: Latency | None = None
    peak_bytes: int | None = None
    error: tuple[str, str, str] | None = None
