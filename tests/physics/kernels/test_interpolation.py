"""Looking kernels up in a table."""

import numpy as np
import pytest

from negajoule.physics.kernels.interpolation import MeasuredKernels
from negajoule.physics.kernels.law import kernel_law
from negajoule.physics.kernels.operators import OPERATORS
from negajoule.physics.kernels.tables import KernelTable, read_table

from .kernel_rows import gemm_columns, write

LAW = kernel_law("h200", "gemm", "bfloat16")


@pytest.fixture
def table(tmp_path):
    return read_table(write(tmp_path, "h200_sxm_gemm", gemm_columns()), OPERATORS["gemm"])[0]


def test_a_measured_row_is_found_again(table):
    kernels = MeasuredKernels(table, LAW)
    for row in range(0, len(table.latency_s), 5):
        found = kernels.cost([column[row] for column in table.shape])
        assert found.is_measured_layer
        assert found.time_s == pytest.approx(table.latency_s[row])
        assert found.power_w == pytest.approx(table.power_w[row])


def test_between_two_rows_it_lies_between_their_corrections(table):
    kernels = MeasuredKernels(table, LAW)
    corrections = [
        kernels.cost((m, 512.0, 512.0)).time_s / LAW.cost((m, 512.0, 512.0)).time_s
        for m in (16.0, 24.0, 32.0)
    ]
    assert min(corrections[0], corrections[2]) <= corrections[1] <= max(corrections[0], corrections[2])


def test_a_layer_that_was_not_measured_takes_its_neighbours(table):
    found = MeasuredKernels(table, LAW).cost((16.0, 768.0, 768.0))
    assert not found.is_measured_layer
    near = [
        MeasuredKernels(table, LAW).cost((16.0, n, k)).time_s for n, k in ((512.0, 512.0), (1024.0, 512.0))
    ]
    assert min(near) * 0.7 < found.time_s < max(near) * 1.5


def test_brief_power_is_bridged(table):
    brief = table._replace(
        steady=table.shape[0] != 16, power_w=np.where(table.shape[0] == 16, 100.0, table.power_w)
    )
    found = MeasuredKernels(brief, LAW).cost((16.0, 512.0, 512.0))
    assert found.power_w == pytest.approx(216.0, rel=0.1)


def test_many_calls_are_what_each_is_alone():
    batch, context = (axis.ravel() for axis in np.meshgrid([1.0, 8.0, 64.0], [127.0, 1023.0, 8191.0]))
    same = [np.full(len(batch), value) for value in (32.0, 8.0, 128.0, 0.0)]
    law = kernel_law("b200", "generation_attention", "bfloat16")
    time, power = law.costs([batch, context, *same])
    table = KernelTable(
        OPERATORS["generation_attention"], "b200", "bfloat16", (batch, context, *same), time * 1.3,
        power * 0.9, np.ones(len(time), dtype=bool),
    )  # fmt: skip
    kernels = MeasuredKernels(table, law)
    points = [(1.0, 500.0, 32.0, 8.0, 128.0, 0.0), (100.0, 9000.0, 32.0, 8.0, 128.0, 0.0),
              (20.0, 2000.0, 48.0, 8.0, 128.0, 0.0)]  # fmt: skip
    time, power = kernels.costs([np.array(column) for column in zip(*points, strict=True)])
    each = [kernels.cost(point) for point in points]
    assert time == pytest.approx([found.time_s for found in each])
    assert power == pytest.approx([found.power_w for found in each])
    assert time == pytest.approx([1.3 * law.cost(point).time_s for point in points])
