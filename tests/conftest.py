"""Every test gets a home of its own and an environment without our variables."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from servers import serve

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


@pytest.fixture(scope="session")
def served_model(tmp_path_factory):
    """URL of a server with the real model, one for the whole session."""
    pytest.importorskip("xllamacpp", reason="the engine's wheel isn't installed: make test installs it")
    with serve(tmp_path_factory.mktemp("model"), "--slots", "8") as served:
        yield served.url
