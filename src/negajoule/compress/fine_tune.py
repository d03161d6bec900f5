"""The baseline: the user's model with a head for the labels, trained if it has none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.compress.artefact import Artefact, Bench
from negajoule.compress.cutter import TOKENIZER, Cutter
from negajoule.compress.encoder import has_head_for, load_model, save_model
from negajoule.compress.toolbox import torch, transformers
from negajoule.compress.training import seed_all, train
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FineTuning", "make_baseline"]


class FineTuning(msgspec.Struct, frozen=True):
    """How a model gets its head.

    Attributes:
        epochs: how often it sees the training texts.
        rate: learning rate.
        batch: texts a step.
        again: train a new head even if the model has one.
    """

    epochs: int = 2
    rate: float = 5e-5
    batch: int = 32
    again: bool = False


def make_baseline(
    bench: Bench, name: str, tuning: FineTuning, max_length: int
) -> tuple[Artefact, list[float]]:
    """Write the baseline as the bench's target.

    Args:
        bench: its source is the user's folder, untouched.
        name: of the model.
        tuning: how to train a head, if one is needed.
        max_length: tokens after which texts are cut, in all that follows.

    Returns:
        What was made, and the loss of each epoch of training; empty if none was needed.

    Raises:
        CompressError: (K101) if the model doesn't load, (K102) for labels that it doesn't know, (K104).
    """
    seed_all(bench.seed, bench.threads)
    texts = bench.texts
    trained = tuning.again or not has_head_for(bench.source, texts.labels)
    model = load_model(bench.source, texts.labels if trained else None)
    labels = texts.labels if trained else _labels_of(model)
    tokenizer = _tokenizer_text(bench.source, bench.target)
    longest = getattr(model.config, "max_position_embeddings", max_length)
    if max_length > longest:
        raise CompressError(f"{name} reads at most {longest} tokens", fix=f"--max-length {longest}")
    about = Artefact(
        kind="torch", labels=labels, max_length=max_length, engine="", precision="", model=name, data=""
    )
    history: list[float] = []
    if trained:
        (bench.target / TOKENIZER).write_text(tokenizer, encoding="utf-8")
        cutter = Cutter(bench.target, max_length, model.config.pad_token_id or 0)
        targets = torch().tensor(texts.train.labels)

        def loss_of(found: Any, rows: list[int]) -> Any:  # noqa: ANN401
            return torch().nn.functional.cross_entropy(found.logits.float(), targets[rows])

        history = train(
            model,
            cutter,
            cutter.cut(texts.train.texts),
            loss_of,
            epochs=tuning.epochs,
            rate=tuning.rate,
            batch=tuning.batch,
            seed=bench.seed,
        )
    return save_model(
        bench, model, "fine-tuned" if trained else "", tokenizer=tokenizer, about=about
    ), history


def _labels_of(model: Any) -> tuple[str, ...]:  # noqa: ANN401
    names = model.config.id2label
    return tuple(str(names[index]) for index in range(model.config.num_labels))


def _tokenizer_text(source: Path, scratch: Path) -> str:
    """The text of ``tokenizer.json``, written by Transformers where the model came without one."""
    if (source / TOKENIZER).is_file():
        return (source / TOKENIZER).read_text(encoding="utf-8")
    folder = scratch / "tokenizer"
    try:
        transformers().AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(folder)
        return (folder / TOKENIZER).read_text(encoding="utf-8")
    except (OSError, ValueError, ImportError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise CompressError(f"the tokenizer in {source} can't be loaded: {said[0]}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
