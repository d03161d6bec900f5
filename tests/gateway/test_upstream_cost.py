"""What the model behind an upstream costs: estimated if it can be, at the right place, else unknown."""

from __future__ import annotations

import json

import pytest

from negajoule.config import Settings
from negajoule.gateway import Tokens, UpstreamBackend, upstream_cost
from negajoule.instrument import find_here

from .conftest import passing_gateway as gateway
from .conftest import serving
from .test_upstream import Upstream, post


def here(**arguments):
    return find_here(Settings(arguments))


def keys(footprint):
    return {factor.name: factor.key for factor in footprint.factors}


def test_a_server_next_door_has_your_zone_and_pue():
    found = upstream_cost("http://127.0.0.1:8000", here(zone="SE", pue=1.3))(
        "llama-3.1-8b", Tokens(1200, 0, 300)
    )
    assert keys(found)["carbon intensity"] == "grid.carbon.SWE"
    assert found.facility_energy.value == pytest.approx(1.3 * found.it_energy.value)


def test_a_provider_has_its_own_and_an_unknown_place():
    found = upstream_cost("https://api.openai.com/v1", here(zone="SE", pue=1.3))(
        "gpt-4o", Tokens(1200, 0, 300)
    )
    assert keys(found)["PUE"] == "pue.provider.openai"
    assert keys(found)["carbon intensity"] == "grid.carbon.unknown"
    assert any("widest doubt" in note for note in found.notes)


def test_a_reseller_of_a_closed_model_has_its_makers_figures():
    cost = upstream_cost("https://openrouter.ai/api", here())
    assert keys(cost("claude-sonnet-4-5", Tokens(10, 0, 10)))["PUE"] == "pue.provider.anthropic"
    assert keys(cost("llama-3.1-8b", Tokens(10, 0, 10)))["PUE"] == "pue.world"


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("nobody-knows", Tokens(10, 0, 10)),
        ("gpt-4o", Tokens()),
        ("gpt-4o", Tokens(10, 0, None)),
        ("gpt-4o", Tokens(None, None, 10)),
        ("gpt-4o", Tokens(0, 0, 0)),
        ("gpt-4o", Tokens(10, 20, 10)),
    ],
)
def test_what_cant_be_estimated_is_unknown(model, tokens):
    assert upstream_cost("https://api.openai.com", here())(model, tokens) is None


def test_a_cache_that_nobody_told_of_is_a_doubt():
    cost = upstream_cost("https://api.openai.com", here())
    told, untold = cost("gpt-4o", Tokens(50_000, 0, 10)), cost("gpt-4o", Tokens(50_000, None, 10))
    assert told.it_energy.value == untold.it_energy.value
    assert untold.it_energy.low < told.it_energy.low
    assert untold.it_energy.high == pytest.approx(told.it_energy.high)


def test_an_answer_through_the_gateway_carries_the_models_estimate(fresh_home):
    upstream = Upstream()
    with serving(upstream.app()) as url:

        def backend(splitter, accounts):
            return UpstreamBackend(url, splitter, accounts, estimate=upstream_cost(url, accounts.here))

        with gateway(backend) as running:
            unknown = json.loads(post(running.url))["footprint"]
            known = json.loads(post(running.url, model="llama-3.1-8b"))["footprint"]
            row = running.ledger.latest(1)[0]
    assert unknown["it_energy"] is None
    alone = upstream_cost("http://127.0.0.1", here())("llama-3.1-8b", Tokens(5, None, 2))  # as upstream said
    assert known["it_energy"]["value"] >= alone.it_energy.value
    assert known["embodied"]["value"] >= alone.embodied.value
    assert {"idle", "accelerators, answer"} <= {part.name for part in row.footprint.parts}
