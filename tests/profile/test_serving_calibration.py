from __future__ import annotations

import threading
import time
from math import log

import msgspec
import pytest

from made_profiles import FAST, made_profile
from negajoule.errors import ConfigError, MeterError
from negajoule.meter import Meter, Reading
from negajoule.physics.serving import ServingSetup, load_predictor, shape_of
from negajoule.profile import (
    Target,
    calibrate_serving,
    calibrated_predictor,
    calibrated_profile,
    load_serving_calibrations,
    save_serving_calibration,
)
from negajoule.profile.profile import EngineFacts
from negajoule.profile.prompts import TokenPrompts
from negajoule.profile.serving_calibration import serving_calibrations_path
from steady_engine import SteadyEngine

IDLE_W, BUSY_W = 100.0, 420.0
STEP_S = 0.008
SETUP = ServingSetup(shape=shape_of("llama-3.1-8b"), accelerator="H100")


class FakeGpu:
    """A counter that rises faster while a fake engine works; it says "fake" wherever it is named."""

    name = "fake"
    heartbeat_s = None

    def __init__(self):
        self.running = 0
        self._lock = threading.Lock()
        self._energy_j, self._time_s = 0.0, time.monotonic()

    def work(self, change):
        self.read()
        with self._lock:
            self.running += change

    def read(self):
        with self._lock:
            now_s = time.monotonic()
            power_w = BUSY_W if self.running else IDLE_W
            self._energy_j += power_w * (now_s - self._time_s)
            self._time_s = now_s
            return (Reading("gpu 0", self._energy_j, power_w, "fake gpu 0", "A", "gpu"),)

    def close(self):
        pass


class LoadedEngine(SteadyEngine):
    """A fake engine that keeps a fake GPU busy."""

    def __init__(self, gpu, **options):
        super().__init__(**options)
        self.gpu = gpu

    def run(self, *arguments):
        self.gpu.work(1)
        try:
            return super().run(*arguments)
        finally:
            self.gpu.work(-1)


def target_of(gpu=None, parts="gpu", **options):
    engine = SteadyEngine(**options) if gpu is None else LoadedEngine(gpu, **options)
    probes = [] if gpu is None else [gpu]
    return Target(
        "fake",
        {"bf16": engine},
        weights=[],
        facts=EngineFacts(
            name="fake",
            version="",
            slots=8,
            threads=None,
            context_tokens=2048,
            step_tokens=2048,
            where="there",
        ),
        prompts=TokenPrompts(),
        meter=Meter.for_machine(probes=probes),
        engine_here=False,
        parts=parts,
    )


@pytest.fixture(scope="module")
def measured():
    with target_of(FakeGpu(), step_s=STEP_S) as target:
        return calibrate_serving(
            target, max_batch=4, prompt_tokens=8, output_tokens=12, setup=SETUP, rounds=2, idle_s=0.05
        )


def test_three_points_give_idle_active_and_one_factor(measured):
    assert measured.idle_w == pytest.approx(IDLE_W, rel=0.02)
    assert measured.power_w == (pytest.approx(BUSY_W, rel=0.1), pytest.approx(BUSY_W, rel=0.1))
    assert measured.active_w == pytest.approx(BUSY_W - IDLE_W, rel=0.15)
    assert measured.batches == (1, 4)
    assert all(STEP_S <= step_s < 5 * STEP_S for step_s in measured.step_s)
    assert measured.basis == "measured"
    assert len(measured.fitted.batches) == 2
    assert measured.time_factor == measured.fitted.time_factor


def test_predictions_use_what_was_measured(measured, fresh_home):
    path = save_serving_calibration(measured)
    assert path == fresh_home / "serving-calibrations.json"
    work = {"batch": 4, "tokens_in": 1, "tokens_out": 12}
    plain, better = load_predictor(), calibrated_predictor()
    assert better.idle_power(SETUP) == pytest.approx(measured.idle_w)
    far = [
        abs(log(predictor.predict(SETUP, **work, extrapolate=True).step_s / measured.step_s[1]))
        for predictor in (better, plain)
    ]
    assert far[0] < 0.5 * far[1]
    other = msgspec.structs.replace(SETUP, accelerator="B200")
    assert better.predict(other, **work) == plain.predict(other, **work)


def test_the_last_calibration_of_a_deployment_counts(measured, fresh_home):
    save_serving_calibration(measured)
    save_serving_calibration(msgspec.structs.replace(measured, idle_w=90.0))
    save_serving_calibration(msgspec.structs.replace(measured, where="elsewhere"))
    kept = load_serving_calibrations()
    assert [(one.idle_w, one.where) for one in kept] == [(90.0, "there"), (measured.idle_w, "elsewhere")]


def test_none_kept_is_none_and_a_spoilt_file_is_named(fresh_home):
    assert load_serving_calibrations() == ()
    assert calibrated_predictor().model is load_predictor().model
    path = serving_calibrations_path()
    path.parent.mkdir(parents=True)
    path.write_text('{"schema": "negajoule.serving_calibrations/9"}')
    with pytest.raises(ConfigError, match="can't be read as calibrations") as caught:
        load_serving_calibrations()
    assert caught.value.code == "C106"


def test_without_a_counter_of_the_accelerators_nothing_is_calibrated():
    with target_of() as target, pytest.raises(MeterError, match="no power") as caught:
        calibrate_serving(target, max_batch=2, setup=SETUP, idle_s=0.01)
    assert caught.value.code == "M101"
    assert "negajoule[gpu]" in caught.value.fix


@pytest.mark.parametrize("batch", [1, 0, 9])
def test_a_largest_batch_that_cannot_be_is_refused(batch):
    with target_of() as target, pytest.raises(ConfigError, match=f"batch of {batch} can't"):
        calibrate_serving(target, max_batch=batch, idle_s=0.01)


def test_a_profile_is_corrected_by_a_younger_calibration_of_its_machine(measured):
    profile = made_profile({"Q8_0": FAST}, batches=(1, 2), rounds=1)
    here = msgspec.structs.replace(
        measured,
        setup=None,
        fitted=None,
        host_id=profile.machine.host_id,
        model=profile.model,
        where="here",
        time_factor=1.5,
        idle_w=4.0,
        created="2026-11-24T00:00:00+00:00",
    )
    slower = calibrated_profile(profile, [here])
    for before, after in zip(profile.samples, slower.samples, strict=True):
        assert after.decode.seconds == pytest.approx(1.5 * before.decode.seconds)
        assert after.prefill.energy_j[2] == pytest.approx(1.5 * before.prefill.energy_j[2])
    assert slower.idle_w == (4.0, 2.0, 8.0)
    assert "times 1.5" in slower.notes[-1]
    for other in (
        {"created": "2020-01-01T00:00:00+00:00"},
        {"host_id": "another"},
        {"model": "another"},
        {"time_factor": None},
    ):
        assert calibrated_profile(profile, [msgspec.structs.replace(here, **other)]) is profile


def test_a_factor_against_a_profile_is_measured_over_profiled_time():
    profile = made_profile({"bf16": FAST}, batches=(1, 2, 4), prompts=(8, 32))
    with target_of(FakeGpu(), step_s=STEP_S) as target:
        found = calibrate_serving(
            target, max_batch=4, prompt_tokens=8, output_tokens=12, profile=profile, rounds=1, idle_s=0.02
        )
    expected = (found.step_s[0] / FAST.steps[1] * found.step_s[1] / FAST.steps[4]) ** 0.5
    assert found.time_factor == pytest.approx(expected, rel=0.01)
    assert found.fitted is None
