"""Judgement: arithmetic of savings and break-even, and nothing said that noise could have said."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import pytest

from negajoule.cli.compress import show
from negajoule.compress.artefact import ABOUT, Artefact
from negajoule.compress.judge import comparable, judge
from negajoule.compress.model_card import card_of, write_cards
from negajoule.compress.pareto import draw
from negajoule.compress.passes import Cost, Latency, Pass
from negajoule.compress.plan import BASELINE, TWIN, Made, Plan
from negajoule.compress.recipe import Recipe
from negajoule.compress.texts import split_rows
from negajoule.compress.workshop import Round, Seen
from negajoule.errors import CompressError
from negajoule.meter import Window
from negajoule.units import Energy

TEXTS = split_rows("made", [(f"{label} {n}", label, None) for label in "ab" for n in range(1000)])
BASE_J = {BASELINE: 1.0, TWIN: 0.8, "half": 0.5, "same": 1.0, "worse": 0.4}


def window(joules, seconds=1.0):
    energy = Energy(joules, joules / 2, joules * 4, "modelled", "node")
    return Window(seconds=seconds, cpu_s=seconds, parts=(), energy=energy)


def about(kind="torch", **changes):
    found = Artefact(
        kind=kind,
        labels=TEXTS.labels,
        max_length=128,
        engine="torch 2" if kind == "torch" else "onnxruntime 1",
        precision="fp32",
        model="m",
        data=TEXTS.fingerprint,
    )
    return msgspec.structs.replace(found, **changes)


def rows(part, wrong=0):
    """Scores that are right but for the first so many."""
    return [
        [float(label == column) for column in range(2)] if number >= wrong else [label - 0.5, 0.5 - label]
        for number, label in enumerate(part.labels)
    ]


def noise(number, name):
    """Some per cent up and down, not alike for all."""
    return 1 + 0.02 * ((number * 7 + len(name) * 3) % 5 - 2)


@pytest.fixture
def study(tmp_path):
    """A study's findings, made up: half the energy, the same, and less energy with more errors."""

    def make(rounds=9, wrong=None, kinds=None):
        wrong, kinds = {"worse": 60, **(wrong or {})}, {TWIN: "onnx", "half": "onnx", **(kinds or {})}
        made = []
        for name in BASE_J:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "weights").write_bytes(b"x" * int(1000 * BASE_J[name]))
            (folder / ABOUT).write_bytes(msgspec.json.encode(about(kinds.get(name, "torch"))))
            cost = Cost(step="int8", window=window(100.0, 50.0), started_s=0.0)
            made.append(Made(name, folder, (cost,), "" if name == BASELINE else "int8"))
        answers = {
            part: {name: rows(TEXTS.part(part), wrong.get(name, 0)) for name in BASE_J}
            for part in ("validation", "test")
        }
        found = [
            Round(
                {
                    name: Seen(
                        Pass(
                            texts=100,
                            window=window(joules * 100 * noise(number, name)),
                            phases_s={"tokenise": 0.2, "compute": 0.8},
                            started_s=0.0,
                        ),
                        Latency((0.001, 0.002, 0.003)),
                    )
                    for name, joules in BASE_J.items()
                }
            )
            for number in range(rounds)
        ]
        plan = Plan(model="m", data="made", recipes=(Recipe.parse("int8"),), data_folder=tmp_path)
        return judge(plan, TEXTS, made, answers, found, dict.fromkeys(BASE_J, 10**8), {})

    return make


class TestSavings:
    def test_half_the_energy_is_half_the_energy(self, study):
        line = study().line("half")
        assert line.saving.value == pytest.approx(0.5, abs=0.03)
        assert line.saving.low <= 0.5 <= line.saving.high
        assert line.energy.value == pytest.approx(500, rel=0.05)
        assert line.phases_j["tokenise"] == pytest.approx(0.2 * line.energy.value)

    def test_engine_and_precision_are_told_apart_and_multiply(self, study):
        line = study().line("half")
        kept = (1 - line.engine_saving.value) * (1 - line.rest_saving.value)
        assert kept == pytest.approx(1 - line.saving.value, abs=0.03)
        assert study().line("worse").engine_saving is None

    def test_break_even_is_cost_over_what_a_text_saves(self, study):
        line = study().line("half")
        assert line.break_even.value == pytest.approx(100 / 0.5, rel=0.1)
        assert line.break_even.low <= line.break_even.value <= line.break_even.high

    def test_no_saving_is_claimed_inside_noise(self, study):
        line = study().line("same")
        assert line.saving.low <= 0 <= line.saving.high
        assert line.break_even is None
        assert line.claims[0] == "no difference in energy beyond noise"

    def test_too_few_rounds_claim_nothing(self, study):
        line = study(rounds=5).line("half")
        assert line.claims[0] == "too few rounds to claim a saving"
        assert line.break_even is None


class TestAccuracy:
    def test_a_real_loss_is_named(self, study):
        line = study().line("worse")
        assert line.p_value < 0.05
        assert line.lost.value == pytest.approx(15.0)
        assert line.claims[1].startswith("loses 15.0 points")

    def test_a_loss_within_noise_is_none(self, study):
        line = study(wrong={"half": 2}).line("half")
        assert line.lost.value == pytest.approx(0.5)
        assert line.claims[1].startswith("no difference in accuracy seen")
        assert "can't be excluded" in line.claims[1]

    def test_the_best_loses_little_on_the_validation_part(self, study):
        assert study().best(1.0).name == "half"
        assert study().best(30.0).name == "worse"
        assert study(wrong={"half": 60}).best(1.0) is None or study(wrong={"half": 60}).best(1.0).name == TWIN

    def test_dominated_are_those_that_lose_on_both(self, study):
        result = study()
        assert result.line(BASELINE).dominated_by == "half"
        assert result.line("half").dominated_by == ""
        assert result.line("worse").dominated_by == ""


class TestFairness:
    @pytest.mark.parametrize(
        "change", [{"data": "other"}, {"max_length": 64}, {"labels": ("a", "c")}, {"engine": "onnxruntime 1"}]
    )
    def test_other_work_is_not_compared(self, change):
        with pytest.raises(CompressError) as caught:
            comparable(about(), about(**change))
        assert caught.value.code == "K107"

    def test_another_engine_is_compared_if_asked_for(self):
        comparable(about(), about("onnx"), engines_may_differ=True)
        comparable(about(), about(engine="torch 3"))


class TestShown:
    def test_the_picture_is_sound_and_marks_what_is_dominated(self, study):
        root = ET.fromstring(draw(study()))
        name = "{http://www.w3.org/2000/svg}"
        fills = [circle.get("fill") for circle in root.iter(f"{name}circle")]
        assert len(fills) == len(BASE_J)
        assert fills.count("white") == 3
        assert any("half saves" in (text.text or "") for text in root.iter(f"{name}text"))

    def test_the_picture_bears_few_rounds(self, study):
        assert draw(study(rounds=2)).startswith("<svg")

    def test_cards_hold_what_was_measured(self, study):
        result = study()
        line = result.line("half")
        text = card_of(line, result)
        assert f"{100 * line.saving.value:.1f} %" in text
        assert "engine alone" in text
        assert str(result.test_texts) in text
        assert {file.parent.name for file in write_cards(result)} == set(BASE_J) - {BASELINE}

    def test_notes_say_that_joules_are_modelled(self, study):
        assert any(note.startswith("energies are modelled") for note in study().notes)

    def test_the_table_names_each_artefact_and_what_may_be_claimed(self, study, capsys, tmp_path):
        show(study(), tmp_path)
        out = capsys.readouterr().out
        assert all(name in out for name in BASE_J)
        assert "same: no difference in energy beyond noise" in out
        assert "best within one point, chosen on the validation part: half" in out
        assert "engine alone 2" in out
