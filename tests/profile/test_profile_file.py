from __future__ import annotations

import json

import pytest

from made_profiles import FAST, IDLE_W, SLOW, WATTS, made_profile
from negajoule.errors import ConfigError
from negajoule.profile import load_profile


@pytest.fixture
def profile():
    return made_profile({"F16": SLOW, "Q4_0": FAST})


def test_what_is_written_is_read_again(profile, tmp_path):
    path = tmp_path / "deep" / "profile.json"
    profile.save(path)
    assert load_profile(path) == profile
    assert json.loads(path.read_text())["schema"] == "negajoule.profile/1"
    assert [item.name for item in path.parent.iterdir()] == ["profile.json"]


def test_a_profile_of_another_version_names_the_limit(profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    path.write_text(path.read_text().replace("negajoule.profile/1", "negajoule.profile/7"))
    with pytest.raises(ConfigError, match="form 7; this version reads form 1 only") as caught:
        load_profile(path)
    assert caught.value.code == "C106"


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"schema": "negajoule.profile/1"}', '{"schema": 3}', "\0"]
)
def test_what_is_no_profile_is_an_error_of_the_user(text, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="isn't a profile"):
        load_profile(path)
    with pytest.raises(ConfigError, match="can't read"):
        load_profile(tmp_path / "absent.json")


def test_a_profile_without_samples_is_refused(profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "samples": []}))
    with pytest.raises(ConfigError, match="no samples"):
        load_profile(path)


def test_a_file_that_cannot_be_written_is_an_error_of_the_user(profile, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't write"):
        profile.save(tmp_path / "file" / "profile.json")


def test_energy_of_a_request_keeps_the_basis_and_the_range_of_its_joules(profile):
    energy = profile.energy("Q4_0", 2, 100, 20)
    assert energy.value == pytest.approx(WATTS * FAST.request(2, 100, 20), rel=1e-6)
    assert (energy.low, energy.high) == (pytest.approx(energy.value / 2), pytest.approx(energy.value * 2))
    assert (energy.basis, energy.boundary) == ("modelled", "node")
    with pytest.raises(ConfigError, match="'Q8_0' isn't in the profile") as caught:
        profile.energy("Q8_0", 2, 100, 20)
    assert "F16, Q4_0" in caught.value.fix


def test_the_step_table_costs_what_the_profile_measured(profile):
    table = profile.step_table("Q4_0")
    assert (table.max_batch, table.kv_tokens, table.idle_w) == (8, 8 * 1024, IDLE_W)
    for batch in (1, 2, 4, 8):
        assert table.decode_s[batch] == pytest.approx(FAST.steps[batch], rel=1e-5)
        assert table.decode_j[batch] == pytest.approx(WATTS * FAST.steps[batch], rel=1e-5)
    assert table.decode_s[0] == 0.0
    assert table.prefill_token_s == pytest.approx(FAST.token, rel=1e-3)
    assert table.prefill_step_j == pytest.approx(WATTS * FAST.step, rel=1e-2)
    assert (table.basis, round(table.doubt, 2)) == ("modelled", 0.69)


def test_a_table_of_several_formats_must_be_named(profile):
    with pytest.raises(ConfigError, match="several formats"):
        profile.step_table()
    assert made_profile({"F16": SLOW}).step_table().max_batch == 8


def test_without_energy_there_is_no_energy():
    profile = made_profile({"F16": SLOW}, energy=False)
    for question in (lambda: profile.energy("F16", 1, 10, 10), profile.step_table):
        with pytest.raises(ConfigError, match="holds no energy") as caught:
            question()
        assert caught.value.code == "C107"
    assert profile.cheapest_known() == "cpu"
