"""The place by a cloud's metadata, played on loopback; and never without leave."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from playing_apis import Reply

from negajoule.catalog import lookup, zones
from negajoule.config import Settings
from negajoule.grid import cloud, locate
from negajoule.grid.cloud import CloudRegion, cloud_region, zone_of_region


def amazon(asked):
    if (asked.method, asked.path) == ("PUT", "/latest/api/token"):
        assert asked.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "60"
        return Reply("the-token")
    if asked.path == "/latest/meta-data/placement/region":
        return (
            Reply("eu-west-3")
            if asked.headers.get("x-aws-ec2-metadata-token") == "the-token"
            else Reply(status=401)
        )
    return Reply(status=404)


def google(asked):
    if asked.path == "/computeMetadata/v1/instance/zone" and asked.headers.get("metadata-flavor") == "Google":
        return Reply("projects/123/zones/europe-west1-b", headers={"Metadata-Flavor": "Google"})
    return Reply(status=403)


def azure(asked):
    if asked.path == "/metadata/instance/compute/location" and asked.headers.get("metadata") == "true":
        assert asked.query == {"api-version": "2021-02-01", "format": "text"}
        return Reply("westeurope")
    return Reply(status=400)


@pytest.mark.parametrize(
    ("player", "region", "zone"),
    [
        (amazon, CloudRegion("aws", "eu-west-3"), "FRA"),
        (google, CloudRegion("gcp", "europe-west1"), "BEL"),
        (azure, CloudRegion("azure", "westeurope"), "NLD"),
    ],
)
def test_each_cloud_tells_its_region(api, player, region, zone):
    api.answer = player
    assert cloud_region(base_url=api.url) == region
    assert zone_of_region(region) == zone


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=404),
        Reply("<html>sign in to the hotel's network</html>"),
        Reply(""),
        Reply("../../etc/passwd"),
        Reply(b"\xff\xfe"),
        Reply("x" * 500),
        Reply(status=302, headers={"Location": "http://example.org/"}),
    ],
)
def test_nothing_that_is_no_region_is_believed(api, reply):
    api.says(reply)
    assert cloud_region(base_url=api.url) is None


def test_a_word_of_another_server_is_a_region_that_no_table_knows(api):
    api.says(Reply("atlantis"))
    assert zone_of_region(cloud_region(base_url=api.url)) is None


def test_a_server_that_hangs_costs_a_moment_only(api):
    api.says(Reply("eu-west-3", pause_s=30))
    began = time.monotonic()
    assert cloud_region(base_url=api.url, timeout_s=0.1) is None
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    "url", ["http://example.org", "https://metadata.google.internal", "http://10.0.0.1", "nonsense"]
)
def test_only_this_machine_and_its_link_are_asked(url):
    def refuse(*_, **__):
        raise AssertionError("someone was asked")

    assert cloud_region(base_url=url, fetch=refuse) is None


def test_without_leave_the_cloud_is_not_asked():
    def refuse():
        raise AssertionError("the cloud was asked")

    assert locate(Settings(), timezone="Europe/Paris", metadata=refuse).origin == "time zone"
    assert locate(Settings({"zone": "DE", "cloud_metadata": True}), metadata=refuse).zone == "DEU"


def test_with_leave_it_comes_before_the_time_zone(api, monkeypatch):
    monkeypatch.setenv("NEGAJOULE_CLOUD_METADATA", "true")
    api.answer = amazon
    place = locate(Settings(), timezone="America/New_York", metadata=lambda: cloud_region(base_url=api.url))
    assert (place.zone, place.origin) == ("FRA", "cloud metadata")
    assert "aws eu-west-3 draws from FRA" in place.note


def test_a_region_that_is_not_in_the_table_and_silence_are_said():
    settings = Settings({"cloud_metadata": True})
    unknown = locate(settings, timezone="Europe/Paris", metadata=lambda: CloudRegion("aws", "mars-north-1"))
    assert (unknown.zone, unknown.origin) == ("FRA", "time zone")
    assert "aws mars-north-1, which isn't in the table" in unknown.note
    silent = locate(settings, timezone="", metadata=lambda: None)
    assert (silent.zone, silent.origin) == (None, "unknown")
    assert "no cloud's metadata server answered" in silent.note


def test_every_region_draws_from_a_place_with_an_intensity():
    with (Path(cloud.__file__).parent / "cloud_regions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len({(row["provider"], row["region"]) for row in rows}) == len(rows) > 120
    assert {row["provider"] for row in rows} == {"aws", "azure", "gcp"}
    for row in rows:
        assert zones.canonical(row["zone"]) == row["zone"], row
        assert lookup(f"grid.carbon.{row['zone']}").value > 0
        assert row["place"]
