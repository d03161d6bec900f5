"""Measured serving runs: read, grouped by base model, and given layouts.

``hosted_roofline`` fits to them, ``hosted_llm`` judges the fit and writes what's shipped.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from negajoule.errors import CatalogError
from negajoule.physics.model_size import all_layouts, find_model, typical_layout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from negajoule.physics.decoding import Layout

TASKS = (
    "lm-arena-chat",
    "gpqa",
    "image-chat",
    "video-chat",
    "sourcegraph-fim",
    "v2 chat",
    "v2 code",
    "v2 image",
)
V2_TASKS = {
    "llm_text_generation/chat": "v2 chat",
    "llm_text_generation/code": "v2 code",
    "mllm_text_generation/chat": "v2 image",
}


@dataclass(frozen=True)
class Run:
    """One measured deployment at a steady batch.

    Attributes:
        model: as the source names it.
        task: what it was asked.
        accelerator: name that the catalogue knows.
        precision: number format of the weights.
        architecture: as the source names it; empty if it doesn't.
        active: parameters used for a token [1e9].
        total: all parameters [1e9].
        accelerators: number of them.
        replicas: data parallel copies of the attention.
        batch: mean number of sequences in flight.
        tokens_out: mean length of the answers [tokens].
        energy_j: of all accelerators, for one request [J].
        token_s: batch / output rate [s]; the time from token to token, prefills included.
        old: whether it's of the second ML.ENERGY release, with the engine of 2024.
    """

    model: str
    task: str
    accelerator: str
    precision: str
    architecture: str
    active: float
    total: float
    accelerators: float
    replicas: float
    batch: float
    tokens_out: float
    energy_j: float
    token_s: float
    old: bool


def read_runs(path: Path) -> list[Run]:
    """Read runs with the columns of ML.ENERGY v3, plain or gzipped.

    Raises:
        ValueError: if a column is missing, or a row isn't a measurement.
    """
    runs = []
    for line, row in enumerate(read_rows(path), start=2):
        try:
            number = {
                name: float(row[name])
                for name in (
                    "activated_params_billions",
                    "total_params_billions",
                    "num_gpus",
                    "avg_batch_size",
                    "avg_output_len",
                    "energy_per_token_joules",
                    "output_throughput_tokens_per_sec",
                )
            }
            if not all(0 < value < float("inf") for value in number.values()):
                raise ValueError("a figure isn't positive")
            runs.append(
                Run(
                    model=row["model_id"],
                    task=row["task"],
                    accelerator=row["gpu_model"].lower(),
                    precision=row["weight_precision"],
                    architecture=row["architecture"],
                    active=number["activated_params_billions"],
                    total=number["total_params_billions"],
                    accelerators=number["num_gpus"],
                    replicas=float(row.get("data_parallel") or 1),
                    batch=number["avg_batch_size"],
                    tokens_out=number["avg_output_len"],
                    energy_j=number["energy_per_token_joules"] * number["avg_output_len"],
                    token_s=number["avg_batch_size"] / number["output_throughput_tokens_per_sec"],
                    old=False,
                )
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}:{line}: {error!r}") from None
    return runs


def read_old_runs(path: Path) -> list[Run]:
    """Read the second ML.ENERGY release; runs of models without a published layout are left out."""
    runs = []
    for row in read_rows(path):
        try:
            size = find_model(row["Model"])
        except CatalogError:
            continue
        batch, tokens_out = float(row["Avg BS (reqs)"]), float(row["Avg Output Tokens"])
        runs.append(
            Run(
                model=row["Model"],
                task=V2_TASKS[row["task"]],
                accelerator="a100-40gb" if "A100" in row["GPU"] else "h100",
                precision="bfloat16",
                architecture="",
                active=size.active,
                total=size.total,
                accelerators=float(row["TP"]) * float(row["PP"]),
                replicas=1.0,
                batch=batch,
                tokens_out=tokens_out,
                energy_j=float(row["Energy/req (J)"]),
                token_s=batch / float(row["Token tput (tok/s)"]),
                old=True,
            )
        )
    return runs


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, plain or gzipped."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def base_model(run: Run) -> str:
    """What a run's model is a version of: runs of one base model leave the fit together."""
    try:
        return find_model(run.model).name
    except CatalogError:
        return run.model.rpartition("/")[2].lower().removesuffix("-fp8")


class Unlisted(NamedTuple):
    """Layouts of models whose layout nobody published, from their size.

    Attributes:
        layers: factor and exponent of total parameters [1e9].
        kv: factor and exponent of active parameters [1e9], for all layers together.
        expert_share: factor of active / total parameters.
    """

    layers: tuple[float, float]
    kv: tuple[float, float]
    expert_share: float


def fit_unlisted(left_out: Iterable[str] = ()) -> Unlisted:
    """Typical layouts by size, from the published ones except those left out."""
    sizes = [size for size in all_layouts() if size.name not in set(left_out)]
    layouts = [size.layout for size in sizes if size.layout is not None]
    total = np.log([layout.total for layout in layouts])
    active = np.log([layout.active for layout in layouts])
    layers = np.polyfit(total, np.log([layout.layers for layout in layouts]), 1)
    kept = [(layout.attention_layers + layout.window_layers) * layout.kv_elements for layout in layouts]
    kv = np.polyfit(active, np.log(kept), 1)
    shares = [layout.expert_share * layout.total / layout.active for layout in layouts if layout.is_moe]
    return Unlisted(
        (float(np.exp(layers[1])), float(layers[0])),
        (float(np.exp(kv[1])), float(kv[0])),
        float(np.median(shares)),
    )


def guess_layout(run: Run, unlisted: Unlisted) -> Layout:
    """The layout of a run's model if only its sizes were known."""
    kind = "hybrid" if "hybrid" in run.architecture.lower() else "moe" if run.active < run.total else "dense"
    return typical_layout(run.active, run.total, kind, unlisted._asdict())


def listed_layout(run: Run) -> Layout | None:
    """The published layout of a run's model, with the run's own parameter counts."""
    try:
        layout = find_model(run.model).layout
    except CatalogError:
        return None
    if layout is None:
        return None
    return layout._replace(active=run.active, total=run.total if layout.is_moe else run.active)
