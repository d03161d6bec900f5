"""From a setup, a batch and lengths to time, power and energy, and how far off they may be."""

from __future__ import annotations

from functools import cache
from math import exp, isfinite, log
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.catalog import lookup
from negajoule.errors import ConfigError
from negajoule.physics.accelerators import number_format
from negajoule.physics.serving.prediction import Phase, Prediction
from negajoule.physics.serving.residuals import Residuals, features_of
from negajoule.physics.serving.setup import ENGINES
from negajoule.physics.serving.setup_inputs import inputs_of
from negajoule.physics.serving.step_physics import Coefficients, Terms, steady_of, step_of, terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.physics.serving.calibration import SetupCalibration
    from negajoule.physics.serving.residuals import Correction
    from negajoule.physics.serving.setup import ServingSetup
    from negajoule.physics.serving.step_physics import Step
    from negajoule.physics.serving.step_table import StepTable

__all__ = ["MODEL_FILE", "Predictor", "ServingModel", "load_predictor"]

SCHEMA = "negajoule.serving_model/1"
MODEL_FILE = Path(__file__).parent / "serving_model.json"

_OUTSIDE = 2.0  # the factor beyond a measured range at which an answer is refused


class ServingModel(msgspec.Struct, frozen=True, kw_only=True):
    """What ``fitting/serving_energy.py`` found.

    Attributes:
        schema: version of this form.
        script: what wrote it.
        data: files it was fitted to, with their SHA-256.
        rows: digests of the fitted rows: what tells a seen row from an unseen one.
        pairs: fitted models and accelerators.
        coefficients: of the physics.
        prompts: prompt length of each task, inferred from its time and energy [tokens].
        half_widths: of the 90 % intervals of energy, time and power, as logarithms, by group.
        ranges: lowest and highest measured value of each input.
        residuals: what the physics misses.
        accelerators: names of the accelerators that were measured.
        slope: what a half-width grows by for each e-fold outside a range.
    """

    schema: str
    script: str
    data: list[dict[str, str]]
    rows: list[str]
    pairs: list[str]
    coefficients: dict[str, float]
    residuals: Residuals
    prompts: dict[str, float]
    half_widths: dict[str, tuple[float, float, float]]
    ranges: dict[str, tuple[float, float]]
    accelerators: list[str]
    slope: float


class PromptCosts(NamedTuple):
    """Computing a prompt.

    Attributes:
        token_s: a prompt token [s].
        context_s: attention, for each squared token [s].
        step_s: what a step costs besides if it doesn't decode [s].
        power_w: of all accelerators while computing [W].
        step_j: energy of ``step_s`` [J].
    """

    token_s: float
    context_s: float
    step_s: float
    power_w: float
    step_j: float


class _Plan(NamedTuple):
    """A setup with everything worked out that neither batch nor lengths change."""

    terms: Terms
    idle_w: float
    group: str
    widths: tuple[float, float, float]
    notes: tuple[str, ...]
    correction: Correction
    calibration: SetupCalibration | None
    plain_idle_w: float


@cache
def load_predictor() -> Predictor:
    """The shipped predictor; read once."""
    return Predictor(msgspec.json.decode(MODEL_FILE.read_bytes(), type=ServingModel))


class Predictor:
    """Time, power and energy of serving, by phase.

    Args:
        model: the fitted numbers.
        calibrations: measured setups.
    """

    def __init__(
        self, model: ServingModel, calibrations: Mapping[ServingSetup, SetupCalibration] | None = None
    ) -> None:
        self.model = model
        self._coefficients = Coefficients(**model.coefficients)
        self._calibrations = dict(calibrations or {})
        self._plans: dict[ServingSetup, _Plan] = {}

    def calibrated(self, setup: ServingSetup, calibration: SetupCalibration) -> Predictor:
        """The same predictor, corrected for one measured setup, on any number of its accelerators."""
        return Predictor(self.model, {**self._calibrations, _key(setup): calibration})

    def uncalibrated(self) -> Predictor:
        """The same predictor without any calibration."""
        return Predictor(self.model) if self._calibrations else self

    def idle_power(self, setup: ServingSetup) -> float:
        """Power of all accelerators of a setup, weights resident and nothing to do [W]."""
        return self._plan(setup).idle_w

    def predict(
        self,
        setup: ServingSetup,
        *,
        batch: float,
        tokens_in: float,
        tokens_out: float,
        cached: float = 0.0,
        context: float | None = None,
        extrapolate: bool = False,
    ) -> Prediction:
        """Costs of one of a batch of like requests, at a steady batch.

        Args:
            setup: the model on its accelerators.
            batch: sequences that decode together, at least 1.
            tokens_in: length of the prompt, cached part included [tokens].
            tokens_out: length of the answer, at least 1 [tokens].
            cached: part of the prompt whose keys and values are kept from before [tokens].
            context: mean tokens in front of a token being made; default tokens_in + tokens_out / 2. Lengths
                that spread make it longer: tokens_in + E[L^2] / (2 E[L]).
            extrapolate: answer beyond a factor of two outside what was measured too, with a wide interval.

        Raises:
            ConfigError: (C101) if a number can't be, (C112) if the weights don't fit the memory, (C113) if
                a number is above what was measured by more than a factor of two.
        """
        if not (1.0 <= batch < 1e7 and 0.0 <= cached <= tokens_in < 1e8 and 1.0 <= tokens_out < 1e8):
            raise _impossible(batch, tokens_in, tokens_out, cached)
        plan = self._plan(setup)
        middle = tokens_in + 0.5 * tokens_out if context is None else context
        wide, notes = self._outside(setup, batch, tokens_in, middle, extrapolate)
        decode, mixed, share = steady_of(
            plan.terms, batch, middle, tokens_in - cached, tokens_out, exp, cached
        )
        idle_w = plan.idle_w
        slower, stronger, active, near = self._factors(plan, batch)
        step_s, mixed_s = decode.time_s * slower, mixed.time_s * slower
        rated_w = plan.terms.power_w
        above_w = (min(decode.power_w * stronger, rated_w) - plan.plain_idle_w) * active
        mixed_above_w = (min(mixed.power_w * stronger, rated_w) - plan.plain_idle_w) * active
        steps = tokens_out / batch
        decode_s, prefill_s = step_s * steps, share * (mixed_s - step_s) * steps
        wait_s = decode.wait_s * slower * steps
        above_j = above_w * decode_s
        wait_j = min(above_j, max(0.0, plan.terms.base * rated_w - plan.plain_idle_w) * active * wait_s)
        prefill_j = share * (mixed_above_w * mixed_s - above_w * step_s) * steps
        idle_j = idle_w * (decode_s + prefill_s)
        request_j = prefill_j + above_j + idle_j
        token_s = (decode_s + prefill_s) / steps
        energy_width, time_width, power_width = (
            plan.widths if near == 0.0 else self._nearer(plan.widths, near)
        )
        return Prediction(
            step_s=step_s,
            token_s=token_s,
            prefill_s=mixed_s,
            request_s=mixed_s + token_s * (tokens_out - 1.0),
            power_w=request_j / (decode_s + prefill_s),
            energy_per_step_j=(above_w + idle_w) * step_s,
            energy_per_token_j=request_j / tokens_out,
            energy_per_request_j=request_j,
            prefill=Phase(prefill_j, prefill_s),
            decode=Phase(above_j - wait_j, decode_s - wait_s),
            host=Phase(wait_j, wait_s),
            idle=Phase(idle_j, 0.0),
            reading_share=decode.reading_share,
            batch=batch,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            energy_half_width=energy_width + wide,
            time_half_width=time_width + wide,
            power_half_width=power_width + 0.5 * wide,
            group=plan.group,
            notes=plan.notes + notes if notes else plan.notes,
        )

    def step_table(
        self,
        setup: ServingSetup,
        max_batch: int | None = None,
        *,
        context: float = 2048.0,
        sleep_w: float | None = None,
        extrapolate: bool = False,
    ) -> StepTable:
        """Costs of a setup's steps in the form that sums in closed form.

        Time and energy of a step are nearly affine in the context; the table is the chord from no context to
        this one.

        Args:
            setup: the model on its accelerators.
            max_batch: most sequences in a step; default ``batch_limit``, or what was measured.
            context: mean context of a sequence at which the table is exact [tokens].
            sleep_w: power while asleep; default the idle power, since sleep wasn't measured [W].
            extrapolate: as of ``predict``.

        Raises:
            ConfigError: as of ``predict``; (C112) if the weights don't fit.
        """
        from negajoule.physics.serving.step_table_of import step_table_of

        return step_table_of(self, setup, max_batch, context, sleep_w, extrapolate)

    def prompt_costs(self, setup: ServingSetup, length: float = 512.0, batch: float = 16.0) -> PromptCosts:
        """What computing a prompt costs, in the form of a step table.

        Args:
            setup: the model on its accelerators.
            length: of the prompt for which the form is exact [tokens].
            batch: sequences that decode beside it.
        """
        plan = self._plan(setup)
        terms, idle_w = plan.terms, plan.idle_w
        slower, stronger, active, _ = self._factors(plan, batch)
        plain, mixed, alone = (
            step_of(terms, batch, length),
            step_of(terms, batch, length, 1.0, length),
            step_of(terms, 0.0, 0.0, 1.0, length),
        )

        def energy(step: Step) -> float:
            drawn = min(step.power_w * stronger, terms.power_w)
            return float((idle_w + (drawn - plan.plain_idle_w) * active) * step.time_s * slower)

        context_s = float(terms.prompt_attention_s) * slower
        more_s = (mixed.time_s - plain.time_s) * slower
        token_s = max(0.0, more_s / length - context_s * length)
        power_w = (energy(mixed) - energy(plain)) / more_s
        linear_s = (token_s + context_s * length) * length
        return PromptCosts(
            token_s=token_s,
            context_s=context_s,
            step_s=max(0.0, alone.time_s * slower - linear_s),
            power_w=power_w,
            step_j=max(0.0, energy(alone) - power_w * linear_s),
        )

    @staticmethod
    def _factors(plan: _Plan, batch: float) -> tuple[float, float, float, float]:
        """Factors on time, on power and on power above idle; how near a calibrated point is."""
        place = log(batch)
        time, energy = plan.correction.factors(place)
        if plan.calibration is None:
            return time, energy / time, 1.0, 0.0
        slower, active, near = plan.calibration.factors(place)
        return time * slower, energy / time, active, near

    def _nearer(self, widths: tuple[float, float, float], near: float) -> tuple[float, float, float]:
        """Half-widths beside a calibrated point: its own there, the group's far from it."""
        measured = self.model.half_widths["calibrated"]
        energy, time, power = (
            (near * min(own, wide) ** 2 + (1.0 - near) * wide**2) ** 0.5
            for own, wide in zip(measured, widths, strict=True)
        )
        return energy, time, power

    def _outside(
        self, setup: ServingSetup, batch: float, tokens_in: float, context: float, extrapolate: bool
    ) -> tuple[float, tuple[str, ...]]:
        """What to widen the interval by, and why."""
        ranges = self.model.ranges
        wide = 0.0
        notes: tuple[str, ...] = ()
        for name, value in (("batch", batch), ("tokens_in", tokens_in), ("context", context)):
            low, high = ranges[name]
            if value > high:
                far = value / high
                if far > _OUTSIDE and not extrapolate:
                    raise ConfigError(
                        f"{name} {value:g} is more than twice the largest that was measured, {high:g}",
                        code="C113",
                        tried=f"{setup.shape.name} on {setup.count} x {setup.accelerator}",
                        fix=f"stay below {_OUTSIDE * high:g}, or ask to extrapolate",
                    )
            elif value < low and name == "batch":
                far = low / value
            else:
                continue
            wide += self.model.slope * log(far)
            notes += (f"{name} {value:g} is outside what was measured, {low:g} to {high:g}",)
        return wide, notes

    def _plan(self, setup: ServingSetup) -> _Plan:
        plan = self._plans.get(setup)
        if plan is None:
            plan = self._plans[setup] = self._make_plan(setup)
        return plan

    def _make_plan(self, setup: ServingSetup) -> _Plan:
        setup.free_bytes()
        inputs = inputs_of(setup)
        terms = terms_of(inputs, self._coefficients)
        plain_idle = float(inputs.count * inputs.power * lookup("serving.idle-power-share").si_interval()[0])
        widths, notes = self._known(setup)
        calibration = self._calibrations.get(_key(setup))
        if calibration is not None:
            notes = (*notes, f"calibrated with {len(calibration.batches)} measured points")
        return _Plan(
            terms,
            calibration.idle_w * setup.count if calibration else plain_idle,
            group_of(setup),
            widths,
            notes,
            self.model.residuals.correction(features_of(inputs)),
            calibration,
            plain_idle,
        )

    def _known(self, setup: ServingSetup) -> tuple[tuple[float, float, float], tuple[str, ...]]:
        """Half-widths of a setup's group, and what is unlike anything that was measured."""
        table, notes = self.model.half_widths, []
        widths = list(table.get(group_of(setup), table["any"]))

        def widen(name: str, note: str) -> None:
            notes.append(note)
            for index, further in enumerate(table[name]):
                widths[index] = (widths[index] ** 2 + further**2) ** 0.5

        hardware = setup.hardware
        if hardware.name not in self.model.accelerators:
            widen("accelerator", f"no run on {hardware.name} was measured; its data sheet stands in")
        if group_of(setup) not in table and hardware.name in self.model.accelerators:
            widen("format", f"no run of {group_of(setup)} was measured")
        if setup.shape.guessed:
            widen("guessed", "the model's layers are guessed from its size")
        if setup.engine not in ENGINES:
            widen("engine", f"no run of {setup.engine} was measured; {ENGINES[0]} stands in")
        if not setup.cuda_graphs:
            widen("engine", "steps without CUDA graphs weren't measured")
        if setup.shape.block_scales and not setup.shape.is_moe and number_format(setup.format) == "fp8":
            widen("engine", "no dense model with scales by blocks was measured; scales by rows stand in")
        low, high = self.model.ranges["active"]
        active = setup.shape.active_parameters
        if not low / _OUTSIDE <= active <= high * _OUTSIDE:
            notes.append(
                f"{active / 1e9:.3g} billion active parameters are far from what was measured, "
                f"{low / 1e9:.3g} to {high / 1e9:.3g}"
            )
            far = log(max(low / active, active / high))
            widths = [width + self.model.slope * far for width in widths]
        return (widths[0], widths[1], widths[2]), tuple(notes)


def group_of(setup: ServingSetup) -> str:
    """Whose residuals say how far off a prediction may be."""
    form = number_format(setup.format)
    kind = form if form != "bfloat16" else "moe" if setup.shape.is_moe else "dense"
    return f"{kind} {setup.hardware.generation}"


def _key(setup: ServingSetup) -> ServingSetup:
    """The setup as calibrations know it: on how many accelerators, and with what limit, doesn't count."""
    return msgspec.structs.replace(
        setup, batch_limit=None, count=1, tensor_parallel=None, expert_parallel=1, data_parallel=1
    )


def _impossible(batch: float, tokens_in: float, tokens_out: float, cached: float) -> ConfigError:
    if not (isfinite(batch) and 1.0 <= batch < 1e7):
        return ConfigError(f"a batch of {batch!r} can't be predicted", fix="a number of sequences from 1 up")
    return ConfigError(
        f"{tokens_in!r} tokens in ({cached!r} of them cached) and {tokens_out!r} out can't be",
        fix="tokens in >= cached >= 0, tokens out >= 1",
    )
