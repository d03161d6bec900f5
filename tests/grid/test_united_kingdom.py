"""Great Britain's API, played on loopback."""

from __future__ import annotations

import pytest
from playing_apis import HOUR, NOW, Reply, floor, uk_period

from negajoule.errors import GridError
from negajoule.grid.united_kingdom import UnitedKingdom

HALF = HOUR / 2
HERE = floor(NOW, HALF)


def source(api, **options):
    return UnitedKingdom(fetch=api.fetch, clock=lambda: NOW, timeout_s=2.0, **options)


def test_settled_half_hours_are_actual_and_the_others_estimated(api):
    api.says({"data": [uk_period(HERE - HALF, 150, 142), uk_period(HERE, 160, None)]})
    signal = source(api).intensity("GBR", NOW - HALF, NOW)
    assert signal.slots == ((HERE - HALF, HERE, 142.0, False), (HERE, HERE + HALF, 160.0, True))
    assert (signal.kind, signal.scope) == ("average", "direct")
    assert api.asked[0].path == "/api.carbonintensity.org.uk/intensity/2026-11-18T09:30Z/2026-11-18T10:30Z"


def test_zero_is_possible_for_direct_emissions_and_nothing_is_a_gap(api):
    api.says({"data": [uk_period(HERE - HALF, 3, 0), uk_period(HERE, None, None)]})
    assert [slot.g_per_kwh for slot in source(api).intensity("GBR", NOW, NOW).slots] == [0.0]


def test_a_region_has_forecasts_only(api):
    api.says({"data": {"regionid": 13, "shortname": "London", "data": [uk_period(HERE, 90, None)]}})
    signal = source(api, region="13").intensity("GBR", NOW, NOW)
    assert signal.slots[0].estimated
    assert api.asked[0].path.endswith("/regionid/13")
    api.says({"data": {"regionid": 1, "data": [uk_period(HERE, 90, None)]}})
    with pytest.raises(GridError, match="answered for region 1"):
        source(api, region="13").intensity("GBR", NOW, NOW)


@pytest.mark.parametrize("region", ["0", "18", "London", "", "13/../.."])
def test_regions_are_1_to_17(api, region):
    with pytest.raises(GridError) as raised:
        source(api, region=region)
    assert raised.value.code == "G103"


@pytest.mark.parametrize("zone", ["FRA", "IRL", "GB-NIR"])
def test_other_places_are_not_asked(api, zone):
    with pytest.raises(GridError, match="Great Britain only") as raised:
        source(api).intensity(zone, NOW, NOW)
    assert raised.value.code == "G103"
    assert api.asked == []


def test_long_spans_are_asked_in_pieces_without_holes(api):
    api.answer = lambda asked: Reply({"data": [uk_period(HERE - len(api.asked) * HALF, 100, 100)]})
    source(api).intensity("GBR", NOW - 30 * 24 * HOUR, NOW)
    spans = [asked.path.split("/")[-2:] for asked in api.asked]
    assert len(spans) == 3
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]


def test_the_future_is_a_forecast(api):
    api.says({"data": [uk_period(HERE + HOUR, 100, None)]})
    assert source(api).intensity("GBR", NOW + HOUR, NOW + HOUR).kind == "forecast"


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": None},
        {"error": {"code": "400 Bad Request", "message": "x"}},
        {"data": [{**uk_period(HERE, 1, 1), "from": "12:00"}]},
        {"data": [{**uk_period(HERE, 1, 1), "to": uk_period(HERE, 1, 1)["from"]}]},
        {"data": [uk_period(HERE, 5000, None)]},
        {"data": [uk_period(HERE, 100, -5)]},
        {"data": [uk_period(HERE, 100, 100), uk_period(HERE, 100, 120)]},
        "oops",
    ],
)
def test_what_cannot_be_believed_is_refused(api, body):
    api.says(Reply(body))
    with pytest.raises(GridError) as raised:
        source(api).intensity("GBR", NOW, NOW)
    assert raised.value.code == "G102"
