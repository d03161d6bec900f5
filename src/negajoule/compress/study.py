"""The study: makes artefacts, asks them the same texts, measures them in turn, resumes where it stopped.

Each artefact has a worker process of its own. In a round every worker measures the same texts once while the
others wait; the order turns from round to round, so that a busy minute falls on all alike.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import msgspec

from negajoule.compress.artefact import read_artefact
from negajoule.compress.encoder import find_model
from negajoule.compress.hand import Hand
from negajoule.compress.judge import judge
from negajoule.compress.orders import Order, Reply, TextSource
from negajoule.compress.plan import BASELINE, TWIN, Made, Plan
from negajoule.compress.steps import Onnx
from negajoule.compress.texts import LabelledTexts, Part, load_texts
from negajoule.compress.workshop import Round, Seen, Workshop
from negajoule.errors import CompressError
from negajoule.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from negajoule.compress.passes import Cost
    from negajoule.compress.recipe import Recipe
    from negajoule.compress.result import Result

__all__ = ["Study"]

_ASKED: tuple[Part, ...] = ("validation", "test")


class Study:
    """A study in a folder.

    Args:
        plan: what is studied.
        folder: where; if it holds the same study, that one goes on.
        say: told what happens.

    Raises:
        CompressError: (K103) for two recipes of one name, (K107) if the folder holds another study, (K102).
        ConfigError: (C106) if the texts can't be read.
    """

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        names = [recipe.name for recipe in plan.recipes]
        if len(set(names)) < len(names):
            raise CompressError("two recipes have the same name", code="K103", fix="name one: NAME=STEPS")
        self.plan, self._say = plan, say
        self.failed: dict[str, str] = {}
        """Recipes that came to nothing, and why."""
        self.model_folder = find_model(plan.model)
        self.texts: LabelledTexts = load_texts(
            plan.data, folder=plan.data_folder, seed=plan.seed, limit=plan.limit
        )
        self.workshop = Workshop(folder)
        self.workshop.keep_plan(
            {
                "schema": "negajoule.compress-plan/1",
                "model": plan.model,
                "weights": fingerprint((self.model_folder / "config.json").read_bytes()),
                "data": plan.data,
                "texts": self.texts.fingerprint,
                "tuning": msgspec.to_builtins(plan.tuning),
                "max_length": plan.max_length,
                "batch": plan.batch,
                "threads": plan.threads,
                "measured": plan.measured,
                "single": plan.single,
                "seed": plan.seed,
            }
        )

    def run(self) -> Result:
        """Make, ask, measure and judge; what is there already isn't done again.

        Raises:
            CompressError: if the baseline or the only recipe fails; what was finished before is kept.
        """
        for note in self.texts.notes:
            self._say(note)
        made = self.make_all()
        with ExitStack() as stack:
            hands = self._open_all(made, stack)
            made = [one for one in made if one.name in hands]
            answers = {part: self._ask_all(made, part, hands) for part in _ASKED}
            rounds = self._measure([one.name for one in made], hands)
            peaks = self.workshop.keep_peaks({name: hand.end() for name, hand in hands.items()})
        return judge(self.plan, self.texts, made, answers, rounds, peaks, self.failed)

    def make_all(self) -> list[Made]:
        """The baseline, the recipes' artefacts, and the baseline in the engine that they change to."""
        baseline = self.workshop.folder / BASELINE
        order = Order(
            do="baseline",
            source=str(self.model_folder),
            name=self.plan.model,
            tuning=self.plan.tuning,
            max_length=self.plan.max_length,
        )
        with _Maker(self, BASELINE) as maker:
            made = [Made(BASELINE, baseline, (maker.make(baseline, order),))]
        for recipe in self.plan.recipes:
            try:
                made.append(self._make_recipe(recipe, baseline))
            except CompressError as error:
                self._give_up(recipe.name, error)
        if any(read_artefact(one.folder).kind == "onnx" for one in made):
            twin = self.workshop.folder / f"{TWIN}-onnx"
            order = Order(do="step", source=str(baseline), teacher=str(baseline), step=Onnx())
            with _Maker(self, TWIN) as maker:
                made.insert(1, Made(TWIN, twin, (maker.make(twin, order),), "onnx"))
        return made

    def hand(self, name: str) -> Hand:
        """A worker that knows the texts."""
        hand = Hand(self.workshop.folder / "logs" / f"{name}.log", self.plan.threads)
        source = TextSource(
            source=self.plan.data,
            folder=str(self.plan.data_folder),
            seed=self.plan.seed,
            limit=self.plan.limit,
            fingerprint=self.texts.fingerprint,
        )
        try:
            hand.order(Order(do="begin", texts=source, threads=self.plan.threads, seed=self.plan.seed))
        except BaseException:
            hand.close()
            raise
        return hand

    def label(self, name: str, what: str) -> str:
        """Name of a piece of work in the ledger."""
        return f"compress/{self.texts.name}/{name}/{what}"

    def say(self, name: str, what: str) -> None:
        """Tell what happens."""
        self._say(f"{name}: {what}")

    def _make_recipe(self, recipe: Recipe, baseline: Path) -> Made:
        folder = self.workshop.recipe_folder(recipe)
        source, costs = baseline, []
        with _Maker(self, recipe.name) as maker:
            for number, step in enumerate(recipe.steps):
                target = folder / f"{number}-{type(step).__struct_config__.tag}"
                order = Order(do="step", source=str(source), teacher=str(baseline), step=step)
                costs.append(maker.make(target, order))
                source = target
        return Made(recipe.name, source, tuple(costs), recipe.text)

    def _open_all(self, made: Sequence[Made], stack: ExitStack) -> dict[str, Hand]:
        """A worker for each artefact, which finds that it gives the answers it gave when it was made."""
        hands = {}
        for one in made:
            hand = stack.enter_context(self.hand(one.name))
            try:
                hand.order(Order(do="open", source=str(one.folder)))
            except CompressError as error:
                if one.name in (BASELINE, TWIN):
                    raise
                self._give_up(one.name, error)
                continue
            hands[one.name] = hand
        return hands

    def _give_up(self, name: str, error: CompressError) -> None:
        """Go on without a recipe, if there are others."""
        self.failed[name] = error.message
        if len(self.failed) == len(self.plan.recipes):
            raise error
        self.say(name, error.message)

    def _ask_all(
        self, made: Sequence[Made], part: Part, hands: Mapping[str, Hand]
    ) -> dict[str, list[list[float]]]:
        """What every artefact answers to a part."""
        found: dict[str, list[list[float]]] = {}
        for one in made:
            asked = fingerprint(msgspec.json.encode((read_artefact(one.folder).files, self.texts.part(part))))
            rows = self.workshop.answers(one.name, part, asked)
            if rows is None:
                self.say(one.name, f"answers the {part} part")
                order = Order(do="answer", part=part, batch=self.plan.batch, rows=True)
                rows = self._order_pass(one.name, part, hands[one.name], order).rows
                assert rows is not None, "answers were asked for"
                if any(score != score for row in rows for score in row):
                    raise CompressError(f"{one.name} gives scores that aren't numbers", code="K104")
                self.workshop.keep_answers(one.name, part, asked, rows)
            found[one.name] = rows
        return found

    def _measure(self, names: list[str], hands: Mapping[str, Hand]) -> list[Round]:
        """Rounds over all artefacts."""
        rounds = self.workshop.rounds(names)
        measure = Order(do="answer", count=self.plan.measured, batch=self.plan.batch)
        if len(rounds) < self.plan.rounds:
            for name, hand in hands.items():
                self.say(name, "warm-up")
                self._order_pass(name, "warm-up", hand, measure)
        for number in range(len(rounds), self.plan.rounds):
            self.say(f"round {number + 1} of {self.plan.rounds}", ", ".join(names))
            turn = number % len(names)
            order = names[turn:] + names[:turn]
            if number % 2:
                order.reverse()
            seen = {}
            for name in order:
                measured = self._order_pass(name, f"round {number + 1}", hands[name], measure).measured
                latency = hands[name].order(Order(do="single", count=self.plan.single)).latency
                assert measured is not None, "a pass was asked for"
                assert latency is not None, "single texts were timed"
                seen[name] = Seen(measured, latency)
            rounds.append(Round(seen))
            self.workshop.keep_round(rounds[-1])
        return rounds[: self.plan.rounds]

    def _order_pass(self, name: str, what: str, hand: Hand, order: Order) -> Reply:
        """Order a pass, and book it."""
        reply = hand.order(order)
        done = reply.measured
        assert done is not None, "every pass is measured"
        self.workshop.spend(self.label(name, what), "evaluation", done.started_s, done.window)
        return reply


class _Maker:
    """Makes one after the other in one worker, which is started when there is something to make."""

    def __init__(self, study: Study, name: str) -> None:
        self._study, self._name = study, name
        self._hand: Hand | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._hand is not None:
            self._hand.close()

    def make(self, target: Path, order: Order) -> Cost:
        """Make an artefact, unless it is there."""
        study, workshop = self._study, self._study.workshop
        done = workshop.finished(target)
        if done is not None:
            return done
        if self._hand is None:
            self._hand = study.hand(self._name)
        study.say(self._name, f"making {target.name}")
        with workshop.making(target) as scratch:
            cost = self._hand.order(msgspec.structs.replace(order, target=str(scratch))).cost
            assert cost is not None, "making was measured"
            workshop.keep_cost(scratch, cost, study.label(self._name, cost.step))
        return cost
