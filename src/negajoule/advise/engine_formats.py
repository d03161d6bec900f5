"""Number formats in serving engines: by fitted runs where the format was run, by measured kernels elsewhere.

By runs: the predictor's answer for both formats, one divided by the other. Where models were run in both
formats, the interval is that of predicted ratios, as what both share cancels; else both answers' own.

By kernels, where no run is: matrices take the measured ratio of kernels, on their share of the step alone;
host, links and attention stay as they are (Amdahl), and the interval holds what engines differ by from that.
Without CUDA graphs kernels wait for their host, as they did when the tables were measured, so that evidence
is used then, too.
"""

from __future__ import annotations

from math import hypot, log, sqrt
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.advise.effect import IN_USE, Effect, Span
from negajoule.advise.quality import quality_of
from negajoule.catalog import lookup
from negajoule.errors import ConfigError
from negajoule.physics.accelerators import format_bytes
from negajoule.physics.kernels import Split, decode_pass, format_ratio, prompt_pass
from negajoule.physics.serving.predictor import group_of

if TYPE_CHECKING:
    from negajoule.physics.serving import Prediction, Predictor, ServingSetup

__all__ = ["Load", "engine_effect", "engine_formats", "format_name", "in_format"]

_MATRICES = 4.0  # of a layer, as in ``physics.kernels.passes``
_EIGHT_BIT = ("hopper", "blackwell")
_FOUR_BIT = ("blackwell",)


class Load(NamedTuple):
    """What is served.

    Attributes:
        batch: sequences that decode together.
        prompt: length of a prompt [tokens].
        output: length of an answer [tokens].
    """

    batch: float
    prompt: float
    output: float

    @property
    def context(self) -> float:
        """Longest context of a sequence [tokens]."""
        return self.prompt + self.output

    def predict(self, predictor: Predictor, setup: ServingSetup) -> Prediction:
        """What a request costs; errors as ``Predictor.predict``."""
        return predictor.predict(setup, batch=self.batch, tokens_in=self.prompt, tokens_out=self.output)


def format_name(setup: ServingSetup) -> str:
    """The format of a setup as advice calls it."""
    kept = {2.0: "bf16", 1.0: "fp8"}.get(format_bytes(setup.format), "mxfp4")
    return "fp8_block" if kept == "fp8" and setup.shape.block_scales else kept


def in_format(setup: ServingSetup, name: str) -> ServingSetup:
    """The setup with its weights in another format."""
    shape = msgspec.structs.replace(setup.shape, block_scales=name == "fp8_block")
    kind = {"bf16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8"}.get(name, "mxfp4")
    return msgspec.structs.replace(setup, shape=shape, weight_format=kind)


def engine_formats(setup: ServingSetup) -> tuple[str, ...]:
    """Formats that the accelerator computes with and of which something was measured, the widest first."""
    generation = setup.hardware.generation
    eight = generation in _EIGHT_BIT or setup.hardware.compute_8bit > setup.hardware.compute_16bit
    found = ["bf16", *(("fp8", "fp8_block") if eight else ())]
    if generation in _FOUR_BIT:
        found.append("mxfp4" if setup.shape.is_moe else "nvfp4")
    used = format_name(setup)
    return tuple(found if used in found else [*found, used])


def engine_effect(predictor: Predictor, setup: ServingSetup, name: str, load: Load) -> Effect:
    """What serving in a format does, beside the setup's own.

    Args:
        predictor: of time and energy.
        setup: in the format that it is served in now.
        name: one of ``engine_formats``.
        load: what is served.

    Raises:
        ConfigError: (C113) outside what was measured.
    """
    used, other = format_name(setup), in_format(setup, name)
    weights = other.weight_bytes()
    if name == "nvfp4":
        weights *= lookup("advise.bytes.nvfp4").value / format_bytes("mxfp4")
    room = other.count * other.hardware.memory * other.memory_share
    fits = weights + load.batch * other.kv_bytes(load.context) <= room
    blank = Effect(format=name, fits=fits, memory_gb=weights / 1e9, quality=quality_of(name), evidence="")
    if name == used:
        same = Span(1.0, 1.0, 1.0)
        return msgspec.structs.replace(
            blank, energy=same, time=same, prefill_energy=same, decode_energy=same, evidence=IN_USE,
            quality=quality_of(name) if name != "bf16" else "",
        )  # fmt: skip
    if not fits:
        return msgspec.structs.replace(blank, evidence="", note="doesn't fit the memory with this batch")
    if name == "nvfp4" or not setup.cuda_graphs:
        return _by_kernels(predictor, setup, name, load, blank)
    if name == "fp8_block" and not setup.shape.is_moe:
        return _between(predictor, setup, load, blank)
    if used == "fp8_block" and not setup.shape.is_moe:
        return _back(predictor, setup, name, load, blank)
    return _by_runs(predictor, setup, other, load, blank)


def _by_runs(
    predictor: Predictor, setup: ServingSetup, other: ServingSetup, load: Load, blank: Effect
) -> Effect:
    ours, theirs = load.predict(predictor, other), load.predict(predictor, setup)
    widths = []
    model = predictor.model
    notes = []
    if blank.format == "mxfp4":
        notes.append("only gpt-oss was run in mxfp4, as published")
    in_both = "fp8_block" in (blank.format, format_name(setup)) and setup.shape.is_moe
    for index, what in enumerate(("energy", "time")):
        if in_both and format_name(setup) == "bf16":
            width = lookup(f"advise.ratio-error.{what}").value
        else:
            width = hypot(*(_residual(predictor, one, index) for one in (setup, other)))
        if other.hardware.name not in model.accelerators:
            width = hypot(width, model.half_widths["accelerator"][index])
            notes.append(f"no run on {other.hardware.name} was measured")
        if group_of(other) not in model.half_widths:
            width = hypot(width, model.half_widths["format"][index])
            notes.append(f"no run of {group_of(other)} was measured")
        beyond = max(model.ranges["batch"][0] / load.batch, load.batch / model.ranges["batch"][1], 1.0)
        if beyond > 1.0:
            notes.append(f"batch {load.batch:g} is outside what was measured")
        widths.append(width + model.slope * log(beyond))
    energy, time = widths
    return msgspec.structs.replace(
        blank,
        energy=Span.around(ours.energy_per_request_j / theirs.energy_per_request_j, energy),
        time=Span.around(ours.request_s / theirs.request_s, time),
        prefill_energy=Span.around(_prefill_j(ours) / _prefill_j(theirs), energy),
        decode_energy=Span.around(_decode_j(ours) / _decode_j(theirs), energy),
        evidence=f"runs of vLLM, fitted ({group_of(setup)}, {group_of(other)})",
        note="; ".join(dict.fromkeys(notes)),
    )


def _residual(predictor: Predictor, setup: ServingSetup, index: int) -> float:
    """Half-width of a prediction's own interval, as a logarithm, of energy (0) or time (1)."""
    table = predictor.model.half_widths
    return table.get(group_of(setup), table["any"])[index]


def _between(predictor: Predictor, setup: ServingSetup, load: Load, blank: Effect) -> Effect:
    """A dense model with block-scaled weights, which nobody ran: between two cases that are known.

    At best its kernels do as well as those with scales by rows; at worst each waits for its host, as in the
    tables, although steps are replayed as graphs.
    """
    best = _by_runs(predictor, setup, in_format(setup, "fp8"), load, blank)
    worst = _by_kernels(predictor, setup, blank.format, load, blank)
    if worst.energy is None:
        return worst
    return msgspec.structs.replace(
        blank,
        **{
            name: _hull(getattr(best, name), getattr(worst, name))
            for name in ("energy", "time", "prefill_energy", "decode_energy")
        },
        evidence=f"between {best.evidence}, scaled by rows, and {worst.evidence}, waiting for their host",
        note="; ".join(filter(None, ("no dense model was run in this format", best.note))),
    )


def _back(predictor: Predictor, setup: ServingSetup, name: str, load: Load, blank: Effect) -> Effect:
    """Another format beside block scales of a dense model: bfloat16 by the way back, of others nothing."""
    if name != "bf16":
        return msgspec.structs.replace(blank, note="no dense model was run in fp8_block to compare with")
    forth = _between(
        predictor, in_format(setup, "bf16"), load, msgspec.structs.replace(blank, format="fp8_block")
    )
    spans = ("energy", "time", "prefill_energy", "decode_energy")
    known = {part: span.inverse for part in spans if (span := getattr(forth, part)) is not None}
    return msgspec.structs.replace(forth, format=name, **known)


def _hull(one: Span, other: Span) -> Span:
    """From the lower end of either to the upper, the middle by logarithms."""
    low, high = min(one.low, other.low), max(one.high, other.high)
    return Span(sqrt(one.value * other.value), low, high)


def _prefill_j(one: Prediction) -> float:
    """Energy of the prompt, its share of idle power included [J]."""
    whole_s = one.prefill.time_s + one.decode.time_s + one.host.time_s
    return one.prefill.energy_j + one.idle.energy_j * one.prefill.time_s / whole_s


def _decode_j(one: Prediction) -> float:
    return one.energy_per_request_j - _prefill_j(one)


def _by_kernels(predictor: Predictor, setup: ServingSetup, name: str, load: Load, blank: Effect) -> Effect:
    if setup.shape.is_moe:
        return msgspec.structs.replace(
            blank, evidence="", note="experts in this format weren't measured outside CUDA graphs"
        )
    before = load.predict(predictor, setup)
    used = format_name(setup)
    formats = ("bfloat16" if used == "bf16" else used,) * 2
    split = Split(setup.count, setup.data_parallel, setup.expert_parallel)
    shape, on = setup.shape, setup.hardware.name
    decode = decode_pass(shape, on, split, formats, load.batch, load.prompt + 0.5 * load.output)
    prompt = prompt_pass(shape, on, split, formats, 1.0, load.prompt)
    step_s = before.decode.time_s + before.host.time_s
    busy = before.decode.time_s / step_s
    shares = busy * decode.matrices_s / decode.total_s, prompt.matrices_s / prompt.total_s
    head = shape.vocabulary * shape.hidden
    width = (shape.step_parameters - head) / shape.layers / (_MATRICES * shape.hidden) / setup.attention_split
    transfer = lookup("advise.kernel-transfer-error").value
    spans = []
    evidence = ""
    for tokens, share in zip((load.batch, load.prompt), shares, strict=True):
        try:
            ratio = format_ratio(on, name, tokens, width, shape.hidden)
            energy = Span(ratio.energy, ratio.energy_low, ratio.energy_high)
            time = Span(ratio.time, ratio.time_low, ratio.time_high)
            if used != "bf16":
                base = format_ratio(on, used, tokens, width, shape.hidden)
                energy = energy.over(Span(base.energy, base.energy_low, base.energy_high))
                time = time.over(Span(base.time, base.time_low, base.time_high))
        except ConfigError as error:
            return msgspec.structs.replace(blank, evidence="", note=error.message)
        evidence = ratio.evidence
        spans.append((energy.part(share).wider(transfer), time.part(share).wider(transfer)))
    (decode_energy, decode_time), (prefill_energy, prefill_time) = spans
    early = _prefill_j(before) / before.energy_per_request_j
    early_s = before.prefill_s / before.request_s
    return msgspec.structs.replace(
        blank,
        energy=_joined(prefill_energy, decode_energy, early),
        time=_joined(prefill_time, decode_time, early_s),
        prefill_energy=prefill_energy,
        decode_energy=decode_energy,
        evidence=f"{evidence}, on {shares[0]:.0%} of decode and {shares[1]:.0%} of prefill",
    )


def _joined(first: Span, second: Span, share: float) -> Span:
    """The ratio of a whole that consists of two parts, ``share`` being the first's."""
    return Span(
        *(share * a + (1.0 - share) * b for a, b in zip(
            (first.value, first.low, first.high), (second.value, second.low, second.high), strict=True
        ))
    )  # fmt: skip
