"""Places by any of their names."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.catalog import zones
from negajoule.errors import CatalogError


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("FR", "FRA"),
        ("fra", "FRA"),
        ("France", "FRA"),
        (" DE ", "DEU"),
        ("uk", "GBR"),
        ("GB", "GBR"),
        ("US-CAL-CISO", "US-CAL-CISO"),
        ("us-cal-ciso", "US-CAL-CISO"),
        ("SE-SE3", "SE-SE3"),
        ("us-va", "US-VA"),
        ("cn-bj", "CN-BJ"),
        ("xk", "XKX"),
        ("World", "world"),
        ("eu", "EU"),
    ],
)
def test_names_become_canonical(given_name, expected):
    assert zones.canonical(given_name) == expected


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("FRX", "FRA"), ("US-CAL-CSIO", "US-CAL-CISO"), ("Frnace", "FRA"), ("SE3", "SE-SE3"), ("", "FRA")],
)
def test_a_place_that_does_not_exist_lists_near_ones(wrong, near):
    with pytest.raises(CatalogError) as caught:
        zones.canonical(wrong)
    assert caught.value.code == "F101"
    assert near in caught.value.fix


@given(st.text(max_size=12))
def test_any_text_is_a_place_or_an_error_of_ours(text):
    with suppress(CatalogError):
        place = zones.canonical(text)
        assert zones.canonical(place) == place


def test_codes_are_unique_and_well_formed():
    countries = zones.countries()
    assert len(countries) == 250
    assert len({c.alpha3 for c in countries}) == len({c.alpha2 for c in countries}) == 250
    assert all(len(c.alpha3) == 3 and len(c.alpha2) == 2 and c.name for c in countries)
    assert len({c.name.casefold() for c in countries}) == 250


@pytest.mark.parametrize(
    ("place", "country"),
    [("US-CAL-CISO", "USA"), ("FR", "FRA"), ("SE-SE3", "SWE"), ("world", "world"), ("EU", "EU")],
)
def test_zones_lie_in_countries(place, country):
    assert zones.country_of(place) == country


def test_keys_go_from_the_special_to_the_general():
    assert zones.keys_of("grid.water", "us-tex-erco") == (
        "grid.water.US-TEX-ERCO",
        "grid.water.USA",
        "grid.water.world",
    )
    assert zones.keys_of("grid.carbon", "world") == ("grid.carbon.world",)


@pytest.fixture
def tz_root(tmp_path):
    (tmp_path / "zone.tab").write_text(
        "# comment\nFR\t+4852+00220\tEurope/Paris\nIN\t+2232+08822\tAsia/Kolkata\tmost\n"
        "PA\t+0858-07932\tAmerica/Panama\n",
        encoding="utf-8",
    )
    (tmp_path / "tzdata.zi").write_text(
        "# version\nL Asia/Kolkata Asia/Calcutta\nL America/Panama EST\nL Etc/UTC Etc/Zulu\n",
        encoding="utf-8",
    )
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Europe/Paris", "FRA"),
        ("Asia/Kolkata", "IND"),
        ("Asia/Calcutta", "IND"),
        ("Etc/UTC", None),
        ("Etc/Zulu", None),
        ("UTC", None),
        ("EST", None),  # New York, not Panama, whatever the link says
        ("Mars/Olympus", None),
        ("", None),
    ],
)
def test_time_zones_hint_at_countries(tz_root, name, expected):
    assert zones.zone_of_timezone(name, tz_root) == expected


def test_the_newer_table_names_several_countries(tmp_path):
    (tmp_path / "zone1970.tab").write_text("DE,DK,NO\t+5230+01322\tEurope/Berlin\n", encoding="utf-8")
    assert zones.zone_of_timezone("Europe/Berlin", tmp_path) == "DEU"


def test_without_any_table_there_is_no_hint(tmp_path, monkeypatch):
    monkeypatch.setattr(zones, "_packaged_tz_file", lambda _name: "")
    assert zones.zone_of_timezone("Europe/Paris", tmp_path / "missing") is None
