"""``negajoule catalog`` and ``negajoule explain``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from negajoule.catalog.files import COLUMNS
from negajoule.cli.catalog import catalog
from negajoule.cli.explain import explain
from negajoule.errors import CODES, CatalogError


def run(command, *arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_catalog_without_a_pattern_lists_families():
    result = run(catalog)
    assert result.exit_code == 0
    assert {"grid.carbon", "cpu.core", "pue.provider", "embodied.gpu"} <= set(result.stdout.split())
    assert "explain KEY" in result.stderr


def test_catalog_lists_rows_of_a_pattern():
    result = run(catalog, "lifetime")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["key", "value", "low", "high", "unit", "year", "licence", "source"]
    assert [line.split()[0] for line in lines[2:]] == ["lifetime.gpu", "lifetime.server"]


def test_catalog_knows_places_by_name():
    result = run(catalog, "france", "--json")
    keys = {fact["key"] for fact in json.loads(result.stdout)["facts"]}
    assert keys == {"grid.carbon.FRA", "grid.water.FRA", "grid.adpe.FRA", "grid.primary.FRA"}


def test_catalog_of_nothing_says_so_on_stderr():
    result = run(catalog, "no such thing")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "no such thing" in result.stderr


def test_catalog_as_json_has_a_schema_and_every_fact():
    data = json.loads(run(catalog, "--json").stdout)
    assert data["schema"] == "negajoule.catalog/1"
    assert len(data["facts"]) > 2000
    assert all(
        {"value", "low", "high", "unit", "year", "source", "licence"} <= fact.keys() for fact in data["facts"]
    )


def test_explain_prints_source_licence_and_interval():
    text = run(explain, "grid.carbon.IND").stdout
    for part in ("593 gCO2e/kWh", "533 to 709", "2025", "Electricity Maps", "ODbL 1.0", "gCO2e/J"):
        assert part in text
    assert "other publishers" in text
    assert "CC BY-SA 4.0" in text


def test_explain_as_json():
    data = json.loads(run(explain, "grid.carbon.IND", "--json").stdout)
    assert data["schema"] == "negajoule.explanation/1"
    assert data["kind"] == "fact"
    assert data["fact"]["origin"] == "shipped"
    assert data["si"]["value"] == pytest.approx(593 / 3.6e6)
    assert [other["licence"] for other in data["others"]] == ["CC BY-SA 4.0", "CC BY 4.0"]


def test_explain_tells_an_own_row(fresh_home):
    folder = fresh_home / "catalog"
    folder.mkdir(parents=True)
    row = "pue.world,1.3,1.2,1.4,1,2026,our meter,,"
    (folder / "x.csv").write_text(f"{','.join(COLUMNS)}\n{row}\n", encoding="utf-8")
    text = run(explain, "pue.world").stdout
    assert f"your own row in {folder / 'x.csv'}" in text
    assert "not used" in text
    assert "1.58" in text
    assert "1 of" in run(catalog, "pue.").stderr


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_page(code):
    assert CODES[code] in run(explain, code.lower()).stdout
    data = json.loads(run(explain, code, "--json").stdout)
    assert data["kind"] == "code"
    assert data["meaning"] == CODES[code]
    assert data["area"]


@pytest.mark.parametrize(("key", "hint"), [("grid.carbon.FRX", "grid.carbon.FRA"), ("M999", "M101")])
def test_an_unknown_key_or_code_says_what_there_is(key, hint):
    with pytest.raises(CatalogError) as caught:
        run(explain, key)
    assert caught.value.code == "F101"
    assert hint in caught.value.fix
