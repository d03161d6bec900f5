"""``negajoule.estimate``: what is known is used, what isn't is said, and who serves a model is no guess."""

from __future__ import annotations

import subprocess
import sys

import pytest

import negajoule
from negajoule.errors import CatalogError, ConfigError
from negajoule.instrument.hosted import serving_factors
from negajoule.instrument.provider import is_on_site, provider_of_model, provider_of_url


def keys(footprint):
    return {factor.name: factor.key for factor in footprint.factors}


def test_it_is_on_the_face_of_the_package_and_importing_that_stays_light():
    assert "estimate" in dir(negajoule)
    code = (
        "import sys, negajoule\n"
        "print([m for m in sys.modules if m in ('numpy', 'msgspec')])\n"
        "print(negajoule.estimate('gpt-4o', 1200, 300).it_energy.unit)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["[]", "J"]


def test_a_closed_model_is_served_by_its_maker_and_that_is_said():
    cost = negajoule.estimate("gpt-4o", 1200, 300)
    assert keys(cost)["PUE"] == "pue.provider.openai"
    assert any("its maker" in note for note in cost.notes)
    for provider in ("azure", "world"):
        told = negajoule.estimate("gpt-4o", 1200, 300, provider=provider)
        assert keys(told)["PUE"] == ("pue.world" if provider == "world" else "pue.provider.azure")
        assert not any("its maker" in note for note in told.notes)


def test_an_open_model_may_be_served_by_anybody():
    assert keys(negajoule.estimate("llama-3.1-8b", 1200, 300))["PUE"] == "pue.world"


def test_the_zone_of_the_settings_is_yours_and_not_the_providers(monkeypatch):
    monkeypatch.setenv("NEGAJOULE_ZONE", "FR")
    cost = negajoule.estimate("gpt-4o", 1200, 300)
    assert keys(cost)["carbon intensity"] == "grid.carbon.unknown"
    assert any("location unknown" in note for note in cost.notes)
    told = negajoule.estimate("gpt-4o", 1200, 300, zone="FR")
    assert keys(told)["carbon intensity"] == "grid.carbon.FRA"
    assert not any("location unknown" in note for note in told.notes)


def test_what_you_state_is_taken():
    cost = negajoule.estimate(
        "gpt-4o", 1200, 300, zone="SE", pue=1.1, wue_l_per_kwh=0.0, carbon_g_per_kwh=20.0
    )
    assert keys(cost)["PUE"] == keys(cost)["WUE"] == keys(cost)["carbon intensity"] == "user"
    assert cost.facility_energy.value == pytest.approx(1.1 * cost.it_energy.value)
    assert cost.water_onsite.value == 0
    assert not any("its maker" in note for note in cost.notes)


def test_hidden_reasoning_and_cached_tokens_are_told_apart():
    plain = negajoule.estimate("gpt-5", 1200, 300)
    assert negajoule.estimate("gpt-5", 1200, 300, reasoning_tokens=700).it_energy == (
        negajoule.estimate("gpt-5", 1200, 1000).it_energy
    )
    assert negajoule.estimate("gpt-5", 1200, 300, cached_tokens=1000).it_energy.value < plain.it_energy.value


def test_rows_of_the_user_count_from_the_next_process_on(fresh_home):
    before = serving_factors("gpt-4o").pue
    folder = fresh_home / "catalog"
    folder.mkdir(parents=True)
    row = "pue.provider.openai,1.05,1.05,1.05,1,2026,me,,\n"
    (folder / "own.csv").write_text(f"key,value,low,high,unit,year,source,licence,note\n{row}")
    assert serving_factors("gpt-4o").pue == before  # this process has read the catalogue of this home already
    code = "import negajoule; print(negajoule.estimate('gpt-4o', 9, 9).factors[0].quantity.value)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1.05\n"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"model": "gpt-4oo"}, CatalogError),
        ({"zone": "Atlantis"}, CatalogError),
        ({"provider": "openia"}, CatalogError),
        ({"accelerator": "Voodoo2"}, CatalogError),
        ({"pue": 0.5}, ConfigError),
        ({"pue": float("nan")}, ConfigError),
        ({"wue_l_per_kwh": -1}, ConfigError),
        ({"carbon_g_per_kwh": float("inf")}, ConfigError),
        ({"tokens_in": -1}, ConfigError),
        ({"tokens_in": None}, ConfigError),
        ({"tokens_in": 0, "tokens_out": 0}, ConfigError),
        ({"batch": 0}, ConfigError),
        ({"model": None}, ConfigError),
    ],
)
def test_what_cannot_be_is_refused_with_a_code(wrong, error):
    with pytest.raises(error):
        negajoule.estimate(**{"model": "gpt-4o", "tokens_in": 1200, "tokens_out": 300, **wrong})


@pytest.mark.parametrize(
    ("model", "maker"),
    [
        ("gpt-4o-2024-08-06", "openai"),
        ("openai/gpt-5", "openai"),
        ("o1", "openai"),
        ("o3-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("claude-sonnet-4-5-20250929", "anthropic"),
        ("anthropic.claude-opus-4-5-20251101-v1:0", "anthropic"),
        ("us.anthropic.claude-haiku-4-5", "anthropic"),
        ("models/gemini-2.5-flash", "google"),
        ("gpt-oss-120b", None),
        ("openai/gpt-oss-20b", None),
        ("gpt-j-6b", None),
        ("llama-3.1-8b", None),
        ("olmo-2", None),
        ("", None),
    ],
)
def test_makers_of_closed_models(model, maker):
    assert provider_of_model(model) == maker


@pytest.mark.parametrize(
    ("url", "provider", "here"),
    [
        ("https://api.openai.com/v1", "openai", False),
        ("api.openai.com", "openai", False),
        ("https://mine.openai.azure.com/openai/v1", "azure", False),
        ("https://api.anthropic.com", "anthropic", False),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "google", False),
        ("https://bedrock-runtime.eu-west-3.amazonaws.com", "aws", False),
        ("https://router.huggingface.co/v1", "huggingface", False),
        ("https://api.mistral.ai", "mistral", False),
        ("https://api.cohere.com/compatibility/v1", "cohere", False),
        ("https://openrouter.ai/api/v1", None, False),
        ("https://api.openai.com.evil.example", None, False),
        ("https://notopenai.com", None, False),
        ("http://127.0.0.1:8000", None, True),
        ("http://[::1]:8000/v1", None, True),
        ("http://localhost:11434", None, True),
        ("http://10.1.2.3", None, True),
        ("http://192.168.0.7:8000", None, True),
        ("http://gpu-box:8000", None, True),
        ("http://vllm.cluster.local", None, True),
        ("http://8.8.8.8", None, False),
        ("http://[broken", None, False),
        ("", None, False),
    ],
)
def test_who_and_where_a_server_is_by_its_address(url, provider, here):
    assert provider_of_url(url) == provider
    assert is_on_site(url) is here
