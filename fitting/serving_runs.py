"""Measured serving runs as setups: ML.ENERGY v3 and v2, read, checked and turned into columns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from fitting.hosted_runs import V2_TASKS, read_rows

from negajoule.errors import CatalogError
from negajoule.physics.model_size import find_model
from negajoule.physics.serving.known_shapes import shape_of, shape_of_size
from negajoule.physics.serving.setup import ServingSetup
from negajoule.physics.serving.setup_inputs import inputs_of
from negajoule.physics.serving.step_physics import Inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from negajoule.physics.serving.model_shape import ModelShape

    Floats = NDArray[np.float64]

__all__ = [
    "PICTURES",
    "TASKS",
    "WEIGHTS",
    "Columns",
    "Run",
    "columns_of",
    "pick",
    "read_old_runs",
    "read_runs",
]

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
PICTURES = ("image-chat", "video-chat", "v2 image")
"""Tasks whose prompts hold pictures, which an encoder works on that the physics doesn't know."""

WEIGHTS = {
    "lm-arena-chat": 1.0,
    "gpqa": 0.5,
    "image-chat": 0.3,
    "video-chat": 0.15,
    "sourcegraph-fim": 0.15,
    "v2 chat": 0.2,
    "v2 code": 0.1,
    "v2 image": 0.05,
}
"""How much a run of each task says about text served today: less with pictures, or an engine of 2024."""


@dataclass(frozen=True)
class Run:
    """One measured deployment at a steady batch.

    Attributes:
        setup: what was served, where.
        pair: model and accelerator: what leaves a fit together.
        family: the base model: versions of it share a layout.
        task: what it was asked.
        batch: mean number of sequences in flight.
        tokens_out: mean length of the answers [tokens].
        context_out: mean number of output tokens behind a token being made: E[L^2] / 2 E[L] [tokens].
        token_s: mean time from token to token, prefills included [s].
        gap_s: median time from token to token: steps without a prompt; ``nan`` if it wasn't published [s].
        power_w: of all accelerators [W].
        energy_j: for each output token, of all accelerators [J].
        old: whether it's of the second ML.ENERGY release, with the engine of 2024.
        digest: SHA-256 of the row's figures: what tells a seen row from an unseen one.
        active: parameters used for a token, by the row itself [1e9].
        total: all parameters, by the row itself [1e9].
    """

    setup: ServingSetup
    pair: str
    family: str
    task: str
    batch: float
    tokens_out: float
    context_out: float
    token_s: float
    gap_s: float
    power_w: float
    energy_j: float
    old: bool
    digest: str
    active: float
    total: float


_NUMBERS = (
    "activated_params_billions",
    "total_params_billions",
    "num_gpus",
    "avg_batch_size",
    "avg_output_len",
    "avg_power_watts",
    "energy_per_token_joules",
    "output_throughput_tokens_per_sec",
)


def read_runs(path: Path) -> list[Run]:
    """Read runs with the columns of ML.ENERGY v3, plain or gzipped.

    Raises:
        ValueError: if a column is missing, or a row isn't a measurement.
    """
    runs = []
    for line, row in enumerate(read_rows(path), start=2):
        try:
            runs.append(_run_of(row))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}:{line}: {error!r}") from None
    return runs


def _run_of(row: Mapping[str, str]) -> Run:
    number = {name: float(row[name]) for name in _NUMBERS}
    if not all(0 < value < float("inf") for value in number.values()):
        raise ValueError("a figure isn't positive")
    model, task, accelerator = row["model_id"], row["task"], row["gpu_model"].lower()
    shape = _shape_of_row(
        model,
        number["activated_params_billions"],
        number["total_params_billions"],
        row.get("architecture", ""),
    )
    count, replicas = int(number["num_gpus"]), int(float(row.get("data_parallel") or 1))
    mean = number["avg_output_len"]
    moment = float(row.get("output_len_second_moment") or 2.0 * mean * mean)
    batch = number["avg_batch_size"]
    setup = ServingSetup(
        shape=shape,
        accelerator=accelerator,
        count=count,
        data_parallel=replicas if count % replicas == 0 else 1,
        expert_parallel=int(float(row.get("expert_parallel") or 1)),
        weight_format=row["weight_precision"],
        slow_host=slow_host(accelerator, task, shape),
        batch_limit=int(float(row["max_num_seqs"])) if row.get("max_num_seqs") else None,
    )
    figures = "|".join(
        (model, accelerator, task, str(count), repr(number["energy_per_token_joules"]), repr(batch))
    )
    return Run(
        setup=setup,
        pair=f"{model}|{row['gpu_model']}",
        family=shape.name,
        task=task,
        batch=batch,
        tokens_out=mean,
        context_out=moment / (2.0 * mean),
        token_s=batch / number["output_throughput_tokens_per_sec"],
        gap_s=float(row.get("median_itl_ms") or "nan") / 1e3,
        power_w=number["avg_power_watts"],
        energy_j=number["energy_per_token_joules"],
        old=False,
        digest=hashlib.sha256(figures.encode()).hexdigest()[:16],
        active=number["activated_params_billions"],
        total=number["total_params_billions"],
    )


def slow_host(accelerator: str, task: str, shape: ModelShape) -> bool:
    """Whether a run is one of those whose steps never took less than some 30 ms: reasoning on B200.

    The same models on the same accelerators took 5 to 14 ms in chat; mixtures of experts didn't show it.
    """
    return accelerator == "b200" and task == "gpqa" and not shape.is_moe


def _shape_of_row(model: str, active: float, total: float, architecture: str) -> ModelShape:
    """The published shape of a row's model, or the usual one of its size."""
    try:
        return shape_of(model)
    except CatalogError:
        kind = "hybrid" if "hybrid" in architecture.lower() else "moe" if active < total else "dense"
        name = model.rpartition("/")[2].lower().removesuffix("-fp8")
        return shape_of_size(name, active * 1e9, total * 1e9, kind)


def read_old_runs(path: Path) -> list[Run]:
    """Read the second ML.ENERGY release; runs of models without a published layout are left out."""
    runs = []
    for row in read_rows(path):
        try:
            shape = shape_of(row["Model"])
            size = find_model(row["Model"])
        except CatalogError:
            continue
        if float(row["PP"]) > 1:  # a pipeline's stages wait for each other, which no other run does
            continue
        batch, tokens_out = float(row["Avg BS (reqs)"]), float(row["Avg Output Tokens"])
        energy, token_s = float(row["Energy/req (J)"]) / tokens_out, batch / float(row["Token tput (tok/s)"])
        accelerator = "a100-40gb" if "A100" in row["GPU"] else "h100"
        runs.append(
            Run(
                setup=ServingSetup(
                    shape=shape,
                    accelerator=accelerator,
                    count=int(row["TP"]),
                    weight_format="bfloat16",
                    engine="vllm-0.5",
                ),
                pair=f"{row['Model']}|{accelerator}|v2",
                family=shape.name,
                task=V2_TASKS[row["task"]],
                batch=batch,
                tokens_out=tokens_out,
                context_out=tokens_out,
                token_s=token_s,
                gap_s=float("nan"),
                power_w=energy * batch / token_s,
                energy_j=energy,
                old=True,
                digest="",
                active=size.active,
                total=size.total,
            )
        )
    return runs


class Columns(NamedTuple):
    """Runs as columns: what a prediction needs, and what was measured (logarithms)."""

    inputs: Inputs
    batch: Floats
    tokens_out: Floats
    context_out: Floats
    tasks: Floats
    log_token_s: Floats
    log_gap_s: Floats
    log_power: Floats
    weight: Floats


def columns_of(runs: Sequence[Run], weight: Mapping[str, float]) -> Columns:
    """Columns of the runs.

    Args:
        runs: what was measured.
        weight: weight of a run in the fit, by its task.
    """

    def column(values: list[float]) -> Floats:
        return np.array(values, dtype=np.float64)

    fields = zip(*(inputs_of(run.setup) for run in runs), strict=True)
    return Columns(
        inputs=Inputs(*(column(list(field)) for field in fields)),
        batch=column([run.batch for run in runs]),
        tokens_out=column([run.tokens_out for run in runs]),
        context_out=column([run.context_out for run in runs]),
        tasks=np.array([[run.task == task for task in TASKS] for run in runs], dtype=np.float64),
        log_token_s=np.log(column([run.token_s for run in runs])),
        log_gap_s=np.log(column([run.gap_s for run in runs])),
        log_power=np.log(column([run.power_w for run in runs])),
        weight=column([weight.get(run.task, 0.0) for run in runs]),
    )


def pick(columns: Columns, chosen: NDArray[np.bool_]) -> Columns:
    """Some of the rows."""
    return Columns(
        Inputs(*(field[chosen] for field in columns.inputs)), *(part[chosen] for part in columns[1:])
    )
