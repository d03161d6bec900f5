"""Errors of the shipped laws on tables."""

import numpy as np
import pytest

from negajoule.physics.kernels.law import kernel_law
from negajoule.physics.kernels.score import score_tables

from .kernel_rows import gemm_columns, write


def _as_the_law_says(accelerator, number_format="bfloat16", slower=1.0):
    sizes = tuple(range(1, 20)) + tuple(range(20, 400, 20))
    columns = gemm_columns(sizes=sizes, gemm_dtype=None, device=None)
    law = kernel_law(accelerator, "gemm", number_format)
    time, power = law.costs([columns[name].astype(float) for name in ("m", "n", "k")])
    many = len(time)
    return columns | {
        "device": [f"NVIDIA {accelerator.upper()}"] * many,
        "gemm_dtype": [number_format] * many,
        "latency": time * slower * 1e3,
        "power": power,
    }


def test_a_table_that_obeys_the_law_has_no_error(tmp_path):
    write(tmp_path, "h200_sxm_gemm", _as_the_law_says("h200"))
    (score,) = score_tables(tmp_path)
    assert score.known
    assert (score.time_mape, score.energy_mape) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert score.time_covered == score.energy_covered == 1.0


def test_a_slower_table_of_an_unseen_accelerator_is_off_by_as_much(tmp_path):
    write(tmp_path, "gb200_gemm", _as_the_law_says("gb200", slower=1.25))
    (score,) = score_tables(tmp_path)
    assert not score.known
    assert score.time_mape == pytest.approx(0.2)
    assert score.power_mape == pytest.approx(0.0, abs=1e-9)
    assert score.energy_mape == pytest.approx(0.2)


def test_brief_samples_count_in_the_error_of_all_rows_only(tmp_path):
    columns = _as_the_law_says("h200")
    brief = columns["m"] == 19
    columns["power"] = np.where(brief, 100.0, columns["power"])
    write(tmp_path, "h200_sxm_gemm", columns)
    (score,) = score_tables(tmp_path)
    assert score.steady_rows <= score.rows - brief.sum()
    assert score.energy_mape == pytest.approx(0.0, abs=1e-9)
    assert score.energy_mape_all > 0.01


def test_a_table_without_power_is_judged_by_its_times(tmp_path):
    columns = _as_the_law_says("h200")
    del columns["power"]
    write(tmp_path, "h200_sxm_gemm", columns)
    (score,) = score_tables(str(tmp_path))
    assert score.time_mape == pytest.approx(0.0, abs=1e-9)
    assert score.power_mape is score.energy_mape is score.energy_covered is None


def test_an_accelerator_without_a_data_sheet_is_named_and_does_not_stop_the_others(tmp_path):
    columns = gemm_columns()
    write(tmp_path, "h200_sxm_gemm", columns)
    write(tmp_path, "tpu_gemm", columns | {"device": ["TPU v9"] * len(columns["m"])})
    known, unknown = score_tables(tmp_path)
    assert known.time_mape is not None
    assert unknown.time_mape is None
    assert "TPU v9" in unknown.basis
