"""Small kernel tables with known contents, for the tests of this folder. Generated, never measured."""

from pathlib import Path

import numpy as np

pa = __import__("pytest").importorskip("pyarrow", reason="the extra grid isn't installed")
pq = __import__("pyarrow.parquet").parquet


def gemm_columns(sizes=(1, 2, 4, 8, 16, 32, 64), layers=((512, 512), (512, 1024), (1024, 512)), **more):
    """Every size in every layer: 2 microseconds and a share for each row, power rising with m."""
    rows = [(m, n, k) for n, k in layers for m in sizes]
    m, n, k = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    latency_ms = 2e-3 + 1e-9 * m * n * k / 100
    power = np.minimum(700.0, 200.0 + m)
    return {
        "device": ["NVIDIA H200"] * len(m),
        "gemm_dtype": ["bfloat16"] * len(m),
        "m": m,
        "n": n,
        "k": k,
        "latency": latency_ms,
        "power": power,
    } | more


def write(folder: Path, name: str, columns) -> Path:
    """A table as a file."""
    file = folder / f"nv_aic_{name}_perf.parquet"
    pq.write_table(pa.table(columns), file)
    return file
