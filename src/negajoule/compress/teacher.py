"""What the teacher says to the training texts, and what is true of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.compress.artefact import read_artefact
from negajoule.compress.encoder import load_model
from negajoule.compress.run_torch import TorchRunner
from negajoule.compress.toolbox import torch
from negajoule.compress.training import outputs, work_type
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from negajoule.compress.artefact import Bench

__all__ = ["Taught", "ask_teacher"]

BATCH = 64


class Taught(NamedTuple):
    """What students learn from, a row for each training text.

    Attributes:
        scores: the teacher's.
        states: its last state of the first token, which its head reads.
        truth: numbers of the labels, in the teacher's order.
    """

    scores: Any
    states: Any
    truth: Any


def ask_teacher(bench: Bench) -> Taught:
    """Run the bench's teacher over the training texts.

    Raises:
        CompressError: (K101) if it isn't in PyTorch, (K104) if a score isn't a number.
    """
    lib = torch()
    about = read_artefact(bench.teacher)
    runner = TorchRunner(load_model(bench.teacher), bench.teacher, about.max_length)
    ids = runner.cutter.cut(bench.texts.train.texts)
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    kind = work_type()
    scores: list[Any] = [None] * len(ids)
    states: list[Any] = [None] * len(ids)
    with lib.no_grad():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            numbers, mask = runner.cutter.batch([ids[row] for row in rows])
            with lib.autocast("cpu", dtype=kind, enabled=kind is not lib.float32):
                found = outputs(runner.model, numbers, mask)
            last = found.hidden_states[-1][:, 0].float()
            for place, row in enumerate(rows):
                scores[row], states[row] = found.logits[place].float(), last[place]
    result = lib.stack(scores)
    if not bool(lib.isfinite(result).all()):
        raise CompressError("the teacher's scores aren't numbers", code="K104")
    number = {label: index for index, label in enumerate(about.labels)}
    truth = [number[bench.texts.labels[label]] for label in bench.texts.train.labels]
    return Taught(result, lib.stack(states), lib.tensor(truth))
