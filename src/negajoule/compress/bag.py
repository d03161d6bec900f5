"""A bag of embeddings: the smallest shape that can keep a teacher's answers where single words decide.

    scores = mean(vector of each token, vector of each pair of neighbours) W + b

(fastText's shape: Joulin et al., 2016.) It runs on numpy alone; its file is safetensors.
"""

from __future__ import annotations

import math
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.compress.artefact import Answers, Artefact, Bench, finish, read_artefact
from negajoule.compress.cutter import TOKENIZER, Cutter
from negajoule.compress.teacher import ask_teacher
from negajoule.compress.toolbox import library, torch
from negajoule.compress.training import seed_all
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from negajoule.compress.steps import Bag

__all__ = ["BagRunner", "Weights", "features", "open_bag", "teach_bag"]

FILE = "bag.safetensors"
BATCH = 64
MULTIPLIER = 0x9E3779B1
"""Knuth's multiplicative hash, 2^32 over the golden ratio (The Art of Computer Programming 3, 6.4)."""


class Weights(NamedTuple):
    """Tables of a bag.

    Attributes:
        tokens: a vector a token.
        pairs: a vector for each hash of a pair; no row if pairs aren't looked at.
        out: vectors to scores.
        bias: of the scores.
    """

    tokens: Any
    pairs: Any
    out: Any
    bias: Any


class BagRunner:
    """Tables in memory.

    Args:
        weights: the tables.
        folder: with the tokenizer.
        max_length: tokens after which a text is cut.
    """

    def __init__(self, weights: Weights, folder: Path, max_length: int) -> None:
        import numpy as np

        # One table, so that one gather does: the pairs' rows come after the tokens'.
        self._table = np.concatenate([weights.tokens, weights.pairs])
        self._first_pair, self._pairs = len(weights.tokens), len(weights.pairs)
        self._out, self._bias = weights.out, weights.bias
        self.cutter = Cutter(folder, max_length)

    def run(self, texts: Sequence[str]) -> Answers:
        """Scores of one batch."""
        import numpy as np

        start_s = time.process_time()
        ids = self.cutter.cut(texts)
        cut_s = time.process_time()
        flat, starts = features(ids, self._first_pair, self._pairs)
        sums = np.add.reduceat(self._table[flat], starts, axis=0)
        counts = np.diff([*starts, len(flat)])
        scores = (sums / counts[:, None]) @ self._out + self._bias
        return Answers(scores.tolist(), {"tokenise": cut_s - start_s, "compute": time.process_time() - cut_s})


def features(ids: Sequence[Sequence[int]], first_pair: int, pairs: int) -> tuple[Any, Any]:
    """Rows of the table for each text, one after the other, and where each text starts.

    Args:
        ids: token numbers; at least one a text.
        first_pair: the table's row at which pairs begin.
        pairs: how many rows they have.
    """
    import numpy as np

    lengths = np.array([len(found) for found in ids])
    tokens = np.array([token for found in ids for token in found], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    if not pairs:
        return tokens, begins
    hashes = ((tokens[:-1] * 31 + tokens[1:]) * MULTIPLIER & 0xFFFFFFFF) % pairs + first_pair
    keep = np.ones(len(hashes), dtype=bool)
    keep[begins[1:] - 1] = False  # no pair over the edge of two texts
    text_of = np.repeat(np.arange(len(ids)), lengths)
    owner = np.concatenate([text_of, text_of[:-1][keep]])
    order = np.argsort(owner, kind="stable")
    flat = np.concatenate([tokens, hashes[keep]])[order]
    totals = np.bincount(owner, minlength=len(ids))
    return flat, np.concatenate([[0], np.cumsum(totals)[:-1]])


def teach_bag(step: Bag, bench: Bench) -> None:
    """Teach a bag the teacher's answers and the labels.

    Raises:
        CompressError: (K104) if training diverges.
    """
    seed_all(bench.seed, bench.threads)
    lib = torch()
    nn = lib.nn
    before = read_artefact(bench.source)
    cutter = Cutter(bench.source, before.max_length, before.pad)
    answers = ask_teacher(bench)
    ids = cutter.cut(bench.texts.train.texts)
    tokens = cutter.vocabulary_size
    table = nn.EmbeddingBag(tokens + step.pairs, step.width, mode="mean", sparse=True)
    nn.init.normal_(table.weight, std=1 / math.sqrt(step.width))
    with lib.no_grad():
        table.weight[tokens:] = 0.0  # a pair that was never seen says nothing
    out = nn.Linear(step.width, len(before.labels))
    tables = lib.optim.SparseAdam(list(table.parameters()), step.rate)
    lines = lib.optim.Adam(out.parameters(), step.rate)
    soft = nn.functional.softmax(answers.scores, dim=-1)
    for _ in range(step.epochs):
        for rows in lib.randperm(len(ids)).split(BATCH):
            flat, starts = features([ids[row] for row in rows.tolist()], tokens, step.pairs)
            scores = out(table(lib.from_numpy(flat), lib.from_numpy(starts)))
            loss = (1 - step.labels) * nn.functional.cross_entropy(
                scores, soft[rows]
            ) + step.labels * nn.functional.cross_entropy(scores, answers.truth[rows])
            if not math.isfinite(float(loss.detach())):
                raise CompressError(
                    "training diverged", code="K104", fix="lower the learning rate (rate=...)"
                )
            loss.backward()
            for one in (tables, lines):
                one.step()
                one.zero_grad()
    whole = table.weight.detach()
    weights = Weights(
        whole[:tokens].numpy().copy(),
        whole[tokens:].numpy().copy(),
        out.weight.detach().T.contiguous().numpy(),
        out.bias.detach().numpy(),
    )
    shutil.copyfile(bench.source / TOKENIZER, bench.target / TOKENIZER)
    library("safetensors.numpy", "write weights").save_file(weights._asdict(), bench.target / FILE)
    about: Artefact = msgspec.structs.replace(
        before,
        kind="bag",
        engine=f"numpy {library('numpy', 'run a bag').__version__}",
        precision="fp32",
        data=bench.texts.fingerprint,
        steps=(*before.steps, f"distilled to a bag {step.width} wide"),
        parameters=sum(part.size for part in weights),
        files={},
    )
    runner = BagRunner(weights, bench.target, about.max_length)
    finish(bench.target, about, runner, bench.texts.train.texts)


def open_bag(folder: Path, about: Artefact, threads: int) -> BagRunner:
    """Load an artefact of kind ``bag``; numpy decides itself about threads.

    Raises:
        CompressError: (K101) if its file doesn't load.
    """
    try:
        data = library("safetensors.numpy", "read weights").load_file(folder / FILE)
        weights = Weights(**data)
    except (OSError, TypeError, ValueError) as error:
        raise CompressError(f"{folder / FILE} can't be read: {error}") from None
    return BagRunner(weights, folder, about.max_length)
