from __future__ import annotations

import numpy as np
import pytest

from negajoule.route.energy import EnergyCorrection, expected_energy_j
from negajoule.route.learn import FeedbackTracker, doubly_robust

TASK = np.array([1.0, 0.0])


def tracker(**settings):
    prior = np.array([[0.04, 0.03], [0.03, 0.04]])
    return FeedbackTracker(prior, np.array([0.2, 0.2]), 2, **settings)


def test_offsets_go_to_what_is_seen_and_siblings_follow():
    learner = tracker()
    for _ in range(200):
        learner.observe(TASK, 0, 0.8, 0.5)
    first, second = learner.offset(TASK)
    assert first == pytest.approx(-0.3, abs=0.03)
    assert -0.3 < second < -0.1
    assert learner.spread(TASK)[0, 0] < learner.spread(TASK)[1, 1] < 0.04


def test_old_feedback_fades():
    learner = tracker(memory=10.0)
    for _ in range(50):
        learner.observe(TASK, 0, 0.8, 0.3)
    for _ in range(50):
        learner.observe(TASK, 0, 0.8, 0.9)
    assert learner.offset(TASK)[0] > 0


def test_judgements_that_are_no_scores_change_nothing():
    learner = tracker()
    learner.observe(TASK, 0, 0.5, float("nan"))
    assert learner.judged == 0
    learner.observe(TASK, 0, 0.5, 1e9)
    assert learner.offset(TASK)[0] < 0.5


def test_doubly_robust_finds_the_value_with_wrong_predictions():
    rng = np.random.default_rng(0)
    many = 20_000
    truth = np.array([0.3, 0.7])
    logged = (rng.random(many) < 0.2).astype(int)
    propensity = np.where(logged == 1, 0.2, 0.8)
    score = (rng.random(many) < truth[logged]).astype(float)
    score[rng.random(many) < 0.5] = np.nan
    policy = np.tile([0.0, 1.0], (many, 1))
    value, error = doubly_robust(np.full((many, 2), 0.5), policy, logged, propensity, score)
    assert value == pytest.approx(0.7, abs=4 * error)
    assert 0 < error < 0.03
    nothing = doubly_robust(np.full((2, 2), 0.5), policy[:2], logged[:2], propensity[:2], np.full(2, np.nan))
    assert np.isnan(nothing).all()


def test_corrections_make_totals_right_and_speak_for_models_not_seen():
    correction = EnergyCorrection()
    assert correction.factor("a", "x") == 1.0
    for _ in range(100):
        correction.observe("a", 2.0, 6.0, "x")
        correction.observe("b", 2.0, 6.0, "x")
    assert correction.factor("a", "x") == pytest.approx(3.0, rel=0.1)
    assert correction.factor("c", "x") == pytest.approx(3.0, rel=0.1)
    assert correction.factor("a", "y") == 1.0
    before = correction.factor("a", "x")
    for expected, used in ((float("nan"), 1.0), (1.0, float("inf")), (0.0, 1.0), (1.0, -1.0)):
        correction.observe("a", expected, used, "x")
    assert correction.factor("a", "x") == before


def test_expected_energy_is_the_mean_of_a_log_normal():
    energy = expected_energy_j(
        np.array([10.0]), np.array([np.log(100.0)]), np.array([0.5]), np.array([0.1]), np.array([1.0])
    )
    assert energy[0] == pytest.approx(1.0 + 100 * np.exp(0.125))
