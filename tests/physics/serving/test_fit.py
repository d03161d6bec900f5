"""The fit and the benchmark: on made runs whose truth is known, and on the measured ones where they are."""

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negajoule.physics.serving import load_predictor, shape_of
from negajoule.physics.serving.step_physics import Coefficients

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from benchmarks import energy_model  # noqa: E402
from fitting import serving_energy, serving_fit, serving_residuals, serving_runs  # noqa: E402

DATA = Path(os.environ.get("NEGAJOULE_DATA", ROOT.parent / "shared" / "data"))
MODELS = (
    ("meta-llama/Llama-3.1-8B-Instruct", "H100", 1, "bfloat16"),
    ("Qwen/Qwen3-32B", "B200", 1, "bfloat16"),
    ("Qwen/Qwen3-14B", "B200", 1, "bfloat16"),
    ("meta-llama/Llama-3.1-70B-Instruct", "H100", 4, "bfloat16"),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", "H100", 2, "bfloat16"),
    ("openai/gpt-oss-20b", "B200", 1, "mxfp4"),
)
TRUTH = {"base": 0.25, "reading": 0.45, "step_s": 2e-3, "layer_s": 8e-5, "prompt lm-arena-chat": 150.0}


def made_rows(folder: Path, shift: float = 1.0) -> Path:
    """Runs that follow the physics exactly, at parameters of our own; those of one model take longer."""
    theta = serving_fit.MIDDLE.copy()
    for name, value in TRUTH.items():
        theta[serving_fit.NAMES.index(name)] = np.log(value)
    rows: list[dict[str, Any]] = []
    for model, accelerator, count, form in MODELS:
        size = shape_of(model)
        for batch in (8, 16, 32, 64, 128, 256):
            row = {
                "model_id": model,
                "task": "lm-arena-chat",
                "gpu_model": accelerator,
                "num_gpus": count,
                "activated_params_billions": size.active_parameters / 1e9,
                "total_params_billions": size.parameters / 1e9,
                "avg_batch_size": batch - 0.1,
                "max_num_seqs": batch,
                "avg_output_len": 400,
                "output_len_second_moment": 320000,
                "avg_power_watts": 1.0,
                "energy_per_token_joules": 1.0,
                "output_throughput_tokens_per_sec": 1.0,
                "weight_precision": form,
                "architecture": "MoE" if size.is_moe else "Dense Transformer",
                "median_itl_ms": "",
                "data_parallel": 1,
                "expert_parallel": 1,
            }
            rows += [row]
    path = folder / "made_runs.csv"
    write(path, rows)
    runs = serving_runs.read_runs(path)
    found = serving_fit.physics_of(theta, serving_runs.columns_of(runs, serving_runs.WEIGHTS))
    for row, time, power in zip(rows, np.exp(found.log_token_s), np.exp(found.log_power), strict=True):
        slower = shift if row["model_id"] == "Qwen/Qwen3-14B" else 1.0
        row["output_throughput_tokens_per_sec"] = row["avg_batch_size"] / (time * slower)
        row["avg_power_watts"] = power
        row["energy_per_token_joules"] = power * time * slower / row["avg_batch_size"]
    write(path, rows)
    return path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_the_fit_finds_the_physics_that_made_the_runs(tmp_path: Path) -> None:
    runs = serving_runs.read_runs(made_rows(tmp_path))
    columns = serving_runs.columns_of(runs, serving_runs.WEIGHTS)
    theta = serving_fit.fit(columns, serving_fit.Choice(0.1, 0.5))
    assert np.abs(serving_energy.missed_by(theta, columns)).max() < 0.03
    assert isinstance(serving_fit.coefficients_of(theta), Coefficients)
    assert 100 < serving_fit.prompts_of(theta)["lm-arena-chat"] < 220


def test_what_the_physics_misses_is_learned_and_shipped_alike(tmp_path: Path) -> None:
    runs = serving_runs.read_runs(made_rows(tmp_path))
    process, weight = serving_residuals.PROCESSES[0], np.ones(len(runs))
    slower = np.array([0.3 if "qwen3-14b" in run.setup.shape.name else 0.0 for run in runs])
    missed = np.column_stack([slower, slower])
    shipped = serving_residuals.residuals_of(runs, missed, weight, process)
    likeness = serving_residuals.likeness_of(runs)
    kernel = likeness.kernel(process)
    direct = kernel @ serving_residuals.weights_of(kernel, missed, weight)
    for index, run in enumerate(runs):
        features = tuple(likeness.features[index])
        time, energy = shipped.correction(features).factors(float(np.log(run.batch)))
        assert np.log(time) == pytest.approx(direct[index, 0], abs=0.005)
        assert time == energy
    slow = [index for index, value in enumerate(slower) if value]
    assert direct[slow, 0].min() > 0.15


def test_folds_leave_out_whole_pairs(tmp_path: Path) -> None:
    study = serving_energy.study_of(serving_runs.read_runs(made_rows(tmp_path)))
    folds = serving_energy.folds_of(study, 3)
    assert np.sum(folds, axis=0).tolist() == [1] * 36
    for out in folds:
        assert not set(study.pairs[out]) & set(study.pairs[~out])


def test_a_row_without_a_column_or_with_a_zero_is_named(tmp_path: Path) -> None:
    path = made_rows(tmp_path)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[3]["avg_power_watts"] = "0"
    write(path, rows)
    with pytest.raises(ValueError, match=r"made_runs\.csv:5"):
        serving_runs.read_runs(path)
    write(path, [{key: value for key, value in row.items() if key != "num_gpus"} for row in rows])
    with pytest.raises(ValueError, match="num_gpus"):
        serving_runs.read_runs(path)


def test_unseen_runs_are_judged_by_what_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_rows(tmp_path, shift=1.3)
    monkeypatch.setenv("NEGAJOULE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", ["energy_model.py", "--data", str(tmp_path)])
    monkeypatch.setattr(energy_model, "CALLS", 40)
    assert energy_model.main() == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["rows_seen"], result["rows_unseen"], result["mode"]) == (0, 36, "unseen")
    assert result["mape_chat_cv"] == result["mape_chat_unseen"]
    assert 1 < result["mape_chat_unseen"] < 60
    assert result["mape_chat_calibrated"] < result["mape_chat_unseen"]
    assert result["mfu_law_power_mape"] > 20
    assert result["baseline_params_mape"] is None  # nothing to fit it to
    for key in ("mape_all_cv", "coverage_90", "baseline_boosting_mape", "us_per_prediction"):
        assert key in result


def test_a_folder_without_runs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["energy_model.py", "--data", str(tmp_path)])
    assert energy_model.main() == 1


@pytest.mark.skipif(not (DATA / serving_energy.V3).is_file(), reason=f"no measured runs in {DATA}")
def test_what_is_shipped_is_fitted_to_the_measured_runs() -> None:
    predictor = load_predictor()
    digests = {entry["file"]: entry["sha256"] for entry in predictor.model.data}
    assert digests[serving_energy.V3] == serving_energy.digest_of(DATA / serving_energy.V3)
    runs = serving_runs.read_runs(DATA / serving_energy.V3)
    assert {run.digest for run in runs} == set(predictor.model.rows)
    chats = [run for run in runs if run.task == "lm-arena-chat"]
    errors = [energy_model.predict(predictor, run).energy_per_token_j / run.energy_j - 1 for run in chats]
    assert np.mean(np.abs(errors)) < 0.06
