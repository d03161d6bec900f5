"""WattTime, played on loopback: log-in, tokens, pounds per megawatt-hour."""

from __future__ import annotations

from base64 import b64decode

import pytest
from playing_apis import HOUR, NOW, Reply, floor, watttime_data

from negajoule.errors import GridError
from negajoule.grid.watttime import WattTime

HERE = floor(NOW, 300)


def source(api, clock=lambda: NOW):
    return WattTime("me", "pass:word", "CAISO_NORTH", fetch=api.fetch, clock=clock, timeout_s=2.0)


def playing(api, data):
    """Answer log-ins with numbered tokens, and everything else with ``data``."""

    def answer(asked):
        if asked.path.endswith("/login"):
            return Reply({"token": f"t{len(api.asked)}"})
        return data if isinstance(data, Reply) else Reply(data)

    api.answer = answer


def test_it_is_marginal_and_in_grams_per_kilowatt_hour(api):
    playing(api, watttime_data(HERE - 300, [1000.0, 850.0]))
    signal = source(api).intensity("US-CAL-CISO", NOW - 300, NOW)
    assert (signal.kind, signal.scope) == ("marginal", "direct")
    assert [slot.g_per_kwh for slot in signal.slots] == [pytest.approx(453.59237), pytest.approx(385.5535145)]
    assert (signal.slots[0].start_s, signal.slots[0].end_s) == (HERE - 300, HERE)
    login, data = api.asked
    assert b64decode(login.headers["authorization"].removeprefix("Basic ")) == b"me:pass:word"
    assert data.headers["authorization"] == "Bearer t1"
    assert data.path == "/api.watttime.org/v3/historical"
    assert data.query == {
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "start": "2026-11-18T10:20Z",
        "end": "2026-11-18T10:26Z",
    }


def test_a_token_is_used_again_until_it_ends(api):
    playing(api, watttime_data(HERE, [1000.0]))
    now = [NOW]
    watttime = source(api, clock=lambda: now[0])
    for _ in range(3):
        watttime.intensity("US-CAL-CISO", NOW, NOW)
    assert sum(asked.path.endswith("/login") for asked in api.asked) == 1
    now[0] += 1800
    watttime.intensity("US-CAL-CISO", NOW, NOW)
    assert sum(asked.path.endswith("/login") for asked in api.asked) == 2


def test_a_refused_token_is_thrown_away(api):
    playing(api, Reply("expired", status=401))
    watttime = source(api)
    with pytest.raises(GridError):
        watttime.intensity("US-CAL-CISO", NOW, NOW)
    playing(api, watttime_data(HERE, [1000.0]))
    watttime.intensity("US-CAL-CISO", NOW, NOW)
    assert sum(asked.path.endswith("/login") for asked in api.asked) == 2


def test_the_future_is_its_forecast_and_long_spans_come_in_pieces(api):
    playing(api, watttime_data(HERE + HOUR, [1.0]))
    source(api).intensity("US-CAL-CISO", NOW + HOUR, NOW + HOUR)
    assert api.asked[-1].path.endswith("/v3/forecast")
    api.asked.clear()
    source(api).intensity("US-CAL-CISO", NOW - 70 * 24 * HOUR, NOW)
    assert sum(asked.path.endswith("/v3/historical") for asked in api.asked) == 3


@pytest.mark.parametrize(
    "data",
    [
        watttime_data(HERE, [1000.0], units="g_per_kwh"),
        watttime_data(HERE, [1000.0], region="PJM_DC"),
        watttime_data(HERE, [1000.0], signal_type="health_damage"),
        watttime_data(HERE, [1000.0], data_point_period_seconds=0),
        watttime_data(HERE, [1000.0, -3.0]),
        watttime_data(HERE, [9999.0]),
        watttime_data(HERE, []),
        {"data": [], "meta": {}},
        "<html>",
    ],
)
def test_what_cannot_be_believed_is_refused(api, data):
    playing(api, data)
    with pytest.raises(GridError) as raised:
        source(api).intensity("US-CAL-CISO", NOW, NOW)
    assert raised.value.code == "G102"


def test_a_refused_log_in_says_so_and_keeps_the_password(api):
    api.says(Reply("no", status=403))
    with pytest.raises(GridError) as raised:
        source(api).intensity("US-CAL-CISO", NOW, NOW)
    assert raised.value.code == "G101"
    assert "pass:word" not in str(raised.value)
