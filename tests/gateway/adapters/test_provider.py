"""Where providers listen: paths, greetings, lists of models."""

from __future__ import annotations

import pytest

from negajoule.errors import ConfigError, EngineError, RequestError
from negajoule.gateway.adapters import PROVIDERS, Usage, count_of, find_provider, listed_models


@pytest.mark.parametrize(
    ("name", "stream", "url"),
    [
        ("openai", True, "https://api.openai.com/v1/chat/completions"),
        ("anthropic", False, "https://api.anthropic.com/v1/messages"),
        (
            "gemini",
            False,
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent",
        ),
        (
            "gemini",
            True,
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        ),
    ],
)
def test_every_provider_is_asked_at_its_own_path(name, stream, url):
    found = find_provider(name)
    for model in ("gemini-2.5-pro", "models/gemini-2.5-pro"):
        assert found.base + found.chat_path(model, stream=stream) == url


@pytest.mark.parametrize("model", ["", "../x", "a/../b", "a?b", "a#b", "a b", "a%2e", "//host", "a:b", "é"])
def test_a_models_name_cant_change_the_path(model):
    with pytest.raises(RequestError) as caught:
        find_provider("gemini").chat_path(model, stream=True)
    assert caught.value.code == "R103"


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("openai", {"authorization": "Bearer k"}),
        ("openai-compatible", {"authorization": "Bearer k"}),
        ("anthropic", {"x-api-key": "k", "anthropic-version": "2023-06-01"}),
        ("gemini", {"x-goog-api-key": "k"}),
    ],
)
def test_every_provider_is_greeted_its_own_way(name, headers):
    assert find_provider(name).greeting("k") == {"content-type": "application/json", **headers}
    assert "k" not in find_provider(name).greeting(None).values()


def test_an_unknown_provider_is_said_with_the_known_ones():
    with pytest.raises(ConfigError, match="anthropic"):
        find_provider("nobody")
    assert all(name == entry.name for name, entry in PROVIDERS.items())


def test_lists_of_models_are_openais():
    anthropic = {"data": [{"type": "model", "id": "claude", "display_name": "Claude"}]}
    assert listed_models("anthropic", anthropic) == [
        {"type": "model", "id": "claude", "display_name": "Claude", "object": "model"}
    ]
    gemini = {"models": [{"name": "models/gemini-x", "inputTokenLimit": 5}, {"name": None}, 3]}
    assert listed_models("gemini", gemini) == [
        {"name": "models/gemini-x", "inputTokenLimit": 5, "id": "gemini-x", "object": "model"}
    ]
    assert listed_models("openai", {"data": []}) == []
    for nonsense in (None, [], {}, {"data": 3}):
        with pytest.raises(EngineError) as caught:
            listed_models("openai", nonsense)
        assert caught.value.code == "E104"


@pytest.mark.parametrize("value", [None, True, -1, 1.0, "1", 2**63, [1]])
def test_a_count_that_cant_be_true_is_unknown(value):
    assert count_of(value) is None


def test_usage_says_what_it_knows():
    assert Usage().to_openai() is None
    assert Usage(prompt=0, completion=0).to_openai() == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
    }
    whole = Usage(prompt=5, completion=2, cached=3, cache_written=1, reasoning=2)
    assert Usage.of(whole.to_openai()) == whole
    for nonsense in (None, 3, {"prompt_tokens": -1, "prompt_tokens_details": 3}):
        assert Usage.of(nonsense) == Usage()
