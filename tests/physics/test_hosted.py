import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.catalog import lookup
from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.hosted import TASKS, estimate
from negajoule.physics.hosted_setting import COEFFICIENT_FILE, SCHEMA
from negajoule.units import total

ON_H100 = {"batch": 64, "accelerator": "H100", "accelerators": 1, "precision": "bfloat16"}

tokens = st.integers(1, 50_000)
billions = st.floats(0.5, 600)
batches = st.floats(1, 4096)


def energy(*args, **knowledge):
    return estimate(*args, **knowledge).energy.value


# Measured by ML.ENERGY v3 (vLLM, steady batch, chat): J per output token, mean length of the answers.
@pytest.mark.parametrize(
    ("model", "batch", "answer", "accelerators", "measured_j_per_token"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8, 397, 1, 0.4548),
        ("meta-llama/Llama-3.1-8B-Instruct", 64, 397, 1, 0.1186),
        ("meta-llama/Llama-3.1-8B-Instruct", 512, 397, 1, 0.0702),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 64, 918, 2, 0.272),
    ],
)
def test_meets_measurements_on_an_h100(model, batch, answer, accelerators, measured_j_per_token):
    found = estimate(
        model,
        None,
        answer,
        task="chat",
        batch=batch,
        accelerator="H100",
        accelerators=accelerators,
        precision="bfloat16",
    )
    measured = measured_j_per_token * answer
    assert found.energy.low < measured < found.energy.high
    assert 1 / 1.3 < found.energy.value / measured < 1.3
    assert found.known


@given(tokens, tokens, st.integers(1, 10_000), batches)
def test_rises_with_every_token(prompt, answer, more, batch):
    asked = {**ON_H100, "batch": batch}
    base = energy("llama-3.1-8b", prompt, answer, **asked)
    assert energy("llama-3.1-8b", prompt + more, answer, **asked) > base
    assert energy("llama-3.1-8b", prompt, answer + more, **asked) > base
    assert energy("llama-3.1-8b", prompt, answer, reasoning_tokens=more, **asked) == energy(
        "llama-3.1-8b", prompt, answer + more, **asked
    )


@given(billions, st.floats(1.01, 20), st.floats(1.01, 3), batches)
def test_rises_with_parameters_at_the_rest_fixed(active, sparsity, more, batch):
    asked = {**ON_H100, "batch": batch, "accelerators": 8}
    whole = active * sparsity

    def mixture(active, whole):
        return energy(
            None, 500, 300, active_parameters_b=active, total_parameters_b=whole, kind="moe", **asked
        )

    def dense(active):
        return energy(None, 500, 300, active_parameters_b=active, **asked)

    assert dense(active * more) > dense(active)
    assert mixture(active, whole * more) >= mixture(active, whole)
    grown = max(active, min(active * more, 0.95 * whole))  # with all of it active it's no mixture any more
    assert mixture(grown, whole) >= mixture(active, whole) * (1 - 1e-9)


@given(
    tokens, tokens, batches, st.floats(1.01, 50), st.sampled_from(["llama-3.1-8b", "deepseek-v3", "gpt-4o"])
)
def test_falls_with_the_batch(prompt, answer, batch, factor, model):
    asked = {**ON_H100, "accelerators": 8}
    alone = energy(model, prompt, answer, **{**asked, "batch": batch})
    together = energy(model, prompt, answer, **{**asked, "batch": batch * factor})
    assert together <= alone * (1 + 1e-9)


@given(
    st.integers(0, 200_000), tokens, st.sampled_from(["gpt-4o", "claude-sonnet-4-5", "llama-3.3-70b", "o1"])
)
@settings(deadline=None)
def test_intervals_hold_their_values_and_parts_add_up(prompt, answer, model):
    found = estimate(model, prompt, answer)
    for quantity in (found.energy, found.it_energy, found.accelerator_time, found.reserved_time):
        assert 0 < quantity.low < quantity.value < quantity.high < math.inf
        assert quantity.basis == "modelled"
    whole = total(part.energy for part in found.parts)
    for end in ("low", "value", "high"):
        assert getattr(whole, end) == pytest.approx(getattr(found.it_energy, end), rel=1e-12)
    assert found.it_energy.value > found.energy.value
    assert found.reserved_time.value > found.accelerator_time.value
    assert all(cause.low <= 1 <= cause.high for cause in found.contributors)
    assert found.widest in {cause.name for cause in found.contributors}


@given(st.floats(0, 1), tokens, tokens, st.sampled_from(["gpt-4o", "llama-3.1-8b", "gpt-oss-120b"]))
@settings(deadline=None)
def test_unknown_batch_holds_every_batch(place, prompt, answer, model):
    fact = lookup("hosted.batch")
    batch = fact.low * (fact.high / fact.low) ** place
    unknown = estimate(model, prompt, answer, accelerator="H100")
    known = estimate(model, prompt, answer, accelerator="H100", batch=min(max(batch, fact.low), fact.high))
    assert unknown.energy.low <= known.energy.value <= unknown.energy.high


@pytest.mark.parametrize("on", ["a100", "h200", "b200"])
def test_unknown_accelerator_holds_the_usual_ones(on):
    unknown = estimate("llama-3.3-70b", 500, 300, batch=32)
    assert (
        unknown.energy.low
        <= energy("llama-3.3-70b", 500, 300, batch=32, accelerator=on)
        <= unknown.energy.high
    )


def test_closed_model_holds_the_ends_of_its_size():
    closed = estimate("gpt-4o", 500, 300, batch=32, accelerator="H100", accelerators=8)
    for share in (44, 132):
        at_end = energy(
            None,
            500,
            300,
            active_parameters_b=share,
            total_parameters_b=share * 440 / math.sqrt(44 * 132),
            batch=32,
            accelerator="H100",
            accelerators=8,
        )
        assert closed.energy.low <= at_end <= closed.energy.high
    assert any("hasn't published" in note for note in closed.notes)
    assert "size of the model" in {cause.name for cause in closed.contributors}


def test_batch_is_what_makes_a_closed_model_vague():
    assert estimate("gpt-4o", 1200, 300).widest == "batch"
    assert not estimate("gpt-4o", 1200, 300).known


def test_cached_tokens_cost_less_but_not_nothing():
    fresh = energy("llama-3.3-70b", 8000, 200, **ON_H100)
    cached = energy("llama-3.3-70b", 8000, 200, cached_tokens=7500, **ON_H100)
    short = energy("llama-3.3-70b", 500, 200, **ON_H100)
    assert short < cached < fresh


def test_prompt_alone_has_energy():
    embedding = estimate("qwen3-8b", 500, 0, **ON_H100)
    assert embedding.energy.value > 0
    assert embedding.prefill == 1


def test_task_gives_the_prompt_and_says_so():
    for task, own in TASKS.items():
        short, long = (estimate("qwen3-8b", None, 300, task=name, **ON_H100) for name in (task, own))
        assert short.energy == long.energy
        assert any("prompt assumed" in note for note in short.notes)


def test_widens_outside_the_measurements():
    usual = estimate("llama-3.1-8b", 500, 300, **ON_H100)
    assert not usual.notes
    for knowledge, word in (
        ({"accelerator": "H200"}, "data sheet"),
        ({"precision": "int4"}, "mxfp4"),
        ({"batch": 1}, "batch"),
    ):
        strange = estimate("llama-3.1-8b", 500, 300, **{**ON_H100, **knowledge})
        assert strange.energy.high / strange.energy.low > usual.energy.high / usual.energy.low
        assert any(word in note for note in strange.notes)
    long = estimate("llama-3.1-8b", 100_000, 300, **ON_H100)
    assert "length outside the measured range" in {cause.name for cause in long.contributors}
    guessed = estimate(None, 500, 300, active_parameters_b=8, **ON_H100)
    assert guessed.energy.high / guessed.energy.low > usual.energy.high / usual.energy.low


def test_replicas_make_prompts_wait():
    asked = {**ON_H100, "accelerators": 8}
    assert energy("deepseek-v3", 2000, 300, replicas=8, **asked) > energy("deepseek-v3", 2000, 300, **asked)


@pytest.mark.parametrize(
    "knowledge",
    [
        {"tokens_in": -1},
        {"tokens_out": -1},
        {"tokens_in": math.nan},
        {"tokens_out": math.inf},
        {"tokens_in": 0, "tokens_out": 0},
        {"tokens_in": True},
        {"tokens_in": "100"},
        {"tokens_in": None},
        {"tokens_in": None, "task": "poetry"},
        {"cached_tokens": 101},
        {"cached_tokens": 100, "tokens_out": 0},
        {"reasoning_tokens": -5},
        {"batch": 0},
        {"batch": math.nan},
        {"batch": (64, 4)},
        {"accelerators": 0},
        {"replicas": 0},
        {"precision": "fp2"},
        {"kind": "spiking"},
        {"active_parameters_b": 0},
        {"active_parameters_b": math.nan},
        {"active_parameters_b": 8, "total_parameters_b": 4},
        {"model": None},
    ],
)
def test_refuses_what_cannot_be(knowledge):
    asked = {"model": "llama-3.1-8b", "tokens_in": 100, "tokens_out": 50, **knowledge}
    with pytest.raises(ConfigError) as raised:
        estimate(asked.pop("model"), asked.pop("tokens_in"), asked.pop("tokens_out"), **asked)
    assert raised.value.code == "C101"


def test_unknown_names_come_with_near_ones():
    with pytest.raises(CatalogError, match=r"gpt-4o"):
        estimate("gpt-4oo", 100, 50)
    with pytest.raises(CatalogError, match=r"h100") as raised:
        estimate("llama-3.1-8b", 100, 50, accelerator="Voodoo2")
    assert raised.value.code == "F101"
    named = estimate("my-own-model", 100, 50, active_parameters_b=8)
    assert named.model == "my-own-model"


def test_json_form_has_everything():
    data = json.loads(json.dumps(estimate("gpt-4o", 1200, 300).to_dict()))
    assert data["schema"] == "negajoule.hosted_estimate/1"
    assert data["energy"]["boundary"] == "accelerator"
    assert data["it_energy"]["boundary"] == "node"
    assert sum(part["value"] for part in data["parts"]) == pytest.approx(data["it_energy"]["value"])
    assert {factor["key"] for factor in data["factors"]} >= {"hosted.batch", "hosted.host-factor"}


def test_coefficient_file_says_where_it_comes_from():
    data = json.loads(COEFFICIENT_FILE.read_text(encoding="utf-8"))
    assert data["schema"] == SCHEMA
    assert data["script"] == "fitting/hosted_llm.py"
    assert all(len(source["sha256"]) == 64 for source in data["data"])
    assert 0.1 < data["half_widths"]["listed"] < data["half_widths"]["unlisted"] < 1
    assert COEFFICIENT_FILE.stat().st_size < 8192
