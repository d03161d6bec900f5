"""The fits behind the laws: they find what made the data, and read the measured rows as they are meant."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from fitting import kernel_latency, kernel_latency_rows, kernel_laws
from fitting.least_squares import minimise

from negajoule.errors import ConfigError
from negajoule.physics.kernels.hardware import hardware
from negajoule.physics.kernels.latency_law import timing
from negajoule.physics.kernels.law import Coefficients, roofline, wattage, watts_of
from negajoule.physics.kernels.operators import OPERATORS
from negajoule.physics.kernels.passes import Split
from negajoule.physics.kernels.tables import KernelTable

ROW = {
    "silicon_data_source": "made up; silicon_concurrency=16",
    "backend": "vllm",
    "model_path": "meta-llama/Llama-3.1-70B",
    "system": "h200_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": "1024",
    "osl": "512",
    "gemm_quant_mode": "fp8",
    "moe_quant_mode": "fp8",
    "batch_size": "16.0",
    "tp_size": "4.0",
    "attention_dp_size": "1.0",
    "moe_tp_size": "4.0",
    "moe_ep_size": "1.0",
    "silicon_ttft_ms": "200",
    "silicon_tpot_ms": "10",
}
COLUMNS = [
    *ROW,
    *(
        f"{side}_{name}"
        for side in ("prefill", "decode")
        for name in (
            "batch_size",
            "num_workers",
            "tp_size",
            "attention_dp_size",
            "moe_tp_size",
            "moe_ep_size",
        )
    ),
]


def _file(folder, *rows):
    file = folder / "rows.csv"
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(ROW | row for row in rows)
    return file


def _deployed(folder, **changes):
    (row,), dropped = kernel_latency_rows.read_rows(_file(folder, changes))
    assert not dropped
    return row.deployed


def test_least_squares_find_a_line_through_outliers():
    x = np.linspace(0, 1, 50)
    y = 2.0 + 3.0 * x
    y[::10] += 100.0
    found = minimise(lambda theta: theta[0] + theta[1] * x - y, np.zeros(2), bend=0.01)
    assert found == pytest.approx([2.0, 3.0], abs=0.05)


def test_a_fit_finds_the_law_that_made_the_table():
    true = Coefficients(4e-6, 0.8, 0.6, 3.0, 0.3, 0.4, 0.5)
    on = hardware("h200")
    m, n, k = (
        axis.ravel()
        for axis in np.meshgrid(2.0 ** np.arange(0, 16), 2.0 ** np.arange(7, 15, 2), [1024.0, 8192.0])
    )
    operator = OPERATORS["gemm"]
    flops, read = operator.work((m, n, k), 2.0)
    time = roofline(flops, read, true, on.compute_16bit, on.bandwidth)
    power = wattage(flops, read, time, watts_of(true, on, on, "bfloat16"))
    table = KernelTable(operator, "h200", "bfloat16", (m, n, k), time, power, np.ones(len(m), dtype=bool))
    law = kernel_laws.law_of(kernel_laws.fit(table, on), on, table, on)
    assert law.coefficients.start_s == pytest.approx(true.start_s, rel=0.1)
    assert law.coefficients.computing == pytest.approx(true.computing, rel=0.1)
    time_off, energy_off = kernel_laws.logs(law, table)
    assert abs(time_off).max() < 0.05
    assert abs(energy_off).max() < 0.1


def test_a_row_is_read_as_a_deployment(tmp_path):
    deployed = _deployed(tmp_path)
    assert deployed.decode == Split(4.0, 1.0, 1.0)
    assert deployed.prompt is None
    assert (deployed.sequences, deployed.formats) == (16.0, ("fp8", "fp8"))
    assert deployed.shape.name == "llama-3-70b"


def test_accelerators_that_were_counted_twice_are_counted_once(tmp_path):
    deepseek = {"model_path": "deepseek-ai/DeepSeek-V3", "system": "b200_sxm"}
    squared = {"tp_size": "64", "moe_tp_size": "8", "moe_ep_size": "8"}
    assert _deployed(tmp_path, **deepseek, **squared).decode == Split(8.0, 1.0, 8.0)
    copied = {"tp_size": "4", "attention_dp_size": "4", "moe_tp_size": "1", "moe_ep_size": "16"}
    minimax = {"model_path": "MiniMaxAI/MiniMax-M2.5", "system": "b200_sxm"}
    found = _deployed(tmp_path, **minimax, **copied)
    assert found.decode == Split(4.0, 4.0, 4.0)
    assert found.sequences == 64.0  # a batch for each copy


def test_a_split_that_its_root_could_not_hold_is_left_as_it_is(tmp_path):
    large = {"model_path": "Qwen/Qwen3-235B-A22B-FP8", "system": "h100_sxm"}
    found = _deployed(tmp_path, **large, tp_size="4", moe_tp_size="2", moe_ep_size="2")
    assert found.decode.accelerators == 4.0


def test_a_pool_for_prompts_is_read_and_missing_workers_are_unknown(tmp_path):
    pools = {
        "mode": "disagg", "batch_size": "", "decode_batch_size": "8", "decode_num_workers": "3",
        "decode_tp_size": "4", "prefill_tp_size": "2", "prefill_num_workers": "2",
    }  # fmt: skip
    found = _deployed(tmp_path, **pools)
    assert (found.prompt, found.prompt_workers, found.decode_workers) == (Split(2.0), 2.0, 3.0)
    assert found.sequences == 24.0
    unknown = _deployed(
        tmp_path, **pools | {"decode_num_workers": "", "prefill_num_workers": "", "decode_batch_size": ""}
    )
    assert unknown.prompt_workers is unknown.decode_workers is None
    assert unknown.sequences == 16.0


def test_a_model_known_by_the_size_in_its_name_has_the_usual_shape(tmp_path):
    shape = _deployed(tmp_path, model_path="someone/Unheard-of-100B-A10B").shape
    assert (shape.parameters, shape.active_parameters, shape.is_moe) == (100e9, 10e9, True)


def test_rows_that_cannot_be_judged_are_left_out_and_named(tmp_path):
    rows, dropped = kernel_latency_rows.read_rows(
        _file(
            tmp_path, {}, {"model_path": "someone/nameless"}, {"system": "abacus"}, {"silicon_ttft_ms": "0"}
        )
    )
    assert len(rows) == 1
    assert [words.partition(":")[0] for words in dropped] == ["row 3", "row 4", "row 5"]


def test_a_file_that_is_no_table_of_rows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        kernel_latency_rows.read_rows(tmp_path / "absent.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="lacks the column"):
        kernel_latency_rows.read_rows(other)


def _study(folder):
    rows, _ = kernel_latency_rows.read_rows(
        _file(
            folder,
            *(
                {"model_path": model, "system": system, "batch_size": batch, "isl": tokens}
                for model in ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B")
                for system in ("h100_sxm", "b200_sxm")
                for batch in ("4", "64")
                for tokens in ("512", "4096")
            ),
        )
    )
    study = kernel_latency.Study(rows)
    true = timing(study.load, {name: middle for name, (middle, _) in kernel_latency.PRIORS.items()})
    study.ttft, study.tpot = 1.2 * true.ttft_s, 1.2 * true.tpot_s
    return study


def test_a_fit_of_loaded_engines_finds_what_made_the_rows(tmp_path):
    study = _study(tmp_path)
    found = timing(study.load, kernel_latency.fit(study, np.ones(len(study.rows), dtype=bool)))
    assert np.median(abs(found.tpot_s / study.tpot - 1)) < 0.06
    assert np.median(abs(found.ttft_s / study.ttft - 1)) < 0.1


def test_no_group_is_judged_by_its_own_rows(tmp_path):
    study = _study(tmp_path)
    names = np.array(["a", "b"])[(study.pairs == study.pairs[0]).astype(int)]
    before = kernel_latency.left_out(study, names, folds=2)[1]
    study.tpot[names == "b"] *= 100.0
    after = kernel_latency.left_out(study, names, folds=2)[1]
    assert after[names == "b"] == pytest.approx(before[names == "b"])
    assert after[names == "a"] != pytest.approx(before[names == "a"])
