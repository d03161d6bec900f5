"""The place: said by the user, guessed aloud, or unknown aloud; never looked up on a network."""

from __future__ import annotations

import socket

import pytest

from negajoule.config import Settings
from negajoule.errors import CatalogError
from negajoule.grid import locate
from negajoule.grid.location import system_timezone


def test_the_users_word_comes_first(monkeypatch):
    monkeypatch.setenv("NEGAJOULE_ZONE", "DE")
    place = locate(Settings({"zone": "fr"}), timezone="America/New_York")
    assert (place.zone, place.origin, place.note) == ("FRA", "user", "")


def test_then_the_configured_zone(monkeypatch):
    monkeypatch.setenv("NEGAJOULE_ZONE", "US-CAL-CISO")
    place = locate(Settings(), timezone="Europe/Paris")
    assert (place.zone, place.origin) == ("US-CAL-CISO", "configured")


def test_then_the_time_zone_as_a_hint_that_is_said():
    place = locate(Settings(), timezone="Europe/Paris")
    assert (place.zone, place.origin) == ("FRA", "time zone")
    assert "guessed from the time zone Europe/Paris" in place.note


@pytest.mark.parametrize("name", ["Etc/UTC", "UTC", "Nowhere/Land", ""])
def test_an_unknown_place_is_said_and_no_favourable_guess(name):
    place = locate(Settings(), timezone=name)
    assert (place.zone, place.origin) == (None, "unknown")
    assert "location unknown" in place.note


def test_a_zone_that_doesnt_exist_is_an_error_even_with_a_hint():
    with pytest.raises(CatalogError):
        locate(Settings({"zone": "Atlantis"}), timezone="Europe/Paris")


def test_no_network_is_asked(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    locate(Settings())


def test_the_systems_time_zone_is_read_from_the_environment_the_link_or_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert system_timezone(tmp_path) == "Asia/Tokyo"
    monkeypatch.delenv("TZ")
    assert system_timezone(tmp_path) is None
    zone = tmp_path / "usr/share/zoneinfo/Europe/Oslo"
    zone.parent.mkdir(parents=True)
    zone.write_bytes(b"")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/localtime").symlink_to(zone)
    assert system_timezone(tmp_path) == "Europe/Oslo"
    (tmp_path / "etc/localtime").unlink()
    (tmp_path / "etc/localtime").write_bytes(b"TZif")
    (tmp_path / "etc/timezone").write_text("Europe/Rome\n")
    assert system_timezone(tmp_path) == "Europe/Rome"
