"""``negajoule route``: learn, judge, ask and replay, on a small made-up world."""

from __future__ import annotations

import json
import math
import re
import shlex
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="training needs scikit-learn: pip install 'negajoule[route]'")
pyarrow = pytest.importorskip("pyarrow", reason="tables need pyarrow: pip install 'negajoule[route]'")

from route.world import made_up  # noqa: E402


def write_tables(folder, outcomes, sources=("world",)):
    """The two tables of some outcomes."""
    import pyarrow.parquet as parquet

    rows = range(len(outcomes))
    queries = {
        "query_id": [f"q{row}" for row in rows],
        "source": [sources[row % len(sources)] for row in rows],
        "benchmark": outcomes.tasks.tolist(),
        "prompt": outcomes.prompts,
    }
    cells = [(row, column) for row in rows for column in range(len(outcomes.models))]
    results = {
        "query_id": [f"q{row}" for row, _ in cells],
        "model": [outcomes.models[column] for _, column in cells],
        "score": [float(outcomes.score[cell]) for cell in cells],
        "in_tokens": [float(outcomes.in_tokens[cell]) for cell in cells],
        "out_tokens": [float(outcomes.out_tokens[cell]) for cell in cells],
        "energy_j_model": [float(outcomes.energy_j[cell]) for cell in cells],
    }
    parquet.write_table(pyarrow.table(queries), folder / "queries.parquet")
    parquet.write_table(pyarrow.table(results), folder / "outcomes.parquet")
    return folder


@pytest.fixture
def nj():
    """The command in this process, since starting Python takes longer than the work."""
    from click.testing import CliRunner

    from negajoule.cli.main import _negajoule
    from negajoule.errors import NegajouleError

    class _Done:
        def __init__(self, result):
            self.stdout, self.stderr = result.stdout, result.stderr
            error = result.exception
            if isinstance(error, NegajouleError):
                self.stderr += str(error)
            elif error is not None and not isinstance(error, SystemExit):
                raise error
            self.returncode = result.exit_code

    return lambda *arguments: _Done(CliRunner().invoke(_negajoule, arguments))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_tables(tmp_path_factory.mktemp("world"), made_up())


@pytest.fixture(scope="module")
def router(world):
    """Trained on 60 % of it."""
    from click.testing import CliRunner

    from negajoule.cli.route import route

    path = world / "router.npz"
    arguments = [
        "train", str(world / "queries.parquet"), str(world / "outcomes.parquet"),
        "--out", str(path), "--share", "0.6", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(route, arguments, catch_exceptions=False)
    told = json.loads(done.stdout)
    assert told["schema"] == "negajoule.route_train/1"
    assert 0.4 * 240 < told["trained_on"] < 0.8 * 240
    assert {row["model"] for row in told["models"]} == {"small", "middle", "large"}
    return path


def test_it_judges_and_draws_what_training_left_out(nj, world, router, tmp_path):
    picture = tmp_path / "curve.json"
    done = nj("route", "evaluate", str(router), "--data", str(world), "--beyond", "0.6", "--json",
              "--plot", str(picture))  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["schema"] == "negajoule.route_evaluation/1"
    assert told["queries"] < 0.6 * 240
    assert told["area"] <= told["oracle_area"] + 1e-9
    assert json.loads(picture.read_text())["data"]["values"]


def test_it_explains_a_choice(nj, router):
    done = nj(
        "route", "explain", str(router), "--prompt", "What is 3 plus 4 times 5? Give the number", "--json"
    )
    told = json.loads(done.stdout)
    assert told["schema"] == "negajoule.route/1"
    assert told["task"] == "sums"
    assert {view["model"] for view in told["candidates"]} == {"small", "middle", "large"}
    dear = nj("route", "explain", str(router), "--prompt", "who wrote the book number 3 of the 4 kings",
              "--price-j", "1")  # fmt: skip
    assert "answers  small" in dear.stdout
    assert "because" in dear.stdout


@pytest.mark.parametrize("prompt", ["", "你好，请问", "\N{GRINNING FACE}" * 50, "x" * 60_000])
def test_any_prompt_is_decided(nj, router, prompt):
    done = nj("route", "explain", str(router), "--prompt", prompt, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["chosen"] in ("small", "middle", "large")
    assert all(math.isfinite(view["worth"]) for view in told["candidates"])


@pytest.mark.parametrize("order", ["random", "hard-first", "as-given"])
def test_a_replayed_budget_holds(nj, world, router, order):
    done = nj("route", "simulate", str(router), "--data", str(world), "--budget", "40%", "--order", order,
              "--judged", "0.1", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["schema"] == "negajoule.route_simulation/1"
    assert told["spent_share"] <= 1.0
    assert told["spent_j"] <= told["budget_j"] * (1 + 1e-9)
    assert sum(told["answered_by"].values()) == pytest.approx(1 - told["refused"] / told["requests"])


def test_a_budget_of_nothing_refuses_all_and_says_so(nj, world, router):
    done = nj("route", "simulate", str(router), "--data", str(world), "--budget", "0 J", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["refused"], told["spent_j"]) == (told["requests"], 0.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "nowhere.npz", "--data", "{world}"), "C106"),
        (("evaluate", "{router}", "--data", "nowhere"), "C106"),
        (("evaluate", "{router}", "--data", "{world}", "--source", "moon"), "sources of the queries: world"),
        (("evaluate", "{router}", "--data", "{world}", "--plot", "curve.bmp"), ".svg"),
        (("simulate", "{router}", "--data", "{world}", "--budget", "soon"), "40%"),
        (("simulate", "{router}", "--data", "{world}", "--budget", "3 EUR"), "40%"),
        (("explain", "{world}/queries.parquet", "--prompt", "x"), "isn't a router"),
    ],
)
def test_a_mistake_ends_in_one_message(nj, world, router, arguments, words):
    done = nj("route", *(word.format(world=world, router=router) for word in arguments))
    assert done.returncode == 1
    assert words in done.stderr


def test_several_sources_must_be_told_apart(nj, tmp_path):
    folder = write_tables(tmp_path, made_up(60), sources=("world", "routerarena"))
    files = (str(folder / "queries.parquet"), str(folder / "outcomes.parquet"))
    done = nj("route", "train", *files, "--out", str(tmp_path / "r.npz"))
    assert "name one with --source: routerarena, world" in done.stderr
    done = nj("route", "train", *files, "--out", str(tmp_path / "r.npz"), "--source", "routerarena")
    assert "evaluation only" in done.stderr


def test_policies_are_judged_on_what_was_logged(nj, tmp_path):
    log = tmp_path / "decisions.jsonl"
    rows = []
    for number in range(200):
        chance = number % 5 == 0
        rows.append({
            "id": str(number), "pool": "negajoule", "chosen": "b" if chance else "a",
            "served": "b" if chance else "a", "propensity": 0.2 if chance else 0.8, "explored": chance,
            "score": {"a": 0.5, "b": 0.5}, "energy_j": {"a": 1.0, "b": 2.0},
        })  # fmt: skip
        rows.append({"id": str(number), "judged": 0.9 if chance else 0.4})
    log.write_text("\n".join(map(json.dumps, rows)) + '\n{"broken\n')
    done = nj("route", "logged", "--log", str(log), "--price-j", "0.1", "--json")
    told = json.loads(done.stdout)
    assert (told["decisions"], told["judged"], told["explored"]) == (200, 200, 40)
    value = {row["policy"]: row["value"] for row in told["policies"]}
    assert value["always b"] == pytest.approx(0.9, abs=0.05)
    assert value["always a"] == pytest.approx(0.4, abs=0.05)
    assert value["router at 0.1 a joule"] == pytest.approx(value["always a"])
    assert "200 judged" in nj("route", "logged", "--log", str(log)).stderr
    assert "no decision of the pool" in nj("route", "logged", "--log", str(log), "--pool", "x").stderr
    assert "C106" in nj("route", "logged", "--log", str(tmp_path / "none")).stderr


def test_the_guides_commands_run_in_their_order(nj, tmp_path, monkeypatch):
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "route.md").read_text(encoding="utf-8")
    (tmp_path / "outcomes").mkdir()
    write_tables(tmp_path / "outcomes", made_up())
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) == 4
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "negajoule"
        done = nj(*arguments)
        assert (done.returncode, bool(done.stdout)) == (0, True), f"{line}\n{done.stderr}"


def test_the_guides_table_is_one_that_the_server_reads():
    from negajoule.gateway.pool_plan import read_pools

    guide = (Path(__file__).parents[2] / "docs" / "guides" / "route.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    (plan,) = read_pools(tomllib.loads(block)["pool"], "negajoule.toml")
    assert plan.models == ("large", "middle", "small")
