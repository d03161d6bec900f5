"""Artefacts: a folder with a model of any kind, and ``negajoule.json`` that says what it is.

The file holds what a few probe texts gave when the artefact was made. An artefact that gives anything else
when it is loaded again, in another process, is refused.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from negajoule.compress.texts import LabelledTexts
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ABOUT",
    "RUNNERS",
    "Answers",
    "Artefact",
    "Bench",
    "Runner",
    "check_reload",
    "finish",
    "open_runner",
    "read_artefact",
    "size_bytes",
]

ABOUT = "negajoule.json"
_UNCOUNTED = {ABOUT, "README.md", "cost.json"}
PROBES = 8
TOLERANCE = 1e-6

RUNNERS: dict[str, str] = {
    "torch": "negajoule.compress.run_torch:open_torch",
    "torch-int8": "negajoule.compress.torch_int8:open_torch_int8",
    "onnx": "negajoule.compress.run_onnx:open_onnx",
    "bag": "negajoule.compress.bag:open_bag",
}
"""What runs each kind of artefact: ``(folder, about, threads) -> Runner``."""


class Answers(NamedTuple):
    """What a batch of texts gave.

    Attributes:
        rows: for each text its numbers; for a classifier one score a label.
        phases_s: CPU time of each phase [s].
    """

    rows: list[list[float]]
    phases_s: dict[str, float]


class Runner(Protocol):
    """A loaded artefact."""

    def run(self, texts: Sequence[str]) -> Answers:
        """Answer one batch."""


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds.

    Attributes:
        kind: which runner it needs.
        labels: in the order of the scores.
        max_length: texts are cut after so many tokens.
        pad: number of the padding token.
        engine: library that runs it, with version.
        precision: of its weights.
        model: the model that it was made from.
        data: fingerprint of the texts that it was made with.
        steps: what was done to it.
        parameters: number of weights; ``None`` if unknown.
        probe_texts: texts whose answers are known.
        probe_rows: the answers.
        files: SHA-256 of each file.
    """

    schema: str = "negajoule.artefact/1"
    kind: str
    labels: tuple[str, ...]
    max_length: int
    pad: int = 0
    engine: str
    precision: str
    model: str
    data: str
    steps: tuple[str, ...] = ()
    parameters: int | None = None
    probe_texts: tuple[str, ...] = ()
    probe_rows: tuple[tuple[float, ...], ...] = ()
    files: dict[str, str] = {}


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step works.

    Attributes:
        source: the artefact it starts from.
        target: an empty folder for the next one.
        teacher: the artefact whose answers are to be kept.
        texts: labelled texts.
        threads: that it may use.
        seed: of all that is random.
    """

    source: Path
    target: Path
    teacher: Path
    texts: LabelledTexts
    threads: int = 1
    seed: int = 0


def read_artefact(folder: Path) -> Artefact:
    """What a folder says that it holds.

    Raises:
        CompressError: (K101) if it is no artefact, or its files aren't those that were written.
    """
    try:
        about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=Artefact)
    except (OSError, msgspec.DecodeError) as error:
        raise CompressError(f"{folder} is no artefact of negajoule: {error}") from None
    for name, digest in about.files.items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise CompressError(
                f"{folder / name} is missing or not as it was written", fix="make the artefact again"
            )
    return about


def open_runner(folder: Path, threads: int = 1) -> Runner:
    """Load an artefact.

    Raises:
        CompressError: (K101) if it can't be loaded.
        ExtraMissingError: (X101) without the library that runs it.
    """
    about = read_artefact(folder)
    home = RUNNERS.get(about.kind)
    if home is None:
        raise CompressError(f"{folder} is of an unknown kind: {about.kind!r}")
    module, _, name = home.partition(":")
    runner: Runner = getattr(import_module(module), name)(folder, about, threads)
    return runner


def finish(folder: Path, about: Artefact, runner: Runner, texts: Sequence[str]) -> Artefact:
    """Write ``negajoule.json``, last of all files: a folder without it isn't an artefact.

    Args:
        folder: with all other files of the artefact.
        about: what it is.
        runner: the model as it is now, in memory.
        texts: some to probe it with.
    """
    probes = tuple(sorted(texts, key=len)[:: max(1, len(texts) // PROBES)][:PROBES])
    done = msgspec.structs.replace(
        about,
        probe_texts=probes,
        probe_rows=tuple(tuple(row) for row in runner.run(probes).rows),
        files={
            path.relative_to(folder).as_posix(): _digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in _UNCOUNTED
        },
    )
    (folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(done), indent=1))
    return done


def check_reload(folder: Path, runner: Runner) -> None:
    """Compare what a loaded artefact gives with what it gave when it was made.

    Raises:
        CompressError: (K105) if they differ.
    """
    about = read_artefact(folder)
    if not about.probe_texts:
        return
    worst = 0.0
    for old, new in zip(about.probe_rows, runner.run(about.probe_texts).rows, strict=True):
        scale = max(1.0, *map(abs, old))
        gaps = [abs(a - b) / scale for a, b in zip(old, new, strict=True)]
        worst = max(worst, *(gap if gap == gap else float("inf") for gap in gaps))
    if worst > TOLERANCE:
        raise CompressError(
            f"{folder.name} answers differently after it was loaded again, by {worst:.2g} of its scores",
            code="K105",
            fix="this artefact must not be used; please report the recipe and the versions of the libraries",
        )


def size_bytes(folder: Path) -> int:
    """What an artefact takes on disk, notes apart [B]."""
    return sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name not in _UNCOUNTED
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
