"""The [[upstream]] tables: what they mean, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from negajoule.config import Settings
from negajoule.errors import ConfigError
from negajoule.gateway.plan import keys_of, plan_for, read_plan

FULL = """
[[upstream]]
name = "claude"
provider = "anthropic"
key_env = "CLAUDE_KEY"
models = {big = "claude-opus-4"}
fallback = ["local"]
context_tokens = 200000
capabilities = ["tools", "vision"]

[[upstream]]
name = "local"
url = "http://127.0.0.1:8000/"
models = ["big", "small"]
"""


def settings(folder, text: str) -> Settings:
    (folder / "negajoule.toml").write_text(text)
    return Settings(environment={"NEGAJOULE_HOME": str(folder / "none")}, folder=folder)


def plans(folder, text: str):
    table = settings(folder, text).table("upstream")
    assert table is not None
    return read_plan(*table)


def test_tables_are_read(tmp_path):
    claude, local = plans(tmp_path, FULL)
    assert (claude.name, claude.provider.name, claude.base) == (
        "claude",
        "anthropic",
        "https://api.anthropic.com/v1",
    )
    assert (claude.key_env, claude.fallback, claude.context_tokens) == ("CLAUDE_KEY", ("local",), 200_000)
    assert claude.capabilities == {"tools", "vision"}
    assert (claude.model_for("big"), claude.model_for("small")) == ("claude-opus-4", None)
    assert (local.base, local.provider.name) == ("http://127.0.0.1:8000/v1", "openai-compatible")
    assert (local.model_for("small"), local.capabilities, local.context_tokens) == ("small", None, None)


def test_without_a_list_of_models_all_pass():
    plan = plan_for("http://127.0.0.1:8000")
    assert plan.model_for("anything") == "anything"


def test_settings_stand_beside_the_tables(tmp_path):
    both = settings(tmp_path, f"port = 9000\n{FULL}")
    assert both["port"] == 9000
    assert both.table("upstream") is not None
    assert settings(tmp_path, "port = 1").table("upstream") is None


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a:1", "http://a:1/v1"),
        ("http://a/v1/", "http://a/v1"),
        ("https://a/openai/v1", "https://a/openai/v1"),
        ("https://a/api/paas/v4", "https://a/api/paas/v4"),
        ("https://a/v1beta", "https://a/v1beta"),
    ],
)
def test_an_address_gets_a_version_unless_it_has_one(url, base):
    assert plan_for(url).base == base


@pytest.mark.parametrize(
    "url",
    ["", "a", "ftp://a", "http://", "http://u:p@a", "http://a?x=1", "http://a#b", "http://a:x", "http://[a"],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="--upstream"):
        plan_for(url)


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("upstream = 3", "C101", "upstream must be tables"),
        ("upstream = [3]", "C101", "upstream must be tables"),
        ('[[upstream]]\nurl="http://a"', "C101", r"upstream\[0\].name"),
        ('[[upstream]]\nname="a"', "C101", r"upstream\[0\].url"),
        ('[[upstream]]\nname=3\nurl="http://a"', "C101", r"upstream\[0\].name"),
        ('[[upstream]]\nname="a"\nurl="http://a"\nkey="x"', "C103", r"upstream\[0\].key"),
        ('[[upstream]]\nname="a"\nprovider="x"', "C101", r"upstream\[0\].provider"),
        ('[[upstream]]\nname="a"\nurl="http://a"\nmodels=[]', "C101", r"upstream\[0\].models"),
        ('[[upstream]]\nname="a"\nurl="http://a"\nmodels=3', "C101", r"upstream\[0\].models"),
        ('[[upstream]]\nname="a"\nurl="http://a"\nmodels={a=3}', "C101", r"upstream\[0\].models"),
        ('[[upstream]]\nname="a"\nurl="http://a"\nfallback=["b"]', "C101", r"upstream\[0\].fallback"),
        ('[[upstream]]\nname="a"\nurl="http://a"\nfallback=["a"]', "C101", r"upstream\[0\].fallback"),
        ('[[upstream]]\nname="a"\nurl="http://a"\ncontext_tokens=0', "C101", "context_tokens"),
        ('[[upstream]]\nname="a"\nurl="http://a"\ncontext_tokens=true', "C101", "context_tokens"),
        ('[[upstream]]\nname="a"\nurl="http://a"\ncapabilities=["fly"]', "C101", "capabilities"),
        ('[[upstream]]\nname="a"\nurl="http://a"\n' * 2, "C101", r"upstream\[1\].name"),
        (
            '[[upstream]]\nname="a"\nurl="http://a"\nmodels=["x"]\nfallback=["b"]\n'
            '[[upstream]]\nname="b"\nurl="http://b"\nmodels=["y"]',
            "C101",
            r"upstream\[0\].fallback",
        ),
    ],
)
def test_a_wrong_table_is_an_error_that_names_file_and_key(tmp_path, text, code, place):
    with pytest.raises(ConfigError, match=place) as caught:
        plans(tmp_path, text)
    assert caught.value.code == code
    assert str(tmp_path / "negajoule.toml") in caught.value.message


def test_a_key_in_the_file_is_refused_without_being_told(tmp_path):
    with pytest.raises(ConfigError, match="environment variable") as caught:
        plans(tmp_path, '[[upstream]]\nname="a"\nurl="http://a"\nkey_env="sk-very-secret"')
    assert "sk-very-secret" not in str(caught.value)


def test_keys_come_from_the_environment_only(tmp_path):
    both = plans(tmp_path, FULL)
    assert keys_of(both, {"CLAUDE_KEY": " k \n"}) == {"claude": "k"}
    for missing in ({}, {"CLAUDE_KEY": ""}):
        with pytest.raises(ConfigError, match="CLAUDE_KEY"):
            keys_of(both, missing)


def test_the_guides_example_is_sound(tmp_path):
    guide = Path(__file__).parents[2] / "docs" / "guides" / "upstreams.md"
    example = guide.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    assert [plan.name for plan in plans(tmp_path, example)] == ["claude", "local"]
