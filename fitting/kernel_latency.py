"""Fit the times of loaded engines (``negajoule.physics.kernels.latency``), judged on pairs left out.

    python fitting/kernel_latency.py [--data FILE] [--write]

Kernel times come from the shipped laws; fitted are the host, the links, what engines add and how prompts
queue. Each coefficient has a prior (its middle and the standard deviation of its logarithm), which holds
where the rows don't say otherwise. Whole (model, accelerator) pairs leave together.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting.kernel_latency_rows import Measured, read_rows
from fitting.least_squares import minimise

from negajoule.physics.kernels.latency import load_of
from negajoule.physics.kernels.latency_law import Load, timing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SHIPPED = Path(__file__).resolve().parents[1] / "src/negajoule/physics/kernels/latency_model.json"
NAME = "serving/nv_aic_silicon_ttft_tpot.csv.gz"
SOURCE = (
    "NVIDIA aiconfigurator, silicon_sample.csv (https://github.com/ai-dynamo/aiconfigurator), Apache-2.0;"
    " coefficients fitted to it by fitting/kernel_latency.py"
)
FOLDS = 12
BEND = 0.3  # logarithm beyond which a row counts less: some rows hold a warm-up
HOLD = 4.0  # weight of the priors, in rows
TTFT_WEIGHT = 0.7  # beside TPOT, whose errors make up most of a request's
EVEN = 0.25  # how far pairs with few rows count as much as those with many
TRUST = 20.0  # rows at which half of a pair's own factor is believed

# Middle and spread. Kernels should need no factor; host and engine times are those of published profiles of
# vLLM, SGLang and TensorRT-LLM, to an order of magnitude.
PRIORS: dict[str, tuple[float, float]] = {
    "matrices": (1.0, 0.3),
    "attention": (1.0, 0.4),
    "experts": (1.0, 0.4),
    "starts": (0.35, 0.5),
    "links": (1.5, 0.5),
    "link_s": (8e-6, 0.7),
    "layer_s": (15e-6, 0.7),
    "expert layer_s": (20e-6, 1.0),
    "step_s": (1e-3, 1.0),
    "sequence_s": (2e-5, 1.0),
    "host blackwell": (0.8, 0.3),
    "step blackwell": (1.0, 0.2),
    "dense 8-bit": (1.0, 0.2),
    "dense 4-bit": (1.0, 0.2),
    "experts 8-bit": (1.0, 0.2),
    "experts 4-bit": (1.0, 0.2),
    "stored 4-bit": (1.0, 0.4),
    "attention latent": (1.0, 0.4),
    "step hybrid": (1.0, 0.4),
    "step split pool": (1.0, 0.3),
    "spread": (0.6, 0.3),
    "interruption": (0.8, 0.4),
    "prompt": (1.3, 0.4),
    "prompt experts": (1.0, 0.3),
    "prompt blackwell": (1.0, 0.2),
    "prompt 8-bit": (1.0, 0.2),
    "prompt 4-bit": (1.0, 0.2),
    "prompt hybrid": (1.0, 0.3),
    "prompt layer_s": (5e-5, 1.0),
    "engine_s": (0.03, 1.0),
    "steps waited": (2.0, 0.7),
    "own prompt": (2.0, 0.5),
    "ahead": (0.06, 0.7),
    "ahead power": (1.0, 0.2),
    "one pool": (0.5, 0.7),
    "pool": (1.0, 0.5),
    "pool_s": (0.1, 1.0),
    "pool prompt": (1.0, 0.5),
    "pool unknown": (1.0, 0.5),
    **{
        f"{what} {engine}": (1.0, spread)
        for what, spread in (
            ("step", 0.15),
            ("host", 0.3),
            ("prompt", 0.2),
            ("interruption", 0.3),
            ("engine", 0.7),
            ("own prompt", 0.3),
            ("ahead", 0.5),
        )
        for engine in ("vllm", "sglang", "trtllm")
    },
}
MIDDLE = np.log([middle for middle, _ in PRIORS.values()])
SPREAD = np.array([spread for _, spread in PRIORS.values()])


class Study:
    """Rows as columns.

    Attributes:
        rows: as read.
        load: one array for each field.
        ttft: measured [s].
        tpot: measured [s].
        pairs: name of each row's pair.
    """

    def __init__(self, rows: Sequence[Measured]) -> None:
        self.rows = list(rows)
        columns = np.array([load_of(row.deployed) for row in rows], dtype=np.float64)
        self.load = Load(*columns.T)
        self.ttft = np.array([row.ttft_s for row in rows])
        self.tpot = np.array([row.tpot_s for row in rows])
        self.pairs = np.array([row.pair for row in rows])

    def part(self, chosen: NDArray[np.bool_]) -> Load:
        """Columns of some rows."""
        return Load(*(column[chosen] for column in self.load))


def named(theta: Floats) -> dict[str, float]:
    """Coefficients from their logarithms."""
    return dict(zip(PRIORS, np.exp(theta).tolist(), strict=True))


def fit(study: Study, chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Coefficients from some of the rows."""
    load = study.part(chosen)
    first, between = np.log(study.ttft[chosen]), np.log(study.tpot[chosen])
    _, place, counts = np.unique(study.pairs[chosen], return_inverse=True, return_counts=True)
    weight = (100.0 / counts[place]) ** EVEN

    def off(theta: Floats) -> Floats:
        found = timing(load, named(theta))
        return np.concatenate(
            [
                TTFT_WEIGHT * weight * (np.log(found.ttft_s) - first),
                weight * (np.log(found.tpot_s) - between),
                HOLD * BEND * (theta - MIDDLE) / SPREAD,
            ]
        )

    return named(minimise(off, MIDDLE, bend=BEND, rounds=14))


def left_out(study: Study, groups: NDArray[np.str_], folds: int = FOLDS) -> tuple[Floats, Floats]:
    """TTFT and TPOT of each row by coefficients that never saw its group [s]."""
    names = np.unique(groups)
    fold = dict(zip(np.random.default_rng(0).permutation(names), np.arange(len(names)) % folds, strict=True))
    place = np.array([fold[group] for group in groups])
    ttft, tpot = np.empty(len(place)), np.empty(len(place))
    for index in range(min(folds, len(names))):
        out = place == index
        found = timing(study.part(out), fit(study, ~out))
        ttft[out], tpot[out] = found.ttft_s, found.tpot_s
    return ttft, tpot


def kind_of(row: Measured) -> str:
    """Which interval a row belongs to."""
    return "together" if row.mode == "agg" else "apart" if row.described else "undescribed"


def point_trust(off: Floats, served: NDArray[np.str_]) -> float:
    """How far one measured point is believed: spread between deployments / (that + spread within one)."""
    middles = {name: np.median(off[served == name]) for name in np.unique(served)}
    within = np.median([abs(value - middles[name]) for value, name in zip(off, served, strict=True)])
    between = np.median(abs(np.array([middles[name] for name in served])))
    return float(between**2 / (between**2 + within**2))


def content_of(study: Study, digest: str) -> dict[str, Any]:
    """What ships."""
    everything = np.ones(len(study.rows), dtype=np.bool_)
    coefficients = fit(study, everything)
    found = timing(study.load, coefficients)
    off = np.log(study.ttft / found.ttft_s), np.log(study.tpot / found.tpot_s)
    served = np.array([f"{row.pair} {row.deployed.engine}" for row in study.rows])
    pairs = {}
    for name in np.unique(served):
        rows = served == name
        trust = rows.sum() / (rows.sum() + TRUST)
        pairs[str(name)] = [round(float(np.exp(trust * np.median(part[rows]))), 3) for part in off]
    ttft, tpot = left_out(study, study.pairs)
    kinds = np.array([kind_of(row) for row in study.rows])
    widths = {
        str(kind): [
            round(float(np.quantile(abs(np.log(p[kinds == kind] / m[kinds == kind])), 0.9)), 3)
            for p, m in ((ttft, study.ttft), (tpot, study.tpot))
        ]
        for kind in np.unique(kinds)
    }
    return {
        "source": SOURCE,
        "data": digest,
        "rows": len(study.rows),
        "coefficients": {name: float(f"{value:.4g}") for name, value in coefficients.items()},
        "pairs": pairs,
        "half_widths": widths,
        "point_trust": [
            round(point_trust(np.log(measured / found), served), 2)
            for measured, found in ((study.ttft, ttft), (study.tpot, tpot))
        ],
    }


def main() -> None:
    """Fit, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help=f"default NEGAJOULE_DATA/{NAME}")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    file = given.data or Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")) / NAME
    rows, dropped = read_rows(file)
    print(f"{len(rows)} rows, {len(dropped)} left out")
    content = content_of(Study(rows), hashlib.sha256(file.read_bytes()).hexdigest())
    text = json.dumps(content, indent=1) + "\n"
    if given.write:
        SHIPPED.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
