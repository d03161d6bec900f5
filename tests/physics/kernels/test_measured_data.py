"""The shipped laws and coefficients on the measured data, where it is at hand."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from fitting.kernel_latency import NAME, Study
from fitting.kernel_latency_rows import read_rows

from negajoule.physics.kernels.latency import latency_of
from negajoule.physics.kernels.score import score_tables

DATA = Path(os.environ.get("NEGAJOULE_DATA", Path(__file__).parents[4] / "shared" / "data"))

pytestmark = pytest.mark.skipif(not (DATA / NAME).exists(), reason="the measured data isn't at hand")


@pytest.mark.slow  # reads 86,000 rows of kernels
def test_the_laws_meet_the_tables_that_they_were_fitted_on(tmp_path):
    for name in ("nv_aic_b200_sxm_generation_attention", "nv_aic_h200_sxm_moe"):
        file = f"{name}_perf.parquet"
        (tmp_path / file).symlink_to(DATA / "serving" / file)
    scores = [score for score in score_tables(tmp_path) if score.known]
    assert len(scores) == 5
    for score in scores:
        assert score.time_mape < 0.17
        assert score.energy_mape < 0.30
        assert 0.85 < score.time_covered < 0.95
        assert 0.85 < score.energy_covered < 0.95


def test_known_pairs_are_met_by_their_own_factors():
    rows, dropped = read_rows(DATA / NAME)
    assert not dropped
    some = rows[::10]
    found = [latency_of(row.deployed) for row in some]
    study = Study(some)
    assert np.median(abs(np.array([f.tpot_s for f in found]) / study.tpot - 1)) < 0.12
    assert np.median(abs(np.array([f.ttft_s for f in found]) / study.ttft - 1)) < 0.3
