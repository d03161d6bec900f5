"""Runs where torch and transformers are installed; the model has random weights and is made here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="torch isn't installed")
transformers = pytest.importorskip("transformers", reason="transformers isn't installed")

from negajoule.engine.transformers import TransformersEngine  # noqa: E402 (imports torch)
from negajoule.errors import ConfigError, EngineError, RequestError  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(folder):
    engine = TransformersEngine(folder, slots=3, threads=1)
    yield engine
    engine.close()


def ask(engine, prompt, tokens=6):
    texts, progress = [], []
    body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
    result = engine.run(
        "completion",
        body,
        lambda chunk: bool(texts.append(chunk["choices"][0]["text"])),
        lambda event: bool(progress.append((event.kind, event.tokens))),
    )
    return result, texts, progress


def test_counts_and_progress_agree(engine):
    result, texts, progress = ask(engine, [1, 2, 3])
    assert (result.timings.prompt_tokens, result.timings.output_tokens) == (3, 6)
    assert progress == [("prefill", 3), *[("decode", 1)] * 6]
    assert len(texts) == 7
    assert not result.cancelled


def test_a_padded_batch_answers_as_each_alone(engine):
    prompts = [[4, 5, 6], [7, 8, 9, 10, 11, 12], [13]]
    alone = [ask(engine, prompt)[1] for prompt in prompts]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda prompt: ask(engine, prompt)[1], prompts))
    assert together == alone


def test_cancelling_ends_the_reports(engine):
    result = engine.run("completion", {"prompt": [1, 2], "max_tokens": 9}, lambda chunk: True)
    assert (result.cancelled, result.timings.output_tokens) == (True, 1)


def test_what_does_not_fit_is_refused(engine):
    with pytest.raises(RequestError, match="64"):
        ask(engine, [1] * 64)
    with pytest.raises(EngineError, match="no tokenizer"):
        ask(engine, "a text")


def test_the_card_holds_what_the_folder_says(engine):
    card = engine.models[0]
    assert (card.context_tokens, card.quantisation) == (64, "float32")
    assert engine.weight_bytes == 4 * card.parameters


def test_a_closed_engine_says_so(folder):
    engine = TransformersEngine(folder, number_format="bfloat16", slots=1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        ask(engine, [1])


def test_formats_and_folders_that_cannot_be_are_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="int3"):
        TransformersEngine(folder, number_format="int3")
    with pytest.raises(EngineError, match="no causal language model"):
        TransformersEngine(tmp_path)
