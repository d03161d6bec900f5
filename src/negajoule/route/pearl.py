"""PEARL, the reference policy: clusters for accuracy, regressors for energy, an exact integer programme.

Chadli, Botterweck and Saber, Performance and Energy Aware Routing for LLMs, Future Generation Computer
Systems 176 (2026) 108218. The accuracy of a model on a query is its mean over the training queries of the
query's cluster (k-means on an embedding); the energy comes from one regressor per model; the assignment
maximises the sum of accuracies within an energy budget with one model per query. Written from a description
of the paper, so that the policies of this room can be compared with it side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from negajoule.extras import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Pearl", "exact_assignment"]

CLUSTERS = 32
NEIGHBOURS = 20
PURPOSE = "run the reference policy PEARL"


class Pearl:
    """The predictors of PEARL, trained on an embedding.

    Args:
        embedding: training queries x dimensions.
        score: training queries x models, 0..1.
        energy_j: training queries x models [J].
        clusters: clusters of k-means; no more than there are distinct queries.
        seed: of k-means.

    Raises:
        ExtraMissingError: without scikit-learn.
    """

    def __init__(
        self, embedding: Floats, score: Floats, energy_j: Floats, *, clusters: int = CLUSTERS, seed: int = 0
    ) -> None:
        cluster = require("sklearn.cluster", extra="route", purpose=PURPOSE)
        neighbours = require("sklearn.neighbors", extra="route", purpose=PURPOSE)
        distinct = len(np.unique(embedding, axis=0))
        self._means = cluster.KMeans(min(clusters, distinct), random_state=seed, n_init=2).fit(embedding)
        overall = score.mean(axis=0)
        self._accuracy = np.array(
            [
                score[self._means.labels_ == label].mean(axis=0)
                if (self._means.labels_ == label).any()
                else overall
                for label in range(self._means.n_clusters)
            ]
        )
        self._energy = neighbours.KNeighborsRegressor(min(NEIGHBOURS, len(embedding))).fit(
            embedding, energy_j
        )

    def accuracy(self, embedding: Floats) -> Floats:
        """Predicted accuracy, queries x models, 0..1."""
        table: Floats = self._accuracy[self._means.predict(embedding)]
        return table

    def energy_j(self, embedding: Floats) -> Floats:
        """Predicted energy, queries x models [J]."""
        return np.asarray(self._energy.predict(embedding), float)


def exact_assignment(
    value: Floats, cost: Floats, budget: float, *, limit_s: float = 600.0
) -> tuple[NDArray[np.int64], float]:
    """Solve PEARL's integer programme: one model per query, costs within the budget.

    Args:
        value: queries x models, finite.
        cost: queries x models, finite.
        budget: in the unit of ``cost``.
        limit_s: when the solver gives up [s].

    Returns:
        Choice per query and the sum of its values.

    Raises:
        ExtraMissingError: without SciPy.
        ValueError: if no assignment fits the budget, or none was found in time.
    """
    optimise = require("scipy.optimize", extra="route", purpose=PURPOSE)
    sparse = require("scipy.sparse", extra="route", purpose=PURPOSE)
    queries, models = value.shape
    one_each = sparse.kron(sparse.eye(queries), np.ones((1, models)), format="csr")
    answer = optimise.milp(
        -value.ravel(),
        constraints=[
            optimise.LinearConstraint(one_each, 1, 1),
            optimise.LinearConstraint(cost.reshape(1, -1), -np.inf, budget),
        ],
        integrality=np.ones(queries * models),
        bounds=optimise.Bounds(0, 1),
        options={"time_limit": limit_s, "mip_rel_gap": 0.0},
    )
    if answer.x is None:
        raise ValueError(f"no assignment was found: {answer.message}")
    choice = np.argmax(answer.x.reshape(queries, models), axis=1)
    return choice, float(value[np.arange(queries), choice].sum())
