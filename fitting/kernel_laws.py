"""Fit the laws of kernels (``negajoule.physics.kernels``) and judge them on shapes and accelerators left out.

    python fitting/kernel_laws.py [--data DIR] [--write]

For each accelerator, operator and format: a roofline by robust least squares, then a smooth correction by
penalised least squares. Shapes of a layer (all rows that differ in tokens, batch or context only) leave
together. The error elsewhere is that of the other accelerator's law with this one's data sheet.
Power is fitted on rows whose samples were long enough.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting.least_squares import minimise

from negajoule.physics.kernels.hardware import Hardware, hardware
from negajoule.physics.kernels.law import Coefficients, KernelLaw, roofline, wattage, watts_of
from negajoule.physics.kernels.operators import OPERATORS
from negajoule.physics.kernels.shipped import Found
from negajoule.physics.kernels.surface import Surface
from negajoule.physics.kernels.tables import KernelTable, read_table, table_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

SHIPPED = Path(__file__).resolve().parents[1] / "src/negajoule/physics/kernels/kernel_laws.json"
SOURCE = (
    "NVIDIA aiconfigurator, vLLM 0.22.0 kernel tables (https://github.com/ai-dynamo/aiconfigurator),"
    " Apache-2.0; laws fitted to them by fitting/kernel_laws.py"
)
FOLDS = 5
FEWEST = 500  # rows that a law needs

# Where the corrections have knots: dense where kernels change, sparse elsewhere.
KNOTS: dict[str, dict[str, list[list[float]]]] = {
    "gemm": {
        "time": [
            [1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 32768],
            [32, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536],
            [32, 256, 1024, 4096, 16384, 65536],
        ],
        "power": [
            [1, 16, 64, 128, 256, 512, 1024, 4096, 32768],
            [32, 256, 1024, 4096, 16384, 65536],
            [32, 256, 1024, 4096, 16384, 65536],
        ],
    },
    "context_attention": {
        "time": [
            [1, 8, 32, 128, 512, 2048, 8192, 24576],
            [1, 64, 256, 1024, 4096, 16384],
            [64, 128, 192, 256, 512],
            [1, 8],
            [1, 16],
        ],
        "power": [[1, 32, 512, 24576], [1, 256, 1024, 16384], [64, 128, 192, 256, 512], [1, 8], [1, 16]],
    },
    "generation_attention": {
        "time": [
            [1, 8, 64, 512, 4096, 16384],
            [2, 128, 512, 2048, 8192, 131072],
            [64, 128, 192, 256, 512],
            [1, 4, 16],
            [1, 16],
        ],
        "power": [[1, 64, 4096], [2, 512, 131072], [64, 128, 192, 256, 512], [1, 8], [1, 16]],
    },
    "moe": {
        "time": [
            [0.01, 0.06, 0.25, 1, 4, 16, 64, 256, 4096],
            [5e4, 1e6, 8e6, 1.3e8],
            [1, 8, 32, 128, 512],
            [2048, 8192],
            [1, 2.2],
        ],
        "power": [[0.01, 0.25, 4, 64, 4096], [5e4, 1e6, 8e6, 1.3e8], [1, 16, 512], [2048, 8192], [1, 2.2]],
    },
}
STARTS = np.log([5e-6, 0.7, 0.6, 3.0])
POWER_STARTS = np.log([0.3, 0.4, 0.5])


class Parts(NamedTuple):
    """A law before it's written: roofline and both corrections."""

    coefficients: Coefficients
    time: Surface
    power: Surface


def correction(knots: list[list[float]], points: tuple[Floats, ...], wanted: Floats) -> Surface:
    """The smoothest surface near these values: second differences are penalised, and its size a little."""
    counts = [len(axis) for axis in knots]
    size = int(np.prod(counts))
    surface = Surface(knots, [0.0] * size)
    where, weights = surface.corners(points)
    rows = np.zeros((len(wanted), size), dtype=np.float32)
    np.add.at(rows, (np.arange(len(wanted))[:, None], where), weights)
    normal = (rows.T @ rows).astype(np.float64) + roughness(counts) + 0.01 * np.eye(size)
    values = np.linalg.solve(normal, (rows.T @ wanted.astype(np.float32)).astype(np.float64))
    return Surface(knots, np.round(values, 3).tolist())


def roughness(counts: list[int]) -> Floats:
    """Sum of squared second differences along each axis, as a matrix."""
    size = int(np.prod(counts))
    places = np.arange(size).reshape(counts)
    total = np.zeros((size, size))
    for axis in range(len(counts)):
        line = np.moveaxis(places, axis, 0)
        for middle in range(1, len(line) - 1):
            triples = np.stack([line[middle - 1].ravel(), line[middle].ravel(), line[middle + 1].ravel()], 1)
            for i, a in enumerate((1.0, -2.0, 1.0)):
                for j, b in enumerate((1.0, -2.0, 1.0)):
                    np.add.at(total, (triples[:, i], triples[:, j]), a * b)
    return total


def fit(table: KernelTable, on: Hardware) -> Parts:
    """Roofline first, then what's left."""
    operator, name = table.operator, table.operator.name
    rate, number_bytes = on.rate(table.number_format), on.number_bytes(table.number_format)
    flops, read = operator.work(table.shape, number_bytes)
    points = operator.coordinates(table.shape)

    def coefficients(theta: Floats, power: Floats = POWER_STARTS) -> Coefficients:
        return Coefficients(*(float(f"{v:.4g}") for v in np.exp(np.concatenate([theta, power]))))

    def time_off(theta: Floats) -> Floats:
        raw = Coefficients(*np.exp(np.concatenate([theta, POWER_STARTS])))
        return np.asarray(np.log(roofline(flops, read, raw, rate, on.bandwidth) / table.latency_s))

    # Some operators never reach one of the limits, so weak priors keep efficiencies near 0.7.
    prior = np.sqrt(len(table.latency_s)) * np.array([0.0, 0.05, 0.05, 0.1])

    def with_prior(theta: Floats) -> Floats:
        return np.concatenate([time_off(theta), prior * (theta - STARTS)])

    theta = minimise(with_prior, STARTS)
    base = roofline(flops, read, coefficients(theta), rate, on.bandwidth)
    time = correction(KNOTS[name]["time"], points, np.log(table.latency_s / base))

    use = table.steady
    t, f, b, drawn = table.latency_s[use], flops[use], read[use], table.power_w[use]

    def power_off(phi: Floats) -> Floats:
        raw = Coefficients(*np.exp(np.concatenate([theta, phi])))
        off = np.log(wattage(f, b, t, watts_of(raw, on, on, table.number_format)) / drawn)
        return np.concatenate([off, 0.2 * np.sqrt(len(off)) * (phi - POWER_STARTS)])

    phi = minimise(power_off, POWER_STARTS)
    found = coefficients(theta, phi)
    drawn_base = wattage(f, b, t, watts_of(found, on, on, table.number_format))
    power = correction(KNOTS[name]["power"], tuple(p[use] for p in points), np.log(drawn / drawn_base))
    return Parts(found, time, power)


def row_of(parts: Parts, errors: dict[str, float], elsewhere: dict[str, float]) -> dict[str, Any]:
    """As it's written; corrections in thousandths."""

    def surface(s: Surface) -> dict[str, Any]:
        return {"knots": s.knots, "milli": [round(v * 1000) for v in s.values]}

    return {
        "coefficients": parts.coefficients._asdict(),
        "time": surface(parts.time),
        "power": surface(parts.power),
        "errors": errors,
        "errors_elsewhere": elsewhere,
    }


def law_of(parts: Parts, fitted_on: Hardware, table: KernelTable, on: Hardware) -> KernelLaw:
    """The law as the product computes it."""
    none = {"time": 0.0, "energy": 0.0}
    found = Found(row_of(parts, none, none), fitted_on.name, table.number_format)
    return KernelLaw(table.operator, on, table.number_format, found, fitted_on)


def logs(law: KernelLaw, table: KernelTable) -> tuple[Floats, Floats]:
    """Logarithm of predicted over measured: time, and energy where power was steady (else NaN)."""
    time, power = law.costs(table.shape)
    energy = np.log(time * power / (table.latency_s * np.where(table.steady, table.power_w, np.nan)))
    return np.log(time / table.latency_s), energy


def left_out(table: KernelTable, on: Hardware) -> tuple[Floats, Floats]:
    """The same for each row by a law that never saw its shape."""
    groups = table.groups
    fold = np.random.default_rng(0).integers(0, FOLDS, groups.max() + 1)[groups]
    time, energy = np.full(len(groups), np.nan), np.full(len(groups), np.nan)
    for index in range(FOLDS):
        out = fold == index
        law = law_of(fit(table.rows(~out), on), on, table, on)
        time[out], energy[out] = logs(law, table.rows(out))
    return time, energy


def summary(off: Floats) -> dict[str, float]:
    """Mean and median error, and the half-width that holds 90 % of the logarithms."""
    off = off[np.isfinite(off)]
    error = abs(np.expm1(off))
    return {"mean": float(error.mean()), "median": float(np.median(error)), "half_width": half_width(off)}


def half_width(off: Floats) -> float:
    """Half-width of the interval that holds 90 % of the logarithms."""
    return float(np.quantile(abs(off[np.isfinite(off)]), 0.9))


def tables_in(folder: Path) -> dict[tuple[str, str, str], KernelTable]:
    """Every table of a folder, by operator, accelerator and format."""
    found = {}
    for operator, file in table_files(folder):
        for table in read_table(file, OPERATORS[operator]):
            if len(table.latency_s) >= FEWEST:
                found[operator, hardware(table.accelerator).name, table.number_format] = table
    return found


def main() -> None:
    """Fit, judge, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    folder = given.data or Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")) / "serving"
    tables = tables_in(folder)
    fits = {key: fit(table, hardware(key[1])) for key, table in tables.items()}

    laws: dict[str, dict[str, dict[str, Any]]] = {}
    for key, table in tables.items():
        operator, name, number_format = key
        on = hardware(name)
        time, energy = left_out(table, on)
        errors = {"time": round(half_width(time), 3), "energy": round(half_width(energy), 3)}
        shown = {"shape left out, time": summary(time), "shape left out, energy": summary(energy)}
        # Another accelerator's law of this format on this data sheet.
        moved = [k for k in tables if k[0] == operator and k[1] != name and k[2] == number_format]
        elsewhere = {"time": 0.7, "energy": 0.7}  # twice and half, where no other accelerator was measured
        if moved:
            time, energy = logs(law_of(fits[moved[0]], hardware(moved[0][1]), table, on), table)
            elsewhere = {"time": round(half_width(time), 3), "energy": round(half_width(energy), 3)}
            shown |= {
                "accelerator left out, time": summary(time),
                "accelerator left out, energy": summary(energy),
            }
        print(f"\n{operator}, {number_format}, {name}: {len(table.latency_s)} rows, "
              f"{table.steady.mean():.0%} with steady power; {fits[key].coefficients}")  # fmt: skip
        for what, s in shown.items():
            print(f"  {what:34} mean {s['mean']:.1%}, median {s['median']:.1%}, "
                  f"90 % within x{np.exp(s['half_width']):.2f}")  # fmt: skip
        laws.setdefault(name, {}).setdefault(operator, {})[number_format] = row_of(
            fits[key], errors, elsewhere
        )
    if given.write:
        content = {
            "source": SOURCE,
            "data": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for _, f in table_files(folder)},
            "accelerators": {name: hardware(name).generation for name in sorted(laws)},
            "laws": laws,
        }
        SHIPPED.write_text(
            json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8"
        )
        print(f"\nwritten: {SHIPPED.name}, {SHIPPED.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
