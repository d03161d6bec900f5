"""How far the shipped laws are off on a folder of kernel tables: known accelerators and ones never seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from negajoule.errors import NegajouleError
from negajoule.physics.kernels.law import kernel_law
from negajoule.physics.kernels.operators import OPERATORS
from negajoule.physics.kernels.tables import KernelTable, read_table, table_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["KernelScore", "score_tables"]


class KernelScore(msgspec.Struct, frozen=True, kw_only=True):
    """Errors on one table, one accelerator and one number format. Shares: 0.05 is 5 %.

    Attributes:
        file: name of the table's file.
        operator: what was measured.
        accelerator: as in the table.
        number_format: as in the table.
        rows: measured.
        steady_rows: those whose power was sampled long enough; power and energy are judged on them.
        known: whether the law was fitted on this accelerator and format; if not, it stands in.
        basis: what the law was fitted on; why there's no law, if there's none.
        time_mape: mean error of the time.
        time_median: median error of the time.
        power_mape: mean error of the power; None without steady power.
        power_median: median error of the power.
        energy_mape: mean error of the energy.
        energy_median: median error of the energy.
        energy_mape_all: mean error of the energy on all rows with power, brief samples too.
        time_covered: share of the times inside their 90 % interval.
        energy_covered: share of the energies inside their 90 % interval.
    """

    file: str
    operator: str
    accelerator: str
    number_format: str
    rows: int
    steady_rows: int
    known: bool
    basis: str
    time_mape: float | None = None
    time_median: float | None = None
    power_mape: float | None = None
    power_median: float | None = None
    energy_mape: float | None = None
    energy_median: float | None = None
    energy_mape_all: float | None = None
    time_covered: float | None = None
    energy_covered: float | None = None


def score_tables(directory: str | Path) -> list[KernelScore]:
    """Judge the shipped laws on every kernel table of a folder. Nothing is fitted. Needs the extra ``grid``.

    Args:
        directory: holds files such as ``nv_aic_gb200_gemm_perf.parquet``.

    Returns:
        one score for each table, accelerator and number format, in the order of the files.

    Raises:
        ConfigError: (C106) if there's no table or one can't be read.
        ExtraMissingError: (X101) without pyarrow.
    """
    return [
        _score(file.name, table)
        for operator, file in table_files(Path(directory))
        for table in read_table(file, OPERATORS[operator])
    ]


def _score(file: str, table: KernelTable) -> KernelScore:
    names = (table.operator.name, table.accelerator, table.number_format)
    counts = (len(table.latency_s), int(table.steady.sum()))
    try:
        law = kernel_law(table.accelerator, table.operator.name, table.number_format)
    except NegajouleError as error:
        return KernelScore(
            file=file, operator=names[0], accelerator=names[1], number_format=names[2], rows=counts[0],
            steady_rows=counts[1], known=False, basis=error.message,
        )  # fmt: skip
    time, power = law.costs(table.shape)
    energy, measured = time * power, table.latency_s * table.power_w
    steady = table.steady
    return KernelScore(
        file=file,
        operator=names[0],
        accelerator=names[1],
        number_format=names[2],
        rows=counts[0],
        steady_rows=counts[1],
        known=law.known,
        basis=law.basis,
        time_mape=_mean(time, table.latency_s),
        time_median=_median(time, table.latency_s),
        power_mape=_mean(power[steady], table.power_w[steady]),
        power_median=_median(power[steady], table.power_w[steady]),
        energy_mape=_mean(energy[steady], measured[steady]),
        energy_median=_median(energy[steady], measured[steady]),
        energy_mape_all=_mean(energy, measured),
        time_covered=_covered(time, table.latency_s, law.time_error),
        energy_covered=_covered(energy[steady], measured[steady], law.energy_error),
    )


def _errors(predicted: Floats, measured: Floats) -> Floats:
    there = np.isfinite(measured)
    return np.asarray(abs(predicted[there] / measured[there] - 1.0))


def _mean(predicted: Floats, measured: Floats) -> float | None:
    errors = _errors(predicted, measured)
    return float(errors.mean()) if len(errors) else None


def _median(predicted: Floats, measured: Floats) -> float | None:
    errors = _errors(predicted, measured)
    return float(np.median(errors)) if len(errors) else None


def _covered(predicted: Floats, measured: Floats, half_width: float) -> float | None:
    if not len(measured):
        return None
    return float(np.mean(abs(np.log(predicted / measured)) <= half_width))
