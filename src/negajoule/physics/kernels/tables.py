"""Measured kernel tables: read, checked, and cleaned of power that was sampled too briefly.

A power counter averages over some 25 to 100 ms. Where the timed loop was shorter, the reading holds part of
the idle time before it, so one shape has two readings (180 and 380 W). Such a reading can only be too low,
and more work draws no less power until the rating: so a row is set aside if a neighbour with less work, or
with up to twice the work in the same time, drew clearly more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from negajoule.errors import ConfigError
from negajoule.extras import require
from negajoule.physics.kernels.operators import OPERATORS, Operator

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

__all__ = ["KernelTable", "read_table", "steady_power", "table_files"]

_SUFFIX = "_perf.parquet"
_USUAL = {"window_size": 0.0, "moe_tp_size": 1.0, "moe_ep_size": 1.0}  # of columns that a table may leave out
_UNDER = 0.85  # a reading below this share of a smaller neighbour's is set aside
_NEAR = 4.0  # neighbours are up to this many times smaller in a swept column,
_BESIDE = 1.07  # or this much larger,
_AHEAD = 2.1  # or this much larger if they take the same time
_SAME_TIME = 1.03


class KernelTable(NamedTuple):
    """Rows of one operator and number format on one accelerator.

    Attributes:
        operator: what was measured.
        accelerator: name as in the table, such as ``NVIDIA H200``.
        number_format: as in the table.
        shape: one column for each of the operator's shape columns.
        latency_s: time of one call [s].
        power_w: mean power of the accelerator while it ran in a loop; NaN where none was recorded [W].
        steady: whether the power was sampled long enough to be used.
    """

    operator: Operator
    accelerator: str
    number_format: str
    shape: tuple[Floats, ...]
    latency_s: Floats
    power_w: Floats
    steady: Bools

    @property
    def groups(self) -> NDArray[np.int64]:
        """A number for each row: rows that differ in swept columns only share it."""
        fixed = [
            column
            for name, column in zip(self.operator.shape, self.shape, strict=True)
            if name not in self.operator.sweep
        ]
        return np.unique(np.stack(fixed, 1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def rows(self, chosen: Bools) -> KernelTable:
        """The same table with some rows only."""
        return self._replace(
            shape=tuple(column[chosen] for column in self.shape),
            latency_s=self.latency_s[chosen],
            power_w=self.power_w[chosen],
            steady=self.steady[chosen],
        )


def table_files(folder: Path) -> list[tuple[str, Path]]:
    """Tables in a folder: (operator, file), sorted by file name.

    Raises:
        ConfigError: (C106) if there's no such folder or no table in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"there's no folder {folder}", code="C106", fix="give the folder of kernel tables")
    names = sorted(OPERATORS, key=len, reverse=True)
    found = []
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        operator = next((name for name in names if file.name.endswith(f"{name}{_SUFFIX}")), None)
        # Tables of relatives such as mla_context_attention aren't this operator's.
        if operator and re.search(rf"(?:^|_)(?<!mla_)(?<!wideep_){operator}{_SUFFIX}$", file.name):
            found.append((operator, file))
    if not found:
        raise ConfigError(
            f"no kernel table in {folder}", code="C106", fix=f"files named ..._OPERATOR{_SUFFIX}, {names}"
        )
    return found


def read_table(file: Path, operator: Operator) -> list[KernelTable]:
    """Read a table in Parquet, one part for each accelerator and number format. Needs the extra ``grid``.

    Raises:
        ConfigError: (C106) if it isn't such a table.
        ExtraMissingError: (X101) without pyarrow.
    """
    parquet = require("pyarrow.parquet", extra="grid", purpose="read kernel tables")
    lib = require("pyarrow.lib", extra="grid", purpose="read kernel tables")
    try:
        table = parquet.read_table(file)
    except (OSError, lib.ArrowInvalid) as error:
        raise ConfigError(f"{file} can't be read as Parquet: {error}", code="C106") from error
    names = set(table.column_names)
    wanted = [name for name in operator.shape if name != "skew" and name not in _USUAL]
    missing = [name for name in (*wanted, operator.format_column, "latency") if name not in names]
    if missing:
        raise ConfigError(f"{file} lacks the columns {', '.join(missing)}", code="C106")

    def column(name: str) -> Floats:
        if name not in names:
            return np.full(table.num_rows, _USUAL[name])
        return np.asarray(table[name].to_numpy(), dtype=np.float64)

    def words(name: str, usual: str = "") -> NDArray[np.str_]:
        if name not in names:
            return np.full(table.num_rows, usual)
        return np.asarray(table[name].to_pylist(), dtype=np.str_)

    shape = [_skew(words("distribution")) if n == "skew" else column(n) for n in operator.shape]
    latency = column("latency") * 1e-3
    power = column("power") if "power" in names else np.full(len(latency), np.nan)
    power = np.where(power > 0, power, np.nan)
    sound = np.isfinite(latency) & (latency > 0)
    formats = words(operator.format_column)
    devices = words("device", file.name.removeprefix("nv_aic_").partition(f"_{operator.name}")[0])
    parts = []
    for device in np.unique(devices):
        for number_format in np.unique(formats[devices == device]):
            chosen = sound & (devices == device) & (formats == number_format)
            part = KernelTable(
                operator, str(device), str(number_format), tuple(c[chosen] for c in shape),
                latency[chosen], power[chosen], np.ones(int(chosen.sum()), dtype=np.bool_),
            )  # fmt: skip
            parts.append(part._replace(steady=steady_power(part)))
    return parts


def _skew(distribution: NDArray[np.str_]) -> Floats:
    """Exponent of a distribution of tokens over experts: 0 for ``balanced``, 1.2 for ``power_law_1.2``."""
    found = {}
    for name in np.unique(distribution):
        match = re.search(r"power_law_([0-9.]+)", str(name))
        found[str(name)] = float(match.group(1)) if match else 0.0
    return np.asarray([found[str(name)] for name in distribution], dtype=np.float64)


def steady_power(table: KernelTable) -> Bools:
    """Which rows' power can be used: see the head of this module."""
    steady = np.isfinite(table.power_w)
    swept = [
        np.log(1.0 + column)
        for name, column in zip(table.operator.shape, table.shape, strict=True)
        if name in table.operator.sweep
    ]
    groups = table.groups
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    for rows in np.split(order, edges):
        time = table.latency_s[rows]
        reach = np.where(time[None, :] <= _SAME_TIME * time[:, None], np.log(_AHEAD), np.log(_BESIDE))
        near = np.ones((len(rows), len(rows)), dtype=np.bool_)
        for axis in swept:
            ahead = axis[rows][None, :] - axis[rows][:, None]  # of the column's row beyond the row's
            near &= (ahead <= reach) & (ahead >= -np.log(_NEAR))
        power = np.where(np.isfinite(table.power_w[rows]), table.power_w[rows], 0.0)
        most = np.where(near, power[None, :], 0.0).max(axis=1)
        steady[rows] &= power >= _UNDER * most
    return steady
