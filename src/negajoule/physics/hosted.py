"""The estimate for hosted models that nobody can meter: joules of one request, and how far they may be off.

    estimate("gpt-4o", 1200, 300)

The middle is the fitted roofline of ``decoding`` at the likeliest setting. What isn't known (batch,
accelerator, number format, size of a closed model) is evaluated at its ends, and each becomes a contributor
to the interval. Contributors are taken as independent, so their half-widths add as squares of logarithms. The
fit's own half-width is the 90 % quantile of its errors on models that were left out of it.

``energy`` is what the accelerators draw for the request, the boundary of the measurements. ``it_energy``
adds the host and the accelerators that are provisioned and idle. Cooling, carbon, water and embodied come
after, from ``physics.footprint``.
"""

from __future__ import annotations

from functools import cache
from math import exp, hypot, log, sqrt
from typing import Any, NamedTuple

import msgspec

from negajoule.catalog import lookup
from negajoule.errors import ConfigError
from negajoule.physics.decoding import Cost, request_cost
from negajoule.physics.hosted_setting import Setting, checked_number, distance, fitted, setting_of
from negajoule.units import Duration, Energy, Factor, Part

__all__ = ["TASKS", "Contributor", "HostedEstimate", "estimate"]

TASKS: dict[str, str] = {
    "chat": "lm-arena-chat",
    "reasoning": "gpqa",
    "image": "image-chat",
    "video": "video-chat",
    "code": "sourcegraph-fim",
}
"""Short names of the measured tasks; the measurements' own names are understood too."""


class Contributor(NamedTuple):
    """One cause of the interval's width.

    Attributes:
        name: what isn't known.
        low: factor from the value to the lower end if it were the only cause.
        high: factor from the value to the upper end, likewise.
    """

    name: str
    low: float
    high: float


class HostedEstimate(msgspec.Struct, frozen=True):
    """Energy of one request to a hosted model, with 90 % intervals.

    Attributes:
        model: the model as it was found.
        energy: of the accelerators that serve the request, boundary ``accelerator`` [J].
        it_energy: the same with host and idle accelerators, boundary ``node`` [J].
        accelerator_time: accelerator-seconds that serve the request, its share of the batch [s].
        reserved_time: the same with the idle time between requests, to share out embodied impacts by [s].
        prefill: share of ``energy`` that computes the prompt [1].
        contributors: causes of the width of ``it_energy``; without ``host`` and ``idle`` those of ``energy``.
        factors: what was assumed, with catalogue keys.
        known: whether accelerator, number format and layout are known and were measured.
        notes: what the reader must know.
    """

    model: str
    energy: Energy
    it_energy: Energy
    accelerator_time: Duration
    reserved_time: Duration
    prefill: float
    contributors: tuple[Contributor, ...]
    factors: tuple[Factor, ...]
    known: bool
    notes: tuple[str, ...]

    @property
    def widest(self) -> str:
        """Name of the contributor that adds most to the interval of ``it_energy``."""
        return max(self.contributors, key=lambda cause: cause.high / cause.low).name

    @property
    def parts(self) -> tuple[Part, ...]:
        """Shares that add up to ``it_energy``; each has its relative interval."""
        surroundings = _surroundings()
        host, idle = surroundings.host, surroundings.idle
        shares = (
            ("accelerators, prompt", self.prefill / (host * idle), "physics/hosted_model.json"),
            ("accelerators, answer", (1 - self.prefill) / (host * idle), "physics/hosted_model.json"),
            ("host", (host - 1) / (host * idle), "hosted.host-factor"),
            ("idle", (idle - 1) / idle, "hosted.utilisation"),
        )
        grade = "C" if self.known else "D"
        return tuple(Part(name, self.it_energy * share, source, grade) for name, share, source in shares)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, schema ``negajoule.hosted_estimate/1``."""
        quantities = ("energy", "it_energy", "accelerator_time", "reserved_time")
        return {
            "schema": "negajoule.hosted_estimate/1",
            "model": self.model,
            **{name: getattr(self, name).to_dict() for name in quantities},
            "parts": [
                {"name": part.name, "source": part.source, "grade": part.grade, **part.energy.to_dict()}
                for part in self.parts
            ],
            "contributors": [cause._asdict() for cause in self.contributors],
            "widest": self.widest,
            "factors": [
                {"name": factor.name, "key": factor.key, "year": factor.year, **factor.quantity.to_dict()}
                for factor in self.factors
            ],
            "notes": list(self.notes),
        }


def estimate(
    model: str | None,
    tokens_in: float | None,
    tokens_out: float,
    *,
    cached_tokens: float = 0,
    reasoning_tokens: float = 0,
    task: str | None = None,
    batch: float | tuple[float, float] | None = None,
    accelerator: str | None = None,
    accelerators: int | None = None,
    precision: str | None = None,
    replicas: int = 1,
    active_parameters_b: float | tuple[float, float] | None = None,
    total_parameters_b: float | None = None,
    kind: str | None = None,
) -> HostedEstimate:
    """Estimate what one request to a hosted model takes.

    Args:
        model: its name, as the provider writes it; ``None`` if the parameters are given.
        tokens_in: length of the prompt, cached part included; ``None`` for the typical prompt of ``task``.
        tokens_out: length of the answer.
        cached_tokens: part of the prompt that the provider says it had cached; it's read but not computed.
        reasoning_tokens: hidden output, if ``tokens_out`` doesn't include it already.
        task: ``chat``, ``reasoning``, ``image``, ``video`` or ``code``; only used without ``tokens_in``.
        batch: sequences decoded together, or an interval; ``None`` for the catalogue's ``hosted.batch``.
        accelerator: its name; ``None`` for H100, with A100, H200 and B200 in the interval.
        accelerators: number of them that hold the model; ``None`` for as many as its weights need.
        precision: number format of the weights; ``None`` for the maker's, or bfloat16 (FP8 in the interval).
        replicas: data parallel copies of the attention among the accelerators.
        active_parameters_b: parameters used for one token, or an interval [1e9]; overrides the tables.
        total_parameters_b: all parameters [1e9]; the active ones if only those are given.
        kind: ``dense``, ``moe``, ``hybrid`` or ``moe-hybrid``; overrides the tables.

    Raises:
        CatalogError: (F101) if the model or the accelerator isn't known.
        ConfigError: (C101) if a number is negative, not finite or out of place.
    """
    answer = checked_number("tokens_out", tokens_out, 0.0) + checked_number(
        "reasoning_tokens", reasoning_tokens, 0.0
    )
    prompt = _typical_prompt(task) if tokens_in is None else checked_number("tokens_in", tokens_in, 0.0)
    cached = checked_number("cached_tokens", cached_tokens, 0.0)
    if cached > prompt:
        raise ConfigError(f"cached_tokens ({cached:g}) can't exceed tokens_in ({prompt:g})")
    if prompt + answer == 0 or (answer == 0 and cached == prompt):
        raise ConfigError("a request that computes no token has no energy to estimate", fix="give tokens_out")
    setting = setting_of(
        model,
        batch,
        accelerator,
        accelerators,
        precision,
        replicas,
        active_parameters_b,
        total_parameters_b,
        kind,
    )
    cost = request_cost(setting.likely, prompt, answer, cached)
    energy, seconds = cost.prefill_j + cost.decode_j, cost.accelerator_s
    causes, spans = _causes(setting, cost, prompt, answer, cached)
    down, up, faster, slower = spans
    surroundings = _surroundings()
    node = energy * surroundings.host * surroundings.idle
    reserved = seconds * surroundings.reserve
    return HostedEstimate(
        setting.model,
        Energy(energy, energy * exp(-down), energy * exp(up), "modelled", "accelerator"),
        Energy(
            node,
            node * exp(-hypot(down, surroundings.down)),
            node * exp(hypot(up, surroundings.up)),
            "modelled",
            "node",
        ),
        Duration(seconds, seconds * exp(-faster), seconds * exp(slower), "modelled"),
        Duration(
            reserved,
            reserved * exp(-hypot(faster, surroundings.reserve_down)),
            reserved * exp(hypot(slower, surroundings.reserve_up)),
            "modelled",
        ),
        cost.prefill_j / energy,
        (*causes, *surroundings.causes),
        setting.factors + surroundings.factors,
        setting.known,
        setting.notes + _notes(task if tokens_in is None else None, prompt, answer),
    )


def _causes(
    setting: Setting, cost: Cost, prompt: float, answer: float, cached: float
) -> tuple[list[Contributor], tuple[float, float, float, float]]:
    """Causes of width, and the half-widths that they add up to: energy down and up, time down and up."""
    energy, seconds = cost.prefill_j + cost.decode_j, cost.accelerator_s
    causes = []
    down = up = faster = slower = 0.0  # squares, until the end
    for name, deployments in setting.alternatives:
        low = high = energy
        short = long = seconds
        for deployment in deployments:
            prefill_j, decode_j, _, _, time = request_cost(deployment, prompt, answer, cached)
            joules = prefill_j + decode_j
            if joules < low:
                low = joules
            elif joules > high:
                high = joules
            if time < short:
                short = time
            elif time > long:
                long = time
        causes.append(Contributor(name, low / energy, high / energy))
        down += log(energy / low) ** 2
        up += log(high / energy) ** 2
        faster += log(seconds / short) ** 2
        slower += log(long / seconds) ** 2
    widths = setting.widths
    away = _lengths_outside(prompt, answer)
    if away > 0:
        widths = (*widths, ("length outside the measured range", away, away))
    for name, lower, upper in widths:
        causes.append(Contributor(name, exp(-lower), exp(upper)))
        down += lower * lower
        up += upper * upper
    short, long = setting.time_widths
    return causes, (sqrt(down), sqrt(up), hypot(sqrt(faster), short, away), hypot(sqrt(slower), long, away))


def _lengths_outside(prompt: float, answer: float) -> float:
    """Half-width to add for lengths that weren't measured, as a logarithm."""
    found = fitted()
    away = distance(prompt, found.ranges["tokens_in"]) + distance(answer, found.ranges["tokens_out"])
    return away * found.slope


def _notes(task: str | None, prompt: float, answer: float) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if task is not None:
        notes = (f"prompt assumed: {prompt:.0f} tokens, as the energy of {task} runs implies",)
    if _lengths_outside(prompt, answer) > 0:
        notes = (*notes, "prompt or answer is longer or shorter than any measured, so the interval is wider")
    return notes


def _typical_prompt(task: str | None) -> float:
    if task is None:
        raise ConfigError(
            "tokens_in is missing", fix="give tokens_in, or a task whose typical prompt is used"
        )
    prompts = fitted().prompts
    tokens = prompts.get(TASKS.get(task, task))
    if tokens is None:
        raise ConfigError(f"task {task!r} isn't known", fix=f"one of {', '.join(TASKS)}")
    return tokens


class _Surroundings(NamedTuple):
    """What a serving accelerator brings along: factors, half-widths as logarithms, causes."""

    host: float
    idle: float
    down: float
    up: float
    reserve: float
    reserve_down: float
    reserve_up: float
    causes: tuple[Contributor, Contributor]
    factors: tuple[Factor, ...]


@cache
def _surroundings() -> _Surroundings:
    host, used = lookup("hosted.host-factor"), lookup("hosted.utilisation")
    share = lookup("hosted.idle-power-share")

    def idle(utilisation: float, power: float) -> float:
        return 1.0 + (1.0 / utilisation - 1.0) * power

    middle = idle(used.value, share.value)
    causes = (
        Contributor("host", host.low / host.value, host.high / host.value),
        Contributor("idle", idle(used.high, share.low) / middle, idle(used.low, share.high) / middle),
    )
    return _Surroundings(
        host.value,
        middle,
        hypot(*(log(cause.low) for cause in causes)),
        hypot(*(log(cause.high) for cause in causes)),
        1.0 / used.value,
        log(used.high / used.value),
        log(used.value / used.low),
        causes,
        tuple(
            Factor(name, fact.key, fact.quantity(), fact.year)
            for name, fact in (("host", host), ("utilisation", used), ("idle power", share))
        ),
    )
