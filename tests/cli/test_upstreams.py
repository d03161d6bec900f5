"""Which servers stand behind ``negajoule serve``: the command line's, else the file's, else none."""

from __future__ import annotations

import pytest

from negajoule.cli.upstreams import Upstreams
from negajoule.config import Settings
from negajoule.errors import ConfigError

TABLES = """
[[upstream]]
name = "claude"
provider = "anthropic"
key_env = "CLAUDE_KEY"

[[upstream]]
name = "local"
url = "http://127.0.0.1:8000"
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("CLAUDE_KEY", raising=False)
    monkeypatch.delenv("NEGAJOULE_UPSTREAM_KEY", raising=False)
    (tmp_path / "negajoule.toml").write_text(TABLES)
    return Settings(environment={"NEGAJOULE_HOME": str(tmp_path / "none")}, folder=tmp_path)


def test_the_command_line_beats_the_tables(settings, monkeypatch):
    monkeypatch.setenv("NEGAJOULE_UPSTREAM_KEY", "k")
    one = Upstreams(settings, "http://127.0.0.1:9", embedded=False)
    assert (str(one), one.secrets) == ("upstream http://127.0.0.1:9/v1", ["k"])
    none = Upstreams(settings, None, embedded=True)
    assert not none
    assert none.secrets == []


def test_the_tables_count_and_their_keys_are_secrets(settings, monkeypatch):
    monkeypatch.setenv("CLAUDE_KEY", "sk-1")
    both = Upstreams(settings, None, embedded=False)
    assert (str(both), both.secrets) == ("upstreams claude, local", ["sk-1"])


def test_a_missing_key_and_a_wrong_address_are_said(settings):
    with pytest.raises(ConfigError, match="CLAUDE_KEY"):
        Upstreams(settings, None, embedded=False)
    with pytest.raises(ConfigError, match="--upstream"):
        Upstreams(settings, "nonsense", embedded=False)
