"""The intensity of this moment never waits, and a measured program gets the grid of its hours."""

from __future__ import annotations

import threading
import time

import pytest
from playing_apis import NOW, Reply, em_point, floor, iso

from negajoule.catalog import lookup
from negajoule.config import Settings
from negajoule.grid import Grid, LiveIntensity
from negajoule.grid.signal import J_PER_KWH
from negajoule.instrument import Here, find_here
from negajoule.meter import Meter

HERE = floor(NOW)


def live(api, now, timeout_s=2.0):
    settings = Settings({"grid_source": "electricitymaps", "grid_timeout_s": timeout_s})
    environment = {"NEGAJOULE_ELECTRICITYMAPS_KEY": "k"}
    grid = Grid(settings, environment=environment, fetch=api.fetch, clock=lambda: now[0])
    return LiveIntensity(grid, "FRA", clock=lambda: now[0])


def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def test_now_does_not_wait_for_a_source_that_hangs(api):
    api.says(Reply(em_point(HERE, 50), pause_s=30))
    intensity = live(api, [NOW])
    began = time.monotonic()
    for _ in range(100):
        resolved = intensity.now()
    assert time.monotonic() - began < 0.5
    assert (resolved.origin, resolved.is_fallback) == ("catalogue", True)
    assert resolved.attempts[0].reason == "not asked yet"
    until(lambda: api.asked)
    assert len(api.asked) == 1


def test_now_has_the_answer_once_it_is_there_and_asks_again_in_the_next_hour(api):
    api.says(em_point(HERE, 50))
    now = [NOW]
    intensity = live(api, now)
    intensity.now()
    until(lambda: intensity.now().origin == "electricitymaps")
    for _ in range(10):
        assert intensity.now().intensity.value * J_PER_KWH == pytest.approx(50)
    assert len(api.asked) == 1
    api.says(em_point(HERE + 3600, 70))
    now[0] += 3600
    # The hour that has passed stands in until the new one is there.
    assert intensity.now().intensity.value * J_PER_KWH == pytest.approx(50)
    until(lambda: intensity.now().intensity.value * J_PER_KWH == pytest.approx(70))
    assert len(api.asked) == 2


def test_after_a_failure_it_is_tried_again_a_minute_later(api):
    api.says(Reply("down", status=500), Reply(em_point(HERE, 50)))
    now = [NOW]
    intensity = live(api, now)
    intensity.now()
    until(lambda: intensity.now().attempts[0].reason != "not asked yet")
    assert intensity.now().is_fallback
    now[0] += 61
    intensity.now()
    until(lambda: not intensity.now().is_fallback)


def test_many_threads_make_one_question(api):
    api.says(Reply(em_point(HERE, 50), pause_s=0.2))
    intensity = live(api, [NOW])
    threads = [threading.Thread(target=intensity.now) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: intensity.now().origin == "electricitymaps")
    assert len(api.asked) == 1


def hour_of(now_s):
    return {
        "zone": "FR",
        "history": [{"datetime": iso(floor(now_s) - i * 3600), "carbonIntensity": 50} for i in range(3)],
    }


def here_with(api):
    here = find_here(Settings({"zone": "FR"}))
    settings = Settings({"grid_source": "electricitymaps"})
    grid = Grid(settings, environment={"NEGAJOULE_ELECTRICITYMAPS_KEY": "k"}, fetch=api.fetch)
    return Here(here.host, here.location, here.factors, LiveIntensity(grid, "FRA"))


def test_a_measured_window_gets_the_grid_of_its_hours(api):
    api.answer = lambda asked: Reply(
        {"zone": "FR", **hour_of(time.time())["history"][0]}
        if asked.path.endswith("latest")
        else hour_of(time.time())
    )
    here = here_with(api)
    meter = Meter.for_process()
    first = meter.read()
    sum(range(200_000))
    cost = here.cost_of(meter.between(first, meter.read()))
    factor = next(f for f in cost.factors if f.name == "carbon intensity")
    assert factor.key == "grid_source.electricitymaps.FRA"
    assert factor.quantity.value * J_PER_KWH == pytest.approx(50)
    expected = cost.facility_energy.value * factor.quantity.value
    assert cost.carbon_location.value == pytest.approx(expected)
    assert any("by electricitymaps" in note for note in cost.notes)


def test_a_share_of_this_moment_never_waits_and_says_what_stands_in(api):
    api.says(Reply("late", pause_s=30))
    here = here_with(api)
    began = time.monotonic()
    cost = here.cost((), 1.0)
    assert time.monotonic() - began < 0.5
    assert any("electricitymaps gave nothing" in note for note in cost.notes)


def test_a_failing_source_does_not_end_the_measured_program(api):
    api.says(Reply("<html>", status=500))
    here = here_with(api)
    meter = Meter.for_process()
    first = meter.read()
    cost = here.cost_of(meter.between(first, meter.read()))
    factor = next(f for f in cost.factors if f.name == "carbon intensity")
    assert factor.key == "grid.carbon.FRA"
    assert factor.quantity.high > lookup("grid.carbon.FRA").quantity().high


def test_find_here_takes_a_configured_source_and_asks_nobody_yet(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))
    assert find_here(Settings({"zone": "FR"})).grid is None
    assert find_here(Settings({"zone": "FR", "grid_source": "uk"})).grid is not None
    # What the user states is the last word: nobody needs to be asked.
    assert find_here(Settings({"zone": "FR", "grid_source": "uk", "carbon_intensity": 5.0})).grid is None


def test_an_old_factor_of_the_catalogue_is_said_in_every_footprint(fresh_home):
    from negajoule.catalog import shelf

    folder = fresh_home / "catalog"
    folder.mkdir(parents=True)
    (folder / "own.csv").write_text(
        "key,value,low,high,unit,year,source,licence,note\ngrid.carbon.FRA,40,30,50,gCO2e/kWh,2015,a test,,\n"
    )
    shelf._catalog_for.cache_clear()
    try:
        notes = find_here(Settings({"zone": "FR"})).factors.notes
        assert any("describes 2015" in note for note in notes)
    finally:
        shelf._catalog_for.cache_clear()
