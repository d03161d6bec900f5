"""A tiny encoder and texts that it can learn, both made here."""

from __future__ import annotations

import json

import msgspec
import pytest

from negajoule.compress.artefact import Bench
from negajoule.compress.texts import split_rows

WORDS = {
    "good": ["sun", "warm", "kind", "happy", "bright", "calm", "sweet", "gentle"],
    "bad": ["rain", "cold", "cruel", "sad", "dark", "rough", "bitter", "harsh"],
}
FILLER = ["the", "a", "day", "was", "and", "so", "it", "went", "on", "with", "that"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def rows(count=120, labels=("good", "bad")):
    """Texts whose label shows in two of their words."""
    import random

    dice = random.Random(1)
    found = []
    for number in range(count):
        label = labels[number % len(labels)]
        text = [*dice.sample(WORDS[label], 2), *dice.sample(FILLER, dice.randint(2, 6))]
        dice.shuffle(text)
        found.append((" ".join(text), label, None))
    return found


@pytest.fixture(scope="session")
def texts():
    """A set of two labels."""
    return split_rows("made-up", rows())


@pytest.fixture(scope="session")
def jsonl(tmp_path_factory):
    """The same set as a file."""
    file = tmp_path_factory.mktemp("texts") / "made-up.jsonl"
    lines = (json.dumps({"text": text, "label": label}) for text, label, _ in rows())
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_tokenizer(folder):
    """A WordPiece tokenizer of these words, their letters and some tokens that no text uses."""
    letters = sorted(set("".join([*WORDS["good"], *WORDS["bad"], *FILLER])))
    unused = [f"unused{number}" for number in range(20)]
    tokens = [*SPECIAL, *FILLER, *WORDS["good"], *WORDS["bad"], *unused, *letters]
    tokens = list(dict.fromkeys([*tokens, *(f"##{letter}" for letter in letters)]))
    numbers = {token: number for number, token in enumerate(tokens)}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": numbers[token], "content": token, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for token in SPECIAL
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, _special("[SEP]")],
            "pair": [_special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, _special("[SEP]")],
            "special_tokens": {
                token: {"id": token, "ids": [numbers[token]], "tokens": [token]}
                for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": numbers,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    return len(tokens)


def _special(token):
    return {"SpecialToken": {"id": token, "type_id": 0}}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of a tiny BERT without a head, with random weights."""
    for module in ("torch", "transformers", "tokenizers", "safetensors"):
        pytest.importorskip(module, reason=f"{module} isn't installed: make test installs the extra compress")
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("tiny")
    count = write_tokenizer(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=count,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def baseline(tiny, texts, tmp_path_factory):
    """The tiny BERT with a head that has learnt the texts."""
    from negajoule.compress.fine_tune import FineTuning, make_baseline

    folder = tmp_path_factory.mktemp("baseline")
    bench = Bench(source=tiny, target=folder, teacher=folder, texts=texts)
    make_baseline(bench, "tiny", FineTuning(epochs=12, rate=3e-3, batch=16), 32)
    return folder


@pytest.fixture
def bench(baseline, texts, tmp_path):
    """A bench with the baseline as source and teacher."""
    target = tmp_path / "target"
    target.mkdir()
    return Bench(source=baseline, target=target, teacher=baseline, texts=texts)


@pytest.fixture
def next_bench(bench, tmp_path):
    """Make a bench whose source is another's target."""

    def make(name="next"):
        target = tmp_path / name
        target.mkdir()
        return msgspec.structs.replace(bench, source=bench.target, target=target)

    return make
