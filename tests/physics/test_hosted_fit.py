"""The fit behind the estimate: folds that don't leak, and a fit that finds what made the data."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from fitting import hosted_llm, hosted_roofline, hosted_runs

MODELS = [
    ("meta-llama/Llama-3.1-8B-Instruct", 8.0, 8.0, "bfloat16", 1.0),
    ("Qwen/Qwen3-32B", 32.0, 32.0, "bfloat16", 1.0),
    ("meta-llama/Llama-3.1-70B-Instruct", 70.0, 70.0, "bfloat16", 4.0),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", 3.0, 30.0, "bfloat16", 2.0),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", 22.0, 235.0, "fp8", 4.0),
]


def _runs(energy_j=1.0, token_s=1.0):
    return [
        hosted_runs.Run(
            model=model,
            task=task,
            accelerator=accelerator,
            precision=precision,
            architecture="MoE" if active < total else "Dense Transformer",
            active=active,
            total=total,
            accelerators=accelerators,
            replicas=1.0,
            batch=batch,
            tokens_out=500.0,
            energy_j=energy_j,
            token_s=token_s,
            old=False,
        )
        for model, active, total, precision, accelerators in MODELS
        for task in ("lm-arena-chat", "image-chat")
        for accelerator in ("h100", "b200")
        for batch in (8.0, 32.0, 128.0, 512.0)
    ]


def _synthetic(seed):
    """Runs that a model of the same shape made, its numbers drawn from the priors, with 3 % of noise."""
    random = np.random.default_rng(seed)
    theta = hosted_roofline.MIDDLE + 0.7 * hosted_roofline.SPREAD * random.standard_normal(
        len(hosted_roofline.NAMES)
    )
    runs = _runs()
    layouts = [hosted_runs.listed_layout(run) for run in runs]
    columns = hosted_roofline.design(runs, layouts)
    energy, time = hosted_roofline.predict(theta, columns)
    noise = 0.03 * random.standard_normal((2, len(runs)))
    return columns._replace(log_energy=energy + noise[0], log_time=time + noise[1])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fit_finds_what_made_the_data(seed):
    columns = _synthetic(seed)
    kept = np.arange(len(columns.batch)) % 4 != 2  # leaves one batch of each deployment to judge
    theta = hosted_roofline.fit(
        hosted_roofline.pick(columns, kept), hosted_roofline.Choice(prior=1.0, time=0.5)
    )
    judged = hosted_roofline.pick(columns, ~kept)
    energy, time = hosted_roofline.predict(theta, judged)
    assert np.median(abs(energy - judged.log_energy)) < 0.06
    assert np.median(abs(time - judged.log_time)) < 0.06


def test_versions_of_a_model_leave_together():
    named = {
        name: hosted_runs.base_model(_named(name))
        for name in (
            "meta-llama/Llama-3.1-405B-Instruct",
            "meta-llama/Llama-3.1-405B-Instruct-FP8",
            "Qwen/Qwen3-32B",
            "Qwen/Qwen3-VL-32B-Instruct",
            "deepseek-ai/DeepSeek-R1-0528",
            "deepseek-ai/DeepSeek-V3.1",
            "someone/unheard-of",
            "someone/unheard-of-FP8",
        )
    }
    assert len(set(named.values())) == 4
    assert named["Qwen/Qwen3-32B"] == named["Qwen/Qwen3-VL-32B-Instruct"]
    assert named["someone/unheard-of"] == named["someone/unheard-of-FP8"]


def _named(model):
    first = _runs()[0]
    return hosted_runs.Run(**{**first.__dict__, "model": model})


def test_a_left_out_model_has_no_hand_in_its_own_prediction():
    runs = _runs(energy_j=100.0, token_s=0.02)
    study = hosted_llm.study_of(runs)
    group = study.groups[0]
    own = study.groups == group
    wrong = study._replace(
        listed=study.listed._replace(log_energy=study.listed.log_energy + 3.0 * own),
    )
    choice = hosted_roofline.Choice(prior=1.0, time=0.1)
    residuals = [hosted_llm.held_out(part, choice, [[group]])["energy"][own] for part in (study, wrong)]
    assert residuals[1] == pytest.approx(residuals[0] - 3.0)
    assert np.isnan(hosted_llm.held_out(study, choice, [[group]])["energy"][~own]).all()


def test_half_width_holds_its_share():
    residuals = np.random.default_rng(0).standard_normal(500)
    width = hosted_llm.half_width(residuals)
    assert 0.9 <= np.mean(abs(residuals) <= width) < 0.91
    assert hosted_llm.half_width(np.array([0.1, -0.5, np.nan])) == 0.5


def test_a_malformed_file_names_its_line(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("model_id,task\nx,y\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs\.csv:2: .*activated_params_billions"):
        hosted_runs.read_runs(path)
