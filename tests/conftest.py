"""Every test gets a home of its own and an environment without our variables."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A busy machine makes single examples slow; that is no failure.
settings.register_profile("negajoule", deadline=None)
settings.load_profile("negajoule")


@pytest.fixture(autouse=True)
def fresh_home(tmp_path, monkeypatch):
    """An empty data folder."""
    for name in list(os.environ):
        if name.startswith("NEGAJOULE_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("NEGAJOULE_HOME", str(home))
    return home
