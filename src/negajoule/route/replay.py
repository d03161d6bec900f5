"""Replaying outcomes as traffic: a router at a price or under budgets, with feedback on a share of requests.

Requests come one by one. Each is decided with what was known before it; only the model that answered is seen,
its energy always, its score if the request is among those judged. A request whose answer would use more than
was reserved for it is cut there and scores 0; one that fits no budget is refused and scores 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from negajoule.route.control import Budget, OnlineController
from negajoule.route.energy import EnergyCorrection, expected_energy_j
from negajoule.route.learn import FeedbackTracker
from negajoule.route.mix import caution_after, choose_one, doubt_of
from negajoule.route.predict import Prediction, Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from negajoule.route.outcomes import Outcomes
    from negajoule.route.router_file import RouterFile

    Floats = NDArray[np.float64]

__all__ = ["Replay", "Traffic", "replay_budget", "replay_price", "traffic_of"]

JOULES = "energy"
LEAST_CAUTION = 1e-3


class Traffic(NamedTuple):
    """Outcomes with what a router expected of them.

    Attributes:
        file: the router.
        prediction: of every query.
        expected_j: expected energy without correction, queries x models [J].
        score: what happened, queries x models.
        energy_j: what it used [J].
        bound_j: what the answer is cut at [J].
    """

    file: RouterFile
    prediction: Prediction
    expected_j: Floats
    score: Floats
    energy_j: Floats
    bound_j: Floats


class Replay(NamedTuple):
    """What a replay came to.

    Attributes:
        accuracy: mean score of all requests.
        energy_j: mean energy of all requests [J].
        choice: model of each query; -1 refused.
        expected_j: what was expected of the choice with corrections, in order of arrival [J].
        used_j: what it used, in order of arrival [J].
        spent_share: spent over the budget; 0 without one.
        refused: requests that fitted no budget.
    """

    accuracy: float
    energy_j: float
    choice: NDArray[np.intp]
    expected_j: Floats
    used_j: Floats
    spent_share: float
    refused: int


def traffic_of(file: RouterFile, outcomes: Outcomes, most_tokens: Floats | None = None) -> Traffic:
    """Predict complete outcomes of the router's models once, to replay them often.

    Args:
        file: the router.
        outcomes: complete, with the router's models in its order.
        most_tokens: cap on answers by model; None sets bounds above all that happened.
    """
    prediction = Predictor(file).predict_all(outcomes.prompts)
    in_tokens = np.nan_to_num(outcomes.in_tokens, nan=0.0)
    expected = expected_energy_j(
        in_tokens, prediction.log_tokens, file.length_spread, file.input_j, file.output_j
    )
    if most_tokens is None:
        bound = np.broadcast_to(outcomes.energy_j.max(axis=0), expected.shape)
    else:
        bound = in_tokens * file.input_j + most_tokens * file.output_j
    return Traffic(file, prediction, expected, outcomes.score, outcomes.energy_j, np.asarray(bound))


class _Learner:
    """What a router knows that changes with traffic."""

    def __init__(self, traffic: Traffic, *, guard: bool) -> None:
        file = traffic.file
        self.traffic, self.guard = traffic, guard
        self.feedback = FeedbackTracker(file.transfer, file.noise, len(file.tasks))
        self.energy = EnergyCorrection()
        self.doubt = doubt_of(
            traffic.prediction.novelty, float(traffic.prediction.novelty.mean()), file.usual_novelty
        )
        self.factors = np.ones(len(file.models))
        self._common = np.zeros(len(file.models))
        self._seen: set[int] = set()

    def expect(self, query: int) -> tuple[Floats, Floats]:
        """Scores and energies [J] of a query's candidates."""
        score = self.traffic.prediction.score[query]
        if self.feedback.judged:
            score = score + self.feedback.offset(self.traffic.prediction.task[query])
        return score, self.traffic.expected_j[query] * self.factors

    def choose(self, query: int, score: Floats, worth: Floats, price: float, fits: NDArray[np.bool_]) -> int:
        """The learned choice, or the mix's while it isn't surely better."""
        worth = np.where(fits, worth, -np.inf)
        caution = caution_after(self.feedback.judged) if self.guard else 0.0
        if caution < LEAST_CAUTION:
            return int(np.argmax(worth))
        file = self.traffic.file
        means = file.mean_score + self._common - price * file.mean_energy_j * self.factors
        blind = int(np.argmax(np.where(fits, means, -np.inf)))
        error = self.traffic.prediction.error[query].tolist()
        return choose_one(worth.tolist(), error, float(self.doubt[query]), blind, caution)

    def learn(self, query: int, model: int, used_j: float, score: float | None) -> None:
        """Take in an answer's energy [J] and, if it was judged, its score."""
        file, prediction = self.traffic.file, self.traffic.prediction
        self.energy.observe(file.models[model], float(self.traffic.expected_j[query, model]), used_j)
        self._seen.add(model)
        if len(self._seen) < len(file.models):  # the others' factors are means of those seen
            self.factors = np.array([self.energy.factor(name) for name in file.models])
        else:
            self.factors[model] = self.energy.factor(file.models[model])
        if score is not None:
            self.feedback.observe(prediction.task[query], model, float(prediction.score[query, model]), score)
            self._common = self.feedback.offset(file.task_share)


def replay_price(
    traffic: Traffic,
    price: float,
    order: NDArray[np.intp],
    *,
    judged: NDArray[np.bool_] | None = None,
    guard: bool = True,
) -> Replay:
    """Replay at a fixed price per joule.

    Args:
        traffic: what comes.
        price: score per J.
        order: of arrival.
        judged: whether a query's answer is judged; None judges nothing.
        guard: whether the mix guards what isn't surely better.
    """
    return _replay(traffic, order, judged, guard, price, None)


def replay_budget(
    traffic: Traffic,
    budget_j: float,
    order: NDArray[np.intp],
    *,
    warm: Traffic | None = None,
    judged: NDArray[np.bool_] | None = None,
    guard: bool = True,
) -> Replay:
    """Replay under a budget that must hold.

    Args:
        traffic: what comes.
        budget_j: for all of it [J].
        order: of arrival.
        warm: earlier traffic that the first price is solved on.
        judged: as in ``replay_price``.
        guard: likewise.
    """
    controller = OnlineController([Budget(JOULES, budget_j, len(order))])
    if warm is not None:
        controller.warm_start(warm.prediction.score, {JOULES: warm.expected_j})
    return _replay(traffic, order, judged, guard, 0.0, controller)


def _replay(
    traffic: Traffic,
    order: NDArray[np.intp],
    judged: NDArray[np.bool_] | None,
    guard: bool,
    price: float,
    controller: OnlineController | None,
) -> Replay:
    learner = _Learner(traffic, guard=guard)
    choice = np.full(len(traffic.score), -1, dtype=np.intp)
    everything = np.ones(len(traffic.file.models), dtype=bool)
    total_score = 0.0
    expected_j, used_j = np.zeros(len(order)), np.zeros(len(order))
    refused = 0
    for step, query in enumerate(order.tolist()):
        score, energy = learner.expect(query)
        fits, bounds = everything, traffic.bound_j[query]
        if controller is not None:
            price = controller.budgets[JOULES].price
            fits = controller.allow({JOULES: bounds}, {JOULES: energy})
        if not fits.any():
            refused += 1
            if controller is not None:
                controller.budgets[JOULES].seen += 1
            continue
        model = learner.choose(query, score, score - price * energy, price, fits)
        used, reached = float(traffic.energy_j[query, model]), float(traffic.score[query, model])
        if controller is not None:
            if not controller.reserve({JOULES: float(bounds[model])}):
                raise AssertionError("a model was allowed whose bound doesn't fit")
            if used > bounds[model]:
                used, reached = float(bounds[model]), 0.0
            controller.settle({JOULES: float(bounds[model])}, {JOULES: used}, score, {JOULES: energy})
        choice[query] = model
        total_score += reached
        expected_j[step], used_j[step] = energy[model], used
        learner.learn(query, model, used, reached if judged is not None and judged[query] else None)
    share = 0.0
    if controller is not None:
        budget = controller.budgets[JOULES]
        share = budget.spent / budget.limit if budget.limit else float(budget.spent > 0)
    count = max(len(order), 1)
    return Replay(
        total_score / count, float(used_j.sum()) / count, choice, expected_j, used_j, share, refused
    )
