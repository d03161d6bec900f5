"""The audit: the article's own runs by hand-made arithmetic, and what a table may say and may not."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.audit import Run, article_runs, audit, check, read_runs
from negajoule.errors import CatalogError, ConfigError

SOUND = Run(
    name="sound", requests=1000, served=1000, seconds=600, kwh=0.1, accelerator="H100", accelerators=1,
    parameters=8.03e9, tokens=1242.1,
)  # fmt: skip


def verdicts(run):
    return {finding.rule: finding.verdict for finding in check(run)}


def changed(**fields):
    return msgspec.structs.replace(SOUND, **fields)


def test_the_articles_runs_that_cant_be():
    found = audit(article_runs())
    assert set(found.implausible) == {
        "8b-fixed-50ms", "8b-fixed-300ms", "8b-fixed-500ms", "70b-random-25ms",
    }  # fmt: skip
    by_name = {one.run.name: one for one in found.judged}
    assert len(by_name) == 11
    fixed = by_name["8b-fixed-50ms"].run
    assert fixed.each_j == pytest.approx(3.834, abs=0.001)  # 0.010651 kWh / 10000
    assert fixed.mean_w == pytest.approx(75.35, abs=0.01)  # 38343.6 J / 508.9 s
    floor = next(each for each in by_name["8b-fixed-50ms"].findings if each.rule == "floor of arithmetic")
    assert floor.bound == pytest.approx(2 * 8.03e9 * 1242.1 * 700 / 989e12, rel=0.01)  # 14.1 J
    assert by_name["70b-burst"].verdict == "doubtful"
    assert by_name["8b-random-175ms"].verdict == "holds"


def test_what_is_left_of_the_claim():
    ratios = {ratio.parameters: ratio for ratio in audit(article_runs()).ratios}
    assert ratios[8.03e9].stated == pytest.approx(0.552853 / 0.010651)
    assert ratios[8.03e9].left == pytest.approx(0.552853 / 0.096858)


def test_a_sound_run_holds():
    assert set(verdicts(SOUND).values()) == {"holds", "unknown"}  # nothing is stated twice


@pytest.mark.parametrize(
    ("fields", "rule", "verdict"),
    [
        ({"kwh": 0.003}, "floor of arithmetic", "implausible"),
        ({"kwh": 0.0125}, "idle power", "implausible"),
        ({"kwh": 0.0125, "tokens": None}, "idle power", "doubtful"),
        ({"kwh": 0.0125, "requests": 10, "served": 10}, "idle power", "holds"),
        ({"accelerator": None}, "idle power", "unknown"),
        ({"parameters": None}, "floor of arithmetic", "unknown"),
        ({"served": 900}, "served or failed", "doubtful"),
        ({"served": None, "failed": 100}, "served or failed", "doubtful"),
        ({"served": 1001}, "served or failed", "implausible"),
        ({"served": 600, "failed": 500}, "served or failed", "implausible"),
        ({"served": 0}, "served or failed", "implausible"),
        ({"served": None}, "served or failed", "unknown"),
        ({"total_kwh": 0.09}, "sums", "implausible"),
        ({"total_kwh": 0.11}, "sums", "holds"),
        ({"request_j": 360.0}, "sums", "holds"),
        ({"request_j": 36.0}, "sums", "implausible"),
    ],
)
def test_each_rule(fields, rule, verdict):
    assert verdicts(changed(**fields))[rule] == verdict


@settings(max_examples=40)
@given(st.floats(0.01, 100.0), st.floats(1.0, 1e5), st.floats(1.0, 3.0))
def test_more_energy_is_never_less_plausible(kwh, seconds, more):
    order = ["implausible", "doubtful", "holds"]
    less, higher = changed(kwh=kwh, seconds=seconds), changed(kwh=kwh * more, seconds=seconds)
    for rule in ("floor of arithmetic", "idle power", "idle and work"):
        assert order.index(verdicts(higher)[rule]) >= order.index(verdicts(less)[rule])


def test_tables_are_read(tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text("name,requests,seconds,kwh,accelerator,served\na,10,5,0.01,H100,\nb,10,5,0.01,,10\n")
    first, second = read_runs(table)
    assert (first.served, first.accelerator, second.served, second.accelerator) == (None, "H100", 10, None)
    as_json = tmp_path / "runs.json"
    as_json.write_text(json.dumps([{"name": "a", "requests": 10, "seconds": 5, "kwh": 0.01}]))
    assert read_runs(as_json)[0].kwh == 0.01


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("name,requests,seconds,kwh\n", "no rows"),
        ("name,requests,seconds\na,1,2\n", "row 1.*kwh"),
        ("name,requests,seconds,kwh\na,-1,2,3\n", "row 1.*requests"),
        ("name,requests,seconds,kwh\na,1,0,3\n", "row 1.*seconds"),
        ("name,requests,seconds,kwh\na,1,soon,3\n", "row 1"),
        ("name,requests,seconds,kwh,mood\na,1,2,3,good\n", "row 1.*mood"),
    ],
)
def test_tables_that_cant_be(tmp_path, text, words):
    table = tmp_path / "runs.csv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_runs(table)
    with pytest.raises(ConfigError, match="C106"):
        read_runs(tmp_path / "nowhere.csv")


def test_an_accelerator_that_isnt_known_is_named():
    with pytest.raises(CatalogError, match="H9000"):
        check(changed(accelerator="H9000"))
