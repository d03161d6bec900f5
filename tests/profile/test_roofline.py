from __future__ import annotations

import json
import sys

import msgspec
import pytest

from made_profiles import FAST, SLOW, STEP_TOKENS, made_profile
from negajoule.errors import ConfigError, ExtraMissingError
from negajoule.profile import measure_ceilings, roofline_points
from negajoule.profile.chart import draw_roofline, roofline_spec


@pytest.fixture
def profile():
    return made_profile({"F16": SLOW, "Q4_0": FAST}, batches=(1, 8), prompts=(256,), rounds=2)


def test_points_follow_from_tokens_bytes_and_seconds(profile):
    points = {(one.format, one.phase, one.batch): one for one in roofline_points(profile)}
    assert len(points) == 2 * 2 * 2
    decode = points["Q4_0", "decode", 8]
    context = 8 * (256 + 16)
    assert decode.flop_per_byte == pytest.approx(2e8 * 8 / (1e8 + 1000 * context))
    assert decode.flop_per_s == pytest.approx(2e8 * 8 / FAST.decode_step(8, context))
    prefill = points["F16", "prefill", 1]
    steps = 256 / STEP_TOKENS
    assert prefill.flop_per_byte == pytest.approx(2e8 * 256 / (steps * (1e8 + 1000 * 128)))


def test_prefill_has_the_higher_intensity(profile):
    points = {(one.format, one.phase, one.batch): one.flop_per_byte for one in roofline_points(profile)}
    for name in ("F16", "Q4_0"):
        assert points[name, "prefill", 8] > points[name, "decode", 8] > points[name, "decode", 1]


def test_without_size_there_is_no_roofline(profile):
    unknown = tuple(msgspec.structs.replace(one, parameters=None) for one in profile.weights)
    with pytest.raises(ConfigError, match="aren't known") as caught:
        roofline_points(msgspec.structs.replace(profile, weights=unknown))
    assert caught.value.code == "C107"


def test_the_roof_bends_at_the_ridge(profile):
    roof = roofline_spec(profile)["layer"][0]["data"]["values"]
    assert [round(corner["speed"], 6) for corner in roof][1:] == [100.0, 100.0]
    assert roof[1]["intensity"] == 10.0
    assert roof[0]["speed"] == pytest.approx(10 * roof[0]["intensity"])
    bare = roofline_spec(msgspec.structs.replace(profile, ceilings=None))
    assert len(bare["layer"]) == 1
    assert "no roof" in bare["title"]["subtitle"][1]


@pytest.mark.parametrize(("name", "start"), [("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.json", b"{")])
def test_it_is_drawn_by_the_files_ending(profile, tmp_path, name, start):
    if not name.endswith(".json"):
        pytest.importorskip("vl_convert", reason="the extra 'profile' isn't installed")
    draw_roofline(profile, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_other_endings_and_missing_parts_are_named(profile, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="gif"):
        draw_roofline(profile, tmp_path / "a.gif")
    with pytest.raises(ConfigError, match="can't write"):
        draw_roofline(profile, tmp_path / "absent" / "a.json")
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ExtraMissingError, match="vl_convert"):
        draw_roofline(profile, tmp_path / "a.svg")


def test_ceilings_that_cannot_be_measured_are_none(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert measure_ceilings(1) is None


@pytest.mark.slow  # numpy works at full speed for two seconds
def test_ceilings_are_those_of_a_processor():
    found = measure_ceilings(1)
    assert 1e8 < found.flop_per_s < 1e13
    assert 1e8 < found.bytes_per_s < 1e13
    assert json.loads(msgspec.json.encode(found))["source"].startswith("numpy")
