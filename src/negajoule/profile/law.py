"""The cost of a phase as a law of batch and lengths, fitted to the samples of one format.

C is the context of the whole batch, n the tokens of a prompt, B the batch, S the prompt tokens of a step:

    decode step          = a[B] + b C
    prefill of B prompts = p B n + q B n^2 + s ceil(B n / S)

a is free for each measured batch, because engines switch kernels with the batch: llama.cpp's step of two
takes more than twice the step of one. Coefficients are least squares of relative errors, none below zero.
What too few lengths can't tell apart isn't fitted: q needs three lengths, s two, b two contexts.
"""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, hypot, sqrt
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from negajoule.profile.cell import Cell, PhaseSample, Sample

    Floats = NDArray[np.float64]

__all__ = ["Cost", "CostLaw", "CostTable", "Reach", "cost_of", "fit_nonnegative"]

Cost = Literal["energy", "cpu", "time"]
"""Energy [J], CPU time [s], or the machine's time [s]."""

FURTHEST = 2.0
"""How many times beyond the largest measured value an answer is still given."""

_APART = 1.25
"""Contexts that differ by less tell nothing of the slope."""

_LEAST = 1e-12
"""Stands for a cost too small for the clock."""


def cost_of(phase: PhaseSample, cost: Cost) -> float | None:
    """One cost of a phase, all requests together; ``None`` if it wasn't measured."""
    if cost == "energy":
        return None if phase.energy_j is None else phase.energy_j[0]
    return phase.cpu_s if cost == "cpu" else phase.seconds


class CostLaw(NamedTuple):
    """Fitted coefficients of one format and one cost; J or s by the cost.

    Attributes:
        prefill_token: p.
        prefill_context: q.
        prefill_step: s.
        step_tokens: S.
        decode: a, by measured batch, rising.
        decode_context: b.
        prefill_error: relative standard deviation of what the law leaves of prefill [1].
        decode_error: likewise of decode [1].
    """

    prefill_token: float
    prefill_context: float
    prefill_step: float
    step_tokens: int
    decode: tuple[tuple[int, float], ...]
    decode_context: float
    prefill_error: float
    decode_error: float

    def step(self, batch: float) -> float:
        """The part without context at any batch: on a line between measured ones, and on beyond the last."""
        if len(self.decode) == 1:
            return self.decode[0][1]
        place = bisect_left([known for known, _ in self.decode], batch)
        index = min(max(place, 1), len(self.decode) - 1)
        (left, at_left), (right, at_right) = self.decode[index - 1], self.decode[index]
        return max(at_left + (at_right - at_left) * (batch - left) / (right - left), 0.0)

    def prefill(self, batch: float, prompt_tokens: float) -> float:
        """A prompt's share of computing ``batch`` like prompts together."""
        steps = ceil(batch * prompt_tokens / self.step_tokens) / batch
        return (
            self.prefill_token * prompt_tokens
            + self.prefill_context * prompt_tokens**2
            + self.prefill_step * steps
        )

    def decode_token(self, batch: float, prompt_tokens: float, output_tokens: float) -> float:
        """A token's share of decode steps, mean over an answer."""
        context = prompt_tokens + output_tokens / 2
        return self.step(batch) / batch + self.decode_context * context

    def request(self, batch: float, prompt_tokens: float, output_tokens: float) -> float:
        """Prefill and decode of one of ``batch`` like requests."""
        decode = output_tokens * self.decode_token(batch, prompt_tokens, output_tokens)
        return self.prefill(batch, prompt_tokens) + decode

    def error(self, batch: float, prompt_tokens: float, output_tokens: float) -> float:
        """Relative standard deviation of ``request`` from what the law leaves [1]."""
        decode = output_tokens * self.decode_token(batch, prompt_tokens, output_tokens)
        prefill = self.prefill(batch, prompt_tokens)
        whole = max(prefill + decode, 1e-300)
        return hypot(prefill * self.prefill_error, decode * self.decode_error) / whole


class Reach(NamedTuple):
    """What was measured: nothing is answered beyond twice of it.

    Attributes:
        batch: the largest batch.
        prompt_tokens: the longest prompt [tokens].
        context_tokens: the longest prompt and answer together [tokens].
    """

    batch: int
    prompt_tokens: int
    context_tokens: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Reach:
        """What some samples cover."""
        cells = [sample.cell for sample in samples]
        return cls(
            max(cell.batch for cell in cells),
            max(cell.prompt_tokens for cell in cells),
            max(cell.prompt_tokens + cell.output_tokens for cell in cells),
        )

    def beyond(self, batch: float, prompt_tokens: float, output_tokens: float) -> str:
        """How a question lies outside, in words; empty if it doesn't.

        Raises:
            ConfigError: (C101) for impossible numbers, (C113) if it lies too far outside.
        """
        if not (batch >= 1 and prompt_tokens >= 1 and output_tokens >= 1):
            raise ConfigError(
                f"a batch of {batch:g} with {prompt_tokens:g} tokens in and {output_tokens:g} out can't be",
                fix="a batch of at least 1, and at least one token each",
            )
        asked = (
            ("batch", batch, self.batch),
            ("prompt", prompt_tokens, self.prompt_tokens),
            ("context", prompt_tokens + output_tokens, self.context_tokens),
        )
        for name, value, limit in asked:
            if value > FURTHEST * limit:
                raise ConfigError(
                    f"a {name} of {value:g} is too far from the profile, whose largest is {limit}",
                    code="C113",
                    fix=f"at most {FURTHEST * limit:g}, or profile with a larger --{_OPTION[name]}",
                )
        outside = [f"{name} {value:g} (measured to {limit})" for name, value, limit in asked if value > limit]
        return "beyond what was measured: " + ", ".join(outside) if outside else ""


_OPTION = {"batch": "batch", "prompt": "prompt", "context": "output"}


class CostRow(NamedTuple):
    """A cell's phase in every round.

    Attributes:
        batch: requests at once.
        by_round: cost of a token and context of a sequence, mean over the phase [tokens], by round.
    """

    batch: int
    by_round: dict[int, tuple[float, float]]

    def middle(self, rounds: Sequence[int]) -> tuple[float, float, int] | None:
        """Medians over some rounds, and the batch; ``None`` if it has none of them."""
        taken = [self.by_round[number] for number in rounds if number in self.by_round]
        if not taken:
            return None
        return max(median(cost for cost, _ in taken), _LEAST), median(size for _, size in taken), self.batch


class CostTable(NamedTuple):
    """The samples of a format, ready to be fitted again and again.

    Attributes:
        prefill: a row for each cell.
        decode: likewise.
        rounds: all rounds.
        step_tokens: prompt tokens that the engine computes in a step.
    """

    prefill: list[CostRow]
    decode: list[CostRow]
    rounds: list[int]
    step_tokens: int

    @classmethod
    def of(cls, samples: Sequence[Sample], cost: Cost, step_tokens: int) -> CostTable | None:
        """Sort samples of one format by cells; ``None`` if the cost wasn't measured.

        Args:
            samples: of one format.
            cost: which cost.
            step_tokens: prompt tokens that the engine computes in a step.
        """
        cells: dict[Cell, tuple[CostRow, CostRow]] = {}
        for sample in samples:
            batch = sample.cell.batch
            rows = cells.setdefault(sample.cell, (CostRow(batch, {}), CostRow(batch, {})))
            for row, phase in zip(rows, (sample.prefill, sample.decode), strict=True):
                value = cost_of(phase, cost)
                if value is None:
                    return None
                row.by_round[sample.repeat] = (value / phase.tokens, phase.context_tokens / batch)
        rounds = sorted({sample.repeat for sample in samples})
        return cls(
            [one for one, _ in cells.values()], [one for _, one in cells.values()], rounds, step_tokens
        )

    def fit(self, rounds: Sequence[int] | None = None) -> CostLaw:
        """Fit the law to medians over rounds.

        Args:
            rounds: rounds to take, some of them twice in a resample; by default each once.
        """
        chosen = self.rounds if rounds is None else rounds
        prefill, decode = (
            [middle for row in rows if (middle := row.middle(chosen)) is not None]
            for rows in (self.prefill, self.decode)
        )
        token, context, step, prefill_error = _fit_prefill(prefill, self.step_tokens)
        steps, decode_context, decode_error = _fit_decode(decode)
        return CostLaw(
            token, context, step, self.step_tokens, steps, decode_context, prefill_error, decode_error
        )


def fit_nonnegative(matrix: Floats, values: Floats) -> Floats:
    """Least squares without negative coefficients: the most negative one is dropped until none is.

    Args:
        matrix: one row for each value, one column for each coefficient.
        values: what to fit.
    """
    kept = list(range(matrix.shape[1]))
    result = np.zeros(matrix.shape[1])
    while kept:
        found = np.linalg.lstsq(matrix[:, kept], values, rcond=None)[0]
        if found.min() >= 0:
            result[kept] = found
            break
        kept.pop(int(found.argmin()))
    return result


def _fit_prefill(
    rows: Sequence[tuple[float, float, int]], step_tokens: int
) -> tuple[float, float, float, float]:
    """Fit p, q, s and the relative error to (cost of a token, half the length of a prompt, batch)."""
    lengths = len({round(half) for _, half, _ in rows})
    matrix = np.array(
        [
            [1.0 / value, ceil(2 * half * batch / step_tokens) / (2 * half * batch) / value, 2 * half / value]
            for value, half, batch in rows
        ]
    )
    found, error = _solved(matrix[:, : min(lengths, 3)])
    token, step, context = (*found, 0.0, 0.0)[:3]
    return token, context, step, error


def _fit_decode(
    rows: Sequence[tuple[float, float, int]],
) -> tuple[tuple[tuple[int, float], ...], float, float]:
    """Fit a by batch, b and the relative error to (cost of a token, context of a sequence, batch)."""
    batches = sorted({batch for _, _, batch in rows})
    contexts = [[context for _, context, batch in rows if batch == one] for one in batches]
    sloped = any(max(own) > _APART * min(own) for own in contexts)
    matrix = np.array(
        [
            [*(float(batch == one) / batch / value for one in batches), context / value]
            for value, context, batch in rows
        ]
    )
    found, error = _solved(matrix if sloped else matrix[:, :-1])
    steps = tuple(zip(batches, found[: len(batches)], strict=True))
    return steps, found[len(batches)] if sloped else 0.0, error


def _solved(matrix: Floats) -> tuple[list[float], float]:
    """Coefficients for relative values of 1, and the standard deviation of what is left."""
    found = fit_nonnegative(matrix, np.ones(len(matrix)))
    left = matrix @ found - 1.0
    free = len(matrix) - int((found > 0).sum())
    error = sqrt(float(left @ left) / free) if free > 0 else 0.0
    return [float(value) for value in found], error
