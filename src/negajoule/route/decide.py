"""The router: one prompt, some candidates and prices in; one model and the reason out.

It always answers. What it doesn't know it says and takes the mix of single models, which needs no prompt: an
empty prompt, a script it never saw, a pool it wasn't trained on. It holds state that traffic changes
(feedback, corrections of energy, how new recent prompts are), none of it needed for an answer.
"""

from __future__ import annotations

import random
from collections import deque
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from negajoule.route.energy import NORMAL_90, EnergyCorrection
from negajoule.route.learn import FeedbackTracker
from negajoule.route.mix import LONE_DOUBT, caution_after, choose_one, traffic_doubt
from negajoule.route.pool import Candidate, CandidateView, Prices, RouteDecision
from negajoule.route.predict import Prediction, Predictor
from negajoule.route.router_file import load_router_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from negajoule.route.router_file import RouterFile

    Floats = NDArray[np.float64]

__all__ = ["Router"]

RECENT = 200
PESSIMISM = 1.5
IMAGINED = 10.0
NEW_PENALTY = 1.0


class Router:
    """Decides which model answers.

    Args:
        file: what training learned.
        explore: share of expected joules that may be spent on answers by chance, so that models that are
        never
            chosen can be learned of; 0 never explores.
        seed: of exploration.
    """

    def __init__(self, file: RouterFile, *, explore: float = 0.0, seed: int = 0) -> None:
        self.file = file
        self.predictor = Predictor(file)
        self.feedback = FeedbackTracker(file.transfer, file.noise, len(file.tasks))
        self.energy = EnergyCorrection()
        self._column = {model: column for column, model in enumerate(file.models)}
        self._phases = list(zip(file.input_j.tolist(), file.output_j.tolist(), strict=True))
        self._means = list(zip(file.mean_score.tolist(), file.mean_energy_j.tolist(), strict=True))
        self._mean_spread, self._high_spread = file.length_spread**2 / 2, NORMAL_90 * file.length_spread
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._novelty = file.usual_novelty
        self._explore, self._random, self._allowance_j = explore, random.Random(seed), 0.0
        self._newcomers: dict[str, tuple[float, float]] = {}

    @classmethod
    def load(cls, path: Path, *, explore: float = 0.0, seed: int = 0) -> Router:
        """Read a router file.

        Raises:
            ConfigError: C106 if it can't be read.
        """
        return cls(load_router_file(path), explore=explore, seed=seed)

    def decide(
        self,
        text: str,
        tokens_in: int,
        candidates: Sequence[Candidate],
        prices: Prices | None = None,
        prediction: Prediction | None = None,
    ) -> RouteDecision:
        """Choose a model.

        Args:
            text: all text of the prompt; images and other parts count in ``tokens_in`` only.
            tokens_in: length of the prompt.
            candidates: who could answer; already filtered by capability, context window and reserve.
            prices: what energy, carbon and money cost in score now; None is nothing.
            prediction: that of the text, if it is there already.

        Raises:
            ValueError: without any candidate.
        """
        if not candidates:
            raise ValueError("no candidate to choose from")
        prices = prices or Prices()
        prediction = self.predictor.predict(text) if prediction is None else prediction
        self._note(float(prediction.novelty))
        views = self._views(prediction, tokens_in, candidates, prices)
        novelty = float(prediction.novelty)
        doubt = max(traffic_doubt(self._novelty, self.file.usual_novelty), LONE_DOUBT * novelty)
        blind = self._blind(candidates, prices)
        worth, error = [view.worth for view in views], [view.error for view in views]
        chosen = choose_one(worth, error, doubt, blind, caution_after(self.feedback.judged))
        chosen, propensity, explored = self._maybe_explore(chosen, views)
        task = int(np.argmax(prediction.task))
        return RouteDecision(
            chosen=views[chosen].model,
            blind=views[blind].model,
            learned=chosen != blind and not explored,
            propensity=propensity,
            explored=explored,
            task=self.file.tasks[task],
            task_probability=float(prediction.task[task]),
            novelty=novelty,
            doubt=doubt,
            candidates=tuple(sorted(views, key=lambda view: -view.worth)),
            prices=prices,
            reason=self._reason(views, chosen, blind, doubt, explored),
        )

    def observe_energy(self, decision: RouteDecision, used_j: float, route: str = "") -> None:
        """Learn what an answer really used [J]; ``route`` as in its candidate."""
        view = decision.view(decision.chosen)
        if view.energy_j is not None:
            factor = self.energy.factor(view.model, route)
            self.energy.observe(view.model, view.energy_j / max(factor, 1e-9), used_j, route)

    def observe_score(self, text: str, model: str, score: float) -> None:
        """Learn how good an answer was, 0..1; values that aren't finite are ignored."""
        self.observe_predicted(self.predictor.predict(text), model, score)

    def observe_predicted(self, prediction: Prediction, model: str, score: float) -> None:
        """The same for who kept the prediction and not the text."""
        if not np.isfinite(score):
            return
        column = self._column.get(model)
        if column is None:
            count, total = self._newcomers.get(model, (0.0, 0.0))
            expected = float(prediction.score.mean())
            self._newcomers[model] = (count + 1, total + min(max(score, 0.0), 1.0) - expected)
            return
        self.feedback.observe(prediction.task, column, float(prediction.score[column]), score)

    def _note(self, novelty: float) -> None:
        if len(self._recent) == RECENT:
            self._novelty += (novelty - self._recent[0]) / RECENT
        else:
            count = len(self._recent) + 1
            self._novelty += (novelty - self._novelty) / count
        self._recent.append(novelty)

    def _views(
        self, prediction: Prediction, tokens_in: int, candidates: Sequence[Candidate], prices: Prices
    ) -> list[CandidateView]:
        """Expectations of every candidate."""
        scores = prediction.score
        if self.feedback.judged:
            scores = np.minimum(np.maximum(scores + self.feedback.offset(prediction.task), 0.0), 1.0)
        known, errors = scores.tolist(), prediction.error.tolist()
        tokens = np.exp(prediction.log_tokens + self._mean_spread).tolist()
        high = np.exp(prediction.log_tokens + self._high_spread).tolist()
        views = []
        for candidate in candidates:
            column = self._column.get(candidate.model)
            if column is None:
                score, error = self._newcomer(candidate.model, scores)
                length, long_length = max(tokens), max(high)
                own_in, own_out = None, None
            else:
                score, error = known[column], errors[column]
                length, long_length = tokens[column], high[column]
                own_in, own_out = self._phases[column]
            if candidate.most_tokens is not None:
                length = min(length, candidate.most_tokens)
                long_length = min(long_length, candidate.most_tokens)
            input_j = candidate.input_j if candidate.input_j is not None else own_in
            output_j = candidate.output_j if candidate.output_j is not None else own_out
            energy_j = high_j = carbon_g = None
            cost = tokens_in * candidate.input_cost + length * candidate.output_cost
            worth = score - prices.per_currency * cost
            if input_j is not None and output_j is not None:
                factor = self.energy.factor(candidate.model, candidate.route)
                factor *= PESSIMISM if column is None else 1.0
                energy_j = factor * (tokens_in * input_j + length * output_j) + candidate.extra_j
                high_j = factor * (tokens_in * input_j + long_length * output_j) + candidate.extra_j
                intensity = candidate.intensity_g_per_j
                carbon_g = energy_j * (prices.intensity_g_per_j if intensity is None else intensity)
                worth -= prices.per_joule * energy_j + prices.per_gram * carbon_g
            views.append(
                CandidateView(
                    model=candidate.model,
                    score=score,
                    error=error,
                    tokens=length,
                    energy_j=energy_j,
                    energy_high_j=high_j,
                    carbon_g=carbon_g,
                    cost=cost,
                    worth=worth,
                    known=column is not None,
                )
            )
        self._price_unknown(views, prices)
        return views

    def _price_unknown(self, views: list[CandidateView], prices: Prices) -> None:
        """A candidate whose energy nobody knows counts as the dearest, when energy has a price."""
        if not prices.per_joule and not prices.per_gram:
            return
        dearest = max((view.energy_j for view in views if view.energy_j is not None), default=0.0)
        rate = prices.per_joule + prices.per_gram * prices.intensity_g_per_j
        for index, view in enumerate(views):
            if view.energy_j is None:
                views[index] = structs.replace(view, worth=view.worth - rate * PESSIMISM * dearest)

    def _newcomer(self, model: str, known: Floats) -> tuple[float, float]:
        """A model that came later: the pool's mean less its uncertainty, until feedback says more."""
        spread = float(np.sqrt(np.diag(self.file.transfer).mean() + known.var()))
        count, total = self._newcomers.get(model, (0.0, 0.0))
        doubt = IMAGINED / (IMAGINED + count)
        score = float(known.mean()) + total / (IMAGINED + count) - NEW_PENALTY * doubt * spread
        return min(max(score, 0.0), 1.0), spread * float(np.sqrt(doubt))

    def _blind(self, candidates: Sequence[Candidate], prices: Prices) -> int:
        """What the mix takes by means of training, moved by feedback; the first if none has means."""
        rate = prices.per_joule + prices.per_gram * prices.intensity_g_per_j
        offset = self.feedback.offset(self.file.task_share).tolist() if self.feedback.judged else None
        best, taken = (-inf, -inf), 0
        for index, candidate in enumerate(candidates):
            column = self._column.get(candidate.model)
            if column is not None:
                score, energy_j = self._means[column]
                energy_j *= self.energy.factor(candidate.model, candidate.route)
                energy_j += candidate.extra_j
                score += offset[column] if offset is not None else 0.0
                worth = score - rate * energy_j, -energy_j
                if worth > best:
                    best, taken = worth, index
        return taken

    def _maybe_explore(self, chosen: int, views: list[CandidateView]) -> tuple[int, float, bool]:
        """Now and then another model, paid from an allowance in joules that the traffic earns."""
        if self._explore <= 0 or len(views) < 2:
            return chosen, 1.0, False
        base = views[chosen].energy_j or 0.0
        self._allowance_j += self._explore * base
        extra = [max((view.energy_j if view.energy_j is not None else np.inf) - base, 0.0) for view in views]
        open_to = [i for i, more in enumerate(extra) if i != chosen and more <= self._allowance_j]
        share = self._explore if open_to else 0.0
        if not open_to or self._random.random() >= share:
            return chosen, 1.0 - share, False
        other = self._random.choice(open_to)
        self._allowance_j -= extra[other]
        return other, share / len(open_to), True

    def _reason(
        self, views: list[CandidateView], chosen: int, blind: int, doubt: float, explored: bool
    ) -> str:
        taken = views[chosen]
        energy = "unknown energy" if taken.energy_j is None else f"{taken.energy_j:.3g} J"
        what = f"{taken.model} is expected to score {taken.score:.2f} for {energy}"
        if len(views) == 1:
            return f"{what}; it is the only candidate."
        if explored:
            return f"{what}; chosen by chance, to learn of it, within the allowance for that."
        if chosen == blind:
            if doubt > 0.5:
                return f"{what}; the prompt or the traffic is new, so the mix of single models decides."
            return f"{what}; the mix of single models takes it too, or nothing else is surely better."
        return (
            f"{what}; at these prices that is surely better than {views[blind].model}, which the mix takes."
        )
