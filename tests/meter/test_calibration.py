import pytest
from trees import coefficients, host

from negajoule.meter import Meter
from negajoule.meter.attribution import modelled
from negajoule.meter.calibration import (
    Calibration,
    calibrated,
    calibration_path,
    coefficients_for,
    load_calibration,
    save_calibration,
)
from negajoule.meter.host import read_host
from negajoule.meter.model import Span


def calibration(**changes):
    fields = {
        "host_id": host().host_id,
        "cpu": "Xeon",
        "created": "2026-11-23T10:00:00+00:00",
        "boundary": "machine",
        "reference": "meter.csv",
        "idle_w": Span(140.8, 130.8, 150.8),
        "thread_w": Span(2.0, 1.8, 2.2),
        "residual_w": 0.5,
        "points": 20,
    }
    return Calibration(**(fields | changes))


def test_a_machine_s_idle_power_gives_its_memory_back():
    found = calibrated(coefficients(), calibration(), host())
    assert found.idle_w.value == pytest.approx((140.8 - 0.3 * 256) / 32)
    assert found.active_w.value == 2.0
    assert found.cores_per_busy_thread == (1.0, 1.0, 1.0)
    assert (found.active_grade, found.idle_grade) == ("C", "C")
    assert "2026-11-23" in found.active_source
    assert found.notes


def test_a_package_s_idle_power_leaves_the_server_s_alone():
    found = calibrated(coefficients(), calibration(boundary="package", idle_w=Span(32.0, 30.0, 34.0)), host())
    assert found.idle_w == coefficients().idle_w
    assert found.package_idle_w == pytest.approx((1.0, 30 / 32, 34 / 32))
    assert (found.active_grade, found.idle_grade) == ("C", "D")


def test_the_whole_machine_comes_out_as_it_was_measured():
    """Idle plus 10 busy threads for a second, through the model, is what the meter showed."""
    found = calibrated(coefficients(), calibration(), host())
    slices = modelled(
        found,
        seconds=1.0,
        cpu_s=10.0,
        cores=Span(32.0, 32.0, 32.0),
        memory_bytes=Span(256e9, 256e9, 256e9),
        counted=frozenset(),
    )
    assert sum(piece.energy_j.value for piece in slices) == pytest.approx(140.8 + 10 * 2.0)


def test_it_is_kept_and_found_again(tmp_path):
    path = save_calibration(calibration(), tmp_path / "deep" / "calibration.json")
    assert load_calibration(host(), path) == calibration()


def test_another_machine_s_isn_t_used(tmp_path):
    path = save_calibration(calibration(host_id="other"), tmp_path / "calibration.json")
    assert load_calibration(host(), path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":"negajoule.calibration/1"}'])
def test_a_malformed_one_isn_t_used(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    assert load_calibration(host(), path) is None


def test_an_unsound_one_isn_t_used(tmp_path):
    path = save_calibration(calibration(thread_w=Span(2.0, 3.0, 2.5)), tmp_path / "calibration.json")
    assert load_calibration(host(), path) is None


def test_the_meter_uses_it(fresh_home):
    here = read_host()
    assert coefficients_for(here).active_grade == "D"
    save_calibration(calibration(host_id=here.host_id, idle_w=Span(60.0, 55.0, 65.0)))
    assert calibration_path() == fresh_home / "calibration.json"
    meter = Meter.for_process(probes=[])
    window = meter.between(meter.read(), meter.read())
    assert {part.name: part.grade for part in window.parts} == {
        "cpu active": "C",
        "machine idle": "C",
        "memory": "D",
    }
    meter.close()
