"""How a hosted model is probably served: from a name and what the caller knows to deployments.

The likeliest setting comes first; for whatever the caller doesn't state, the other ends it could be at
follow. Everything here is the same for every request to that model, so it's worked out once and kept.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import ceil, hypot, isfinite, log, log2, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from negajoule.catalog import lookup
from negajoule.errors import CatalogError, ConfigError
from negajoule.physics.accelerators import format_bytes, hardware_of, number_format
from negajoule.physics.decoding import Coefficients, Deployment, Layout, Served, deploy
from negajoule.physics.model_size import KINDS, find_model, typical_layout
from negajoule.units import Factor, Ratio

__all__ = [
    "COEFFICIENT_FILE",
    "SCHEMA",
    "Fitted",
    "Setting",
    "checked_number",
    "deployment_of",
    "distance",
    "fitted",
    "setting_of",
]

SCHEMA = "negajoule.hosted_model/1"
COEFFICIENT_FILE = Path(__file__).parent / "hosted_model.json"

_LIKELY_ACCELERATOR = "h100"
_OTHER_ACCELERATORS = ("a100", "h200", "b200")
_MEASURED_FORMATS = ("bfloat16", "bf16", "float16", "fp16", "fp8", "mxfp4")
_UNKNOWN_GENERATION = {"read": 1.0, "power": 1.0, "host": 1.0}


class Fitted(NamedTuple):
    """What ``fitting/hosted_llm.py`` found.

    Attributes:
        coefficients: of the roofline.
        generations: factors of each generation of accelerators on reading, power and host time.
        formats: factor of each number format on the rate of reading.
        prompts: typical prompt of each task, inferred from its energy [tokens].
        unlisted: typical layouts by size.
        half_widths: of 90 % intervals, as logarithms, by what is known.
        engine: ends of 90 % of other engines' and releases' times over the fit's.
        slope: what a half-width grows by for each e-fold outside the measured range.
        ranges: lowest and highest measured value of each input.
        accelerators: names of the accelerators that were measured.
    """

    coefficients: Coefficients
    generations: dict[str, dict[str, float]]
    formats: dict[str, float]
    prompts: dict[str, float]
    unlisted: dict[str, Any]
    half_widths: dict[str, float]
    engine: list[float]
    slope: float
    ranges: dict[str, list[float]]
    accelerators: list[str]


class Setting(NamedTuple):
    """A model where it's likeliest served, and where else it could be.

    Attributes:
        model: its name as it was found.
        likely: the likeliest deployment.
        alternatives: for each thing that isn't known, deployments at its other ends.
        widths: further causes of width, with their half-widths down and up as logarithms.
        time_widths: the same for time, all together.
        factors: what was assumed.
        known: whether accelerator, number format and layout are known and were measured.
        notes: what the reader must know.
    """

    model: str
    likely: Deployment
    alternatives: tuple[tuple[str, tuple[Deployment, ...]], ...]
    widths: tuple[tuple[str, float, float], ...]
    time_widths: tuple[float, float]
    factors: tuple[Factor, ...]
    known: bool
    notes: tuple[str, ...]


class _Model(NamedTuple):
    name: str
    low: float
    active: float
    high: float
    total: float
    kind: str
    layout: Layout | None
    precision: str | None
    published: bool


@cache
def fitted() -> Fitted:
    """The coefficient file, read once."""
    data = msgspec.json.decode(COEFFICIENT_FILE.read_bytes())
    return Fitted(Coefficients(**data["coefficients"]), *(data[name] for name in Fitted._fields[1:]))


@lru_cache(maxsize=2048)
def setting_of(
    model: str | None,
    batch: float | tuple[float, float] | None,
    accelerator: str | None,
    accelerators: int | None,
    precision: str | None,
    replicas: int,
    active_parameters_b: float | tuple[float, float] | None,
    total_parameters_b: float | None,
    kind: str | None,
) -> Setting:
    """The setting for what a caller of ``hosted.estimate`` knows; arguments as there.

    Raises:
        CatalogError: (F101) if the model or the accelerator isn't known.
        ConfigError: (C101) if a number is out of place.
    """
    found = fitted()
    size = _model(model, active_parameters_b, total_parameters_b, kind)
    sequences = _sequences(batch)
    copies = checked_number("replicas", replicas, 1.0)
    count = None if accelerators is None else checked_number("accelerators", accelerators, 1.0)
    hardware = accelerator or _LIKELY_ACCELERATOR
    form = precision or size.precision or "bfloat16"

    def served(
        active: float = size.active,
        batched: float = sequences.value,
        on: str = hardware,
        weights: str = form,
        times: float = 1.0,
    ) -> Deployment:
        layout = _layout(size, active, found)
        return deployment_of(found, layout, batched, on, weights, count, times, copies)

    likely = served()
    alternatives: list[tuple[str, tuple[Deployment, ...]]] = []
    notes: list[str] = []
    if sequences.spread > 0:
        alternatives.append(("batch", (served(batched=sequences.low), served(batched=sequences.high))))
    if size.high > size.low:
        alternatives.append(("size of the model", (served(size.low), served(size.high))))
    if not size.published:
        notes.append(
            "the maker hasn't published the model's size: guesses of others are used, as an interval"
        )
    if accelerator is None:
        alternatives.append(("accelerator", tuple(served(on=other) for other in _OTHER_ACCELERATORS)))
        others = ", ".join(_OTHER_ACCELERATORS)
        notes.append(
            f"accelerator assumed: {hardware}; {others} and other serving engines are in the interval"
        )
    if count is None:
        alternatives.append(("number of accelerators", (served(times=2.0),)))
    if precision is None and size.precision is None:
        alternatives.append(("number format", (served(weights="fp8"),)))

    listed = "listed" if size.layout else "unlisted"
    width, time_width = found.half_widths[listed], found.half_widths[f"{listed} time"]
    if not size.layout:
        notes.append("layers and attention of the model aren't in the tables: typical ones are used")
    measured = hardware_of(hardware).name in found.accelerators
    if not measured:
        width = max(width, found.half_widths["accelerator"])
        notes.append(f"no run on {hardware} was measured: its data sheet is used, and the interval is wider")
    familiar = form.lower() in _MEASURED_FORMATS
    if not familiar:
        width = max(width, found.half_widths["format"])
        notes.append(f"no run with {form} was measured: {number_format(form)} stands for it, wider")
    down, up = (0.0, 0.0) if accelerator else (-log(found.engine[0]), log(found.engine[1]))
    widths = [("fit" if accelerator else "fit and engine", max(width, down), max(width, up))]
    inputs = {
        "batch": sequences.value,
        "active": size.active,
        "total": size.total,
        "accelerators": likely.accelerators,
    }
    distances = {name: distance(value, found.ranges[name]) for name, value in inputs.items()}
    outside = {name: away for name, away in distances.items() if away > 0}
    if outside:
        away = sum(outside.values()) * found.slope
        widths.append(("setting outside the measured range", away, away))
        notes.append(f"outside the measured range, so the interval is wider: {', '.join(outside)}")
    lows = [max(time_width, widths[0][1]), *(low for _, low, _ in widths[1:])]
    highs = [max(time_width, widths[0][2]), *(high for _, _, high in widths[1:])]
    return Setting(
        model=size.name,
        likely=likely,
        alternatives=tuple(alternatives),
        widths=tuple(widths),
        time_widths=(hypot(*lows), hypot(*highs)),
        factors=(
            Factor("batch", "hosted.batch" if batch is None else "user", sequences),
            Factor("active parameters [1e9]", size.name, Ratio(size.active, size.low, size.high)),
            Factor(
                "accelerators",
                f"hosted.accelerator.{hardware_of(hardware).name}.power",
                Ratio.exact(likely.accelerators, "assumed"),
            ),
        ),
        known=size.layout is not None and measured and familiar and accelerator is not None,
        notes=tuple(notes),
    )


def distance(value: float, span: list[float]) -> float:
    """How many e-folds a value lies outside a range; 0 inside, and for a value of 0."""
    if value > span[1]:
        return log(value / span[1])
    return log(span[0] / value) if 0 < value < span[0] else 0.0


def checked_number(name: str, value: float, least: float) -> float:
    """A finite number of at least ``least``.

    Raises:
        ConfigError: (C101) if it isn't one.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < least:
        raise ConfigError(f"{name} must be a finite number of at least {least:g}, not {value!r}")
    return float(value)


def _sequences(batch: float | tuple[float, float] | None) -> Ratio:
    if batch is None:
        fact = lookup("hosted.batch")
        return Ratio(fact.value, fact.low, fact.high)
    return Ratio(*_ends("batch", batch, 1.0))


def _ends(name: str, given: float | tuple[float, float], least: float) -> tuple[float, float, float]:
    """Middle (geometric mean), low and high of a number or of a pair."""
    if not isinstance(given, tuple):
        value = checked_number(name, given, least)
        return value, value, value
    if len(given) != 2 or given[0] > given[1]:
        raise ConfigError(f"{name} must be a number or a pair (low, high), not {given!r}")
    low, high = (checked_number(name, end, least) for end in given)
    return min(max(sqrt(low * high), low), high), low, high


def _model(
    name: str | None, active: float | tuple[float, float] | None, total: float | None, kind: str | None
) -> _Model:
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"kind {kind!r} isn't known", fix=f"one of {', '.join(KINDS)}")
    whole = None if total is None else checked_number("total_parameters_b", total, 1e-3)
    if active is None:
        if name is None:
            raise ConfigError("neither a model nor its parameters are given", fix="give active_parameters_b")
        size = find_model(name)
        return _Model(
            size.name,
            size.active_low,
            size.active,
            size.active_high,
            max(whole or size.total, size.active),
            kind or size.kind,
            size.layout,
            size.precision,
            size.published,
        )
    middle, low, high = _ends("active_parameters_b", active, 1e-3)
    whole = middle if whole is None else whole
    if whole < middle:
        raise ConfigError(f"total_parameters_b ({whole:g}) is below active_parameters_b ({middle:g})")
    try:
        listed = find_model(name) if name else None
    except CatalogError:
        listed = None
    likely_kind = listed.kind if listed else "moe" if whole > middle else "dense"
    return _Model(
        listed.name if listed else name or "parameters given",
        low,
        middle,
        high,
        whole,
        kind or likely_kind,
        listed.layout if listed else None,
        listed.precision if listed else None,
        True,
    )


def _layout(size: _Model, active: float, found: Fitted) -> Layout:
    """The model's layout if it had this many active parameters; the others follow in proportion."""
    total = size.total * active / size.active
    if size.layout is None:
        return typical_layout(active, total, size.kind, found.unlisted)
    return size.layout._replace(active=active, total=total if size.layout.is_moe else active)


def deployment_of(
    found: Fitted,
    layout: Layout,
    batch: float,
    accelerator: str,
    precision: str,
    count: float | None = None,
    times: float = 1.0,
    replicas: float = 1.0,
) -> Deployment:
    """A layout on named hardware.

    Args:
        found: the coefficients.
        layout: the model.
        batch: sequences decoded together.
        accelerator: its name.
        precision: number format of the weights.
        count: number of accelerators; ``None`` for the least power of two whose memory holds the weights.
        times: factor on that least number.
        replicas: data parallel copies of the attention.

    Raises:
        CatalogError: (F101) if the accelerator isn't known.
        ConfigError: (C101) if the number format isn't.
    """
    hardware, form = hardware_of(accelerator), number_format(precision)
    generation = found.generations.get(hardware.generation, _UNKNOWN_GENERATION)
    weight_bytes = format_bytes(form)
    if count is None:
        needed = layout.total * 1e9 * weight_bytes * lookup("hosted.spare-memory").value
        count = times * 2.0 ** max(0, ceil(log2(needed / hardware.memory)))
    served = Served(
        layout=layout,
        batch=batch,
        accelerators=count,
        replicas=replicas,
        linked=float(count > 1),
        weight_bytes=weight_bytes,
        read_rate=hardware.bandwidth * generation["read"] * found.formats[form],
        compute_rate=hardware.compute_8bit if form == "fp8" else hardware.compute_16bit,
        power=hardware.power,
        power_factor=generation["power"],
        host_factor=generation["host"],
    )
    return deploy(served, found.coefficients)
