"""Settings: who beats whom, where a value came from, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.config import SETTINGS, Setting, Settings, home
from negajoule.errors import ConfigError

PLACES = ("argument", "environment", "folder", "home")
"""Where a setting may stand, strongest first."""

SAMPLE = {str: "FR", int: 3, float: 2.5, bool: True}


def in_toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


@pytest.fixture
def write(fresh_home, tmp_path):
    """Write a settings file in the home or in a working folder."""

    def write_file(place: str, text: str) -> Path:
        path = {"home": fresh_home / "config.toml", "folder": tmp_path / "work" / "negajoule.toml"}[place]
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def settings(fresh_home, tmp_path):
    """Read the settings of the test's own folders and environment."""
    (tmp_path / "work").mkdir()

    def read(arguments=None, **environment) -> Settings:
        environment["NEGAJOULE_HOME"] = str(fresh_home)
        return Settings(arguments, environment=environment, folder=tmp_path / "work")

    return read


def refusal(read, *arguments, **environment) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(*arguments, **environment)
    return caught.value


class TestPrecedence:
    def test_without_anything_the_defaults_hold(self, settings):
        read = settings()
        for name, setting in SETTINGS.items():
            assert (read[name], read.origin(name)) == (setting.default, "default")

    @pytest.mark.parametrize("strongest", range(len(PLACES)))
    def test_the_strongest_place_wins_and_is_named(self, settings, write, strongest):
        ports = {place: 1000 + number for number, place in enumerate(PLACES) if number >= strongest}
        origins = {
            place: str(write(place, f"port = {ports[place]}"))
            for place in ("folder", "home")
            if place in ports
        }
        environment = {"NEGAJOULE_PORT": str(ports["environment"])} if "environment" in ports else {}
        arguments = {"port": ports["argument"]} if "argument" in ports else {}
        read = settings(arguments, **environment)
        winner = PLACES[strongest]
        assert read["port"] == ports[winner]
        assert (
            read.origin("port")
            == {"argument": "argument", "environment": "NEGAJOULE_PORT", **origins}[winner]
        )

    def test_places_may_each_set_something_else(self, settings, write):
        write("home", "slots = 3\npue = 1.2")
        write("folder", "pue = 1.3")
        read = settings({"port": 99}, NEGAJOULE_ZONE="FR")
        assert (read["slots"], read["pue"], read["zone"], read["port"]) == (3, 1.3, "FR", 99)

    def test_what_is_not_given_beats_nothing(self, settings):
        read = settings({"port": None}, NEGAJOULE_PORT="77", NEGAJOULE_ZONE="")
        assert (read["port"], read["zone"]) == (77, None)
        assert read.origin("zone") == "default"

    def test_all_settings_come_with_their_origin(self, settings):
        resolved = settings({"slots": 2}).resolved()
        assert resolved.keys() == SETTINGS.keys()
        assert resolved["slots"] == (2, "argument")

    def test_the_working_folder_is_read_unless_told_otherwise(self, fresh_home, tmp_path, monkeypatch):
        (tmp_path / "negajoule.toml").write_text("port = 5")
        monkeypatch.chdir(tmp_path)
        read = Settings()
        assert (read["port"], read.origin("port")) == (5, str(tmp_path / "negajoule.toml"))

    def test_a_working_folder_that_is_gone_holds_no_settings(self, tmp_path, monkeypatch):
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        assert Settings()["port"] == SETTINGS["port"].default


class TestTypes:
    @pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
    def test_a_default_is_of_its_own_type(self, setting: Setting):
        assert setting.default is None or type(setting.default) is setting.kind

    @pytest.mark.parametrize("kind", SAMPLE)
    def test_a_value_is_read_alike_from_every_place(self, settings, write, kind):
        name, value = next(
            (one.name, SAMPLE[kind]) for one in SETTINGS.values() if one.kind is kind and one.name != "port"
        )
        expected = (value, kind)
        for read in (
            settings({name: value}),
            settings(**{SETTINGS[name].variable: str(value)}),
            (write("home", f"{name} = {in_toml(value)}"), settings())[1],
        ):
            assert (read[name], type(read[name])) == expected

    @pytest.mark.parametrize(("text", "value"), [("TRUE", True), ("yes", True), ("0", False), ("No", False)])
    def test_switches_understand_words(self, settings, text, value):
        assert settings(NEGAJOULE_CLOUD_METADATA=text)["cloud_metadata"] is value

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("port", "many"),
            ("port", "80.5"),
            ("port", "-1"),
            ("port", "65536"),
            ("port", "9" * 5000),
            ("slots", "0"),
            ("pue", "0.99"),
            ("pue", "1,5"),
            ("wue", "-0.1"),
            ("carbon_intensity", "-1"),
            ("max_body_bytes", "10"),
            ("cloud_metadata", "perhaps"),
            ("log_level", "loud"),
        ],
    )
    def test_a_wrong_text_in_the_environment_is_refused_with_its_variable(self, settings, name, text):
        variable = SETTINGS[name].variable
        error = refusal(settings, **{variable: text})
        assert error.code == "C101"
        assert error.message.startswith(f"{variable}: {name} must be ")

    @pytest.mark.parametrize(
        "line",
        [
            "port = 80.5",
            'port = "many"',
            "port = true",
            "port = []",
            "port = 2026-01-31",
            "port = {}",
            "zone = 5",
            "zone = true",
            "zone = ['FR']",
            "pue = false",
            "pue = nan",
            "pue = inf",
            "pue = " + "9" * 400,
            "cloud_metadata = 2",
            "cloud_metadata = []",
        ],
    )
    @pytest.mark.parametrize("place", ["home", "folder"])
    def test_a_wrong_value_in_a_file_is_refused_with_its_path(self, settings, write, place, line):
        path = write(place, line)
        error = refusal(settings)
        assert error.code == "C101"
        assert error.message.startswith(f"{path}: {line.split()[0]} must be ")

    @pytest.mark.parametrize("value", [-1, "x", 1.5, True, object()])
    def test_a_wrong_argument_is_refused_as_one(self, settings, value):
        error = refusal(settings, {"port": value})
        assert (error.code, error.message.split(":")[0]) == ("C101", "argument")

    @pytest.mark.parametrize("name", [s.name for s in SETTINGS.values() if s.kind in (int, float)])
    @pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "1e999"])
    def test_no_number_may_be_negative_or_without_end(self, settings, name, text):
        assert refusal(settings, **{SETTINGS[name].variable: text}).code == "C101"

    @given(st.sampled_from(list(SETTINGS)), st.text(max_size=30))
    def test_any_text_is_a_value_of_the_right_type_or_a_refusal(self, name, text):
        environment = {SETTINGS[name].variable: text, "NEGAJOULE_HOME": os.environ["NEGAJOULE_HOME"]}
        try:
            read = Settings(environment=environment, folder=Path("/nowhere"))
        except ConfigError as error:
            outcome: object = error.code
        else:
            outcome = type(read[name])
        assert outcome in ("C101", type(SETTINGS[name].default), SETTINGS[name].kind)


class TestFiles:
    @pytest.mark.parametrize(
        "text", ["port = ", "port 80", "[", "port = 80\nport = 81", "\ufeffport = 80", "= 1", "pörtchen = 80"]
    )
    @pytest.mark.parametrize("place", ["home", "folder"])
    def test_what_is_no_toml_is_refused_with_its_path(self, settings, write, place, text):
        path = write(place, text)
        error = refusal(settings)
        assert error.code == "C102"
        assert str(path) in error.message

    def test_bytes_that_are_no_text_are_refused(self, settings, write):
        write("home", "").write_bytes(b"\xff\xfe")
        assert refusal(settings).code == "C102"

    def test_a_folder_in_place_of_the_file_is_refused(self, settings, fresh_home):
        (fresh_home / "config.toml").mkdir(parents=True)
        assert refusal(settings).code == "C102"

    def test_a_file_that_may_not_be_read_is_refused(self, settings, monkeypatch):
        def refuse(self, **_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_text", refuse)
        assert "Permission denied" in refusal(settings).message

    def test_an_empty_file_sets_nothing(self, settings, write):
        write("folder", "# nothing yet\n")
        assert settings().origin("port") == "default"

    @pytest.mark.parametrize("line", ["prot = 80", "[server]\nport = 80", "home = '/tmp'"])
    def test_unknown_names_in_a_file_are_refused_with_those_there_are(self, settings, write, line):
        path = write("folder", line)
        error = refusal(settings)
        assert error.code == "C103"
        assert str(path) in error.message
        assert "max_body_bytes" in error.fix

    def test_unknown_arguments_are_refused(self, settings):
        assert refusal(settings, {"prot": 80}).code == "C103"


class TestHome:
    def test_it_is_where_the_variable_says(self, fresh_home):
        assert home() == fresh_home

    def test_a_tilde_is_the_users_home(self):
        assert home({"NEGAJOULE_HOME": "~/joules"}) == Path.home() / "joules"

    def test_without_the_variable_it_follows_the_desktops_rule(self):
        assert home({"XDG_DATA_HOME": "/data"}) == Path("/data/negajoule")
        assert home({}) == Path.home() / ".local" / "share" / "negajoule"

    def test_the_home_of_nobody_is_refused(self):
        with pytest.raises(ConfigError, match="data folder") as caught:
            home({"NEGAJOULE_HOME": "~nobody-of-that-name/joules"})
        assert caught.value.code == "C101"


def test_every_setting_says_what_it_is_for():
    for name, setting in SETTINGS.items():
        assert setting.name == name
        assert setting.variable == f"NEGAJOULE_{name.upper()}"
        assert len(setting.meaning) > 10
