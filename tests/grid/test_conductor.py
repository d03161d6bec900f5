"""Which intensity counts: the order, the recorded fallbacks, and APIs that hang or lie."""

from __future__ import annotations

import json
import socket
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playing_apis import HOUR, NOW, Reply, em_history, em_point, floor, uk_period, watttime_data

from negajoule.catalog import lookup
from negajoule.config import Settings
from negajoule.errors import CatalogError, ConfigError
from negajoule.grid import Grid, resolve
from negajoule.grid.signal import J_PER_KWH
from negajoule.units.series import Series

HERE = floor(NOW)
KEYS = {
    "NEGAJOULE_ELECTRICITYMAPS_KEY": "secret-em",
    "NEGAJOULE_WATTTIME_USER": "me",
    "NEGAJOULE_WATTTIME_PASSWORD": "secret-wt",
}


def grid(api, source, now_s=NOW, environment=KEYS, **arguments):
    arguments = {"grid_source": source, "grid_timeout_s": 2.0, **arguments}
    clock = now_s if callable(now_s) else lambda: now_s
    return Grid(Settings(arguments), environment=environment, fetch=api.fetch, clock=clock)


def grams(resolved):
    return resolved.intensity.value * J_PER_KWH


def test_by_default_no_socket_is_touched(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    resolved = resolve(Settings(), "FRA", NOW - HOUR, NOW)
    fact = lookup("grid.carbon.FRA")
    assert (resolved.origin, resolved.key, resolved.year) == ("catalogue", fact.key, fact.year)
    assert resolved.intensity == fact.quantity()
    assert (resolved.attempts, resolved.notes, resolved.market, resolved.is_fallback) == ((), (), None, False)


def test_the_users_figure_comes_before_any_source(api):
    resolved = grid(api, "electricitymaps", carbon_intensity=77.0).resolve("FRA", NOW, NOW)
    assert (resolved.origin, resolved.key) == ("user", "user")
    assert grams(resolved) == pytest.approx(77)
    assert resolved.intensity.spread == 0
    assert api.asked == []


def test_a_live_source_comes_before_the_catalogue(api):
    api.says(em_history(grams=50))
    resolved = grid(api, "electricitymaps").resolve("fr", NOW - 2 * HOUR, NOW)
    assert grams(resolved) == pytest.approx(50)
    assert resolved.intensity.low < resolved.intensity.value < resolved.intensity.high
    assert (resolved.origin, resolved.zone, resolved.year) == ("electricitymaps", "FRA", 2026)
    assert resolved.factor().key == "grid_source.electricitymaps.FRA"
    assert (resolved.kind, resolved.scope, resolved.covered) == ("average", "life cycle", 1.0)
    assert [(a.source, a.answered, a.reason) for a in resolved.attempts] == [
        ("electricitymaps", True, "asked")
    ]
    assert resolved.notes == (
        "carbon intensity of FRA by electricitymaps, 2026-11-18T08:00Z to 2026-11-18T11:00Z",
    )


def test_energy_weights_reach_the_mean(api):
    history = em_history(grams=50)
    history["history"][-1]["carbonIntensity"] = 100
    api.says(history)
    energy = Series([HERE - HOUR, HERE, NOW], [0, 0, 10], "counter")
    assert grams(
        grid(api, "electricitymaps").resolve("FRA", HERE - HOUR, NOW, energy=energy)
    ) == pytest.approx(100)


def test_sources_are_tried_in_their_order_and_all_of_it_is_recorded(api, tmp_path):
    series = tmp_path / "hours.csv"
    series.write_text("time,g_per_kwh\n2026-11-18T00:00Z,33\n2026-11-18T12:00Z,44\n")
    api.says(Reply("down", status=500))
    resolved = grid(api, f"electricitymaps, uk, {series}").resolve("FRA", NOW, NOW)
    assert grams(resolved) == pytest.approx(33)
    assert (resolved.origin, resolved.scope) == ("hours.csv", "as given")
    assert [(a.source, a.answered, a.code) for a in resolved.attempts] == [
        ("electricitymaps", False, "G101"),
        ("uk", False, "G103"),
        ("hours.csv", True, ""),
    ]
    assert resolved.notes[:2] == (
        "grid source electricitymaps gave nothing (G101)",
        "grid source uk gave nothing (G103)",
    )


LIES = [
    Reply("x", status=401),
    Reply("x", status=403),
    Reply("x", status=404),
    Reply("x", status=429, headers={"Retry-After": "100"}),
    Reply("x", status=500),
    Reply("x", status=204),
    Reply(status=302, headers={"Location": "http://example.org/"}),
    Reply("<!DOCTYPE html><title>Sign in</title>"),
    Reply(""),
    Reply(b"\x00\xff"),
    Reply([]),
    Reply({"zone": "FR"}),
    Reply(em_point(HERE, float("nan"))),
    Reply(em_point(HERE, -50)),
    Reply(em_point(HERE, 2500)),
    Reply(em_point(HERE, 0.05)),
    Reply(em_point(HERE, None)),
    Reply(em_point(HERE, "50")),
    Reply(em_point(HERE, 50, zone="PL")),
    Reply(em_point(HERE - 7 * 24 * HOUR, 50)),  # stale
    Reply(em_point(HERE + 24 * HOUR, 50)),  # from the future
    Reply(em_point(HERE, 50, datetime="9999-12-31T23:00:00Z")),
    Reply(em_point(HERE, 50, datetime="0001-01-01T00:00:00+23:59")),
    Reply("[" * 100_000),
]


@pytest.mark.parametrize("lie", LIES, ids=[str(n) for n in range(len(LIES))])
def test_a_source_that_lies_gives_the_catalogue_widened_and_recorded(api, lie):
    api.says(lie)
    resolved = grid(api, "electricitymaps").resolve("FRA", NOW, NOW)
    fact, hours = lookup("grid.carbon.FRA"), lookup("grid.signal.hour_in_year")
    assert (resolved.origin, resolved.key, resolved.is_fallback) == ("catalogue", "grid.carbon.FRA", True)
    assert grams(resolved) == pytest.approx(fact.value)
    assert resolved.intensity.low * J_PER_KWH == pytest.approx(fact.low * hours.low)
    assert resolved.intensity.high * J_PER_KWH == pytest.approx(fact.high * hours.high)
    assert [(a.source, a.answered) for a in resolved.attempts] == [("electricitymaps", False)]
    assert resolved.attempts[0].code in ("G101", "G102")
    assert len(resolved.attempts[0].reason) > 10
    assert resolved.notes[0].startswith("grid source electricitymaps gave nothing")
    assert "interval widened to the hours of a year" in resolved.notes[1]


def test_a_source_that_hangs_costs_its_time_out_once(api):
    api.says(Reply(em_point(HERE, 50), pause_s=30))
    slow = grid(api, "electricitymaps", grid_timeout_s=0.3)
    began = time.monotonic()
    first = slow.resolve("FRA", NOW, NOW)
    assert 0.2 < time.monotonic() - began < 2.0
    assert "no answer within 0.3 s" in first.attempts[0].reason
    began = time.monotonic()
    second = grid(api, "electricitymaps", grid_timeout_s=0.3).resolve("FRA", NOW, NOW)
    assert time.monotonic() - began < 0.2
    assert "left alone until 2026-11-18T10:2" in second.attempts[0].reason
    assert "failures in a row: 1" in second.attempts[0].reason
    assert len(api.asked) == 1
    assert second.intensity == first.intensity


def test_after_the_wait_the_source_is_asked_again(api):
    api.says(Reply("down", status=500), Reply(em_point(HERE, 50)))
    now = [NOW]
    live = grid(api, "electricitymaps", now_s=lambda: now[0])
    assert live.resolve("FRA", NOW, NOW).is_fallback
    now[0] += 120
    assert live.resolve("FRA", now[0], now[0]).origin == "electricitymaps"


def test_an_answer_closes_the_circuit(api):
    down = Reply("down", status=500)
    api.says(down, down, Reply(em_point(HERE - HOUR, 50)), down)
    now = [NOW]
    live = grid(api, "electricitymaps", now_s=lambda: now[0])
    reasons = []
    for _ in range(4):
        live.resolve("FRA", now[0], now[0])
        reasons.append(live.resolve("FRA", now[0], now[0]).attempts[0].reason)
        now[0] += 2000
    rows = [reason.partition("failures in a row: ")[2][:1] for reason in reasons]
    assert rows == ["1", "2", "", "1"]


def test_retry_after_is_honoured(api):
    api.says(Reply("slow down", status=429, headers={"Retry-After": "3000"}), Reply(em_point(HERE, 50)))
    now = [NOW]
    live = grid(api, "electricitymaps", now_s=lambda: now[0])
    live.resolve("FRA", NOW, NOW)
    now[0] += 1000
    assert live.resolve("FRA", NOW, NOW).is_fallback
    assert len(api.asked) == 1
    now[0] += 2001
    assert live.resolve("FRA", NOW, NOW).origin == "electricitymaps"


def test_what_was_said_is_kept_across_restarts(api):
    api.says(em_history(grams=50))
    grid(api, "electricitymaps").resolve("FRA", HERE - 4 * HOUR, HERE)
    api.says(Reply("down", status=500))
    for start, end in ((HERE - 4 * HOUR, HERE), (HERE - 2 * HOUR, HERE - HOUR), (NOW, NOW)):
        resolved = grid(api, "electricitymaps").resolve("FRA", start, end)
        assert grams(resolved) == pytest.approx(50)
        assert resolved.attempts[0].reason == "kept from before"
    assert len(api.asked) == 1


def test_hours_that_are_kept_outlive_the_source(api):
    api.says(em_point(HERE, 50, isEstimated=True))
    now = [NOW]
    live = grid(api, "electricitymaps", now_s=lambda: now[0])
    assert live.resolve("FRA", NOW, NOW).estimated == 1.0
    api.says(Reply("down", status=500))
    now[0] += 1800
    resolved = live.resolve("FRA", now[0], now[0])
    assert grams(resolved) == pytest.approx(50)
    assert resolved.attempts[0].reason.startswith(
        "kept from before; electricitymaps answered with HTTP status 500"
    )
    assert "100% of it estimated" in resolved.notes[0]
    assert "left alone" in live.resolve("FRA", now[0], now[0]).attempts[0].reason


def test_a_source_that_lags_is_not_asked_at_every_question(api):
    newest = HERE - HOUR
    api.says(em_point(newest, 50))
    for _ in range(5):
        resolved = grid(api, "electricitymaps").resolve("FRA", NOW, NOW)
        assert (resolved.origin, resolved.estimated) == ("electricitymaps", 1.0)
    assert len(api.asked) == 1
    api.asked.clear()
    api.says({"zone": "FR", "history": [em_point(newest - i * HOUR, 50) for i in range(20)]})
    for _ in range(5):
        resolved = grid(api, "electricitymaps").resolve("FRA", NOW - 3 * HOUR, NOW)
    assert len(api.asked) == 1
    assert 0 < resolved.estimated < 0.5


def test_what_a_source_does_not_know_is_the_catalogues_with_its_share_said(api):
    api.says({"zone": "FR", "history": [em_point(HERE - 10 * HOUR, 50)]})
    resolved = grid(api, "electricitymaps").resolve("FRA", HERE - 10 * HOUR, HERE)
    fact = lookup("grid.carbon.FRA")
    assert resolved.covered == pytest.approx(0.3)
    assert grams(resolved) == pytest.approx(0.3 * 50 + 0.7 * fact.value)
    assert f"30% of the time known, else grid.carbon.FRA of {fact.year}" in resolved.notes[0]


def test_a_marginal_signal_is_in_no_total(api):
    def answer(asked):
        return Reply(
            {"token": "t"} if asked.path.endswith("/login") else watttime_data(floor(NOW, 300), [1000.0])
        )

    api.answer = answer
    region = {"grid_region": "watttime=CAISO_NORTH"}
    resolved = grid(api, "watttime", **region).resolve("US-CAL-CISO", NOW, NOW)
    assert resolved.marginal_g_per_kwh == pytest.approx(453.59237)
    assert (resolved.origin, resolved.key) == ("catalogue", "grid.carbon.US-CAL-CISO")
    assert grams(resolved) == pytest.approx(lookup("grid.carbon.US-CAL-CISO").value)
    assert resolved.attempts[0].answered
    assert "in no total" in resolved.attempts[0].reason


def test_after_a_marginal_source_the_next_one_gives_the_average(api, tmp_path):
    series = tmp_path / "own.csv"
    series.write_text("time,g_per_kwh\n2026-11-18T10:00Z,222\n")
    api.answer = lambda asked: Reply(
        {"token": "t"} if asked.path.endswith("/login") else watttime_data(floor(NOW, 300), [1000.0])
    )
    resolved = grid(api, f"watttime,{series}", grid_region="watttime=CAISO_NORTH").resolve(
        "US-CAL-CISO", NOW, NOW
    )
    assert grams(resolved) == pytest.approx(222)
    assert resolved.marginal_g_per_kwh == pytest.approx(453.59237)


def test_market_based_comes_from_the_user_only(api):
    api.says(em_point(HERE, 50))
    assert grid(api, "electricitymaps").resolve("FRA", NOW, NOW).market is None
    both = grid(api, "electricitymaps", market_intensity=3.0).resolve("FRA", NOW, NOW)
    assert both.market.value * J_PER_KWH == pytest.approx(3)
    assert grams(both) == pytest.approx(50)


def test_direct_emissions_are_said(api):
    api.says({"data": [uk_period(floor(NOW, 1800), 120, None)]})
    resolved = grid(api, "uk").resolve("GB", NOW, NOW)
    assert (resolved.origin, resolved.scope) == ("uk", "direct")
    assert "direct emissions, without fuel supply and power stations" in resolved.notes[0]
    upstream = lookup("grid.signal.upstream").high
    assert resolved.intensity.high * J_PER_KWH > 120 + upstream


def test_a_forecast_is_said(api):
    api.says({"zone": "FR", "forecast": [em_point(HERE + HOUR, 60)]})
    resolved = grid(api, "electricitymaps").resolve("FRA", HERE + HOUR, HERE + HOUR)
    assert resolved.kind == "forecast"
    assert "a forecast" in resolved.notes[0]


def test_an_unknown_place_is_asked_of_nobody_and_has_the_spread_of_the_world(api):
    resolved = grid(api, "electricitymaps").resolve(None, NOW, NOW)
    assert (resolved.zone, resolved.key) == ("world", "grid.carbon.unknown")
    assert resolved.attempts[0].code == "G103"
    assert api.asked == []


def test_a_place_that_does_not_exist_is_an_error(api):
    with pytest.raises(CatalogError):
        grid(api, "electricitymaps").resolve("Atlantis", NOW, NOW)


@pytest.mark.parametrize("missing", KEYS)
def test_a_missing_key_is_said_with_its_variable_and_opens_no_circuit(api, missing):
    environment = {name: value for name, value in KEYS.items() if name != missing}
    live = grid(api, "electricitymaps,watttime", environment=environment, grid_region="watttime=CAISO_NORTH")
    api.says(Reply("x", status=500))
    failed = {a.source: a for a in live.resolve("FRA", NOW, NOW).attempts}
    source = "watttime" if "WATTTIME" in missing else "electricitymaps"
    assert failed[source].code == "G103"
    assert missing in failed[source].reason
    assert "left alone" not in {a.source: a for a in live.resolve("FRA", NOW, NOW).attempts}[source].reason


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "tab\tbed"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_said(api, key):
    environment = {"NEGAJOULE_ELECTRICITYMAPS_KEY": key}
    resolved = grid(api, "electricitymaps", environment=environment).resolve("FRA", NOW, NOW)
    assert resolved.attempts[0].code == "G103"
    assert key not in resolved.attempts[0].reason


@pytest.mark.parametrize("source", ["electricitymap", "catalog,foo", "https://x", "hours.txt"])
def test_a_source_that_does_not_exist_is_an_error_at_once(source):
    with pytest.raises(ConfigError, match="isn't a source"):
        Grid(Settings({"grid_source": source}))


@pytest.mark.parametrize("region", ["CAISO_NORTH", "mars=1", "uk=", "uk=1,watttime"])
def test_a_region_without_a_source_is_an_error_at_once(region):
    with pytest.raises(ConfigError, match="SOURCE=REGION"):
        Grid(Settings({"grid_region": region}))


@pytest.mark.parametrize("nothing", ["catalog", "", " ", "catalog,"])
def test_the_catalogue_alone_asks_nobody(api, nothing):
    resolved = grid(api, nothing).resolve("FRA", NOW, NOW)
    assert (resolved.attempts, resolved.origin) == ((), "catalogue")


def test_no_secret_is_ever_said_or_written(api, fresh_home):
    for reply in (Reply("secret-em secret-wt", status=401), Reply("secret-em"), Reply(em_point(HERE, 50))):
        api.says(reply)
        live = grid(api, "electricitymaps,watttime", grid_region="watttime=CAISO_NORTH")
        text = json.dumps(live.resolve("FRA", NOW, NOW).to_dict())
        assert "secret" not in text
        for path in fresh_home.rglob("*.json"):
            assert b"secret" not in path.read_bytes()
            path.unlink()


def test_an_old_factor_is_said(api, fresh_home):
    folder = fresh_home / "catalog"
    folder.mkdir(parents=True)
    row = "grid.carbon.FRA,40,30,50,gCO2e/kWh,{year},a test,,"
    for year, warned in ((2022, True), (2023, False), (2025, False)):
        (folder / "own.csv").write_text(
            "key,value,low,high,unit,year,source,licence,note\n" + row.format(year=year) + "\n"
        )
        from negajoule.catalog import shelf

        shelf._catalog_for.cache_clear()
        notes = grid(api, "catalog").resolve("FRA", NOW, NOW).notes
        assert bool(notes) is warned
        if warned:
            assert notes == ("the carbon intensity describes 2022, 4 years before",)
    shelf._catalog_for.cache_clear()


def test_the_json_form_keeps_both_methods_apart(api):
    api.says(em_point(HERE, 50))
    data = grid(api, "electricitymaps", market_intensity=3.0).resolve("FRA", NOW, NOW).to_dict()
    assert data["location_based"]["value"] == pytest.approx(50)
    assert data["market_based"]["value"] == pytest.approx(3)
    assert (data["origin"], data["fallback"], data["start"]) == (
        "electricitymaps",
        False,
        "2026-11-18T10:26Z",
    )
    assert msgspec.json.decode(msgspec.json.encode(data)) == data


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    | st.sampled_from(["FR", "lifecycle", "2026-11-18T10:00:00Z", "9999-12-31T23:59:59Z"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["zone", "history", "data", "carbonIntensity", "datetime", "isEstimated", "from", "to",
             "intensity", "forecast", "actual", "meta", "token", "point_time", "value", "region",
             "units", "regionid"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=15,
)  # fmt: skip


@given(body=_JSON, span_s=st.sampled_from([0.0, 1800.0, 9 * HOUR, 40 * 24 * HOUR, -2 * HOUR]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_json_comes_the_measured_program_lives(fresh_home, body, span_s):
    def fetch(url, headers, *, timeout_s, method="GET"):
        from negajoule.grid.fetch import Answer

        return Answer(200, {}, json.dumps(body).encode())

    for path in fresh_home.rglob("*.json"):
        path.unlink()
    wanted = {"grid_source": "electricitymaps,uk,watttime", "grid_region": "watttime=CAISO_NORTH"}
    live = Grid(Settings(wanted), environment=KEYS, fetch=fetch, clock=lambda: NOW)
    start, end = (NOW - span_s, NOW) if span_s >= 0 else (NOW - span_s, NOW - 2 * span_s)
    resolved = live.resolve("GBR", start, end)
    assert 0 <= resolved.intensity.low <= resolved.intensity.value <= resolved.intensity.high
    assert resolved.attempts
