"""One pool at work: from a call to the model that answers it, and what is learned when it has.

It always decides. Without a router file, or where something about a call defeats the router, no prompt is
looked at, and that is the reason given.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from math import inf, nan
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from negajoule.gateway.breaker import Breaker
from negajoule.gateway.fit import texts_of
from negajoule.gateway.logs import log_crash
from negajoule.gateway.replicas import conversation_of
from negajoule.route import Candidate, Prices
from negajoule.route.live import LiveBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.gateway.pool_plan import PoolPlan
    from negajoule.gateway.wire import Call
    from negajoule.route import CandidateView, RouteDecision, Router
    from negajoule.route.predict import Prediction
    from negajoule.units import Footprint

__all__ = ["Pool", "Ruling"]

_BYTES_PER_TOKEN = 4  # as in ``fit``
_REMEMBERED = 10_000
_AUTO_WEIGHT = 0.25
_FRUGAL_WEIGHT = 2.0
_ROUTED_TASKS = ("chat", "completion")
_FAILURES, _REST_S = 3, 30.0
_MEMORY = 0.05  # share of the newest request in a model's mean


class Ruling(NamedTuple):
    """What was decided of a call.

    Attributes:
        pool: by whom.
        wish: auto, frugal or best.
        model: who answers.
        order: who else may, in order, ``model`` first.
        reason: one sentence.
        decision: the router's own, if it was asked.
        prediction: what it predicted; holds no text.
        judged: the models that it compared; more than may answer if some are on trial.
        shadowed: who would answer without shadow mode or trial; empty if it is ``model``.
        conversation: hash of the conversation; empty where it isn't kept.
        tokens_in: estimated length of the prompt.
        cpu_s: CPU time of deciding [s].
    """

    pool: Pool
    wish: str
    model: str
    order: tuple[str, ...]
    reason: str
    decision: RouteDecision | None = None
    prediction: Prediction | None = None
    shadowed: str = ""
    conversation: bytes = b""
    tokens_in: int = 0
    cpu_s: float = 0.0

    def view(self, model: str) -> CandidateView | None:
        """What was expected of a model; ``None`` if nothing was."""
        views = () if self.decision is None else self.decision.candidates
        return next((view for view in views if view.model == model), None)

    def told(self) -> dict[str, Any]:
        """All of it, for people and programs."""
        decision = self.decision
        return {
            "schema": "negajoule.route/1",
            "pool": self.pool.plan.name,
            "wish": self.wish,
            "model": self.model,
            "reason": self.reason,
            "would_have_chosen": self.shadowed or None,
            "tokens_in": self.tokens_in,
            "candidates": []
            if decision is None
            else msgspec.to_builtins(decision.candidates, enc_hook=_plain),
            "also": self.order[1:],
            "prices": None if decision is None else msgspec.to_builtins(decision.prices, enc_hook=_plain),
            "task": None if decision is None else decision.task,
            "task_probability": None if decision is None else decision.task_probability,
            "novelty": None if decision is None else decision.novelty,
            "doubt": None if decision is None else decision.doubt,
            "blind": None if decision is None else decision.blind,
            "propensity": 1.0 if decision is None else decision.propensity,
            "decision": None
            if decision is None
            else msgspec.to_builtins(decision.decision(), enc_hook=_plain),
            "cpu_us": round(1e6 * self.cpu_s, 1),
        }


class _Stay(NamedTuple):
    model: str
    tokens: int
    seen_s: float


class Pool:
    """The state of one pool.

    Args:
        plan: what was asked for.
        router: what was learned; ``None`` looks at no prompt.
        intensity_g_per_j: carbon intensity of a joule used now, overhead of the site included [gCO2e/J].
        clock: monotonic [s].
    """

    def __init__(
        self,
        plan: PoolPlan,
        router: Router | None,
        intensity_g_per_j: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.router = router
        self.intensity_g_per_j = intensity_g_per_j
        self.clock = clock
        limit = plan.limit
        self.budget = (
            None if limit is None else LiveBudget(limit.unit, limit.amount, limit.window_s, clock=clock)
        )
        self.breakers = {
            model: Breaker(failures=_FAILURES, rest_s=_REST_S, longest_rest_s=600.0) for model in plan.models
        }
        self._mean_j: dict[str, float] = {}
        self._stays: OrderedDict[bytes, _Stay] = OrderedDict()
        self.decisions = self.learned = self.explored = self.kept = self.blind = 0
        self.cpu_s = 0.0

    def inherit(self, before: Pool) -> None:
        """Keep of another state of this pool what still holds."""
        self._mean_j, self._stays = before._mean_j, before._stays
        if self.plan.limit == before.plan.limit:
            self.budget = before.budget
        if self.router is not None and before.router is not None:
            self.router.energy = before.router.energy
        for model in set(self.breakers) & set(before.breakers):
            self.breakers[model] = before.breakers[model]
        self.decisions, self.learned, self.explored = before.decisions, before.learned, before.explored
        self.kept, self.blind, self.cpu_s = before.kept, before.blind, before.cpu_s

    def rule(self, call: Call, wish: str, able: Sequence[str]) -> Ruling:
        """Decide who answers a call; never fails.

        Args:
            call: the call.
            wish: auto, frugal or best.
            able: the pool's models that could answer it, at least one.
        """
        begin_s = time.thread_time()
        now_s = self.clock()
        up = [model for model in able if self.breakers[model].state(now_s) != "open"] or list(able)
        ruling = None
        if self.router is not None and call.task in _ROUTED_TASKS:
            try:
                ruling = self._look(self.router, call, wish, up)
            except Exception as error:  # whatever it is, a call must not wait for it
                log_crash(error)
        if ruling is None:
            ruling = self._without_looking(wish, up, call)
        if ruling.model not in up or self.plan.shadow or ruling.model in self.plan.trial:
            ruling = self._instead(ruling, up)
        cpu_s = time.thread_time() - begin_s
        self.decisions += 1
        self.cpu_s += cpu_s
        return ruling._replace(cpu_s=cpu_s)

    def learn(self, ruling: Ruling, served: str, cost: Footprint | None) -> None:
        """Take in what an answer used.

        Args:
            ruling: what was decided.
            served: who answered.
            cost: its footprint; ``None`` if it isn't known.
        """
        energy = None if cost is None else cost.it_energy
        used_j = nan if energy is None else energy.value
        if energy is not None:
            before = self._mean_j.get(served)
            self._mean_j[served] = used_j if before is None else before + _MEMORY * (used_j - before)
        decision = ruling.decision
        if ruling.conversation:
            self._stays[ruling.conversation] = _Stay(served, ruling.tokens_in, self.clock())
            self._stays.move_to_end(ruling.conversation)
            if len(self._stays) > _REMEMBERED:
                self._stays.popitem(last=False)
        if decision is not None and self.router is not None and ruling.view(served) is not None:
            self.router.observe_energy(msgspec.structs.replace(decision, chosen=served), used_j)
        if self.budget is not None:
            self._settle(self.budget, ruling, served, cost)

    def _look(self, router: Router, call: Call, wish: str, up: Sequence[str]) -> Ruling:
        """Ask the router."""
        body = call.body()
        text = _asked(body)
        tokens_in = len(call.raw) // _BYTES_PER_TOKEN
        caps = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        cap = next((cap for cap in caps if isinstance(cap, int)), None)
        candidates = []
        for model in up:
            known = self.plan.energies.get(model)
            candidates.append(
                Candidate(
                    model=model,
                    input_j=None if known is None else known.input_j,
                    output_j=None if known is None else known.output_j,
                    most_tokens=cap,
                )
            )
        prediction = router.predictor.predict(text)
        decision = router.decide(text, tokens_in, candidates, self._prices(router, wish), prediction)
        self.learned += decision.learned
        self.explored += decision.explored
        conversation = conversation_of(call) if self.plan.sticky and call.task == "chat" else b""
        order = [view.model for view in decision.candidates if view.model != decision.chosen]
        ruling = Ruling(
            self, wish, decision.chosen, (decision.chosen, *order), decision.reason,
            decision, prediction, "", conversation, tokens_in,
        )  # fmt: skip
        return ruling if decision.explored else self._kept(router, ruling)

    def _kept(self, router: Router, ruling: Ruling) -> Ruling:
        """Stay with a conversation's model where leaving gains less than computing its beginning takes."""
        stay = self._stays.get(ruling.conversation) if ruling.conversation else None
        decision = ruling.decision
        if stay is None or decision is None or stay.model == ruling.model:
            return ruling
        home, away = ruling.view(stay.model), ruling.view(ruling.model)
        if home is None or away is None or self.clock() - stay.seen_s > self.plan.keep_s:
            return ruling
        input_j = self._input_j(router, ruling.model)
        if input_j is None:
            return ruling
        again_j = min(stay.tokens, ruling.tokens_in) * input_j
        price = max(self._price_j(decision.prices), self._rate(router))
        gain = away.worth - home.worth
        if gain > price * again_j:
            return ruling
        self.kept += 1
        order = (home.model, *(model for model in ruling.order if model != home.model))
        reason = (
            f"{home.model} keeps the conversation: {away.model} would gain {gain:.3f} of score and compute "
            f"its beginning again for {again_j:.3g} J."
        )
        return ruling._replace(model=home.model, order=order, reason=reason)

    def _without_looking(self, wish: str, up: Sequence[str], call: Call) -> Ruling:
        """The query-blind choice: the operator's order, and what the models took so far."""
        self.blind += 1
        answering = [model for model in up if model not in self.plan.trial] or list(up)
        known = {model: use for model in answering if (use := self._mean_j.get(model)) is not None}
        fallback = self.plan.fallback if self.plan.fallback in answering else answering[0]
        why = "the pool has no router" if self.router is None else "the call couldn't be looked at"
        if call.task not in _ROUTED_TASKS:
            chosen, what = fallback, "it is the pool's default, since only chats and completions are routed"
        elif wish == "best":
            chosen, what = answering[0], f"it stands first in the pool; {why}"
        elif wish == "frugal":
            chosen, what = self._cheapest(answering)
            what = f"{what}; {why}"
        elif self.budget is not None:
            pace = self.budget.pace
            rate = self.intensity_g_per_j() if self.budget.unit == "gCO2e" else 1.0
            fitting = [model for model in answering if known.get(model, 0.0) * rate <= pace]
            chosen = fitting[0] if fitting else self._cheapest(answering)[0]
            what = f"the mix takes it at a pace of {pace:.3g} {self.budget.unit} a request; {why}"
        else:
            chosen, what = fallback, f"it is the pool's default; {why}"
        order = (chosen, *(model for model in answering if model != chosen))
        return Ruling(
            self, wish, chosen, order, f"{chosen}: {what}.", tokens_in=len(call.raw) // _BYTES_PER_TOKEN
        )

    def _cheapest(self, models: Sequence[str]) -> tuple[str, str]:
        """The model that takes least, and how that is known; the last one until all of them are known."""
        if all(model in self._mean_j for model in models):
            return min(models, key=lambda model: self._mean_j[model]), "it took the least so far"
        energies = self.plan.energies
        if all(model in energies for model in models):
            return min(models, key=lambda model: energies[model].output_j), "its tokens take the least"
        return models[-1], "it stands last in the pool"

    def _instead(self, ruling: Ruling, up: Sequence[str]) -> Ruling:
        """Who answers while a decision is only logged."""
        answering = [model for model in ruling.order if model not in self.plan.trial]
        fallback = self.plan.fallback
        if self.plan.shadow:
            taken = fallback if fallback in up else next(iter(answering), fallback)
            why = "the pool is in shadow mode"
        else:
            taken = next(iter(answering), fallback)
            why = f"{ruling.model} is on trial"
        if taken == ruling.model:
            return ruling
        order = (taken, *(model for model in answering if model != taken))
        reason = f"{taken} answers, for {why}. Decided was: {ruling.reason}"
        return ruling._replace(model=taken, order=order, reason=reason, shadowed=ruling.model)

    def _prices(self, router: Router, wish: str) -> Prices:
        if wish == "best":
            return Prices()
        intensity = self.intensity_g_per_j()
        price = 0.0 if self.budget is None else self.budget.price
        rate = self._rate(router)
        if self.budget is not None and self.budget.unit == "gCO2e":
            per_gram = max(
                price, _FRUGAL_WEIGHT * rate / intensity if wish == "frugal" and intensity else 0.0
            )
            return Prices(per_gram=per_gram, intensity_g_per_j=intensity)
        if self.budget is None:
            price = _AUTO_WEIGHT * rate
        if wish == "frugal":
            price = max(price, _FRUGAL_WEIGHT * rate)
        return Prices(per_joule=price, intensity_g_per_j=intensity)

    @staticmethod
    def _price_j(prices: Prices) -> float:
        return prices.per_joule + prices.per_gram * prices.intensity_g_per_j

    def _rate(self, router: Router) -> float:
        """What a joule buys in score between the pool's cheapest and its best model, on training's means."""
        file = router.file
        columns = [file.models.index(model) for model in self.plan.models if model in file.models]
        if len(columns) < 2:
            return 0.0
        spread_j = float(np.ptp(file.mean_energy_j[columns]))
        return float(np.ptp(file.mean_score[columns])) / spread_j if spread_j > 0 else 0.0

    def _input_j(self, router: Router, model: str) -> float | None:
        known = self.plan.energies.get(model)
        if known is not None:
            return known.input_j
        models = router.file.models
        return float(router.file.input_j[models.index(model)]) if model in models else None

    def _settle(self, budget: LiveBudget, ruling: Ruling, served: str, cost: Footprint | None) -> None:
        quantity = (
            None if cost is None else cost.carbon_location if budget.unit == "gCO2e" else cost.it_energy
        )
        used = nan if quantity is None else quantity.value
        taken = ruling.view(served)
        expected_j = None if taken is None else taken.energy_j
        if taken is None or expected_j is None:
            if quantity is not None:
                budget.book(used)
            return
        rate = self.intensity_g_per_j() if budget.unit == "gCO2e" else 1.0
        # Models that couldn't answer count as the one that did, so that every request has as many.
        views = [ruling.view(model) for model in self.plan.models]
        pairs = [
            (taken.score, expected_j)
            if view is None or view.energy_j is None
            else (view.score, view.energy_j)
            for view in views
        ]
        score, energy_j = np.array([*pairs, (taken.score, expected_j)]).T
        budget.settle(used, score, energy_j * rate)


def _asked(body: dict[str, Any]) -> str:
    """What the user says in a call; answers and instructions of programs would hide the task."""
    messages = body.get("messages")
    if isinstance(messages, list):
        users = [one for one in messages if isinstance(one, dict) and one.get("role") == "user"]
        body = {"messages": users or messages}
    return "\n".join(text for text, _ in texts_of(body) if text)


def _plain(number: Any) -> object:  # noqa: ANN401 (a scalar of numpy)
    value = number.item()
    return None if value in (inf, -inf) else value
