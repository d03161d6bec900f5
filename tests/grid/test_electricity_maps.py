"""Electricity Maps, played on loopback: endpoints, units, and answers that can't be believed."""

from __future__ import annotations

import pytest
from playing_apis import HOUR, NOW, Reply, em_history, em_point, floor

from negajoule.errors import GridError
from negajoule.grid.electricity_maps import ElectricityMaps

PREFIX = "/api.electricitymaps.com/v3/carbon-intensity/"
HERE = floor(NOW)


def source(api, **options):
    return ElectricityMaps("the-key", fetch=api.fetch, clock=lambda: NOW, timeout_s=2.0, **options)


def test_a_moment_asks_for_the_latest_hour(api):
    api.says(em_point(HERE, 45, isEstimated=True))
    signal = source(api).intensity("FRA", NOW, NOW)
    assert signal.slots == ((HERE, HERE + HOUR, 45.0, True),)
    assert (signal.zone, signal.kind, signal.scope, signal.source) == (
        "FRA",
        "average",
        "life cycle",
        "electricitymaps",
    )
    asked = api.asked[0]
    assert asked.path == PREFIX + "latest"
    assert asked.query == {"zone": "FR", "temporalGranularity": "hourly", "disableCallerLookup": "true"}
    assert asked.headers["auth-token"] == "the-key"


def test_the_last_day_asks_for_the_history(api):
    api.says(em_history())
    signal = source(api).intensity("FRA", NOW - 3 * HOUR, NOW)
    assert api.asked[0].path == PREFIX + "history"
    assert len(signal.slots) == 24
    assert signal.slots[-1].start_s == HERE


def test_older_spans_ask_for_ranges_of_ten_days(api):
    def answer(asked):
        return Reply({"zone": "FR", "data": [em_point(HERE - len(api.asked) * HOUR, 40)]})

    api.answer = answer
    source(api).intensity("FRA", NOW - 25 * 24 * HOUR, NOW - 24 * HOUR)
    assert [asked.path for asked in api.asked] == [PREFIX + "past-range"] * 3
    starts = [asked.query["start"] for asked in api.asked]
    ends = [asked.query["end"] for asked in api.asked]
    assert starts[1:] == ends[:-1]
    assert starts[0].startswith("2026-10-24T10:00Z")
    assert ends[-1] == "2026-11-17T11:00Z"


def test_the_future_is_a_forecast(api):
    points = [
        {"datetime": em_point(HERE + i * HOUR, 0)["datetime"], "carbonIntensity": 30} for i in range(1, 4)
    ]
    api.says({"zone": "FR", "forecast": points, "updatedAt": em_point(HERE, 0)["datetime"]})
    signal = source(api).intensity("FRA", NOW + HOUR, NOW + 2 * HOUR)
    assert (signal.kind, len(signal.slots)) == ("forecast", 3)
    assert api.asked[0].path == PREFIX + "forecast"


@pytest.mark.parametrize(
    ("zone", "theirs"), [("GBR", "GB"), ("US-CAL-CISO", "US-CAL-CISO"), ("SE-SE3", "SE-SE3")]
)
def test_places_have_its_names(api, zone, theirs):
    api.says(em_point(HERE, 45, zone=theirs))
    assert source(api).intensity(zone, NOW, NOW).zone == zone
    assert api.asked[0].query["zone"] == theirs


def test_a_region_of_the_user_replaces_the_name(api):
    api.says(em_point(HERE, 45, zone="FR-COR"))
    source(api, region="FR-COR").intensity("FRA", NOW, NOW)
    assert api.asked[0].query["zone"] == "FR-COR"


def test_hours_without_a_figure_are_gaps(api):
    history = em_history()
    history["history"][5]["carbonIntensity"] = None
    api.says(history)
    assert len(source(api).intensity("FRA", NOW - HOUR, NOW).slots) == 23


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (em_point(HERE, 45, zone="DE"), "asked for FR and answered for 'DE'"),
        (em_point(HERE, -1), "which no grid has"),
        (em_point(HERE, 2001), "which no grid has"),
        (em_point(HERE, 450_000), "wrong unit"),
        (em_point(HERE, 0.045), "wrong unit"),  # kg/kWh
        (em_point(HERE, 0), "which no grid has"),
        (em_point(HERE, "45"), "something else"),
        (em_point(HERE, True), "something else"),
        (em_point(HERE, 45, emissionFactorType="direct"), "other than life-cycle"),
        (em_point(HERE, 45, datetime="2026-11-18T10:00:00"), "names no time zone"),
        (em_point(HERE, 45, datetime="yesterday"), "isn't an ISO 8601 time"),
        ({"error": "No data"}, "something else"),
        ([], "something else"),
        ("<html>maintenance</html>", "something else"),
        ('{"zone": "FR", "carbonIntensity": NaN, "datetime": "2026-11-18T10:00:00Z"}', "something else"),
        (em_point(HERE, None), "empty list"),
    ],
)
def test_what_cannot_be_believed_is_refused(api, body, says):
    api.says(Reply(body))
    with pytest.raises(GridError, match=says) as raised:
        source(api).intensity("FRA", NOW, NOW)
    assert raised.value.code == "G102"


@pytest.mark.parametrize("history", [[], [em_point(HERE, 45), em_point(HERE, 46)]])
def test_empty_and_contradicting_lists_are_refused(api, history):
    api.says({"zone": "FR", "history": history})
    with pytest.raises(GridError) as raised:
        source(api).intensity("FRA", NOW - HOUR, NOW)
    assert raised.value.code == "G102"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_refusals_are_errors_that_keep_the_key(api, status):
    api.says(Reply({"message": "the-key is wrong"}, status=status, headers={"Retry-After": "60"}))
    with pytest.raises(GridError) as raised:
        source(api).intensity("FRA", NOW, NOW)
    assert (raised.value.code, raised.value.retry_after_s) == ("G101", 60.0)
    assert "the-key" not in str(raised.value)
