"""Time to the first token and between tokens of a loaded deployment, from kernels up.

``latency_of`` answers for a deployment under a closed load. Whoever only needs the time of computing a
prompt, a predictor of energy for one, takes ``Latency.prompt_s``, or the kernels alone from
``passes.prompt_pass``. Coefficients come from measured runs (``fitting/kernel_latency.py``); the interval is
that of (model, accelerator) pairs that were left out of the fit.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import ConfigError
from negajoule.physics.kernels.hardware import family, hardware, is_stored
from negajoule.physics.kernels.latency_law import Load, timing
from negajoule.physics.kernels.passes import Split, decode_pass, prompt_pass

if TYPE_CHECKING:
    from negajoule.physics.serving.model_shape import ModelShape

__all__ = [
    "ENGINES",
    "Deployed",
    "Latency",
    "LatencyModel",
    "factors_of",
    "latency_of",
    "load_of",
    "shipped_latency",
]

ENGINES = ("vllm", "sglang", "trtllm")
"""Engines whose runs were measured."""

_FILE = Path(__file__).with_name("latency_model.json")
_TOGETHER = 8192.0  # prompt tokens that engines compute in one step, their usual limit
_LATENT = 1.0  # heads of keys and values of MLA, by the shapes' own count


class Deployed(NamedTuple):
    """A model under load.

    Attributes:
        shape: the model.
        accelerator: name, as the catalogue knows it.
        engine: one of ``ENGINES``.
        formats: number formats of the dense matrices and of the experts.
        sequences: requests at a time, in the whole deployment.
        prompt_tokens: of each.
        answer_tokens: of each.
        decode: how a replica that decodes is spread.
        decode_workers: such replicas; None if unknown.
        prompt: how a replica that computes prompts only is spread; None if the decoding ones do both.
        prompt_workers: such replicas; None if unknown.
    """

    shape: ModelShape
    accelerator: str
    engine: str
    formats: tuple[str, str]
    sequences: float
    prompt_tokens: float
    answer_tokens: float
    decode: Split
    decode_workers: float | None = 1.0
    prompt: Split | None = None
    prompt_workers: float | None = 1.0


class Latency(NamedTuple):
    """Times of a loaded deployment [s], each with its 90 % interval.

    Attributes:
        ttft_s: time to the first token, waiting included.
        ttft_low_s: lower end.
        ttft_high_s: upper end.
        tpot_s: mean time between tokens, interruptions by prompts included.
        tpot_low_s: lower end.
        tpot_high_s: upper end.
        request_s: from sending a request to its last token.
        step_s: a decode step alone.
        prompt_s: one prompt alone.
        measured: whether runs of this model on this accelerator were in the fit.
    """

    ttft_s: float
    ttft_low_s: float
    ttft_high_s: float
    tpot_s: float
    tpot_low_s: float
    tpot_high_s: float
    request_s: float
    step_s: float
    prompt_s: float
    measured: bool


class LatencyModel:
    """The file of coefficients.

    Attributes:
        data: SHA-256 of the measured rows.
        source: where they come from, and under which licence.
        coefficients: by name.
        pairs: factors of measured pairs beside the law, on TTFT and TPOT: ``model accelerator engine``.
        half_widths: of the logarithms, on pairs left out, of TTFT and TPOT, by ``together``, ``apart`` and
            ``undescribed``.
        point_trust: how far one measured point of TTFT and of TPOT is believed: 1 is all the way.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.data: str = content["data"]
        self.source: str = content["source"]
        self.coefficients: dict[str, float] = content["coefficients"]
        self.pairs: dict[str, tuple[float, float]] = content["pairs"]
        self.half_widths: dict[str, tuple[float, float]] = content["half_widths"]
        self.point_trust: tuple[float, float] = content["point_trust"]

    def knows(self, model: str, accelerator: str) -> bool:
        """Whether runs of this model on this accelerator were in the fit, with any engine."""
        return any(name.startswith(f"{model} {accelerator} ") for name in self.pairs)


@cache
def shipped_latency() -> LatencyModel:
    """The coefficients of this version."""
    return LatencyModel(json.loads(_FILE.read_text(encoding="utf-8")))


def factors_of(deployed: Deployed, ttft_s: float, tpot_s: float) -> tuple[float, float]:
    """What one measured point says of a deployment: factors on TTFT and TPOT beside the law.

    A point is believed as far as deployments differ from each other more than the points of one do.

    Args:
        deployed: as it was measured.
        ttft_s: measured [s].
        tpot_s: measured [s].

    Raises:
        CatalogError: (F101) if there's no data sheet of the accelerator.
        ConfigError: (C101) if the engine or a format isn't known, or a number can't be.
    """
    for name, value in (("ttft_s", ttft_s), ("tpot_s", tpot_s)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} is {value!r}", fix="a measured time, above 0")
    model = shipped_latency()
    found = timing(load_of(deployed), model.coefficients)
    first, between = model.point_trust
    return (ttft_s / found.ttft_s) ** first, (tpot_s / found.tpot_s) ** between


def latency_of(deployed: Deployed, factors: tuple[float, float] | None = None) -> Latency:
    """Times of a deployment under a closed load.

    Args:
        deployed: what is served, on what, under which load.
        factors: on TTFT and TPOT, from a measured point (``factors_of``); default those of the measured
            pairs, 1 for others. The interval stays that of pairs without a point.

    Raises:
        CatalogError: (F101) if there's no data sheet of the accelerator.
        ConfigError: (C101) if the engine or a format isn't known, or a number can't be.
    """
    model = shipped_latency()
    found = timing(load_of(deployed), model.coefficients)
    name = hardware(deployed.accelerator).name
    known = model.pairs.get(f"{deployed.shape.name} {name} {deployed.engine}", (1.0, 1.0))
    first, between = factors or known
    ttft, tpot = found.ttft_s * first, found.tpot_s * between
    described = deployed.decode_workers is not None and deployed.prompt_workers is not None
    kind = "together" if deployed.prompt is None else "apart" if described else "undescribed"
    ttft_fold, tpot_fold = (math.exp(width) for width in model.half_widths[kind])
    return Latency(
        ttft_s=ttft,
        ttft_low_s=ttft / ttft_fold,
        ttft_high_s=ttft * ttft_fold,
        tpot_s=tpot,
        tpot_low_s=tpot / tpot_fold,
        tpot_high_s=tpot * tpot_fold,
        request_s=ttft + tpot * max(0.0, deployed.answer_tokens - 1.0),
        step_s=found.step_s * between,
        prompt_s=found.prompt_s,
        measured=model.knows(deployed.shape.name, name),
    )


def load_of(deployed: Deployed) -> Load:
    """What the law needs to know of a deployment: its kernels' times, and its kind.

    Raises:
        CatalogError: (F101) if there's no data sheet of the accelerator.
        ConfigError: (C101) if the engine or a format isn't known, or a number can't be.
    """
    shape, formats = deployed.shape, deployed.formats
    on = hardware(deployed.accelerator)
    if deployed.engine not in ENGINES:
        raise ConfigError(
            f"the engine {deployed.engine!r} wasn't measured", fix=f"one of {', '.join(ENGINES)}"
        )
    for name in ("sequences", "prompt_tokens", "answer_tokens"):
        value = getattr(deployed, name)
        if not (math.isfinite(value) and value >= 1):
            raise ConfigError(f"{name} is {value!r}", fix="at least 1")
    split, prompts = deployed.decode, deployed.prompt or deployed.decode
    apart = deployed.prompt is not None
    described = deployed.decode_workers is not None and deployed.prompt_workers is not None
    batch = max(1.0, deployed.sequences / (deployed.decode_workers or 1.0))
    context = deployed.prompt_tokens + deployed.answer_tokens / 2.0
    step = decode_pass(shape, on.name, split, formats, batch, context)
    tokens = deployed.prompt_tokens
    alone = prompt_pass(shape, on.name, prompts, formats, prompts.copies, tokens)
    many = max(1.0, _TOGETHER / tokens)
    shared = prompt_pass(shape, on.name, prompts, formats, many * prompts.copies, tokens)
    each = many * prompts.copies
    dense, expert = (family(name) for name in formats)
    stored = is_stored(formats[1])
    return Load(
        matrices_s=step.matrices_s + step.head_s,
        attention_s=step.attention_s,
        state_s=step.state_s,
        experts_s=step.experts_s,
        starts_s=step.starts_s,
        links_s=step.links_s,
        prompt_kernels_s=alone.total_s - alone.head_s - alone.links_s,
        prompt_links_s=alone.links_s,
        shared_kernels_s=(shared.total_s - shared.head_s - shared.links_s) / each,
        shared_links_s=shared.links_s / each,
        layers=float(shape.layers),
        answer=deployed.answer_tokens,
        sequences=deployed.sequences,
        rank_sequences=max(1.0, batch / split.copies),
        workers=deployed.prompt_workers or 1.0,
        is_split_pool=float(apart),
        is_described=float(described or not apart),
        is_linked=float(split.accelerators > 1),
        is_moe=float(shape.is_moe),
        is_hybrid=float(shape.is_hybrid),
        is_latent=float(shape.kv_parts == _LATENT),
        is_blackwell=float(on.generation == "blackwell"),
        is_dense8=float(dense == "fp8"),
        is_dense4=float(dense == "mxfp4" and not is_stored(formats[0])),
        is_expert8=float(expert == "fp8"),
        is_expert4=float(expert == "mxfp4" and not stored),
        is_stored4=float(stored),
        is_vllm=float(deployed.engine == "vllm"),
        is_sglang=float(deployed.engine == "sglang"),
        is_trtllm=float(deployed.engine == "trtllm"),
    )
