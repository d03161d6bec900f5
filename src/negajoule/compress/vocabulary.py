"""Pruning of the vocabulary: tokens that the texts don't use take memory, and time while training.

Only for WordPiece (BERT's), where a word whose token is gone falls apart into smaller pieces. Single letters,
pieces of two letters and special tokens always stay. Texts whose tokens all stay give the same answers to the
last bit.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from negajoule.compress.artefact import read_artefact
from negajoule.compress.cutter import TOKENIZER, Cutter
from negajoule.compress.encoder import load_model, save_model
from negajoule.compress.toolbox import torch
from negajoule.errors import CompressError

if TYPE_CHECKING:
    from negajoule.compress.artefact import Bench
    from negajoule.compress.steps import Vocabulary

__all__ = ["kept_tokens", "prune_vocabulary"]

SMALL = 2


def prune_vocabulary(step: Vocabulary, bench: Bench) -> None:
    """Leave only tokens that the training texts use.

    Raises:
        CompressError: (K101) for another kind of tokenizer.
    """
    about = read_artefact(bench.source)
    data = json.loads((bench.source / TOKENIZER).read_text(encoding="utf-8"))
    if data["model"].get("type") != "WordPiece":
        raise CompressError(
            f"the vocabulary of a {data['model'].get('type')} tokenizer can't be pruned here",
            fix="leave the step vocabulary out",
        )
    model = load_model(bench.source)
    counts = Counter(
        token for ids in Cutter(bench.source, about.max_length).cut(bench.texts.train.texts) for token in ids
    )
    kept = kept_tokens(data, counts, step.fewest)
    new = {old: place for place, old in enumerate(kept)}
    vocabulary = data["model"]["vocab"]
    data["model"]["vocab"] = {
        token: new[number]
        for token, number in sorted(vocabulary.items(), key=lambda item: item[1])
        if number in new
    }
    for token in data.get("added_tokens", []):
        token["id"] = new[token["id"]]
    for special in ((data.get("post_processor") or {}).get("special_tokens") or {}).values():
        special["ids"] = [new[number] for number in special["ids"]]
    for side in ("sep", "cls"):
        pair = (data.get("post_processor") or {}).get(side)
        if pair is not None:
            pair[1] = new[pair[1]]
    embeddings = model.get_input_embeddings()
    table = torch().nn.Embedding.from_pretrained(
        embeddings.weight.detach()[kept].clone(),
        freeze=False,
        padding_idx=new.get(model.config.pad_token_id),
    )
    model.set_input_embeddings(table)
    model.config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        number = getattr(model.config, name, None)
        setattr(model.config, name, None if number is None else new.get(number))
    step_text = f"{len(kept)} of {len(vocabulary)} tokens kept"
    save_model(bench, model, step_text, tokenizer=json.dumps(data, ensure_ascii=False))


def kept_tokens(tokenizer: dict, counts: Counter[int], fewest: int) -> list[int]:  # type: ignore[type-arg]
    """Numbers of the tokens that stay, in order.

    Args:
        tokenizer: contents of ``tokenizer.json``.
        counts: how often the texts have each token.
        fewest: a token stays if they have it at least so often.
    """
    special = {token["id"] for token in tokenizer.get("added_tokens", [])}
    unknown = tokenizer["model"].get("unk_token")
    prefix = tokenizer["model"].get("continuing_subword_prefix", "##")
    return sorted(
        number
        for token, number in tokenizer["model"]["vocab"].items()
        if number in special
        or token == unknown
        or counts[number] >= fewest
        or len(token.removeprefix(prefix)) <= (SMALL if token.isascii() else 1)
    )
