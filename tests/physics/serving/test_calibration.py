"""Calibration: a point is hit, a sweep is followed, other setups stay, and odd figures are refused."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import MeterError
from negajoule.physics.serving import (
    MeasuredPoint,
    ServingSetup,
    fit_setup_calibration,
    load_predictor,
    shape_of,
)

SETUP = ServingSetup(shape=shape_of("llama-3.1-8b"), accelerator="h100")
ASKED = {"tokens_in": 200.0, "tokens_out": 400.0}


def measured(batch: float, slower: float = 1.0, stronger: float = 1.0) -> MeasuredPoint:
    """A machine that is so much slower, and draws so much more above idle, than the model says."""
    found = load_predictor().predict(SETUP, batch=batch, **ASKED)
    idle = load_predictor().idle_power(SETUP)
    return MeasuredPoint(
        batch=batch,
        token_s=found.token_s * slower,
        power_w=idle + (found.power_w - idle) * stronger,
        **ASKED,
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(0.6, 1.6), st.floats(0.7, 1.3), st.floats(1.0, 500.0))
def test_a_measured_point_is_nearly_hit(slower: float, stronger: float, batch: float) -> None:
    plain = load_predictor()
    point = measured(batch, slower, stronger)
    calibrated = plain.calibrated(SETUP, fit_setup_calibration(plain, SETUP, [point]))
    found = calibrated.predict(SETUP, batch=batch, **ASKED)
    assert abs(math.log(found.token_s / point.token_s)) <= 0.101 * abs(math.log(slower)) + 1e-9
    assert abs(math.log(found.power_w / point.power_w)) <= 0.101 * abs(math.log(stronger)) + 0.005
    before = plain.predict(SETUP, batch=batch, **ASKED)
    assert found.energy_half_width <= before.energy_half_width


def test_a_point_says_less_about_other_batches() -> None:
    plain = load_predictor()
    calibrated = plain.calibrated(SETUP, fit_setup_calibration(plain, SETUP, [measured(8.0, 1.4)]))

    def ratio(batch: float) -> float:
        return (
            calibrated.predict(SETUP, batch=batch, **ASKED).token_s
            / plain.predict(SETUP, batch=batch, **ASKED).token_s
        )

    assert ratio(8.0) > ratio(16.0) > ratio(64.0) > ratio(512.0) > 1.0
    near = calibrated.predict(SETUP, batch=8.0, **ASKED)
    far = calibrated.predict(SETUP, batch=512.0, **ASKED)
    assert near.time_half_width <= far.time_half_width
    assert any("calibrated with 1" in note for note in near.notes)


def test_three_points_bend_the_curve() -> None:
    plain = load_predictor()
    points = [measured(1.0, 1.5, 1.1), measured(256.0, 0.8, 0.9)]
    fitted = fit_setup_calibration(plain, SETUP, points, idle_w=90.0)
    calibrated = plain.calibrated(SETUP, fitted)
    for point in points:
        found = calibrated.predict(SETUP, batch=point.batch, **ASKED)
        assert found.token_s == pytest.approx(point.token_s, rel=0.06)
        assert found.power_w == pytest.approx(point.power_w, rel=0.06)
    assert calibrated.idle_power(SETUP) == pytest.approx(90.0)
    assert calibrated.uncalibrated().idle_power(SETUP) == plain.idle_power(SETUP)
    assert 0.8 < fitted.time_factor < 1.5
    assert 0.9 < fitted.active_factor < 1.1


def test_idle_alone_moves_only_idle() -> None:
    plain = load_predictor()
    fitted = fit_setup_calibration(plain, SETUP, [], idle_w=140.0)
    calibrated = plain.calibrated(SETUP, fitted)
    before, after = (one.predict(SETUP, batch=8.0, **ASKED) for one in (plain, calibrated))
    assert after.step_s == before.step_s
    assert after.idle.energy_j > before.idle.energy_j
    assert (fitted.time_factor, fitted.active_factor) == (1.0, 1.0)


def test_another_model_stays_as_it_was() -> None:
    plain = load_predictor()
    calibrated = plain.calibrated(SETUP, fit_setup_calibration(plain, SETUP, [measured(8.0, 1.4)]))
    other = ServingSetup(shape=shape_of("qwen3-8b"), accelerator="h100")
    assert calibrated.predict(other, batch=8.0, **ASKED) == plain.predict(other, batch=8.0, **ASKED)
    limited = ServingSetup(shape=shape_of("llama-3.1-8b"), accelerator="h100", count=2)
    assert calibrated.predict(limited, batch=8.0, **ASKED) != plain.predict(limited, batch=8.0, **ASKED)


@pytest.mark.parametrize(
    ("points", "idle", "message"),
    [
        ([], None, "nothing to calibrate"),
        ([{"token_s": 0.0}], None, "isn't a positive number"),
        ([{"power_w": math.nan}], None, "isn't a positive number"),
        ([{}], -5.0, "isn't a positive number"),
        ([{"power_w": 40.0}], 72.0, "not more than 72 W"),
        ([{"token_s": 12.0}], None, "times the prediction"),
    ],
)
def test_figures_that_cannot_be(points: list[dict[str, Any]], idle: float | None, message: str) -> None:
    usual = {"batch": 8.0, "token_s": 0.0075, "power_w": 480.0} | ASKED
    given_points = [MeasuredPoint(**(usual | point)) for point in points]
    with pytest.raises(MeterError, match=message) as caught:
        fit_setup_calibration(load_predictor(), SETUP, given_points, idle_w=idle)
    assert caught.value.code == "M105"
