from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from negajoule.errors import ConfigError
from negajoule.route import train
from negajoule.route.predict import Predictor
from negajoule.route.shrink import shrunk_table
from route.world import ABILITY, INPUT_J, MODELS, OUTPUT_J, made_up


def test_tasks_scores_and_phases_are_learned(router_file):
    test = made_up(150, seed=9)
    prediction = Predictor(router_file).predict_all(test.prompts)
    inferred = np.array(router_file.tasks)[prediction.task.argmax(axis=1)]
    assert (inferred == test.tasks).mean() > 0.95
    truth = np.array([ABILITY[task] for task in test.tasks])
    assert np.abs(prediction.score - truth).mean() < 0.1
    assert router_file.output_j == pytest.approx(OUTPUT_J, rel=0.02)
    assert router_file.input_j == pytest.approx(INPUT_J, rel=0.5)


def test_gaps_are_allowed_and_leave_no_nan(router_file):
    rng = np.random.default_rng(0)
    world = made_up()
    score, energy = world.score.copy(), world.energy_j.copy()
    score[rng.random(score.shape) < 0.3] = np.nan
    energy[:, 2] = np.nan
    file = train(dataclasses.replace(world, score=score, energy_j=energy))
    prediction = Predictor(file).predict_all(world.prompts)
    assert all(np.isfinite(part).all() for part in prediction)


def test_constant_scores_are_learned_as_constant():
    world = made_up(90)
    file = train(dataclasses.replace(world, score=np.full_like(world.score, 0.25)))
    assert Predictor(file).predict_all(world.prompts[:9]).score == pytest.approx(0.25, abs=0.02)


def test_a_model_that_always_fails_scores_nothing():
    world = made_up(120)
    score = world.score.copy()
    score[:, 0] = 0.0
    file = train(dataclasses.replace(world, score=score))
    assert Predictor(file).predict_all(world.prompts).score[:, 0].max() < 0.05


def test_one_task_is_enough():
    file = train(made_up(60, tasks=("sums",)))
    assert file.tasks == ("sums",)
    assert np.isfinite(Predictor(file).predict("anything").score).all()


def test_small_tasks_join_their_folder():
    world = made_up(100)
    names = np.array([f"set/{index % 40}" for index in range(100)])
    assert train(dataclasses.replace(world, tasks=names)).tasks == ("set",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda world: dataclasses.replace(world, evaluation_only=True), "evaluation only"),
        (lambda world: world.take(np.arange(10)), "at least 30"),
        (
            lambda world: dataclasses.replace(
                world, score=np.where([True, True, False], world.score, np.nan)
            ),
            "large",
        ),
        (lambda world: dataclasses.replace(world, prompts=[""] * len(world)), "no words"),
    ],
)
def test_what_cant_be_learned_is_refused_in_words(change, words):
    with pytest.raises(ConfigError, match=words):
        train(change(made_up(60)))


def test_malformed_tables_are_refused():
    with pytest.raises(ConfigError, match="shape"):
        dataclasses.replace(made_up(30), score=np.zeros((30, 2)))


def test_shrinkage_pulls_small_groups_to_the_centre():
    rng = np.random.default_rng(0)
    group = np.array([0] * 500 + [1] * 500 + [2] * 3)
    value = rng.normal([0.2, 0.8, 0.5][0], 0.3, (1003, 1))
    value[500:1000] += 0.6
    value[1000:] = 1.0
    table, error = shrunk_table(value, group, 4, np.array([0.5]))
    assert table[0, 0] == pytest.approx(0.2, abs=0.05)
    assert 0.5 < table[2, 0] < 0.95
    assert table[3, 0] == 0.5
    assert error[0, 0] < error[2, 0] < error[3, 0]


def test_the_pool_is_kept_in_order(router_file):
    assert router_file.models == MODELS
