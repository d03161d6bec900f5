"""The training loop of this room: batches of like length, AdamW, warm-up, and an end to what diverges."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from negajoule.compress.toolbox import torch
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.compress.cutter import Cutter

__all__ = ["batches", "outputs", "seed_all", "train", "work_type"]

WARM_UP = 0.1
POOL = 50
"""Batches that are sorted by length together."""


def seed_all(seed: int, threads: int) -> None:
    """Make what follows repeatable."""
    torch().manual_seed(seed)
    torch().set_num_threads(threads)


def work_type() -> Any:  # noqa: ANN401
    """bfloat16 where the processor multiplies it natively, else float32."""
    lib = torch()
    check = getattr(lib.cpu, "_is_avx512_bf16_supported", None)
    return lib.bfloat16 if check is not None and check() else lib.float32


def batches(lengths: Sequence[int], size: int, seed: int) -> list[list[int]]:
    """Row numbers in batches of like length, in random order.

    Args:
        lengths: of each row [tokens].
        size: rows of a batch.
        seed: of the order.
    """
    dice = random.Random(seed)
    order = list(range(len(lengths)))
    dice.shuffle(order)
    found: list[list[int]] = []
    for start in range(0, len(order), size * POOL):
        pool = sorted(order[start : start + size * POOL], key=lambda row: lengths[row])
        found += [pool[at : at + size] for at in range(0, len(pool), size)]
    dice.shuffle(found)
    return found


def train(
    model: Any,  # noqa: ANN401
    cutter: Cutter,
    ids: Sequence[Sequence[int]],
    loss_of: Callable[[Any, list[int]], Any],
    *,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
    frozen: Sequence[Any] = (),
) -> list[float]:
    """Train in place.

    Args:
        model: of Transformers.
        cutter: makes batches.
        ids: token numbers of the training texts.
        loss_of: the model's output for a batch and the rows in it, to a loss.
        epochs: how often each row is seen.
        rate: highest learning rate.
        batch: rows a step.
        seed: of the order.
        frozen: parameters that stay as they are.

    Returns:
        The mean loss of each epoch.

    Raises:
        CompressError: (K104) once the loss isn't a number.
    """
    lib = torch()
    for one in frozen:
        one.requires_grad_(False)
    weights = [one for one in model.parameters() if one.requires_grad]
    optimiser = lib.optim.AdamW(weights, rate, weight_decay=0.01, fused=True)
    steps = epochs * math.ceil(len(ids) / batch)
    warm = max(1, round(WARM_UP * steps))
    schedule = lib.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    kind = work_type()
    lengths = [len(found) for found in ids]
    history: list[float] = []
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in batches(lengths, batch, seed + epoch):
            numbers, mask = cutter.batch([ids[row] for row in rows])
            with lib.autocast("cpu", dtype=kind, enabled=kind is not lib.float32):
                found = outputs(model, numbers, mask)
                loss = loss_of(found, rows)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CompressError(
                    f"training diverged in epoch {epoch + 1}: the loss is {value}",
                    code="K104",
                    fix="lower the learning rate (rate=...)",
                )
            loss.backward()
            lib.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            total += value * len(rows)
        history.append(total / len(ids))
    model.eval()
    return history


def outputs(model: Any, numbers: Any, mask: Any) -> Any:  # noqa: ANN401
    """Scores and hidden states of a batch."""
    lib = torch()
    return model(
        input_ids=lib.from_numpy(numbers),
        attention_mask=lib.from_numpy(mask),
        output_hidden_states=True,
    )
