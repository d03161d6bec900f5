"""``negajoule grid`` as users call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from negajoule.catalog import lookup


def nj(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "negajoule", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_it_tells_the_catalogues_figure_with_range_year_and_origin():
    done = nj("grid", "fr")
    fact = lookup("grid.carbon.FRA")
    assert done.returncode == 0
    assert "FRA (from: user)" in done.stdout
    assert f"catalogue [grid.carbon.FRA], of {fact.year}" in done.stdout
    assert f"{fact.value:g} gCO2e/kWh ({fact.low:g} to {fact.high:g})" in done.stdout
    assert "market-based       not stated" in done.stdout


def test_its_json_has_a_schema_and_both_methods():
    data = json.loads(nj("grid", "FR", "--json", NEGAJOULE_MARKET_INTENSITY="3").stdout)
    assert data["schema"] == "negajoule.grid/1"
    assert data["location"] == {"zone": "FRA", "origin": "user", "note": ""}
    assert data["location_based"]["unit"] == "gCO2e/kWh"
    assert data["market_based"]["value"] == 3
    assert data["fallback"] is False


def test_a_users_series_is_used_and_said(tmp_path):
    series = tmp_path / "hours.csv"
    now = time.strftime("%Y-%m-%dT%H:00Z", time.gmtime())
    series.write_text(f"time,zone,g_per_kwh\n{now},FR,33\n")
    data = json.loads(nj("grid", "--json", NEGAJOULE_GRID_SOURCE=str(series), NEGAJOULE_ZONE="FR").stdout)
    assert (data["origin"], data["location_based"]["value"], data["scope"]) == ("hours.csv", 33, "as given")
    assert data["location"]["origin"] == "configured"


def test_a_source_that_fails_is_said_with_code_and_next_step_and_no_key(tmp_path):
    done = nj(
        "grid",
        "FR",
        NEGAJOULE_GRID_SOURCE=f"electricitymaps,{tmp_path}/none.csv",
        NEGAJOULE_ELECTRICITYMAPS_KEY=" ",
    )
    assert done.returncode == 0
    assert "NO [G103] electricitymaps needs a key; export NEGAJOULE_ELECTRICITYMAPS_KEY=..." in done.stdout
    assert "NO [C106] can't read" in done.stdout
    assert "its interval widened to the hours of a year" in done.stdout
    assert "secret-key" not in nj("config", NEGAJOULE_ELECTRICITYMAPS_KEY="secret-key").stdout


def test_mistakes_end_in_one_message():
    for arguments, environment, code in (
        (("grid", "Atlantis"), {}, "F101"),
        (("grid", "FR"), {"NEGAJOULE_GRID_SOURCE": "electricitymap"}, "C101"),
        (("grid", "FR"), {"NEGAJOULE_GRID_REGION": "CAISO_NORTH"}, "C101"),
        (("grid", "FR"), {"NEGAJOULE_GRID_TIMEOUT_S": "0"}, "C101"),
        (("grid", "FR"), {"NEGAJOULE_CLOUD_METADATA": "perhaps"}, "C101"),
    ):
        done = nj(*arguments, **environment)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error[{code}]")
        assert "Traceback" not in done.stderr
