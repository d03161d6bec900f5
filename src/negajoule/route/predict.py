"""Predictions for a prompt: its task, and each model's score and length of answer.

All learned maps are linear in the terms and the surface, so a prompt costs one gather and one product. The task
is inferred first; the table of scores by task gives most of what can be known, and a residual adds what the
prompt itself says. The newer a prompt, the less the residual counts and the wider is the uncertainty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from negajoule.route.text import excerpt, known_terms, surface, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from negajoule.route.router_file import RouterFile

    Floats = NDArray[np.float64]

__all__ = ["SURFACE_WEIGHT", "Prediction", "Predictor", "combine"]

SURFACE_WEIGHT = 0.2
SURFACE_LIMIT = 3.0


class Prediction(NamedTuple):
    """What is expected of each model on a prompt. Arrays of models; for several prompts, prompts x models.

    Attributes:
        task: probability of each task.
        novelty: 0 for a prompt like those of training, 1 for one unlike any.
        score: expected score, 0..1.
        error: standard deviation of the expected score (not of a single outcome).
        log_tokens: expected logarithm of the answer's tokens.
    """

    task: Floats
    novelty: Floats
    score: Floats
    error: Floats
    log_tokens: Floats


class Predictor:
    """Serves what a router file learned."""

    def __init__(self, file: RouterFile) -> None:
        self.file = file
        self._number = {term: number for number, term in enumerate(file.terms)}
        self._rarity = file.rarity.astype(np.float32)
        self._unknown = file.unknown_rarity**2
        self._table = np.ascontiguousarray(np.hstack([file.weights[: len(file.terms)], file.familiar]))
        self._surface = np.ascontiguousarray(file.weights[len(file.terms) :], dtype=np.float64)
        self._scale = SURFACE_WEIGHT / file.surface_scale
        self._width = len(file.intercept)
        self._transfer = np.diag(file.transfer).copy()
        self._variance = file.task_error**2

    def linear(self, text: str) -> tuple[Floats, Floats]:
        """The linear maps of one prompt and its similarity to each task."""
        read = excerpt(text)
        words = tokens(read)
        counts = known_terms(words, self._number)
        features = (np.asarray(surface(read, words)) - self.file.surface_mean) * self._scale
        limit = SURFACE_LIMIT * SURFACE_WEIGHT
        outcome = self.file.intercept + np.clip(features, -limit, limit) @ self._surface
        if not counts:
            return outcome, np.zeros(len(self.file.tasks))
        rows = np.fromiter(counts, dtype=np.intp, count=len(counts))
        weight = (1.0 + np.log(np.fromiter(counts.values(), dtype=np.float32, count=len(counts)))) * (
            self._rarity[rows]
        )
        unknown = 2 * len(words) - 1 - sum(counts.values())
        weight /= np.sqrt(weight @ weight + unknown * self._unknown)
        mapped = weight @ self._table[rows]
        return outcome + mapped[: self._width], mapped[self._width :].astype(np.float64)

    def predict(self, text: str) -> Prediction:
        """Predict one prompt."""
        linear, similarity = self.linear(text)
        return combine(self.file, linear, similarity, self._transfer, self._variance)

    def predict_all(self, texts: Sequence[str]) -> Prediction:
        """Predict many prompts."""
        pairs = [self.linear(text) for text in texts]
        linear = np.array([pair[0] for pair in pairs]).reshape(len(pairs), self._width)
        similarity = np.array([pair[1] for pair in pairs]).reshape(len(pairs), len(self.file.tasks))
        return combine(self.file, linear, similarity, self._transfer, self._variance)


def combine(
    file: RouterFile, linear: Floats, similarity: Floats, transfer: Floats, variance: Floats
) -> Prediction:
    """Turn linear maps into predictions; the last axis is tasks or models.

    The variance of an expected score is that of its task's mean, how much the possible tasks differ, and, as
    far as the prompt is new, what predictions for whole unseen tasks were wrong by in training.
    """
    tasks, models = len(file.tasks), len(file.models)
    span = max(file.familiar_high - file.familiar_low, 1e-9)
    novelty = np.clip((file.familiar_high - similarity.max(axis=-1)) / span, 0.0, 1.0)
    fresh = novelty[..., None]
    logits = linear[..., :tasks] * (fresh * file.caution + (1.0 - fresh) * file.sharpness)
    task = np.exp(logits - logits.max(axis=-1, keepdims=True))
    task /= task.sum(axis=-1, keepdims=True)
    known = task @ file.task_score
    believed = 1.0 - fresh * (1.0 - file.trust)
    raw = (
        file.mean_score
        + believed * (known - file.mean_score)
        + (1.0 - fresh) * linear[..., tasks : tasks + models]
    )
    score = np.clip(file.offset + file.slope * raw, 0.0, 1.0)
    between = np.maximum(task @ file.task_score**2 - known**2, 0.0)
    error = np.sqrt(task @ variance + between / max(tasks, 1) + fresh * transfer)
    log_tokens = task @ file.task_length + (1.0 - fresh) * linear[..., tasks + models :]
    return Prediction(task, novelty, score, error, log_tokens)
