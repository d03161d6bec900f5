"""Predictions for a prompt: its task, and each model's score and length of answer.

All learned maps are linear in the terms and the surface, so a prompt costs one gather and one product. The
task is inferred first; the table of scores by task gives most of what can be known, and a residual adds what
the prompt itself says. The newer a prompt, the less the residual counts and the wider is the uncertainty.
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

__all__ = ["SURFACE_LIMIT", "SURFACE_WEIGHT", "Prediction", "Predictor"]

SURFACE_WEIGHT = 0.2
SURFACE_LIMIT = 3.0
_LIMIT = SURFACE_LIMIT * SURFACE_WEIGHT


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
        self._tables = np.hstack([file.task_score, file.task_score**2, file.task_error**2, file.task_length])
        self._span = max(file.familiar_high - file.familiar_low, 1e-9)

    def linear(self, text: str) -> tuple[Floats, Floats]:
        """The linear maps of one prompt and its similarity to each task."""
        read = excerpt(text)
        words = tokens(read)
        counts = known_terms(words, self._number)
        features = (np.array(surface(read, words)) - self.file.surface_mean) * self._scale
        features = np.minimum(np.maximum(features, -_LIMIT), _LIMIT)
        outcome: Floats = self.file.intercept + features @ self._surface
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
        return self._combine(linear, similarity)

    def predict_all(self, texts: Sequence[str]) -> Prediction:
        """Predict many prompts."""
        pairs = [self.linear(text) for text in texts]
        linear = np.array([pair[0] for pair in pairs]).reshape(len(pairs), self._width)
        similarity = np.array([pair[1] for pair in pairs]).reshape(len(pairs), len(self.file.tasks))
        return self._combine(linear, similarity)

    def _combine(self, linear: Floats, similarity: Floats) -> Prediction:
        """Turn linear maps into predictions; the last axis is tasks or models.

        The variance of an expected score is that of its task's mean, how much the possible tasks differ, and,
        as far as the prompt is new, what predictions for whole unseen tasks were wrong by in training.
        """
        file = self.file
        tasks, models = len(file.tasks), len(file.models)
        novelty = (file.familiar_high - similarity.max(axis=-1, keepdims=True)) / self._span
        novelty = np.minimum(np.maximum(novelty, 0.0), 1.0)
        usual = 1.0 - novelty
        logits = linear[..., :tasks] * (novelty * file.caution + usual * file.sharpness)
        task = np.exp(logits - logits.max(axis=-1, keepdims=True))
        task /= task.sum(axis=-1, keepdims=True)
        means = task @ self._tables
        known, squares = means[..., :models], means[..., models : 2 * models]
        believed = 1.0 - novelty * (1.0 - file.trust)
        raw = file.mean_score + believed * (known - file.mean_score)
        raw += usual * linear[..., tasks : tasks + models]
        score = np.minimum(np.maximum(file.offset + file.slope * raw, 0.0), 1.0)
        between = np.maximum(squares - known * known, 0.0) / tasks
        error = np.sqrt(means[..., 2 * models : 3 * models] + between + novelty * self._transfer)
        log_tokens = means[..., 3 * models :] + usual * linear[..., tasks + models :]
        return Prediction(task, novelty[..., 0], score, error, log_tokens)
