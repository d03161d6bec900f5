"""Measured TTFT and TPOT rows of aiconfigurator (``silicon_sample.csv``): read, and made into deployments.

Some rows count accelerators twice. ``tp 16, experts 4 x 4`` is as slow as ``tp 4``, and ``tp 2, copies 2,
experts over 4`` as ``tp 2, experts over 2``: their sources give one number for both ways of splitting, and it
was multiplied with itself. Such a square is taken as its root where the weights fit that many accelerators.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from typing import TYPE_CHECKING, NamedTuple

from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.kernels.hardware import hardware
from negajoule.physics.kernels.latency import Deployed
from negajoule.physics.kernels.passes import Split
from negajoule.physics.serving import ModelShape, shape_of, shape_of_size

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Measured", "read_rows"]

_CONCURRENCY = re.compile(r"silicon_concurrency=(\d+)")
_ACTIVE = re.compile(r"-a(\d+(?:\.\d+)?)b")
_TOTAL = re.compile(r"-(\d+(?:\.\d+)?)b(?![a-z0-9])")
_FILLED = 0.95  # share of memory that weights may take


class Measured(NamedTuple):
    """One measured row.

    Attributes:
        pair: model and accelerator.
        mode: ``agg`` (one pool does both) or ``disagg``.
        described: whether the numbers of workers are given.
        deployed: what was measured.
        ttft_s: measured [s].
        tpot_s: measured [s].
    """

    pair: str
    mode: str
    described: bool
    deployed: Deployed
    ttft_s: float
    tpot_s: float


def read_rows(file: Path) -> tuple[list[Measured], list[str]]:
    """Rows of a file, and what was left out and why.

    Raises:
        ConfigError: (C106) if it can't be read or lacks a column.
    """
    try:
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open(encoding="utf-8") as text:
            lines = list(csv.DictReader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} can't be read: {error}", code="C106") from error
    rows, left_out = [], []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append(_row(line))
        except KeyError as error:
            raise ConfigError(f"{file} lacks the column {error}", code="C106") from error
        except (CatalogError, ConfigError, ValueError) as error:
            left_out.append(f"row {number}: {str(error).splitlines()[0]}")
    return rows, left_out


def _row(line: dict[str, str]) -> Measured:
    shape, on = _shape(line["model_path"]), hardware(line["system"].removesuffix("_sxm"))
    usual = line["precision"] or "bfloat16"
    dense = "bfloat16" if shape.name.startswith("gpt-oss") else _format(line["gemm_quant_mode"] or usual)
    formats = (dense, _format(line["moe_quant_mode"] or usual))
    fixed = shape.parameters - shape.routed_parameters
    weights = fixed * on.number_bytes(formats[0]) + shape.routed_parameters * on.number_bytes(formats[1])
    stated = _CONCURRENCY.search(line["silicon_data_source"])
    apart = line["mode"] == "disagg"
    decode, copies = _split(line, "decode_" if apart else "", weights, on.memory)
    prompt = _split(line, "prefill_", weights, on.memory)[0] if apart else None
    workers, described = 1.0, True
    if apart:
        described = bool(line["prefill_num_workers"] and line["decode_num_workers"])
        workers = _number(line["decode_num_workers"])
    batch = line["decode_batch_size" if apart else "batch_size"]
    if batch:
        sequences = float(batch) * workers * copies
    elif stated:
        sequences = float(stated.group(1))
    else:
        raise ValueError("neither batch nor concurrency is given")
    ttft, tpot = float(line["silicon_ttft_ms"]) / 1e3, float(line["silicon_tpot_ms"]) / 1e3
    if not (ttft > 0 and tpot > 0):
        raise ValueError("no time was measured")
    deployed = Deployed(
        shape=shape,
        accelerator=on.name,
        engine=line["backend"],
        formats=formats,
        sequences=sequences,
        prompt_tokens=float(line["isl"]),
        answer_tokens=float(line["osl"]),
        decode=decode,
        decode_workers=workers if described else None,
        prompt=prompt,
        prompt_workers=_number(line["prefill_num_workers"]) if described else None,
    )
    return Measured(f"{shape.name} {on.name}", line["mode"], described, deployed, ttft, tpot)


def _number(text: str) -> float:
    return float(text) if text and float(text) > 0 else 1.0


def _format(text: str) -> str:
    words = text.lower()
    if "int4" in words:
        return "int4_wo"
    return "nvfp4" if "fp4" in words else "fp8" if "fp8" in words else "bfloat16"


def _split(line: dict[str, str], side: str, weights: float, memory: float) -> tuple[Split, float]:
    """How a replica is spread, and the copies by which its batch is counted."""
    tensor, copies, inner, spread = (
        _number(line[f"{side}{name}"])
        for name in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    count = tensor * copies
    root = float(math.isqrt(int(count)))
    doubled = inner == spread == root or (inner == 1 and spread == count and tensor == copies == root)
    if root > 1 and root * root == count and doubled and root * memory * _FILLED > weights:
        return Split(root, root if copies > 1 else 1.0, root), copies
    return Split(count, copies, spread), copies


def _shape(path: str) -> ModelShape:
    """By name; else the usual shape of a model of the size in its name.

    Raises:
        CatalogError: (F101) if neither is known.
    """
    try:
        return shape_of(path)
    except CatalogError:
        name = path.lower().rpartition("/")[2]
        total, active = _TOTAL.search(name), _ACTIVE.search(name)
        if total is None:
            raise
        size = float(total.group(1)) * 1e9
        used = float(active.group(1)) * 1e9 if active else size
        return shape_of_size(name, used, size, "moe" if active else "dense")
