from __future__ import annotations

import msgspec
import pytest

from negajoule.engine import precision_sibling
from negajoule.errors import ConfigError, EngineError
from negajoule.profile import Sweep, best_precision, load_profile, open_target, run_sweep
from negajoule.profile.prompts import TokenPrompts, WordPrompts
from negajoule.profile.serving_calibration import calibrate_serving, calibrated_profile

TINY = Sweep(batches=(1, 2), prompts=(16, 48), outputs=(6,), repeats=2)


def test_an_unknown_model_is_named_with_what_is_known():
    with pytest.raises(EngineError, match="no model 'llama-9'") as caught:
        open_target("llama-9", TINY)
    assert caught.value.code == "E101"
    assert "smollm2-135m-instruct" in caught.value.fix


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"nothing")
    with pytest.raises(EngineError, match="isn't a GGUF model file"):
        open_target(str(tmp_path / "model.gguf"), TINY)


def test_a_server_has_one_format_only():
    with pytest.raises(ConfigError, match="one format"):
        open_target("http://localhost:1", TINY, formats=("F16", "Q8_0"))


def test_a_folder_needs_transformers_or_a_model(tmp_path):
    with pytest.raises((EngineError, ImportError)):
        open_target(str(tmp_path), TINY)
    with pytest.raises(ConfigError, match="can't run the format 'q4_0'"):
        open_target(str(tmp_path), TINY, formats=("Q4_0",))


def test_prompts_have_the_length_and_are_new_each_time():
    tokens = TokenPrompts()
    assert len(tokens.make(40, 1)["prompt"]) == 40
    assert tokens.make(40, 1) == tokens.make(40, 1)
    assert tokens.make(40, 1) != tokens.make(40, 2)
    words = WordPrompts().make(40, 7)["messages"][0]["content"]
    assert words.startswith("7 ")
    assert len(words.split()) == 37


@pytest.mark.slow  # loads the real model twice and makes a sibling: 10 s of CPU time
def test_the_real_model_is_profiled_and_calibrated(tmp_path):
    pytest.importorskip("xllamacpp", reason="the engine's wheel isn't installed: make test installs it")
    pytest.importorskip("gguf", reason="the extra 'profile' isn't installed")
    with open_target("smollm2-135m-instruct", TINY, formats=("q8_0", "q4_1"), threads=1) as target:
        assert target.weights[0].parameters == 134_515_008
        assert target.weights[0].kv_bytes_per_token == 2 * 30 * 2 * 3 * 64
        found = run_sweep(target, TINY)
    found.save(tmp_path / "profile.json")
    found = load_profile(tmp_path / "profile.json")
    assert len(found.samples) == 2 * 2 * 2 * 2
    for one in found.samples:
        assert one.prefill.tokens == one.cell.batch * one.cell.prompt_tokens
        assert one.prefill.cpu_s > 0
        assert one.decode.energy_j[0] > 0
    assert best_precision(found, 2, 32, 6).chosen in ("Q8_0", "Q4_1")
    assert found.step_table("Q8_0").decode_s[2] > 0
    with open_target(str(precision_sibling("Q8_0")), TINY, threads=1) as target:
        with pytest.raises(ConfigError, match="batch of 9"):
            calibrate_serving(target, max_batch=9)
        fresh = calibrate_serving(
            target, max_batch=2, prompt_tokens=16, output_tokens=6, rounds=1, idle_s=0.1, profile=found
        )
    assert fresh.idle_w > 0
    assert fresh.power_w[1] > fresh.idle_w
    assert 0.1 < fresh.time_factor < 10
    slowed = calibrated_profile(found, [msgspec.structs.replace(fresh, model=found.model)])
    assert slowed.samples[0].decode.seconds == pytest.approx(
        found.samples[0].decode.seconds * fresh.time_factor
    )


@pytest.mark.slow
def test_what_cannot_be_fitted_together_is_refused():
    pytest.importorskip("xllamacpp", reason="the engine's wheel isn't installed: make test installs it")
    for sweep, code in (
        (Sweep(batches=(1,), prompts=(9000,), outputs=(6,)), "C101"),
        (Sweep(batches=(1024,), prompts=(8000,), outputs=(6,)), "C112"),
    ):
        with pytest.raises(ConfigError) as caught:
            open_target("smollm2-135m-instruct", sweep, formats=("Q4_1",))
        assert caught.value.code == code
