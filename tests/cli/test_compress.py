"""``negajoule compress``: what is refused before anything is loaded."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from negajoule.cli.compress import compress
from negajoule.errors import CompressError, ConfigError


def invoke(*arguments):
    return CliRunner().invoke(compress, [*map(str, arguments)])


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"{label} {n}", "label": label}) for label in "ab" for n in range(20)]
    file.write_text("\n".join(lines))
    return file


def test_data_must_be_given():
    found = invoke("somewhere")
    assert found.exit_code == 2
    assert "--data is missing" in found.output


def test_a_named_study_brings_its_own_recipes():
    found = invoke("--study", "article", "--recipe", "int8")
    assert found.exit_code == 2
    assert "its own recipes" in found.output


@pytest.mark.parametrize(
    ("model", "recipe", "code"), [("nowhere", "int8", "K101"), ("nowhere", "int9", "K103")]
)
def test_unknown_models_and_recipes_are_named(tmp_path, texts, model, recipe, code):
    found = invoke(tmp_path / model, "--data", texts, "--recipe", recipe, "--folder", tmp_path / "study")
    assert isinstance(found.exception, CompressError)
    assert found.exception.code == code


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    found = invoke(tmp_path, "--data", tmp_path / "none.jsonl", "--folder", tmp_path / "study")
    assert isinstance(found.exception, ConfigError)
    assert found.exception.code == "C106"
