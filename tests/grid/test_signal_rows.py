"""The rows on the doubt of hourly intensities: what their script writes, and in a sensible order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from negajoule.catalog import lookup

ROOT = Path(__file__).parents[2]
STUDY_DATA = Path(os.environ.get("NEGAJOULE_DATA", ROOT.parent / "shared/data"))


def test_doubt_grows_from_published_over_expected_to_estimated_and_unknown_hours():
    rows = [lookup(f"grid.signal.{name}") for name in ("published", "forecast", "estimated", "hour_in_year")]
    lows = [row.low for row in rows]
    assert lows == sorted(lows, reverse=True)
    assert all(row.low < 1 == row.value < row.high for row in rows)


def test_bounds_of_sense_hold_every_grid_of_the_catalogue():
    bounds = lookup("grid.signal.plausible")
    from negajoule.catalog import search

    values = [fact.value for fact in search("grid.carbon.")]
    assert bounds.low < min(values) / 5
    assert max(values) < bounds.high


@pytest.mark.slow
@pytest.mark.skipif(not STUDY_DATA.is_dir(), reason="the source data aren't here")
def test_the_rows_are_what_their_script_writes():
    pytest.importorskip("pyarrow")
    command = [sys.executable, "fitting/grid_signal.py", "--data", str(STUDY_DATA), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
