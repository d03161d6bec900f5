"""Three measured points that correct predictions for a deployment: idle, a batch of one, the largest batch.

On an accelerator of the catalogue they correct ``physics.serving``: idle power, power above idle, one factor
on time. On the machine at hand they correct a profile made earlier: the same powers, and by which factor the
machine is now slower than it was.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import exp, log
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from negajoule.config import home
from negajoule.errors import ConfigError, MeterError
from negajoule.physics.serving import (
    MeasuredPoint,
    Predictor,
    ServingSetup,
    SetupCalibration,
    fit_setup_calibration,
    load_predictor,
)
from negajoule.profile.cell import Cell, PhaseSample
from negajoule.profile.measure import measure_cell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from negajoule.profile.cell import Sample
    from negajoule.profile.profile import Profile
    from negajoule.profile.target import Target

__all__ = [
    "ServingCalibration",
    "calibrate_serving",
    "calibrated_predictor",
    "calibrated_profile",
    "load_serving_calibrations",
    "save_serving_calibration",
    "serving_calibrations_path",
]

SCHEMA = "negajoule.serving_calibrations/1"
_ROUNDS = 3
_SEED = 7_000_003
_ENDLESS_TOKENS = 1e6


class ServingCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What three points say of a model where it is served.

    Attributes:
        created: UTC, ISO 8601.
        host_id: the machine that measured.
        model: its name.
        format: number format of the weights.
        where: ``here``, or the server's address.
        setup: the accelerators, if they are of the catalogue.
        fitted: what corrects the predictor for that setup.
        idle_w: power with the weights resident and nothing to do [W].
        active_w: power above idle while decoding the largest batch [W].
        time_factor: measured over predicted or profiled time; ``None`` if there was neither.
        batches: the two batches.
        step_s: a decode step at each [s].
        power_w: power at each [W].
        basis: how the watts came about.
    """

    created: str
    host_id: str
    model: str
    format: str
    where: str
    setup: ServingSetup | None
    fitted: SetupCalibration | None
    idle_w: float
    active_w: float
    time_factor: float | None
    batches: tuple[int, int]
    step_s: tuple[float, float]
    power_w: tuple[float, float]
    basis: str


class _File(msgspec.Struct, frozen=True, tag_field="schema", tag=SCHEMA):
    calibrations: tuple[ServingCalibration, ...] = ()


def calibrate_serving(
    target: Target,
    *,
    max_batch: int,
    prompt_tokens: int = 64,
    output_tokens: int = 32,
    setup: ServingSetup | None = None,
    profile: Profile | None = None,
    rounds: int = _ROUNDS,
    idle_s: float = 2.0,
) -> ServingCalibration:
    """Measure the three points and fit.

    Args:
        target: the model, in one format, with at least ``max_batch`` slots.
        max_batch: the largest batch; at least 2.
        prompt_tokens: length of the prompts [tokens].
        output_tokens: length of the answers [tokens].
        setup: the accelerators that serve it; their power alone is then measured.
        profile: an earlier one of the same model on this machine, to be corrected.
        rounds: how often each batch is measured; medians are taken.
        idle_s: how long to watch it idle [s].

    Raises:
        MeterError: (M101) if no power can be read, (M105) if the points can't be fitted.
        ConfigError: (C101) for a batch that can't be.
    """
    if len(target.engines) != 1:
        raise ConfigError("a calibration is of one number format", fix="name one with --format")
    [(format_, engine)] = target.engines.items()
    if not 2 <= max_batch <= engine.slots:
        raise ConfigError(f"a largest batch of {max_batch} can't be measured", fix=f"2 to {engine.slots}")
    idle = target.idle_window(idle_s)
    energy = None if idle is None else target.gauge.energy(idle)
    if idle is None or energy is None:
        raise MeterError(
            "no power of what serves the model can be read here",
            code="M101",
            tried="counters of accelerators" if setup is not None else "counters of this machine",
            using="the uncalibrated coefficients",
            fix="run this on the machine that serves; for NVIDIA: pip install 'negajoule[gpu]'",
        )
    idle_w = energy.value / idle.seconds
    seed = _SEED
    taken: dict[int, list[Sample]] = {1: [], max_batch: []}
    for number in range(-1, rounds):  # the first warms up
        for batch, samples in taken.items():
            cell = Cell(format_, batch, prompt_tokens, output_tokens)
            sample = measure_cell(engine, cell, target.prompts, target.gauge, repeat=number, seed=seed)
            seed += 1
            if number >= 0:
                samples.append(sample)
    phases = [_middle(samples, batch) for batch, samples in taken.items()]
    watts = [_power(phase) for phase in phases]
    steps = [phase.seconds * batch / phase.tokens for batch, phase in zip(taken, phases, strict=True)]
    fitted = None if setup is None else _fitted(setup, list(taken), phases, steps, watts, idle_w)
    factor = None
    if fitted is not None:
        factor = fitted.time_factor
    elif profile is not None:
        factor = _factor(profile, format_, list(taken), phases, steps)
    return ServingCalibration(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        host_id=target.machine.host_id,
        model=target.model,
        format=format_,
        where=target.facts.where,
        setup=setup,
        fitted=fitted,
        idle_w=idle_w,
        active_w=max(watts[1] - idle_w, 0.0),
        time_factor=factor,
        batches=(1, max_batch),
        step_s=(steps[0], steps[1]),
        power_w=(watts[0], watts[1]),
        basis=energy.basis,
    )


def serving_calibrations_path() -> Path:
    """``serving-calibrations.json`` in the data folder."""
    return home() / "serving-calibrations.json"


def load_serving_calibrations(path: Path | None = None) -> tuple[ServingCalibration, ...]:
    """All that are kept; none if the file is absent.

    Raises:
        ConfigError: (C106) if the file is malformed or of another version.
    """
    file = serving_calibrations_path() if path is None else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=_File).calibrations
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"{file} can't be read as calibrations: {error}",
            code="C106",
            fix="remove it with `negajoule calibrate --serving --forget`, and calibrate again",
        ) from None


def save_serving_calibration(fresh: ServingCalibration, path: Path | None = None) -> Path:
    """Keep a calibration in the place of an older one of the same deployment.

    Raises:
        ConfigError: (C106) if the file can't be read or written.
    """
    file = serving_calibrations_path() if path is None else path
    others = [one for one in load_serving_calibrations(file) if _key(one) != _key(fresh)]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(_File((*others, fresh)))) + b"\n")
        new.replace(file)
    except OSError as error:
        raise ConfigError(
            f"can't write {file}: {error.strerror}",
            code="C106",
            fix="mend the folder's permissions, or set NEGAJOULE_HOME",
        ) from None
    return file


def calibrated_predictor(
    predictor: Predictor | None = None, calibrations: Sequence[ServingCalibration] | None = None
) -> Predictor:
    """The predictor, corrected for every setup that was measured.

    Args:
        predictor: default the shipped one.
        calibrations: default those that are kept.
    """
    result = load_predictor() if predictor is None else predictor
    for one in load_serving_calibrations() if calibrations is None else calibrations:
        if one.setup is not None and one.fitted is not None:
            result = result.calibrated(one.setup, one.fitted)
    return result


def calibrated_profile(profile: Profile, calibrations: Sequence[ServingCalibration] | None = None) -> Profile:
    """A profile as the machine is now: times, CPU times and energies by the factor, and the idle power.

    Without a younger calibration of that model on that machine, the profile as it is.

    Args:
        profile: made earlier.
        calibrations: default those that are kept.
    """
    for one in load_serving_calibrations() if calibrations is None else calibrations:
        same = (one.host_id, one.model, one.where) == (
            profile.machine.host_id,
            profile.model,
            profile.engine.where,
        )
        if not same or one.time_factor is None or one.setup is not None or one.created < profile.created:
            continue
        factor = one.time_factor
        return msgspec.structs.replace(
            profile,
            idle_w=_scaled(profile.idle_w, one.idle_w / profile.idle_w[0])
            if profile.idle_w and profile.idle_w[0] > 0
            else profile.idle_w,
            samples=tuple(
                msgspec.structs.replace(
                    sample,
                    prefill=_slowed(sample.prefill, factor),
                    decode=_slowed(sample.decode, factor),
                    ttft_s=sample.ttft_s * factor,
                    itl_s=sample.itl_s * factor,
                    itl_p95_s=sample.itl_p95_s * factor,
                )
                for sample in profile.samples
            ),
            notes=(*profile.notes, f"times {factor:.3g} by the calibration of {one.created[:10]}"),
        )
    return profile


def _middle(samples: Sequence[Sample], batch: int) -> PhaseSample:
    """The decode phase of the median step."""
    ordered = sorted(samples, key=lambda one: one.decode.seconds * batch / one.decode.tokens)
    return ordered[len(ordered) // 2].decode


def _power(phase: PhaseSample) -> float:
    return phase.energy_j[0] / phase.seconds if phase.energy_j is not None else 0.0


def _fitted(
    setup: ServingSetup,
    batches: Sequence[int],
    phases: Sequence[PhaseSample],
    steps: Sequence[float],
    watts: Sequence[float],
    idle_w: float,
) -> SetupCalibration:
    """Pure decode steps were measured, so in the points prompts have next to no share."""
    points = [
        MeasuredPoint(
            batch=batch,
            tokens_in=1.0,
            tokens_out=_ENDLESS_TOKENS,
            token_s=step_s,
            power_w=power_w,
            context=phase.context_tokens / batch,
        )
        for batch, phase, step_s, power_w in zip(batches, phases, steps, watts, strict=True)
    ]
    return fit_setup_calibration(load_predictor(), setup, points, idle_w=idle_w)


def _factor(
    profile: Profile,
    format_: str,
    batches: Sequence[int],
    phases: Sequence[PhaseSample],
    steps: Sequence[float],
) -> float:
    """Measured over profiled time of a step, geometric mean."""
    law = profile.law(format_, "time")
    if law is None:
        raise MeterError(f"the profile of {profile.model} holds no times", code="M105")
    ratios = [
        log(step_s / (law.step(batch) + law.decode_context * phase.context_tokens))
        for batch, phase, step_s in zip(batches, phases, steps, strict=True)
    ]
    return exp(fmean(ratios))


def _slowed(phase: PhaseSample, factor: float) -> PhaseSample:
    return msgspec.structs.replace(
        phase,
        seconds=phase.seconds * factor,
        cpu_s=None if phase.cpu_s is None else phase.cpu_s * factor,
        energy_j=_scaled(phase.energy_j, factor),
    )


def _scaled(span: tuple[float, float, float] | None, factor: float) -> tuple[float, float, float] | None:
    return None if span is None else (span[0] * factor, span[1] * factor, span[2] * factor)


def _key(one: ServingCalibration) -> tuple[object, ...]:
    return (one.host_id, one.model, one.format, one.where, one.setup)
