"""Looking up, searching, overriding, and several publishers of one figure."""

from __future__ import annotations

import subprocess
import sys

import pytest

from negajoule.catalog import Catalog, first_of, lookup, search, shelf
from negajoule.catalog.files import COLUMNS
from negajoule.errors import CatalogError

OWN = "grid.carbon.FRA,12,10,14,gCO2e/kWh,2026,our supplier,,contract"


@pytest.fixture
def own_row(fresh_home):
    folder = fresh_home / "catalog"
    folder.mkdir(parents=True)
    path = folder / "ours.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{OWN}\n", encoding="utf-8")
    return path


def test_an_unknown_key_lists_near_ones():
    with pytest.raises(CatalogError) as caught:
        lookup("grid.carbon.fra")
    assert caught.value.code == "F101"
    assert "grid.carbon.fra" in caught.value.message
    assert "grid.carbon.FRA" in caught.value.fix


def test_a_key_near_to_none_says_where_to_look():
    with pytest.raises(CatalogError) as caught:
        lookup("???")
    assert "negajoule catalog" in caught.value.fix


def test_first_of_takes_the_first_that_exists():
    assert first_of(["grid.water.VAT", "grid.water.FRA", "grid.water.world"]).key == "grid.water.FRA"
    assert first_of(f"grid.water.{place}" for place in ("VAT", "world")).key == "grid.water.world"


@pytest.mark.parametrize("keys", [[], ["grid.adpe.VAT", "grid.adpe.world"]])
def test_first_of_none_is_an_error(keys):
    with pytest.raises(CatalogError) as caught:
        first_of(keys)
    assert caught.value.code == "F101"
    assert all(key in caught.value.message for key in keys)


def test_search_finds_any_part_of_a_key_in_order():
    keys = [fact.key for fact in search("LIFETIME.")]
    assert keys == ["lifetime.gpu", "lifetime.server"]
    assert "cpu.core.active_power" in [fact.key for fact in search("active_power")]
    assert search("no such key") == []


def test_the_newest_row_wins_and_spans_the_runner_up():
    fact = lookup("grid.carbon.IND")
    rows = shelf.default_catalog().rows("grid.carbon.IND")
    assert [row.year for row in rows] == sorted((row.year for row in rows), reverse=True)
    assert len({row.licence for row in rows}) == len(rows) == 3
    assert fact.value == rows[0].value
    assert fact.low <= rows[1].value <= fact.high
    assert rows[1].value > rows[0].high  # so the interval had to grow
    assert rows[1].licence in fact.note


def test_an_agreeing_runner_up_leaves_the_row_as_it_is():
    assert lookup("grid.carbon.DEU") == shelf.default_catalog().rows("grid.carbon.DEU")[0]


def test_an_own_row_wins_and_is_marked(own_row):
    fact = lookup("grid.carbon.FRA")
    assert (fact.value, fact.low, fact.high) == (12, 10, 14)
    assert fact.overridden
    assert fact.origin == str(own_row)
    assert lookup("grid.carbon.DEU").overridden is False


def test_an_own_row_hides_but_does_not_lose_the_others(own_row):
    rows = shelf.default_catalog().rows("grid.carbon.FRA")
    assert rows[0].overridden
    assert len(rows) == 4


def test_an_own_row_may_have_a_key_of_its_own(fresh_home):
    folder = fresh_home / "catalog"
    folder.mkdir(parents=True)
    row = "pue.site.cellar,1.1,1.05,1.2,1,2026,our meter,,"
    (folder / "x.csv").write_text(f"{','.join(COLUMNS)}\n{row}\n", encoding="utf-8")
    ours = Catalog()
    assert ours.lookup("pue.site.cellar").value == 1.1
    assert "pue.site.cellar" in ours.keys("pue.site.")
    assert "pue.site.cellar" in [fact.key for fact in ours.search("cellar")]


def test_the_folder_may_be_given_or_missing(own_row, tmp_path):
    assert Catalog(own_row.parent).lookup("grid.carbon.FRA").value == 12
    assert Catalog(tmp_path / "missing").lookup("grid.carbon.FRA").overridden is False


def test_another_home_is_another_catalogue(own_row, monkeypatch, tmp_path):
    assert lookup("grid.carbon.FRA").overridden
    monkeypatch.setenv("NEGAJOULE_HOME", str(tmp_path / "elsewhere"))
    assert not lookup("grid.carbon.FRA").overridden


def test_a_lookup_reads_only_the_files_that_can_hold_the_key(monkeypatch):
    read = []

    def spy(path, real=shelf.read_text):
        read.append(path.name)
        return real(path)

    shelf._text.cache_clear()
    monkeypatch.setattr(shelf, "read_text", spy)
    Catalog().lookup("pue.world")
    assert read == ["pue.csv"]
    Catalog().lookup("grid.carbon.FRA")
    assert read[1:] == ["grid.carbon.csv", "grid.carbon_CC-BY-SA.csv", "grid.carbon_ODbL.csv"]
    Catalog().lookup("embodied.core")
    assert read[4:] == ["embodied.core.csv", "embodied.csv"]


def test_the_room_works_without_numpy():
    code = "import sys, negajoule.catalog as c; c.lookup('grid.carbon.FRA'); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_row_found_alone_is_the_row_of_the_whole_file():
    for path in shelf._files():
        text, rows = shelf.read_text(path), shelf.read_rows(path)
        assert {key: shelf.find_row(text, key) for key in rows} == rows
