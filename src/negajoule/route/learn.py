"""Learning from feedback: what traffic shows the predictions to be wrong by.

A Kalman filter over one offset per model and one per model and task. Its prior is what training saw
predictions miss on whole tasks left out, with the covariance between models: a poor answer of one model says
something of its siblings. Offsets drift back to the prior with age, so a change is learned and an old truth
forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["FeedbackTracker", "doubly_robust"]

COMMON_SHARE = 0.7
MEMORY = 2000.0


class FeedbackTracker:
    """Offsets of scores, learned from the answers that were judged.

    Args:
        prior: covariance of what predictions for unseen tasks are wrong by (models x models).
        noise: variance of a single outcome around its prediction, by model.
        tasks: how many tasks the predictor tells apart.
        memory: after how many judged answers an offset has faded to 1/e.
    """

    def __init__(self, prior: Floats, noise: Floats, tasks: int, *, memory: float = MEMORY) -> None:
        self.models, self.tasks = len(prior), tasks
        self._noise = noise
        blocks = [COMMON_SHARE, *[1.0 - COMMON_SHARE] * tasks]
        self._prior = np.kron(np.diag(blocks), prior)
        self._covariance = self._prior.copy()
        self._mean = np.zeros(self.models * (tasks + 1))
        self._keep = float(np.exp(-1.0 / memory))
        self.judged = 0

    def offset(self, task: Floats) -> Floats:
        """Expected offset of each model's score; ``task``: probabilities, last axis tasks."""
        state = self._mean.reshape(self.tasks + 1, self.models)
        return np.asarray(state[0] + task @ state[1:])

    def spread(self, task: Floats) -> Floats:
        """Covariance of the offsets of one prompt (models x models)."""
        weight = np.concatenate([[1.0], task])
        blocks = self._covariance.reshape(self.tasks + 1, self.models, self.tasks + 1, self.models)
        return np.asarray(np.einsum("a,aibj,b->ij", weight, blocks, weight))

    def observe(self, task: Floats, model: int, expected: float, score: float) -> None:
        """Learn from one judged answer.

        Args:
            task: probabilities of the prompt's tasks.
            model: which model answered.
            expected: its predicted score without offsets, 0..1.
            score: the judgement, 0..1; NaN is ignored, other values are clipped.
        """
        if not np.isfinite(score):
            return
        self.judged += 1
        self._mean *= self._keep
        self._covariance = self._keep**2 * self._covariance + (1 - self._keep**2) * self._prior
        weight = np.zeros((self.tasks + 1, self.models))
        weight[0, model], weight[1:, model] = 1.0, task
        direction = weight.ravel()
        shared = self._covariance @ direction
        gain = shared / (direction @ shared + self._noise[model])
        self._mean += gain * (min(max(score, 0.0), 1.0) - expected - direction @ self._mean)
        self._covariance -= np.outer(gain, shared)


def doubly_robust(
    predicted: Floats,
    policy: Floats,
    logged: NDArray[np.intp],
    propensity: Floats,
    score: Floats,
    *,
    limit: float = 20.0,
) -> tuple[float, float]:
    """Value of a policy on logged traffic where only the model that answered was judged.

    The predictions are corrected by what was seen, weighted by the inverse of its probability (Dudik,
    Langford and Li, Doubly Robust Policy Evaluation and Learning, ICML 2011); right if either predictions or
    propensities are.

    Args:
        predicted: expected scores, requests x models.
        policy: probability with which the policy would choose each model, requests x models.
        logged: model that answered.
        propensity: probability with which it had been chosen, in (0, 1].
        score: judgement; NaN where nobody judged, which must not depend on the score.
        limit: largest weight, against variance.

    Returns:
        Mean value and its standard error; NaN and NaN if nothing was judged.
    """
    judged = np.isfinite(score) & (propensity > 0)
    if not judged.any():
        return float("nan"), float("nan")
    rows = np.arange(len(logged))
    value = (policy * predicted).sum(axis=1)
    weight = np.minimum(policy[rows, logged] / np.where(propensity > 0, propensity, 1.0), limit)
    correction = weight * (np.where(judged, score, 0.0) - predicted[rows, logged])
    share = float(judged.mean())
    total = value + np.where(judged, correction / share, 0.0)
    return float(total.mean()), float(total.std() / np.sqrt(len(total)))
