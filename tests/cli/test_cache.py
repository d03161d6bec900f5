"""The cache and prices as a user switches them on: by settings, seen in answers, budgets and the report."""

from __future__ import annotations

import json

import pytest

from gateway.asking import CHAT, ask
from servers import serve


@pytest.mark.slow
def test_a_server_with_cache_and_prices_says_what_was_avoided_apart(nj, fresh_home, monkeypatch):
    monkeypatch.setenv("NEGAJOULE_CACHE", "deterministic")
    monkeypatch.setenv("NEGAJOULE_PRICE_PER_KWH", "36000 EUR")
    assert nj("budgets", "set", "5 EUR", "--per", "total").returncode == 0
    body = {**CHAT, "temperature": 0}
    with serve(fresh_home, "--fake-engine") as running:
        first, again = (ask(running.url, "/v1/chat/completions", body=body) for _ in range(2))
        metrics = ask(running.url, "/metrics").body.decode()
    assert (first.headers["x-negajoule-cache"], again.headers["x-negajoule-cache"][:4]) == ("miss", "hit;")
    took, again_took = (one.json["footprint"]["it_energy"]["value"] for one in (first, again))
    assert "negajoule_cache_hits 1.0" in metrics
    told = json.loads(nj("report", "--by", "model", "--json").stdout)
    assert told["avoided"]["value"] == pytest.approx(took)
    assert told["avoided"]["known"] == 1
    (fake,) = [group for group in told["groups"] if group["group"] == "fake"]
    assert fake["indicators"]["it_energy"]["value"] == pytest.approx(took + again_took)
    assert "avoided by the cache, in no sum above" in nj("report").stdout
    (budget,) = json.loads(nj("budgets", "list", "--json").stdout)["budgets"]
    facility = first.json["footprint"]["facility_energy"]["value"]
    assert budget["spent"] == pytest.approx(facility * 0.01, rel=1e-3)
    assert budget["requests"] == 1, "a hit reaches no model"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CACHE", "yes", "cache must be off or deterministic or all"),
        ("CACHE_SCOPE", "world", "cache_scope must be"),
        ("CACHE_BYTES", "10", "cache_bytes must be at least"),
        ("PRICE_PER_KWH", "2 kWh", "price_per_kwh must be money"),
    ],
)
def test_wrong_settings_are_said_with_what_they_must_be(nj, variable, value, words):
    done = nj("serve", "--fake-engine", "--port", "0", "--once", env={f"NEGAJOULE_{variable}": value})
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
