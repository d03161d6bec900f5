"""A whole study with processes: to the end, broken off and taken up again, and with what can go wrong."""

from __future__ import annotations

import json
import os
import signal

import msgspec
import pytest

from negajoule.compress import Plan, Recipe, Study
from negajoule.compress.fine_tune import FineTuning
from negajoule.compress.hand import Hand
from negajoule.compress.orders import Order
from negajoule.compress.workshop import Workshop
from negajoule.errors import CompressError, ExtraMissingError

pytestmark = (
    pytest.mark.slow
)  # each worker loads torch: seconds, and that in processes of their own is the point


def plan(baseline, jsonl, *recipes, **changes):
    made = Plan(
        model=str(baseline),
        data=str(jsonl),
        recipes=tuple(map(Recipe.parse, recipes)),
        data_folder=jsonl.parent,
        tuning=FineTuning(epochs=1),
        max_length=32,
        batch=8,
        rounds=6,
        measured=16,
        single=2,
    )
    return msgspec.structs.replace(made, **changes)


class _Stopped(Exception):
    pass


def test_a_study_broken_off_goes_on_where_it_stopped(baseline, jsonl, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: make test installs it")
    said = []

    def stop_in_round_three(text):
        said.append(text)
        if text.startswith("round 3"):
            raise _Stopped

    wanted = plan(baseline, jsonl, "int8", "none=layers(keep=9)")
    with pytest.raises(_Stopped):
        Study(wanted, tmp_path, stop_in_round_three).run()
    lines = (tmp_path / "rounds.jsonl").read_bytes().splitlines()
    assert len(lines) == 2
    with (tmp_path / "rounds.jsonl").open("ab") as file:
        file.write(lines[0][: len(lines[0]) // 2])  # as a kill in the middle of a line would leave it

    result = Study(wanted, tmp_path, said.append).run()
    assert result.rounds == 6
    assert [line.name for line in result.lines] == ["baseline", "engine", "int8"]
    assert "9 layers can't stay of 4" in result.failed["none"]
    assert sum(text.endswith("making 0-int8") for text in said) == 1
    assert said.count("int8: answers the test part") == 1
    int8 = result.line("int8")
    assert int8.engine_saving is not None
    assert int8.quality.texts == result.test_texts
    assert int8.peak_bytes > 10**7
    assert int8.made_s > 0
    spent = Workshop(tmp_path).spent()
    assert len({one.id for one in spent}) == len(spent)
    assert {one.stage for one in spent} == {"development", "evaluation"}

    with pytest.raises(CompressError, match="another batch") as caught:
        Study(msgspec.structs.replace(wanted, batch=4), tmp_path)
    assert caught.value.code == "K107"


def test_two_recipes_of_one_name_are_refused(baseline, jsonl, tmp_path):
    with pytest.raises(CompressError, match="same name"):
        Study(plan(baseline, jsonl, "int8", "int8"), tmp_path)


def test_a_single_recipe_that_diverges_fails_the_study(baseline, jsonl, tmp_path):
    with pytest.raises(CompressError, match="diverged") as caught:
        Study(plan(baseline, jsonl, "distil(layers=2, rate=1e38)"), tmp_path).run()
    assert caught.value.code == "K104"
    assert not list(tmp_path.glob("recipes/*/0-distil"))
    assert not list(tmp_path.glob("recipes/*/.making*"))


def test_a_killed_worker_is_said_to_be_out_of_memory(tmp_path):
    with Hand(tmp_path / "log") as hand:
        os.kill(hand.process, signal.SIGKILL)
        with pytest.raises(CompressError, match="ran out of memory") as caught:
            hand.order(Order(do="end"))
    assert caught.value.code == "K106"


def test_a_worker_that_breaks_off_names_its_log(tmp_path):
    with Hand(tmp_path / "log") as hand, pytest.raises(CompressError, match="no such thing") as caught:
        hand.order(Order(do="no such thing"))
    assert str(tmp_path / "log") in caught.value.fix


def test_texts_that_changed_meanwhile_are_refused(baseline, jsonl, tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text(jsonl.read_text())
    study = Study(plan(baseline, file, "int8"), tmp_path / "study")
    file.write_text(file.read_text() + json.dumps({"text": "one more", "label": "good"}) + "\n")
    with pytest.raises(CompressError, match="changed while") as caught:
        study.run()
    assert caught.value.code == "K107"


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    from negajoule.compress.toolbox import library

    with pytest.raises(ExtraMissingError, match="needed to x") as caught:
        library("no_such_library", "x")
    assert "negajoule[compress]" in caught.value.fix
