"""Energy by batch: where the curve flattens, what batching alone can gain, and what memory allows.

    energy of a token = a + b / batch, nearly: each step costs its weights and its overheads once

The knee is the smallest batch whose energy per token is within a share of the least that can be reached. The
ceiling is what a batch of one costs over that least: no policy of batching gains more.
"""

from __future__ import annotations

from math import hypot, log
from typing import TYPE_CHECKING

import msgspec

from negajoule.advise.effect import Span
from negajoule.catalog import lookup
from negajoule.errors import ConfigError
from negajoule.physics.serving import load_predictor
from negajoule.units import Decision

if TYPE_CHECKING:
    from negajoule.physics.serving import Prediction, Predictor, ServingSetup
    from negajoule.profile import Profile

__all__ = ["BatchAdvice", "BatchPoint", "advise_batching", "advise_batching_from"]

_LARGEST_STEP = 2.0  # from batch to batch along the curve
_FINE = 2.0**0.25  # the same where a choice is looked for


class BatchPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of the curve.

    Attributes:
        batch: sequences that decode together.
        energy_per_token_j: of an output token, its share of the prompt included [J].
        low_j: lower end of the 90 % interval [J].
        high_j: upper end [J].
        token_s: mean time from token to token [s].
        power_w: of all accelerators; None if not known [W].
        notes: what is extrapolated.
    """

    batch: float
    energy_per_token_j: float
    low_j: float
    high_j: float
    token_s: float | None
    power_w: float | None = None
    notes: tuple[str, ...] = ()


class BatchAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """The curve and its marks.

    Attributes:
        decision: the batch to allow; the margin is of energy for each token, beside the batch of now.
        points: the curve, by batch.
        knee: smallest batch within ``within`` of the least energy.
        within: that share.
        ceiling: energy at a batch of one over the least that can be reached; from batching alone.
        left: energy at the batch of now over the least; None if no batch was given.
        asymptote_j: energy of a token as the fitted curve ends, a of a + b / batch [J].
        kv_limit: sequences that memory holds at this context; None if not known.
        limited_by: ``memory``, ``latency``, ``measured`` or ``batch limit``: why the curve ends.
        notes: what else a reader must know.
    """

    decision: Decision
    points: tuple[BatchPoint, ...]
    knee: float
    within: float
    ceiling: Span
    left: Span | None
    asymptote_j: float
    kv_limit: int | None
    limited_by: str
    notes: tuple[str, ...] = ()


def advise_batching(
    setup: ServingSetup,
    prompt: float,
    output: float,
    *,
    batch: float | None = None,
    token_limit_s: float | None = None,
    within: float | None = None,
    predictor: Predictor | None = None,
) -> BatchAdvice:
    """Advise a batch for a model on accelerators.

    Args:
        setup: the model on its accelerators.
        prompt: length of a prompt [tokens].
        output: length of an answer [tokens].
        batch: the mean batch of now, if it is known.
        token_limit_s: longest mean time from token to token; default no limit [s].
        within: share of the least energy that counts as flat; default the catalogue's.
        predictor: default the shipped one.

    Raises:
        ConfigError: (C101) for numbers that can't be, (C112) if not one sequence fits, (C113) if the batch of
            now or the lengths are outside what was measured.
    """
    predictor = predictor or load_predictor()
    share = _share(within)
    setup.require_fit(max(1.0, batch or 1.0), prompt + output)
    memory = setup.max_sequences(prompt + output)
    measured = predictor.model.ranges["batch"][1]
    most = min(float(memory), measured)
    limited = "memory" if memory <= measured else "measured"
    if setup.batch_limit is not None and memory == setup.batch_limit:
        limited = "batch limit"

    def at(size: float) -> BatchPoint:
        return _point(predictor.predict(setup, batch=size, tokens_in=prompt, tokens_out=output))

    if token_limit_s is not None:
        slowest = at(1.0)
        if slowest.token_s is not None and slowest.token_s > token_limit_s:
            raise ConfigError(
                f"{token_limit_s * 1e3:.3g} ms a token can't be kept: a batch of one takes "
                f"{slowest.token_s * 1e3:.3g} ms",
                fix="more accelerators, or a longer limit",
            )
        allowed = max(size for size in _sizes(most, _FINE) if (at(size).token_s or 0.0) <= token_limit_s)
        if allowed < most:
            most, limited = allowed, "latency"
    points = tuple(at(size) for size in _sizes(most, _LARGEST_STEP))
    fine = tuple(at(size) for size in _sizes(most, _FINE))
    return _advice(points, fine, share, None if batch is None else at(batch), memory, limited)


def advise_batching_from(
    profile: Profile, prompt: float, output: float, *, format_: str | None = None, within: float | None = None
) -> BatchAdvice:
    """Advise a batch by what was measured on this machine, at the measured batches alone.

    Raises:
        ConfigError: (C101) for an unknown format, (C107) without energies, (C113) outside what was measured.
    """
    name = format_ or profile.formats[0]
    sizes = sorted({float(sample.cell.batch) for sample in profile.of_format(name)})
    points = []
    for size in sizes:
        energy = profile.energy(name, size, prompt, output)
        points.append(
            BatchPoint(
                batch=size,
                energy_per_token_j=energy.value / output,
                low_j=energy.low / output,
                high_j=energy.high / output,
                token_s=None,
            )
        )
    if not points:
        raise ConfigError(
            f"the format {name!r} isn't in the profile", fix=f"one of {', '.join(profile.formats)}"
        )
    return _advice(tuple(points), tuple(points), _share(within), None, None, "measured")


def _share(within: float | None) -> float:
    share = lookup("advise.batching.within").value if within is None else within
    if not 0.0 < share < 10.0:
        raise ConfigError(f"a knee within {share:g} of the least can't be", fix="a share such as 0.25")
    return share


def _sizes(most: float, step: float) -> tuple[float, ...]:
    """Batches from 1 to the most, evenly on a logarithmic scale, whole numbers."""
    sizes, size = [], 1.0
    while size < most:
        sizes.append(float(round(size)))
        size *= step
    return tuple(dict.fromkeys((*sizes, float(int(most)))))


def _point(one: Prediction) -> BatchPoint:
    energy = one.energy(one.energy_per_token_j)
    return BatchPoint(
        batch=one.batch,
        energy_per_token_j=energy.value,
        low_j=energy.low,
        high_j=energy.high,
        token_s=one.token_s,
        power_w=one.power_w,
        notes=one.notes,
    )


def _advice(
    points: tuple[BatchPoint, ...],
    fine: tuple[BatchPoint, ...],
    share: float,
    now: BatchPoint | None,
    memory: int | None,
    limited: str,
) -> BatchAdvice:
    least = min(fine, key=lambda point: point.energy_per_token_j)
    target = (1.0 + share) * least.energy_per_token_j
    knee = next(point for point in fine if point.energy_per_token_j <= target)
    ceiling, left = _ratio(fine[0], least), None if now is None else _ratio(now, least)
    notes = [note for point in (fine[0], least) for note in point.notes]
    if now is None:
        other, chosen = fine[0], knee
        reason = f"a batch of {knee.batch:g} is within {share:.0%} of the least energy per token"
    elif now.batch >= knee.batch or _ratio(now, knee).low <= 1.0:
        other, chosen = knee, now
        reason = (
            f"a batch of {now.batch:g} is on the flat part already, or no gain beyond it is certain: "
            f"{_ratio(now, least).value:.2f} times is left"
        )
    else:
        other, chosen = now, knee
        gain = _ratio(now, knee)
        reason = (
            f"a batch of {knee.batch:g} takes {gain.value:.2f} times less energy per token "
            f"than {now.batch:g} ({gain.low:.2f} to {gain.high:.2f})"
        )
    margin = _ratio(other, chosen)
    decision = Decision(
        chosen=f"batch {chosen.batch:g}",
        runner_up=f"batch {other.batch:g}" if other.batch != chosen.batch else None,
        margin=1.0 - 1.0 / margin.value if other.batch != chosen.batch else None,
        margin_low=1.0 - 1.0 / margin.low if other.batch != chosen.batch else None,
        margin_high=1.0 - 1.0 / margin.high if other.batch != chosen.batch else None,
        reason=reason,
    )
    return BatchAdvice(
        decision=decision,
        points=points,
        knee=knee.batch,
        within=share,
        ceiling=ceiling,
        left=left,
        asymptote_j=_asymptote(fine),
        kv_limit=memory,
        limited_by=limited,
        notes=tuple(dict.fromkeys(notes)),
    )


def _ratio(one: BatchPoint, other: BatchPoint) -> Span:
    """Energy at one batch over another; their errors count as independent, which is the wide side."""
    halves = hypot(*(0.5 * log(point.high_j / point.low_j) for point in (one, other)))
    if one.batch == other.batch:
        return Span(1.0, 1.0, 1.0)
    return Span.around(one.energy_per_token_j / other.energy_per_token_j, halves)


def _asymptote(points: tuple[BatchPoint, ...]) -> float:
    """``a`` of a + b / batch by least squares of relative errors; never below 0 [J]."""
    weights = [1.0 / point.energy_per_token_j for point in points]
    xs = [weight / point.batch for weight, point in zip(weights, points, strict=True)]
    ww = sum(weight * weight for weight in weights)
    wx = sum(weight * x for weight, x in zip(weights, xs, strict=True))
    xx = sum(x * x for x in xs)
    determinant = ww * xx - wx * wx
    if determinant <= 1e-12 * ww * xx:
        return min(point.energy_per_token_j for point in points)
    return max(0.0, (sum(weights) * xx - sum(xs) * wx) / determinant)
