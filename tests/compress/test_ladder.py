from __future__ import annotations

import json
import math

import pytest

from negajoule.compress import ladder as ladder_module
from negajoule.compress.gguf_recipes import KNOWN, GgufRecipe, bits_per_weight, make_gguf
from negajoule.compress.ladder import Ladder, LadderPlan, perplexity, perplexity_added
from negajoule.compress.passages import Passages, read_passages, tokens_of
from negajoule.errors import CompressError, ConfigError, EngineError
from tiny_llama import write_tiny_llama

gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")
pytest.importorskip("transformers")

TEXTS = (
    "the sun is warm and the day was cold",
    "the rain and the night was warm",
    "the day is cold and the sun was cold and the rain is warm",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("llama") / "tiny.gguf")


@pytest.mark.parametrize("recipe", KNOWN)
def test_recipes_read_what_they_write(recipe):
    assert GgufRecipe.parse(recipe.text) == recipe
    assert recipe.text.startswith("gguf:")


@pytest.mark.parametrize(
    "text", ["gguf:Q3_K", "gguf:", "gguf:Q8_0:calibrated", "Q8_0", "gguf:Q4_0:", "gguf:Q4_0:x"]
)
def test_other_recipes_are_refused(text):
    if text == "gguf:Q4_0:":
        assert GgufRecipe.parse(text) == GgufRecipe("Q4_0")
        return
    with pytest.raises(CompressError) as caught:
        GgufRecipe.parse(text)
    assert caught.value.code == "K103"


@pytest.mark.parametrize(
    ("text", "layers"),
    [("gguf:F16", 16.0), ("gguf:Q8_0", 8.5), ("gguf:Q4_0", 4.5), ("gguf:Q4_0:throughout", 4.5)],
)
def test_bits_are_told_for_layers_and_for_all(model, tmp_path, text, layers):
    layer_bits, all_bits = bits_per_weight(make_gguf(GgufRecipe.parse(text), model, tmp_path))
    assert layer_bits == layers
    assert all_bits > layers  # vectors have 32 bits, and Q4_0 keeps the embedding in 8


def test_calibration_keeps_the_answers_better_than_plain_rounding(model, tmp_path):
    torch = pytest.importorskip("torch")
    from negajoule.compress.calibration import load_whole

    ids = tokens_of(model, TEXTS * 6, 40)
    answers = []
    for file in (
        model,
        make_gguf(GgufRecipe("Q4_0"), model, tmp_path),
        make_gguf(GgufRecipe("Q4_0", "calibrated"), model, tmp_path, ids),
    ):
        with torch.no_grad():
            whole = load_whole(file)
            answers.append(torch.cat([whole(torch.tensor([one])).logits[0] for one in ids[:3]]))
    plain, calibrated = ((answer - answers[0]).norm().item() for answer in answers[1:])
    assert calibrated < 0.9 * plain


def test_a_file_that_reads_differently_fails(model, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from negajoule.compress import gguf_recipes

    def spoilt(found):
        packed = gguf_recipes_pack(found)
        packed[0, 2] ^= 1
        return packed

    gguf_recipes_pack = gguf_recipes.pack
    monkeypatch.setattr(gguf_recipes, "pack", spoilt)
    with pytest.raises(CompressError, match="reads differently") as caught:
        make_gguf(GgufRecipe("Q4_0", "calibrated"), model, tmp_path, tokens_of(model, TEXTS, 40))
    assert caught.value.code == "K105"
    assert not list(tmp_path.glob("*.gguf"))


def test_calibration_without_texts_is_refused(model, tmp_path):
    with pytest.raises(CompressError, match="no texts") as caught:
        make_gguf(GgufRecipe("Q4_0", "calibrated"), model, tmp_path)
    assert caught.value.code == "K102"


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUFnonsense")
    with pytest.raises(EngineError) as caught:
        make_gguf(GgufRecipe("Q8_0"), tmp_path / "x.gguf", tmp_path / "made")
    assert caught.value.code == "E101"


def test_perplexity_is_that_of_the_tokens():
    assert perplexity([[math.log(0.5)] * 3, [math.log(0.125)]]) == pytest.approx((8 * 8) ** 0.25)


def test_added_perplexity_is_paired():
    before = [[-1.0, -2.0], [-3.0], [-0.5, -0.5, -4.0]]
    after = [[value - 0.1 for value in text] for text in before]
    added = perplexity_added(after, before)
    assert added.value == pytest.approx(math.expm1(0.1))
    # Every text lost the same, so the bootstrap can't find anything else, however much texts differ.
    assert (added.low, added.high) == pytest.approx((added.value, added.value))


def test_other_tokens_are_not_compared():
    with pytest.raises(CompressError) as caught:
        perplexity_added([[-1.0]], [[-1.0, -2.0]])
    assert caught.value.code == "K107"


def test_a_study_judges_measures_and_goes_on(model, tmp_path, monkeypatch):
    passages = Passages("made-up", (), TEXTS)
    plan = LadderPlan(
        source=model,
        recipes=(GgufRecipe("Q8_0"),),
        passages=passages,
        shipped=False,
        rounds=1,
        prompts=1,
        answer_tokens=6,
    )
    result = Ladder(plan, tmp_path).run()
    base, eight = result.rungs
    assert (base.name, eight.name) == ("F32", "Q8_0")
    assert eight.size_bytes < base.size_bytes
    assert base.added.value == 0.0
    assert abs(eight.added.value) < 0.2
    assert "too few rounds to claim a gain" in eight.claims
    assert result.judged_tokens == sum(len(ids) - 1 for ids in tokens_of(model, TEXTS, 128))
    spent = [one.label for one in Ladder(plan, tmp_path).workshop.spent()]
    assert sorted(spent) == sorted(
        f"compress/made-up/{name}/{what}"
        for name in ("F32", "Q8_0")
        for what in ("making", "judged", "round 1")
    )

    def fail(*_):
        raise AssertionError("everything was finished")

    monkeypatch.setattr(ladder_module, "run_job", fail)
    assert Ladder(plan, tmp_path).run() == result

    with pytest.raises(CompressError) as caught:
        Ladder(LadderPlan(source=model, recipes=(), passages=Passages("other", (), TEXTS[:2])), tmp_path)
    assert caught.value.code == "K107"


@pytest.mark.slow
def test_a_change_of_engine_is_told_apart(model, tmp_path):
    # A process that loads torch.
    pytest.importorskip("torch")
    plan = LadderPlan(
        source=model,
        recipes=(),
        passages=Passages("made-up", (), TEXTS),
        shipped=False,
        other_engine=True,
        rounds=1,
        prompts=1,
        answer_tokens=6,
    )
    result = Ladder(plan, tmp_path).run()
    assert [rung.name for rung in result.rungs] == ["F32"]
    assert result.engine_gain is not None
    assert result.engine_gain.value > 1
    assert not result.engine_gain.known


def test_an_engine_tells_what_transformers_tells(model, tmp_path):
    torch = pytest.importorskip("torch")
    from negajoule.compress.adapters import judge_texts
    from negajoule.compress.calibration import load_whole
    from negajoule.compress.forced import log_probabilities
    from negajoule.engine import LlamaEngine

    ids = tokens_of(model, TEXTS[:1], 64)[0]
    engine = LlamaEngine(model, slots=1, slot_context_tokens=64, threads=1, batch_threads=1)
    try:
        told = log_probabilities(engine, ids)
    finally:
        engine.close()
    ((total, count),) = judge_texts(load_whole(model), [torch.tensor([ids])])
    assert len(told) == count
    assert sum(told) == pytest.approx(total, rel=1e-3)


def test_texts_are_split_and_never_shared(tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [{"text": f"text {number % 7}"} for number in range(20)]
    rows += [{"question": "q", "answer": "a"}, {"label": 3}, {"text": ""}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read_passages(str(file), folder=tmp_path, calibration=5, test=9)
    assert not set(found.calibration) & set(found.test)
    assert "q\na" in found.test
    assert "" not in found.test


@pytest.mark.parametrize("content", ["not json", "[1, 2]"])
def test_unreadable_texts_are_refused(tmp_path, content):
    file = tmp_path / "mine.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises((ConfigError, CompressError)) as caught:
        read_passages(str(file), folder=tmp_path, calibration=5, test=9)
    assert caught.value.code in ("C106", "K102")
