"""What a decision is about: candidates, prices, and the answer that can be argued with."""

from __future__ import annotations

import msgspec

from negajoule.units import Decision

__all__ = ["Candidate", "CandidateView", "Prices", "RouteDecision"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model that could answer.

    Attributes:
        model: its name; the router knows those it was trained on.
        input_j: energy of a token of the prompt [J]; None takes the router's own.
        output_j: energy of a token of the answer [J]; likewise.
        extra_j: energy that only this choice causes [J]: a lost prompt cache, loading the model.
        input_cost: price of a token of the prompt [currency].
        output_cost: price of a token of the answer [currency].
        most_tokens: cap on the answer, if there is one.
        intensity_g_per_j: carbon intensity where it runs [gCO2e/J]; None takes that of ``Prices``.
        route: what its energy is corrected by, besides its name; for instance the upstream.
    """

    model: str
    input_j: float | None = None
    output_j: float | None = None
    extra_j: float = 0.0
    input_cost: float = 0.0
    output_cost: float = 0.0
    most_tokens: int | None = None
    intensity_g_per_j: float | None = None
    route: str = ""


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """What a joule, a gram and a unit of currency cost in score; the controller sets them.

    Attributes:
        per_joule: score per J.
        per_gram: score per gCO2e.
        per_currency: score per unit of currency.
        intensity_g_per_j: carbon intensity now [gCO2e/J].
    """

    per_joule: float = 0.0
    per_gram: float = 0.0
    per_currency: float = 0.0
    intensity_g_per_j: float = 0.0


class CandidateView(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate as the router saw it.

    Attributes:
        model: its name.
        score: expected score, 0..1.
        error: standard deviation of the expected score.
        tokens: expected tokens of the answer.
        energy_j: expected energy [J]; None if nothing is known of it.
        energy_high_j: what nine of ten answers stay under [J]; likewise.
        carbon_g: expected carbon [gCO2e].
        cost: expected cost [currency].
        worth: score less prices times expected uses.
        known: whether the router was trained on it.
    """

    model: str
    score: float
    error: float
    tokens: float
    energy_j: float | None
    energy_high_j: float | None
    carbon_g: float | None
    cost: float
    worth: float
    known: bool


class RouteDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Which model answers, and why.

    Attributes:
        chosen: the model.
        blind: what the query-blind mix would have taken.
        learned: whether looking at the prompt overruled the mix.
        propensity: probability with which this model was chosen; below 1 only with exploration.
        explored: whether chance chose.
        task: the likeliest task.
        task_probability: its probability.
        novelty: how unlike training the prompt is, 0..1.
        doubt: how far predictions were distrusted, 0..1.
        candidates: all candidates, best first.
        prices: what was reckoned with.
        reason: one sentence for people.
    """

    chosen: str
    blind: str
    learned: bool
    propensity: float
    explored: bool
    task: str
    task_probability: float
    novelty: float
    doubt: float
    candidates: tuple[CandidateView, ...]
    prices: Prices
    reason: str

    def view(self, model: str) -> CandidateView:
        """The candidate of a name."""
        return next(view for view in self.candidates if view.model == model)

    def decision(self) -> Decision:
        """What every room that decides answers; the margin is energy spared against the blind choice."""
        chosen, blind = self.view(self.chosen), self.view(self.blind)
        other = self.blind if self.blind != self.chosen else None
        margin = None
        if other is not None and chosen.energy_j is not None and blind.energy_j:
            margin = 1.0 - chosen.energy_j / blind.energy_j
        return Decision(chosen=self.chosen, runner_up=other, margin=margin, reason=self.reason)
