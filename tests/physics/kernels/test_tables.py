"""Reading kernel tables, and setting aside power that was sampled too briefly."""

import numpy as np
import pytest

from negajoule.errors import ConfigError
from negajoule.physics.kernels.operators import OPERATORS
from negajoule.physics.kernels.tables import read_table, table_files

from .kernel_rows import gemm_columns, write

GEMM = OPERATORS["gemm"]


def test_a_table_is_read_by_accelerator_and_format(tmp_path):
    columns = gemm_columns()
    half = len(columns["m"]) // 2
    columns["gemm_dtype"] = ["bfloat16"] * half + ["fp8"] * (len(columns["m"]) - half)
    parts = read_table(write(tmp_path, "h200_sxm_gemm", columns), GEMM)
    assert [(part.accelerator, part.number_format) for part in parts] == [
        ("NVIDIA H200", "bfloat16"),
        ("NVIDIA H200", "fp8"),
    ]
    assert parts[0].latency_s == pytest.approx(columns["latency"][:half] * 1e-3)
    assert all(part.steady.all() for part in parts)


def test_a_reading_below_that_of_less_work_is_set_aside(tmp_path):
    columns = gemm_columns()
    low = (columns["m"] == 16) & (columns["n"] == 512)
    columns["power"] = np.where(low, 150.0, columns["power"])
    (table,) = read_table(write(tmp_path, "h200_sxm_gemm", columns), GEMM)
    assert np.array_equal(table.steady, ~low)


def test_a_reading_below_that_of_a_little_more_work_in_the_same_time_is_set_aside(tmp_path):
    columns = gemm_columns(sizes=(1, 2), layers=((512, 512),))
    columns["power"] = np.array([180.0, 380.0])
    (table,) = read_table(write(tmp_path, "h200_sxm_gemm", columns), GEMM)
    assert table.steady.tolist() == [False, True]


def test_rows_without_power_keep_their_time(tmp_path):
    columns = gemm_columns()
    columns["power"] = np.zeros(len(columns["m"]))
    (table,) = read_table(write(tmp_path, "h200_sxm_gemm", columns), GEMM)
    assert len(table.latency_s) == len(columns["m"])
    assert np.isnan(table.power_w).all()
    assert not table.steady.any()


def test_rows_that_no_kernel_can_have_are_dropped(tmp_path):
    columns = gemm_columns()
    columns["latency"] = np.where(columns["m"] == 1, np.nan, columns["latency"])
    (table,) = read_table(write(tmp_path, "h200_sxm_gemm", columns), GEMM)
    assert (table.shape[0] > 1).all()


def test_an_accelerator_that_is_not_named_in_the_table_is_in_the_file_name(tmp_path):
    columns = gemm_columns()
    del columns["device"]
    (table,) = read_table(write(tmp_path, "gb200_gemm", columns), GEMM)
    assert table.accelerator == "gb200"


def test_the_skew_of_experts_is_read_from_its_words(tmp_path):
    number = {name: [8, 8] for name in OPERATORS["moe"].shape if name not in ("skew", "moe_ep_size")}
    columns = number | {
        "device": ["NVIDIA B200"] * 2,
        "moe_dtype": ["fp8"] * 2,
        "distribution": ["balanced", "power_law_1.2"],
        "latency": [0.1, 0.2],
        "power": [500.0, 600.0],
    }
    (table,) = read_table(write(tmp_path, "b200_sxm_moe", columns), OPERATORS["moe"])
    assert table.shape[-1].tolist() == [0.0, 1.2]
    assert table.shape[-2].tolist() == [1.0, 1.0]  # a column left out has its usual value


def test_tables_of_other_operators_are_no_tables_of_this_one(tmp_path):
    write(tmp_path, "h200_sxm_gemm", gemm_columns())
    write(tmp_path, "h200_sxm_mla_context_attention", gemm_columns())
    assert [operator for operator, _ in table_files(tmp_path)] == ["gemm"]


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        table_files(tmp_path / "absent")
    with pytest.raises(ConfigError, match="no kernel table"):
        table_files(tmp_path)
    broken = tmp_path / "nv_aic_h200_sxm_gemm_perf.parquet"
    broken.write_bytes(b"not parquet")
    with pytest.raises(ConfigError, match="can't be read"):
        read_table(broken, GEMM)
    columns = gemm_columns()
    del columns["n"]
    with pytest.raises(ConfigError, match="lacks the columns n"):
        read_table(write(tmp_path, "h200_sxm_gemm", columns), GEMM)
