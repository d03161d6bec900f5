from __future__ import annotations

import pytest

from negajoule.compress import qlora
from negajoule.compress.adapters import (
    AdapterJob,
    AdapterReport,
    Adapting,
    adapt,
    do_adapter_job,
    gradient_gap,
    judge_texts,
    run_adapter_job,
    with_adapters,
)
from negajoule.compress.four_bit_layers import demand_gradients, refuse_repacked, strict_autograd
from negajoule.compress.passages import Passages
from negajoule.compress.qlora import TuningPlan, qlora_rows, study_tuning
from negajoule.compress.workshop import Workshop
from negajoule.errors import CompressError
from tiny_llama import write_tiny_llama

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
bitsandbytes = pytest.importorskip("bitsandbytes")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def tiny():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=96,
            tie_word_embeddings=True,
        )
    )


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randint(0, 96, (4, 24))


@pytest.mark.parametrize("way", ["fp4", "nf4"])
def test_gradients_are_those_of_the_widened_weights(way, batch):
    gap, loss_gap = gradient_gap(with_adapters(tiny(), Adapting(way=way)), batch)
    assert gap < 1e-5
    assert loss_gap < 1e-5


@pytest.mark.parametrize("way", ["fp4", "nf4", "lora", "full"])
def test_training_lowers_the_loss(way, batch):
    how = Adapting(way=way, steps=12, rate=1e-3 if way == "full" else 1e-2)
    model = with_adapters(tiny(), how)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    losses, seconds = adapt(model, [batch], how)
    assert losses[-1] < losses[0] - 0.5
    assert len(seconds) == 12
    whole = sum(weight.numel() for weight in tiny().parameters())
    assert trained == whole if way == "full" else trained < whole / 3


def test_repacked_weights_are_refused(batch):
    how = Adapting(way="fp4")
    model = with_adapters(tiny(), how)
    judge_texts(model, [batch[:1]])
    layer = model.base_model.model.model.layers[0].self_attn.q_proj.base_layer
    # Only a processor with AVX512-BF16 repacks; elsewhere the state is set as it would be.
    layer.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(CompressError, match="repacked") as caught:
        adapt(model, [batch], how)
    assert caught.value.code == "K104"
    with pytest.raises(CompressError, match="repacked"):
        refuse_repacked(model)


def test_an_adapter_without_gradient_is_found(batch):
    model = with_adapters(tiny(), Adapting(way="lora"))
    model(batch, labels=batch).loss.backward()
    demand_gradients(model)
    model.base_model.model.model.layers[0].mlp.up_proj.lora_B.default.weight.grad.zero_()
    with pytest.raises(CompressError, match="no gradient reaches"):
        demand_gradients(model)


def test_a_model_without_adapters_has_nothing_to_demand():
    with pytest.raises(CompressError, match="no adapters"):
        demand_gradients(tiny())


def test_the_warning_of_a_kernel_without_gradient_is_an_error():
    import warnings

    with pytest.raises(CompressError, match="passes no gradient"), strict_autograd():
        warnings.warn("x::y: an autograd kernel was not registered to the Autograd key(s)", stacklevel=1)
    with pytest.raises(RuntimeError, match="something else"), strict_autograd():
        raise RuntimeError("something else")


def test_a_training_that_diverges_is_stopped(batch):
    how = Adapting(way="lora", steps=6, rate=1e30)
    with pytest.raises(CompressError, match="diverged") as caught:
        adapt(with_adapters(tiny(), how), [batch], how)
    assert caught.value.code == "K104"


TEXT = "the sun is warm and the day was cold and the rain is cold "


@pytest.fixture
def model(tmp_path):
    return write_tiny_llama(tmp_path / "tiny.gguf", spread=0.3)


def test_a_study_tells_what_each_way_takes(model, tmp_path, monkeypatch):
    # Here in one process, for each takes seconds to start; every job loads the model afresh all the same.
    monkeypatch.setattr(qlora, "run_adapter_job", lambda job, log: do_adapter_job(job))
    plan = TuningPlan(
        source=model,
        passages=Passages("made-up", tuple(TEXT + word for word in ("sun", "day", "rain", "night")), (TEXT,)),
        ways=(Adapting(way="full"), Adapting(way="fp4")),
        steps=4,
        length=16,
    )
    result = study_tuning(plan, tmp_path / "study")
    full, four = result.rows
    assert four.gradient_gap is not None
    assert four.gradient_gap < 1e-5
    assert full.gradient_gap is None
    for row in result.rows:
        assert row.losses[-1] < row.losses[0]
        assert row.after < row.before
    assert four.memory_ratio > 1.5
    assert four.step_ratio.known is False  # three pairs are too few
    spent = Workshop(tmp_path / "study").spent()
    assert [one.label for one in spent] == [
        "compress/tuning/full-float32-train",
        "compress/tuning/fp4-float32-train",
    ]
    assert {one.stage for one in spent} == {"training"}
    rows = qlora_rows(result)
    assert rows[0].published.value == pytest.approx(5.94)
    assert rows[0].measured.value == four.energy_ratio

    def fail(*_):
        raise AssertionError("everything was finished")

    monkeypatch.setattr(qlora, "run_adapter_job", fail)
    assert study_tuning(plan, tmp_path / "study") == result


def test_gradients_that_are_off_end_a_study(model, tmp_path, monkeypatch):
    monkeypatch.setattr(qlora, "run_adapter_job", lambda job, log: AdapterReport(gradient_gap=0.3))
    plan = TuningPlan(
        source=model, passages=Passages("made-up", (TEXT,), (TEXT,)), ways=(Adapting(way="fp4"),), length=8
    )
    with pytest.raises(CompressError, match="gradients of fp4-float32 are off") as caught:
        study_tuning(plan, tmp_path)
    assert caught.value.code == "K104"


@pytest.mark.slow
def test_a_process_tells_what_went_wrong(tmp_path):
    # It loads torch.
    job = AdapterJob(do="judge", source=str(tmp_path / "none.gguf"), adapting=Adapting(), texts=((1, 2),))
    with pytest.raises(CompressError, match="can't be loaded") as caught:
        run_adapter_job(job, tmp_path / "log")
    assert caught.value.code == "K101"
