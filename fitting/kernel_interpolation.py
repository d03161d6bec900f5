"""How well measured kernel tables interpolate: rows left out of their layer, layers left out of the table.

    python fitting/kernel_interpolation.py [--data DIR]

Every third row of a layer leaves (both neighbours stay), then a fifth of the layers. Beside it the shipped
law alone, which was fitted on all of these rows.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting.kernel_laws import summary, tables_in

from negajoule.physics.kernels.interpolation import MeasuredKernels
from negajoule.physics.kernels.law import kernel_law

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from negajoule.physics.kernels.tables import KernelTable

    Bools = NDArray[np.bool_]


def rows_out(table: KernelTable) -> Bools:
    """Every third row along the last swept column, ends excepted."""
    names = table.operator.shape
    swept = [table.shape[names.index(name)] for name in table.operator.sweep]
    outer = swept[0] if len(swept) > 1 else np.zeros(len(swept[0]))
    out = np.zeros(len(outer), dtype=np.bool_)
    order = np.lexsort((swept[-1], outer, table.groups))
    changes = (np.diff(table.groups[order]) != 0) | (np.diff(outer[order]) != 0)
    for line in np.split(order, np.flatnonzero(changes) + 1):
        out[line[1:-1:3]] = True
    return out


def layers_out(table: KernelTable) -> Bools:
    """A fifth of the layers."""
    groups = table.groups
    return np.asarray(np.random.default_rng(0).integers(0, 5, groups.max() + 1)[groups] == 0)


def main() -> None:
    """Print the errors of every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    given = parser.parse_args()
    folder = given.data or Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")) / "serving"
    for (operator, name, number_format), table in tables_in(folder).items():
        law = kernel_law(name, operator, number_format)
        print(f"\n{operator}, {number_format}, {name}: {len(table.latency_s)} rows")
        for what, out in (("rows left out", rows_out(table)), ("layers left out", layers_out(table))):
            kept = table.rows(out)
            time, power = MeasuredKernels(table.rows(~out), law).costs(kept.shape)
            alone = law.costs(kept.shape)[0]
            watts = np.where(kept.steady, kept.power_w, np.nan)
            for title, off in (
                ("time", np.log(time / kept.latency_s)),
                ("power", np.log(power / watts)),
                ("time, law alone", np.log(alone / kept.latency_s)),
            ):
                s = summary(off)
                print(f"  {what:16} {title:16} mean {s['mean']:.1%}, median {s['median']:.1%}")


if __name__ == "__main__":
    main()
