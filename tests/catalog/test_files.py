"""Malformed files are named by file, line and column."""

from __future__ import annotations

import pytest

from negajoule.catalog import Catalog
from negajoule.catalog.files import COLUMNS, parse_row, read_rows
from negajoule.errors import CatalogError

HEADER = ",".join(COLUMNS)
GOOD = "pue.world,1.3,1.2,1.4,1,2025,our meter,,own site"


def written(tmp_path, *lines, header=HEADER, name="mine.csv"):
    path = tmp_path / name
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def refusal(path):
    with pytest.raises(CatalogError) as caught:
        Catalog(path.parent).lookup("pue.world")
    assert caught.value.code == "F102"
    assert caught.value.fix
    return caught.value.message


def test_a_good_row_is_read(tmp_path):
    path = written(tmp_path, GOOD)
    (row,) = read_rows(path).values()
    fact = parse_row(path, row, "here")
    assert (fact.key, fact.value, fact.low, fact.high) == ("pue.world", 1.3, 1.2, 1.4)
    assert (fact.unit, fact.year, fact.source, fact.note) == ("1", 2025, "our meter", "own site")
    assert fact.origin == "here"


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("pue.world,1.3,1.4,1.5,1,2025,meter,,", "low"),
        ("pue.world,1.3,1.2,1.25,1,2025,meter,,", "high"),
        ("pue.world,nan,1.2,1.4,1,2025,meter,,", "value"),
        ("pue.world,1.3,1.2,inf,1,2025,meter,,", "high"),
        ("pue.world,1.3,-1,1.4,1,2025,meter,,", "low"),
        ("pue.world,about 1.3,1.2,1.4,1,2025,meter,,", "value"),
        ("pue.world,1.3,,1.4,1,2025,meter,,", "low"),
        ("pue.world,1.3,1.2,1.4,percent,2025,meter,,", "unit"),
        ("pue.world,1.3,1.2,1.4,,2025,meter,,", "unit"),
        ("pue.world,1.3,1.2,1.4,1,last year,meter,,", "year"),
        ("pue.world,1.3,1.2,1.4,1,25,meter,,", "year"),
        ("pue.world,1.3,1.2,1.4,1,٢٠٢٥,meter,,", "year"),
        ("pue.world,1.3,1.2,1.4,1,2025, ,,", "source"),
        ("PUE,1.3,1.2,1.4,1,2025,meter,,", "key"),
        ("pue.world and more,1.3,1.2,1.4,1,2025,meter,,", "key"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, row, column):
    good = GOOD.replace("pue.world", "pue.site.here")
    message = refusal(written(tmp_path, good, row))
    assert "mine.csv:3: " in message
    assert f"column {column}" in message


@pytest.mark.parametrize("row", ["pue.world,1.3", f"{GOOD},more"])
def test_a_row_of_the_wrong_length_is_named(tmp_path, row):
    assert "mine.csv:2: " in refusal(written(tmp_path, row))


def test_a_key_given_twice_is_named(tmp_path):
    message = refusal(written(tmp_path, GOOD, GOOD))
    assert "mine.csv:3: " in message
    assert "line 2" in message


def test_a_key_given_in_two_files_is_named(tmp_path):
    written(tmp_path, GOOD, name="a.csv")
    message = refusal(written(tmp_path, GOOD, name="b.csv"))
    assert "b.csv:2: " in message
    assert "a.csv" in message


@pytest.mark.parametrize(
    "header", ["key,value,unit", "", "name,value,low,high,unit,year,source,licence,note"]
)
def test_wrong_columns_are_named(tmp_path, header):
    message = refusal(written(tmp_path, GOOD, header=header))
    assert "mine.csv:1: " in message
    assert HEADER in message


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert "mine.csv" in refusal(path)


def test_an_open_quote_is_refused(tmp_path):
    assert "mine.csv" in refusal(written(tmp_path, 'pue.world,1.3,1.2,1.4,1,2025,"meter,,'))


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.mkdir()
    assert "mine.csv" in refusal(path)


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = written(tmp_path, "", GOOD, "")
    path.write_text("\ufeff" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert Catalog(tmp_path).lookup("pue.world").value == 1.3
