"""Labelled texts: read, cleaned, split, named by a fingerprint.

The recipe is chosen on the validation part and judged on the test part, so the three never share a text.
"""

from __future__ import annotations

import gzip
import random
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from negajoule.errors import CompressError, ConfigError
from negajoule.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["BUNDLED", "LabelledTexts", "Part", "Split", "load_texts", "split_rows"]

Part = Literal["train", "validation", "test"]

SHARES: tuple[tuple[Part, float], ...] = (("test", 0.2), ("validation", 0.15), ("train", 0.65))
FEWEST_OF_LABEL = 5
_PARTS: dict[str, Part] = {
    "train": "train",
    "validation": "validation",
    "dev": "validation",
    "valid": "validation",
    "test": "test",
}


class _Source(msgspec.Struct, frozen=True):
    """Files of a known set: one for each part that it has, and its columns."""

    files: tuple[tuple[str, Part | None], ...]
    label: str


BUNDLED: dict[str, _Source] = {
    "sms-spam": _Source((("sms_spam.jsonl.gz", None),), "label"),
    "goemotions-polarity": _Source(
        (
            ("goemotions_train.jsonl.gz", "train"),
            ("goemotions_dev.jsonl.gz", "validation"),
            ("goemotions_test.jsonl.gz", "test"),
        ),
        "polarity",
    ),
    "banking77": _Source(
        (("banking77_train.jsonl.gz", "train"), ("banking77_test.jsonl.gz", "test")), "category"
    ),
}
"""Sets that are known by name; their files lie in the folder ``compression`` of the data."""


class Split(msgspec.Struct, frozen=True):
    """One part: texts, and for each the number of its label."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int | None) -> Split:
        """The first rows; all for ``None``."""
        return self if count is None else Split(self.texts[:count], self.labels[:count])


class LabelledTexts(msgspec.Struct, frozen=True, kw_only=True):
    """A classification set.

    Attributes:
        name: the set's name, or the file's.
        labels: names of the labels, in the order of their numbers.
        train: what recipes learn from.
        validation: what recipes are chosen on.
        test: what figures are read on.
        notes: what was left out, and why.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()

    def part(self, name: Part) -> Split:
        """A part by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    @property
    def fingerprint(self) -> str:
        """Names the texts, labels and parts: two studies are of the same data if it is equal."""
        return fingerprint(msgspec.json.encode((self.labels, self.train, self.validation, self.test)))


class _Row(msgspec.Struct, frozen=True):
    text: str
    label: str
    part: Part | None = None


def load_texts(source: str, *, folder: Path, seed: int = 0, limit: int | None = None) -> LabelledTexts:
    """Read a set by name, or a file of JSON lines with ``text``, ``label`` and, if wanted, ``split``.

    Args:
        source: a name of ``BUNDLED`` or the path of a .jsonl or .jsonl.gz file.
        folder: where the data lies that names stand for.
        seed: of the split, where the set has none of its own.
        limit: at most so many rows of each part.

    Raises:
        ConfigError: (C106) if the file is missing or malformed.
        CompressError: (K102) if nothing can be learnt from it.
    """
    known = BUNDLED.get(source)
    rows: list[_Row] = []
    if known is None:
        path = Path(source)
        if not path.exists():
            names = ", ".join(BUNDLED)
            raise ConfigError(
                f"there is no file {source!r}, and no data set of this name",
                code="C106",
                fix=f"give a .jsonl file with text and label, or one of: {names}",
            )
        rows = list(_read(path, "label", None))
    else:
        for file, part in known.files:
            rows += _read(folder / "compression" / file, known.label, part)
    name = source if known is not None else Path(source).name
    return split_rows(name, [(row.text, row.label, row.part) for row in rows], seed=seed, limit=limit)


def split_rows(
    name: str,
    rows: Iterable[tuple[str, str, Part | None]],
    *,
    seed: int = 0,
    limit: int | None = None,
) -> LabelledTexts:
    """Clean rows and part them.

    Empty texts, repeated texts and labels with too few rows are left out, and the notes say how many. Rows
    that bring their part keep it; where a part is missing it is cut from the training rows.

    Args:
        name: of the set.
        rows: text, label, and part if it is fixed.
        seed: of the order and the cut.
        limit: at most so many rows of each part.

    Raises:
        CompressError: (K102) if nothing can be learnt from them.
    """
    notes: list[str] = []
    given = list(rows)
    filled = [row for row in given if row[0].strip()]
    if len(filled) < len(given):
        notes.append(f"{len(given) - len(filled)} empty texts were left out")
    # A text that stands in the test part may stand in no other.
    order = {"test": 0, "validation": 1, "train": 2, None: 3}
    distinct: dict[str, tuple[str, Part | None]] = {}
    for text, label, part in sorted(filled, key=lambda row: order[row[2]]):
        distinct.setdefault(text, (label, part))
    if len(distinct) < len(filled):
        notes.append(f"{len(filled) - len(distinct)} repeated texts were left out")
    counts = Counter(label for label, _ in distinct.values())
    fixed = any(part is not None for _, part in distinct.values())
    rare = set() if fixed else {label for label, count in counts.items() if count < FEWEST_OF_LABEL}
    if rare:
        notes.append(f"labels with fewer than {FEWEST_OF_LABEL} rows were left out: {_some(rare)}")
    parts: dict[Part, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    loose: list[tuple[str, str]] = []
    for text, (label, own) in distinct.items():
        if label not in rare:
            (loose if own is None else parts[own]).append((text, label))
    dice = random.Random(seed)
    dice.shuffle(loose)
    dice.shuffle(parts["train"])
    _deal(loose, parts)
    labels = tuple(sorted({label for _, label in parts["train"]}))
    if len(labels) < 2:
        only = f"only the label {labels[0]!r}" if labels else "no usable row"
        raise CompressError(
            f"{name} has {only}: nothing can be told apart",
            code="K102",
            fix="give a file of JSON lines with text and label, and at least two labels",
        )
    judged: tuple[Part, ...] = ("validation", "test")
    for part in judged:
        strange = {label for _, label in parts[part]} - set(labels)
        if strange:
            raise CompressError(
                f"the {part} part of {name} has labels that its training part never shows: {_some(strange)}",
                code="K102",
                fix="add training rows of these labels, or take the rows out",
            )
        if not parts[part]:
            raise CompressError(f"{name} has too few rows for a {part} part", code="K102")
    number = {label: index for index, label in enumerate(labels)}
    splits = {
        part: Split(tuple(t for t, _ in items[:limit]), tuple(number[label] for _, label in items[:limit]))
        for part, items in parts.items()
    }
    return LabelledTexts(
        name=name,
        labels=labels,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        notes=tuple(notes),
    )


def _deal(loose: Sequence[tuple[str, str]], parts: dict[Part, list[tuple[str, str]]]) -> None:
    """Fill the parts that are empty, label by label, from rows without a part, else from training rows."""
    wanted = [(part, share) for part, share in SHARES if not parts[part]]
    pool = list(loose)
    if not pool and any(part != "train" for part, _ in wanted):
        pool, parts["train"] = parts["train"], []
        wanted = [item for item in wanted if item[0] != "train"] + [("train", 1.0)]
    by_label: dict[str, list[tuple[str, str]]] = {}
    for row in pool:
        by_label.setdefault(row[1], []).append(row)
    for rows in by_label.values():
        start = 0
        for part, share in wanted:
            if part != "train":
                end = start + max(1, round(len(rows) * share))
                parts[part] += rows[start:end]
                start = end
        parts["train"] += rows[start:]
    # Labels in turn would make every batch of the test part one label.
    for part, _ in wanted:
        parts[part].sort(key=lambda row: zlib.crc32(row[0].encode()))


def _read(path: Path, label: str, part: Part | None) -> Iterable[_Row]:
    try:
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}", code="C106") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=dict)
        except msgspec.DecodeError:
            raise ConfigError(f"{path}, line {number}: no JSON object", code="C106") from None
        text, name, own = row.get("text"), row.get(label), row.get("split")
        if not isinstance(text, str) or not isinstance(name, (str, int)):
            raise ConfigError(
                f"{path}, line {number}: text and {label} must be there",
                code="C106",
                fix='{"text": "Where is my card?", "label": "card_arrival"}',
            )
        if own is not None and own not in _PARTS:
            raise ConfigError(f"{path}, line {number}: split must be one of {', '.join(_PARTS)}", code="C106")
        if name != "":
            yield _Row(text, str(name), part if own is None else _PARTS[own])


def _some(labels: Iterable[str], most: int = 5) -> str:
    ordered = sorted(labels)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(map(repr, ordered[:most])) + more
