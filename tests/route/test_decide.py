from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from negajoule.errors import ConfigError
from negajoule.route import Candidate, Prices, Router, load_router_file
from route.world import MODELS, made_up

POOL = [Candidate(model=model) for model in MODELS]
SUM = "What is 12 plus 30 times 7? Give the number"
FACT = "who wrote the book number 5 of the 20 kings"


@pytest.fixture
def router(router_file):
    return Router(router_file)


def test_without_prices_the_best_of_each_task_is_taken(router):
    assert router.decide(SUM, 12, POOL).chosen == "large"
    assert router.decide(FACT, 12, POOL, Prices(per_joule=0.02)).chosen == "small"


def test_any_price_moves_towards_frugal_models(router):
    energies = []
    for price in (0.0, 0.001, 0.01, 0.1, 10.0):
        decision = router.decide(SUM, 12, POOL, Prices(per_joule=price))
        energies.append(decision.view(decision.chosen).energy_j)
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] < energies[0]


def test_grams_cost_as_their_intensity(router):
    by_joule = router.decide(SUM, 12, POOL, Prices(per_joule=0.01))
    by_gram = router.decide(SUM, 12, POOL, Prices(per_gram=10.0, intensity_g_per_j=0.001))
    assert [view.worth for view in by_gram.candidates] == pytest.approx(
        [view.worth for view in by_joule.candidates]
    )
    clean = Candidate(model="large", intensity_g_per_j=0.0)
    prices = Prices(per_gram=1e4, intensity_g_per_j=0.001)
    assert router.decide(SUM, 12, [clean, *POOL[:2]], prices).chosen == "large"


def test_money_and_the_cost_of_a_switch_count(router):
    dear = [Candidate(model="large", output_cost=1.0), *POOL[:2]]
    assert router.decide(SUM, 12, dear, Prices(per_currency=1.0)).chosen != "large"
    moved = [Candidate(model="large", extra_j=1e6), *POOL[:2]]
    assert router.decide(SUM, 12, moved, Prices(per_joule=1e-3)).chosen != "large"


@pytest.mark.parametrize(
    "text", ["", " \n\t", "привет, как дела?", "你好吗", "🙂" * 50, "\x00\ud800", "word " * 200_000]
)
def test_every_prompt_gets_an_answer(router, text):
    decision = router.decide(text, len(text) // 4, POOL, Prices(per_joule=0.01))
    assert decision.chosen in MODELS
    assert all(np.isfinite([view.score, view.worth, view.energy_j]).all() for view in decision.candidates)
    assert decision.reason.endswith(".")


def test_a_pool_of_one_is_taken_and_an_empty_one_refused(router):
    assert "only candidate" in router.decide(SUM, 12, POOL[:1]).reason
    with pytest.raises(ValueError, match="no candidate"):
        router.decide(SUM, 12, [])


def test_models_that_came_later_are_judged_with_care(router):
    newcomer = Candidate(model="newcomer", input_j=0.01, output_j=0.1)
    decision = router.decide(SUM, 12, [newcomer, *POOL], Prices(per_joule=1e-4))
    view = decision.view("newcomer")
    assert not view.known
    assert view.score < np.mean([decision.view(model).score for model in MODELS])
    for _ in range(60):
        router.observe_score(SUM, "newcomer", 1.0)
    assert router.decide(SUM, 12, [newcomer, *POOL]).view("newcomer").score > view.score + 0.2


def test_a_pool_that_training_never_saw_is_still_served(router):
    strange = [Candidate(model="a"), Candidate(model="b")]
    decision = router.decide(SUM, 12, strange, Prices(per_joule=0.01))
    assert decision.chosen in {"a", "b"}
    assert decision.view("a").energy_j is None


def test_feedback_leads_away_from_a_model_that_always_fails(router):
    assert router.decide(SUM, 12, POOL).chosen == "large"
    for _ in range(40):
        router.observe_score(SUM, "large", 0.0)
    router.observe_score(SUM, "large", float("nan"))
    assert router.decide(SUM, 12, POOL).chosen == "middle"


def test_energy_is_corrected_by_what_was_used(router):
    for _ in range(80):
        decision = router.decide(SUM, 12, POOL)
        router.observe_energy(decision, 400.0)
    assert router.decide(SUM, 12, POOL).view("large").energy_j == pytest.approx(400.0, rel=0.05)


def test_new_traffic_leaves_the_choice_to_the_mix(router):
    for number in range(200):
        last = router.decide(f"zxqv{number} wvut{number} ponm{number}", 5, POOL, Prices(per_joule=0.003))
    assert last.doubt == 1.0
    assert last.chosen == last.blind
    assert "mix" in last.reason


def test_exploration_is_paid_from_its_allowance_and_propensities_are_told(router_file):
    router = Router(router_file, explore=0.1, seed=1)
    decisions = [router.decide(FACT, 12, POOL, Prices(per_joule=0.02)) for _ in range(600)]
    explored = [each for each in decisions if each.explored]
    assert explored
    assert all(0 < each.propensity < 1 for each in explored)
    base = min(view.energy_j for view in decisions[0].candidates)
    spent = sum(each.view(each.chosen).energy_j - base for each in explored)
    assert spent <= 0.1 * 600 * base * 1.01


def test_the_decision_is_what_every_room_answers(router):
    decision = router.decide(SUM, 12, POOL, Prices(per_joule=10.0))
    short = decision.decision()
    assert short.chosen == decision.chosen
    assert short.reason == decision.reason


def test_a_router_survives_its_file(router_file, router, tmp_path):
    path = tmp_path / "router.npz"
    router_file.save(path)
    loaded = Router.load(path)
    assert loaded.decide(SUM, 12, POOL) == router.decide(SUM, 12, POOL)


@pytest.mark.parametrize("spoil", [b"", b"PK not a zip", "cut", "absent"])
def test_files_that_are_no_routers_are_told(router_file, tmp_path, spoil):
    path = tmp_path / "router.npz"
    if spoil == "cut":
        router_file.save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif spoil != "absent":
        path.write_bytes(spoil)
    with pytest.raises(ConfigError, match="router that can be read"):
        load_router_file(path)


def test_serving_needs_no_scikit_learn(router_file, tmp_path):
    path = tmp_path / "router.npz"
    router_file.save(path)
    program = (
        "import sys; from pathlib import Path; from negajoule.route import Router, Candidate;"
        f"Router.load(Path({str(path)!r})).decide('hello', 2, [Candidate(model='small')]);"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('sklearn', 'scipy', 'pyarrow')))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_predictions_of_many_are_those_of_each(router_file):
    router = Router(router_file)
    prompts = made_up(12, seed=5).prompts
    together = router.predictor.predict_all(prompts)
    for row, prompt in enumerate(prompts):
        alone = router.predictor.predict(prompt)
        for field in alone._fields:
            assert getattr(together, field)[row] == pytest.approx(getattr(alone, field), abs=1e-5)
