from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from negajoule.errors import ConfigError
from negajoule.route import evaluate, read_outcomes
from negajoule.route.evaluation import fair_split, table_text
from negajoule.route.pearl import Pearl
from negajoule.route.replay import replay_budget, replay_price, traffic_of
from route.world import MODELS, made_up


def test_a_router_beats_not_looking_where_tasks_differ(router_file):
    result = evaluate(router_file, made_up(300, seed=3))
    assert result.blind_area < result.area < result.oracle_area
    assert result.line_area <= result.blind_area
    assert result.energy_at_best < 0.8
    assert abs(result.energy_bias) < 0.1
    assert result.calibration_error < 0.12
    assert "area: router" in table_text(result)


def test_gaps_are_left_out_and_counted(router_file):
    world = made_up(100, seed=4)
    score = world.score.copy()
    score[:7, 1] = np.nan
    result = evaluate(router_file, dataclasses.replace(world, score=score))
    assert (result.queries, result.left_out) == (93, 7)


def test_a_part_of_the_pool_is_judged_on_its_own(router_file):
    world = made_up(100, seed=4)
    two = type(world)(
        world.prompts,
        world.tasks,
        ("large", "small"),
        world.score[:, [2, 0]],
        world.in_tokens[:, [2, 0]],
        world.out_tokens[:, [2, 0]],
        world.energy_j[:, [2, 0]],
    )
    result = evaluate(router_file, two, safe=False)
    assert {result.best, result.cheapest} == {"small", "large"}
    assert 0.5 < result.recovered <= 1.0
    with pytest.raises(ConfigError, match="no model in common"):
        evaluate(router_file, dataclasses.replace(two, models=("x", "y")))


def test_constant_outcomes_give_no_gap(router_file):
    world = made_up(40, seed=4)
    result = evaluate(router_file, dataclasses.replace(world, score=np.ones_like(world.score)))
    assert result.area == pytest.approx(1.0)
    assert result.best == "small"


def test_the_fair_split_passes_a_free_saving_and_fails_a_loss():
    score = np.tile([1.0, 1.0], (200, 1))
    energy = np.tile([1.0, 10.0], (200, 1))
    score[:, 0] = np.arange(200) % 10 > 1
    cheap, best = np.zeros((1, 200), int), np.ones((1, 200), int)
    lossy = fair_split(np.vstack([cheap, best]), score, energy)
    assert not lossy.passes
    assert lossy.energy_share == pytest.approx(1.0)
    saving = np.where(score[:, 0] == 1, 0, 1)[None, :]
    assert fair_split(saving, score, energy).passes


@pytest.mark.parametrize("kind", ["random", "hard first", "easy first"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_replayed_budgets_hold(router_file, share, kind):
    world = made_up(150, seed=6)
    traffic = traffic_of(router_file, world, np.array([300.0, 300.0, 150.0]))
    hard = np.argsort(world.score.mean(axis=1), kind="stable")
    order = {"random": np.arange(150), "hard first": hard, "easy first": hard[::-1]}[kind]
    limit = share * world.energy_j[:, 2].sum()
    warm = traffic_of(router_file, made_up(80, seed=7))
    run = replay_budget(traffic, limit, order, warm=warm)
    assert run.energy_j * 150 <= limit + 1e-9
    assert run.spent_share <= 1.0
    assert (run.choice == -1).sum() == run.refused
    if share == 0.6:
        assert run.refused == 0
        assert run.accuracy > world.score[:, 0].mean()


def test_feedback_helps_where_training_was_wrong(router_file):
    world = made_up(400, seed=8)
    wrong = dataclasses.replace(world, score=np.where([False, False, True], 0.0, world.score))
    traffic = traffic_of(router_file, wrong)
    order = np.arange(400)
    blind = replay_price(traffic, 0.0, order)
    learned = replay_price(traffic, 0.0, order, judged=np.arange(400) % 10 == 0)
    assert learned.accuracy > blind.accuracy + 0.1


def test_pearl_predicts_by_cluster():
    world = made_up(200)
    embedding = np.array([[float(task == name) for name in sorted(set(world.tasks))] for task in world.tasks])
    policy = Pearl(embedding, world.score, world.energy_j, clusters=50)
    expected = np.array([world.score[world.tasks == name].mean(axis=0) for name in sorted(set(world.tasks))])
    assert policy.accuracy(np.eye(3)) == pytest.approx(expected)
    assert policy.energy_j(np.eye(3)).shape == (3, len(MODELS))


def test_tables_are_read_and_faults_told(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    queries = {
        "query_id": ["a", "b", "c"],
        "source": ["s", "s", "t"],
        "benchmark": ["x", "y", "z"],
        "prompt": ["one", None, "three"],
    }
    outcomes = {
        "query_id": ["a", "a", "b", "c"],
        "model": ["m", "n", "m", "m"],
        "score": [1.0, -0.03, float("nan"), 1.0],
        "in_tokens": [3, 4, -1, 2],
        "out_tokens": [5, -1, 5, 5],
        "energy_j_model": [1.0, None, 2.0, 1.0],
    }
    parquet.write_table(arrow.table(queries), tmp_path / "queries.parquet")
    with pytest.raises(ConfigError, match=r"outcomes\.parquet"):
        read_outcomes(tmp_path, "s")
    parquet.write_table(arrow.table(outcomes), tmp_path / "outcomes.parquet")
    table = read_outcomes(tmp_path, "s")
    assert table.models == ("m", "n")
    assert table.prompts == ["one", ""]
    assert table.score[0].tolist() == [1.0, 0.0]
    assert np.isnan(table.score[1]).all()
    assert np.isnan(table.out_tokens[0, 1])
    assert len(table.complete()) == 0
    assert read_outcomes(tmp_path, "t").evaluation_only is False
    with pytest.raises(ConfigError, match="no outcomes"):
        read_outcomes(tmp_path, "absent")
    parquet.write_table(arrow.table({"query_id": ["a"]}), tmp_path / "queries.parquet")
    with pytest.raises(ConfigError, match="columns"):
        read_outcomes(tmp_path, "s")
