"""What documentation and examples repeat from the code is fresh, and works."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from negajoule.config import SETTINGS, Settings

ROOT = Path(__file__).parents[1]


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()


@pytest.mark.parametrize("name", GENERATOR.PAGES)
def test_pages_written_from_the_code_are_fresh(name):
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATOR.PAGES[name](), (
        "run: python docs/generate.py"
    )


def test_every_setting_stands_in_the_example_and_is_accepted(tmp_path):
    text = (ROOT / "examples" / "negajoule.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {}
    settings = re.sub(r"(?m)^#(\w+ = )", r"\1", text)
    assert set(tomllib.loads(settings)) == set(SETTINGS)
    (tmp_path / "negajoule.toml").write_text(settings)
    resolved = Settings(environment={}, folder=tmp_path)
    for name, value in tomllib.loads(settings).items():
        assert resolved[name] == value
        assert resolved.origin(name).endswith("negajoule.toml")
        default = SETTINGS[name].default
        assert default is None or value == default


def test_the_unit_is_one_and_is_tight():
    unit = ROOT / "examples" / "negajoule.service"
    text = unit.read_text(encoding="utf-8")
    for line in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=\n",
        "kill -HUP $MAINPID",
    ):
        assert line in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze isn't installed, so the unit can't be checked")
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    told = [line for line in checked.stderr.splitlines() if "negajoule.service" in line]
    assert [line for line in told if "is not executable" not in line] == []


def test_the_container_file_copies_what_is_there_and_runs_as_nobody():
    text = (ROOT / "examples" / "Containerfile").read_text(encoding="utf-8")
    for names in re.findall(r"(?m)^COPY (?!--)(.+) \S+$", text):
        for name in names.split():
            assert (ROOT / name).exists()
    assert re.search(r"(?m)^USER \d+$", text)
    for variable in re.findall(r"NEGAJOULE_([A-Z_]+)=", text):
        assert variable == "HOME" or variable.lower() in SETTINGS
