"""The choice of a number format: what each would do, and whether to change anything at all."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import msgspec

from negajoule.advise.bound import PhaseBound, phase_bounds
from negajoule.advise.eager import board_of, eager_ratio, eager_rows
from negajoule.advise.effect import IN_USE, Effect, Span
from negajoule.advise.engine_formats import Load, engine_effect, engine_formats, format_name, in_format
from negajoule.advise.quality import quality_of
from negajoule.catalog import lookup
from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.serving import load_predictor
from negajoule.profile import best_precision, is_tie
from negajoule.profile.choice import width_bits
from negajoule.units import Decision

if TYPE_CHECKING:
    from negajoule.physics.serving import Predictor, ServingSetup
    from negajoule.profile import Profile

__all__ = ["ENGINES", "PrecisionAdvice", "advise_precision", "advise_precision_from"]

ENGINES = ("vllm", "transformers")
"""Engines that advice knows: one with fused kernels, one whose kernels are eager."""

_EAGER = ("nf4", "int8")
_MEASURED_BOARDS_ONLY = "fp8-torchao"  # one board; its energy grows with the size, unlike that of the others
_MOST_AT_ONCE = 2.0  # requests; eager rows are of one


class PrecisionAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """Which format, why, and what was weighed.

    Attributes:
        decision: the choice; the margin is of energy for each request.
        change: whether another format than the one in use is chosen.
        used: the format in use.
        phases: what prefill and decode wait for; empty if no data sheet is known.
        effects: of each format, beside the one in use.
        notes: what else a reader must know.
    """

    decision: Decision
    change: bool
    used: str
    phases: tuple[PhaseBound, ...]
    effects: tuple[Effect, ...]
    notes: tuple[str, ...] = ()


def advise_precision(
    setup: ServingSetup,
    batch: float,
    prompt: float,
    output: float,
    *,
    engine: str = ENGINES[0],
    predictor: Predictor | None = None,
) -> PrecisionAdvice:
    """Advise a number format for a model on accelerators.

    Args:
        setup: in the format in use; without CUDA graphs if the engine runs eagerly.
        batch: sequences that decode together.
        prompt: length of a prompt [tokens].
        output: length of an answer [tokens].
        engine: one of ``ENGINES``.
        predictor: default the shipped one.

    Raises:
        CatalogError: (F101) if the accelerator is unknown.
        ConfigError: (C101) for a number that can't be, (C112) if no format fits the memory, (C113) outside
            what was measured.
    """
    if engine not in ENGINES:
        raise ConfigError(f"no engine {engine!r} is known", fix=f"one of {', '.join(ENGINES)}")
    predictor = predictor or load_predictor()
    if not (isfinite(batch) and batch >= 1 and isfinite(prompt) and prompt >= 1 and output >= 1):
        raise ConfigError(
            f"a batch of {batch!r} with {prompt!r} tokens in and {output!r} out can't be",
            fix="each at least 1",
        )
    load = Load(batch, prompt, output)
    if engine == "transformers":
        return _eager(predictor, setup, load)
    names = engine_formats(setup)
    used = format_name(setup)
    if not _fits(setup, load):
        return _must_shrink(predictor, setup, names, load)
    before = load.predict(predictor, setup)
    effects = tuple(engine_effect(predictor, setup, name, load) for name in names)
    return PrecisionAdvice(
        decision=(decision := _decide(effects, used)),
        change=decision.chosen != used,
        used=used,
        phases=phase_bounds(setup, before),
        effects=effects,
        notes=(*before.notes, "int8 and int4 weights in vLLM (AWQ, GPTQ) weren't measured: nothing is said"),
    )


def advise_precision_from(profile: Profile, batch: float, prompt: float, output: float) -> PrecisionAdvice:
    """Advise by what was measured on this machine.

    Raises:
        ConfigError: (C113) beyond twice the measured ranges, (C107) if costs are missing.
    """
    decision = best_precision(profile, batch, prompt, output)
    widest = max(profile.formats, key=width_bits)
    notes = []
    for part in ("prefill", "decode"):
        verdict = best_precision(profile, batch, prompt, output, part=part)
        notes.append(f"{part}: {verdict.reason}")
    if is_tie(decision):
        notes.append("inside noise: no format is shown to save")
    return PrecisionAdvice(
        decision=decision,
        change=decision.chosen != widest,
        used=widest,
        phases=(),
        effects=(),
        notes=(*notes, "quality isn't measured by a profile"),
    )


def _fits(setup: ServingSetup, load: Load) -> bool:
    try:
        setup.require_fit(load.batch, load.context)
    except ConfigError as error:
        if error.code != "C112":
            raise
        return False
    return True


def _must_shrink(
    predictor: Predictor, setup: ServingSetup, names: tuple[str, ...], load: Load
) -> PrecisionAdvice:
    """The widest format that fits, because the one in use doesn't."""
    used = format_name(setup)
    fitting = [name for name in names if _fits(in_format(setup, name), load)]
    if not fitting:
        setup.require_fit(load.batch, load.context)
    chosen = in_format(setup, fitting[0])
    effects = tuple(engine_effect(predictor, chosen, name, load) for name in names if name != used)
    return PrecisionAdvice(
        decision=Decision(
            chosen=fitting[0],
            runner_up=fitting[1] if len(fitting) > 1 else None,
            reason=f"{used} doesn't fit the memory with this batch; {fitting[0]} is the widest that does",
        ),
        change=True,
        used=used,
        phases=phase_bounds(chosen, load.predict(predictor, chosen)),
        effects=effects,
        notes=(f"effects are beside {fitting[0]}",),
    )


def _decide(effects: tuple[Effect, ...], used: str) -> Decision:
    """The format that saves most for certain, else the one in use."""
    others = [one for one in effects if one.format != used and one.fits is not False and one.energy]
    saving = [one for one in others if one.energy and one.energy.saves]
    if saving:
        best = min(saving, key=_value)
        span = best.energy
        assert span is not None
        loses = f"; {best.quality or 'what a model converted to it loses is not known'}"
        return Decision(
            chosen=best.format,
            runner_up=used,
            margin=1.0 - span.value,
            margin_low=1.0 - span.high,
            margin_high=1.0 - span.low,
            reason=f"{best.format} takes {1 - span.value:.0%} less energy than {used} "
            f"({1 - span.high:.0%} to {1 - span.low:.0%}){loses}",
        )
    if not others:
        return Decision(chosen=used, reason=f"{_stay(used)}: nothing is known of another format here")
    best = min(others, key=_value)
    span = best.energy
    assert span is not None
    if all(one.energy and one.energy.costs for one in others):
        why = (
            f"every format measured costs more, {best.format} the least: "
            f"{span.low:.2f} to {span.high:.2f} times"
        )
    else:
        why = (
            f"inside noise: {best.format} takes {span.low:.2f} to {span.high:.2f} times the energy; "
            "measure before you claim a saving"
        )
    return Decision(
        chosen=used,
        runner_up=best.format,
        margin=1.0 - 1.0 / span.value,
        margin_low=1.0 - 1.0 / span.low,
        margin_high=1.0 - 1.0 / span.high,
        reason=f"{_stay(used)}: {why}",
    )


def _stay(used: str) -> str:
    return "do not quantise" if used in ("bf16", "fp16") else f"keep {used}"


def _value(effect: Effect) -> float:
    return effect.energy.value if effect.energy else float("inf")


def _eager(predictor: Predictor, setup: ServingSetup, load: Load) -> PrecisionAdvice:
    """Advice for transformers, whose narrow formats are eager weight-only kernels."""
    eager = msgspec.structs.replace(setup, engine="transformers", cuda_graphs=False, weight_format="bfloat16")
    board = board_of(setup.accelerator)
    used = "fp16"
    phases: tuple[PhaseBound, ...] = ()
    notes: tuple[str, ...] = ()
    room: float | None = None
    try:
        hardware = eager.hardware
    except CatalogError:
        if board is None:
            raise
        notes = (f"no data sheet of {setup.accelerator}: what its phases wait for and what fits isn't known",)
    else:
        room = eager.count * hardware.memory * eager.memory_share - load.batch * eager.kv_bytes(load.context)
    names = list(_EAGER)
    if any(row.accelerator == board and row.method == _MEASURED_BOARDS_ONLY for row in eager_rows()):
        names.append(_MEASURED_BOARDS_ONLY)
    weights = eager.weight_bytes()
    same = Effect(
        format=used,
        fits=None if room is None else weights <= room,
        memory_gb=weights / 1e9,
        energy=Span(1.0, 1.0, 1.0),
        evidence=IN_USE,
    )
    effects = (same, *(_eager_effect(setup, name, load, room) for name in names))
    if same.fits is False:
        decision = _widest_eager(eager, effects, load)
    else:
        decision = _decide(effects, used)
        if room is not None:
            bounded = load.predict(predictor, eager)
            phases, notes = phase_bounds(eager, bounded), bounded.notes
    return PrecisionAdvice(
        decision=decision,
        change=decision.chosen != used,
        used=used,
        phases=phases,
        effects=effects,
        notes=notes,
    )


def _widest_eager(setup: ServingSetup, effects: tuple[Effect, ...], load: Load) -> Decision:
    """The format to take if 16 bits don't fit."""
    fitting = [one for one in effects if one.fits]
    if not fitting:
        setup.require_fit(load.batch, load.context)
    widest = max(fitting, key=lambda one: one.memory_gb or 0.0)
    return Decision(
        chosen=widest.format, reason=f"fp16 doesn't fit the memory; {widest.format} is the widest that does"
    )


def _eager_effect(setup: ServingSetup, name: str, load: Load, room: float | None) -> Effect:
    weight = 1.0 if name == _MEASURED_BOARDS_ONLY else lookup(f"advise.bytes.{name}").value
    weights = setup.shape.parameters * weight
    blank = Effect(
        format=name,
        fits=None if room is None else weights <= room,
        memory_gb=weights / 1e9,
        quality=quality_of("fp8" if name == _MEASURED_BOARDS_ONLY else name),
        evidence="",
    )
    if load.batch > _MOST_AT_ONCE:
        return msgspec.structs.replace(
            blank, note=f"measured at one request at a time; nothing is known of {load.batch:g}"
        )
    try:
        span, words = eager_ratio(name, setup.accelerator, setup.shape.parameters / 1e9)
    except ConfigError as error:
        if error.code != "C113":
            raise
        return msgspec.structs.replace(blank, note=error.message)
    return msgspec.structs.replace(blank, energy=span, evidence=words)
