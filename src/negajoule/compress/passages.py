"""Texts for generative models: some to calibrate on, others to judge on, cut into tokens."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.compress.toolbox import transformers
from negajoule.errors import CompressError, ConfigError
from negajoule.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BUNDLED_PASSAGES", "Passages", "read_passages", "tokens_of"]

BUNDLED_PASSAGES = {"gsm8k": ("gsm8k_train.jsonl.gz", "gsm8k_test.jsonl.gz")}
"""Sets known by name: what to calibrate on, what to judge on."""

_COLUMNS = ("text", "question", "prompt", "answer", "canonical_solution")
_FEWEST_TOKENS = 2


class Passages(NamedTuple):
    """Texts of two kinds.

    Attributes:
        name: of the set.
        calibration: may shape a model.
        test: judge it.
    """

    name: str
    calibration: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Names the texts."""
        return fingerprint(msgspec.json.encode((self.calibration, self.test)))


def read_passages(source: str, *, folder: Path, calibration: int, test: int) -> Passages:
    """Read texts.

    A file of JSON lines gives its first part to calibrate on and the rest to judge on, as many as are asked
    for; a text that is in both is judged on only.

    Args:
        source: a name of ``BUNDLED_PASSAGES``, or a .jsonl or .jsonl.gz file with ``text``, or ``question``
            and ``answer``.
        folder: where named sets lie, in ``compression``.
        calibration: how many texts to calibrate on, at most.
        test: how many to judge on, at most.

    Raises:
        ConfigError: (C106) if it can't be read.
        CompressError: (K102) if there's too little text.
    """
    if source in BUNDLED_PASSAGES:
        first, second = (_lines(folder / "compression" / name) for name in BUNDLED_PASSAGES[source])
    else:
        whole = _lines(Path(source))
        cut = min(calibration, len(whole) // 2)
        first, second = whole[:cut], whole[cut:]
    judged = tuple(dict.fromkeys(second))[:test]
    held = set(judged)
    shaping = tuple(text for text in dict.fromkeys(first) if text not in held)[:calibration]
    if len(judged) < min(test, _FEWEST_TOKENS):
        raise CompressError(
            f"{source} holds {len(judged)} texts to judge on", code="K102", fix="give a file with more texts"
        )
    return Passages(Path(source).name.partition(".")[0], shaping, judged)


def tokens_of(model: Path, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Texts as a GGUF model's tokens, cut at a length; texts of fewer than two tokens are left out.

    Raises:
        CompressError: (K101) if the file's tokenizer can't be read, (K102) if nothing is left.
        ExtraMissingError: (X101) without transformers.
    """
    cutter = _cutter(model)
    found = [cutter(text, add_special_tokens=False)["input_ids"][:longest] for text in texts]
    kept = [ids for ids in found if len(ids) >= _FEWEST_TOKENS]
    if not kept:
        raise CompressError("no text has two tokens or more", code="K102", fix="give longer texts")
    return kept


@cache
def _cutter(model: Path) -> Any:  # noqa: ANN401 (a tokenizer of transformers)
    try:
        return transformers().AutoTokenizer.from_pretrained(str(model.parent), gguf_file=model.name)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise CompressError(f"the tokenizer of {model.name} can't be read: {error}") from None


def _lines(file: Path) -> list[str]:
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rows = [msgspec.json.decode(line) for line in raw.splitlines() if line.strip()]
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise ConfigError(f"the texts {file} can't be read: {error}", code="C106") from None
    texts = [_text(row) for row in rows]
    return [text for text in texts if text]


def _text(row: Any) -> str:  # noqa: ANN401 (any JSON)
    if not isinstance(row, dict):
        return ""
    return "\n".join(str(row[name]) for name in _COLUMNS if isinstance(row.get(name), str)).strip()
