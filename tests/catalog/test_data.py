"""Every row of every shipped file."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from negajoule.catalog import lookup, search, zones
from negajoule.catalog.files import COLUMNS, family_of, parse_row, read_rows
from negajoule.catalog.shelf import DATA

ROOT = Path(__file__).parents[2]
STUDY_DATA = Path(os.environ.get("NEGAJOULE_DATA", ROOT.parent / "shared/data"))
FILES = sorted(path for path in DATA.glob("*.csv") if path.name != "zones.csv")
SHARE_ALIKE = ("CC BY-SA", "ODbL", "MPL")

# Least and most that a value may be, by the start of its key.
PLAUSIBLE = {
    "grid.carbon": (5, 1400),
    "grid.water": (0.5, 25),
    "grid.adpe": (1e-8, 1e-6),
    "grid.primary": (0.01, 25),
    "pue": (1, 2),
    "wue": (0, 3),
    "cpu.core": (0.3, 10),
    "cpu.architecture": (0.2, 15),
    "cpu.tdp": (4, 600),
    "gpu.tdp": (25, 1500),
    "memory": (0.01, 0.4),
    "embodied.core": (1, 100),
    "embodied.memory": (0.2, 3),
    "embodied.gpu": (0.001, 5000),
    "embodied.server": (0.1, 80_000),
    "lifetime": (2, 10),
}


def facts_of(path):
    return [parse_row(path, row) for row in read_rows(path).values()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_row_is_a_fact_of_its_family(path):
    facts = facts_of(path)
    assert facts
    for fact in facts:
        assert f"{fact.key}.".startswith(f"{family_of(path)}."), fact.key
        assert fact.licence, fact.key
        assert 2009 <= fact.year <= 2026, fact.key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_share_alike_rows_stand_in_files_that_say_so(path):
    suffix = path.stem.partition("_")[2]
    for fact in facts_of(path):
        named = fact.licence.replace("CC BY-SA", "CC-BY-SA")
        if suffix:
            assert named.startswith(suffix), fact.key
        else:
            assert not fact.licence.startswith(SHARE_ALIKE), fact.key


def test_no_file_repeats_a_key():
    for path in FILES:
        with path.open(encoding="utf-8", newline="") as stream:
            keys = [row["key"] for row in csv.DictReader(stream)]
        assert len(keys) == len(set(keys)), path.name


@pytest.mark.parametrize(("family", "ends"), PLAUSIBLE.items())
def test_values_are_plausible(family, ends):
    facts = [fact for fact in search(f"{family}") if f"{fact.key}.".startswith(f"{family}.")]
    assert facts
    for fact in facts:
        assert ends[0] <= fact.value <= ends[1], fact
        assert fact.high <= 4 * ends[1], fact


def test_every_file_stands_in_the_list_of_sources():
    listed = set(re.findall(r"`([\w.-]+\.csv)`", (DATA / "SOURCES.md").read_text(encoding="utf-8")))
    assert listed >= {path.name for path in DATA.glob("*.csv")}


def test_modelled_figures_have_an_interval():
    for family in ("grid.", "cpu.core", "cpu.architecture", "memory", "embodied", "lifetime", "wue", "pue"):
        for fact in search(family):
            if fact.key.startswith(family):
                assert fact.low < fact.high, fact.key


def test_the_world_is_not_the_stale_figure_of_2019():
    for key in ("grid.carbon.world", "grid.carbon.unknown"):
        fact = lookup(key)
        assert fact.value != 475
        assert fact.year >= 2023
        assert fact.low < fact.value < fact.high
    world = lookup("grid.carbon.world")
    assert 430 <= world.low <= 458
    assert 482 <= world.high <= 500


def test_an_unknown_place_is_wider_than_the_mean_of_the_world():
    world, unknown = lookup("grid.carbon.world"), lookup("grid.carbon.unknown")
    assert unknown.low < world.low / 2
    assert unknown.high > world.high * 1.2


def test_copies_of_a_world_row_are_left_out():
    assert len({fact.value for fact in search("grid.water.")}) > 40
    assert not [fact for fact in search("grid.adpe.") if fact.key.endswith("world")]
    assert not [fact for fact in search("grid.primary.") if fact.key.endswith("world")]


def test_every_country_with_an_intensity_is_a_known_place():
    for fact in search("grid.carbon."):
        place = fact.key.removeprefix("grid.carbon.")
        if place != "unknown":
            assert zones.canonical(place) == place
            assert zones.country_of(place)


def test_columns_are_those_of_the_format():
    for path in FILES:
        assert path.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.slow
@pytest.mark.skipif(not STUDY_DATA.is_dir(), reason="the source data aren't here")
@pytest.mark.parametrize("script", ["cpu_power", "catalog_grid", "catalog_cpu_tdp", "catalog_embodied"])
def test_files_are_what_their_scripts_write(script):
    command = [sys.executable, f"fitting/{script}.py", "--data", str(STUDY_DATA), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
