"""Money: prices by the token and by the kWh, budgets that hold in it, currencies that don't mix."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.engine import FakeEngine
from negajoule.errors import ConfigError
from negajoule.gateway import BudgetedBackend, Degrading, EngineBackend, Fleet, Rates
from negajoule.gateway.accounts import Tokens
from negajoule.gateway.plan import read_plan
from negajoule.gateway.prices import EnergyTariff, Price, TokenTariff
from negajoule.gateway.server import Server
from negajoule.ledger.accounts import Teller, workers_folder

from .asking import chat
from .conftest import gateway, serving
from .test_spending import Upstream, limit, store, usage  # noqa: F401 (a fixture)

EUR = 10**9
COUNTS = st.integers(0, 10**7)
AMOUNTS = st.floats(0, 1e6)


TABLES = [
    {
        "name": "paid",
        "url": "http://a",
        "currency": "EUR",
        "prices": {
            "big": {"input": 10_000, "output": 20_000, "cached": 1_000},
            "small": {"input": 100, "output": 200},
        },
    }
]


@contextlib.contextmanager
def paid(store, upstream, asked=None, *, degrading=None):  # noqa: F811
    """Our gateway with budgets before upstreams whose prices are stated; nobody knows their joules."""
    asked = asked or TABLES
    with serving(upstream.app()) as url:

        def make(splitter, accounts):
            plans = read_plan([{**table, "url": url} for table in asked], "a test")
            servers = [Server(plan, estimate=lambda *_: None) for plan in plans]
            fleet = Fleet(servers, splitter, accounts)
            teller = Teller(store, workers_folder())
            rates = Rates(fleet.dearest)
            return BudgetedBackend(
                fleet, accounts, teller, rates, degrading or Degrading(), TokenTariff(fleet)
            )

        with gateway(make) as running:
            yield running


def test_a_call_is_charged_by_its_servers_price(store):  # noqa: F811
    account = limit(store, 100, indicator="EUR")
    with paid(store, Upstream()) as running:
        answer = chat(running.url, model="big", max_tokens=20)
    assert answer.status == 200
    end = usage(store, account)
    # 10 prompt tokens at 0.01 EUR, 20 generated ones at 0.02 EUR
    assert end.spent == pytest.approx(0.5 * EUR, abs=1)
    assert (end.requests, end.held, end.overrun) == (1, 0, 0)


def test_money_is_never_spent_twice_whoever_comes_at_once(store):  # noqa: F811
    account = limit(store, 10, indicator="EUR")
    upstream = Upstream()
    with paid(store, upstream) as running, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: chat(running.url, model="big", max_tokens=40), range(50)))
    assert {answer.status for answer in answers} == {200, 429}
    end = usage(store, account)
    assert 0 < end.spent <= 10 * EUR
    assert end.spent == pytest.approx(
        sum(0.1 + 0.02 * b["max_tokens"] for b in upstream.bodies) * EUR, abs=50
    )


@pytest.mark.parametrize("stream", [False, True])
def test_what_isnt_told_is_charged_at_the_bound(store, stream):  # noqa: F811
    account = limit(store, 1000, indicator="EUR")
    with paid(
        store, Upstream(), [{**TABLES[0], "prices": {"*": {"input": 10_000, "output": 20_000}}}]
    ) as running:
        chat(running.url, model="cut" if stream else "broken", max_tokens=40, stream=stream)
    assert usage(store, account).spent > (0.1 + 0.02 * 40) * EUR


def test_a_budget_in_another_currency_is_refused_by_name(store):  # noqa: F811
    limit(store, 10, indicator="USD")
    upstream = Upstream()
    with paid(store, upstream) as running:
        answer = chat(running.url, model="big")
        unstated = chat(running.url, model="other")
    assert (answer.status, answer.code) == (400, "R109")
    assert (
        "the price of 'big' is in EUR, and there are no rates of exchange" in answer.json["error"]["message"]
    )
    assert "no price in USD is stated for 'other'" in unstated.json["error"]["message"]
    assert upstream.bodies == []


def test_the_floor_is_reached_by_cheaper_models_in_order_then_by_shorter_answers(store):  # noqa: F811
    limit(store, 4, indicator="EUR")
    upstream = Upstream()
    degrading = Degrading(cheaper_models=("other", "small"))
    with paid(store, upstream, degrading=degrading) as running:
        cheaper = chat(running.url, model="big", max_tokens=200)
        shorter = chat(running.url, model="small", max_tokens=90_000)
    assert cheaper.headers["x-negajoule-degraded"] == "model=small"
    assert shorter.status == 200
    assert shorter.headers["x-negajoule-degraded"].startswith("max_tokens=")
    assert [body["model"] for body in upstream.bodies] == ["small", "small"]


def test_currencies_of_a_server_and_its_fallback_dont_mix():
    one = {**TABLES[0], "fallback": ["other"]}
    other = {**TABLES[0], "name": "other", "currency": "USD"}
    with pytest.raises(ConfigError, match="EUR and USD can't be mixed"):
        read_plan([one, other], "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"currency": "euro"}, "currency must be the prices' ISO 4217 code"),
        ({"currency": ""}, "currency must be the prices' ISO 4217 code"),
        ({"prices": []}, "prices must be a table"),
        ({"prices": {"m": {"input": 1}}}, "prices.m must hold input and output"),
        ({"prices": {"m": {"input": -1, "output": 1}}}, "prices.m.input must be an amount"),
        ({"prices": {"m": {"input": 1, "output": float("nan")}}}, "prices.m.output must be an amount"),
        ({"prices": {"m": {"input": 1, "output": True}}}, "prices.m.output must be an amount"),
        ({"prices": {"m": {"input": 1, "output": 1, "image": 1}}}, "prices.m must hold input and output"),
        ({"prices": None}, "currency is given without prices"),
    ],
)
def test_wrong_prices_are_refused_with_their_place(change, message):
    table = {name: value for name, value in {**TABLES[0], **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=r"upstream\[0\]") as caught:
        read_plan([table], "x")
    assert message in caught.value.message


@given(AMOUNTS, AMOUNTS, st.none() | AMOUNTS, COUNTS, COUNTS, st.none() | COUNTS)
def test_a_price_never_exceeds_its_bound(input_, output, cached, prompt, answer, reused):
    price = Price("EUR", input_, output, cached)
    cost = price.of(Tokens(prompt, reused, answer))
    assert 0 <= cost <= price.most(Tokens(prompt, 0, answer)) * (1 + 1e-12)
    assert price.of(Tokens(None, None, answer)) is None


def test_the_embedded_engine_is_paid_by_the_kwh(store):  # noqa: F811
    account = limit(store, 1000, indicator="EUR")

    def make(splitter, accounts):
        tariff = EnergyTariff("36000 EUR", pue_high=2.0)  # a cent a joule
        teller = Teller(store, workers_folder())
        engine = EngineBackend(FakeEngine(), splitter, accounts)
        return BudgetedBackend(engine, accounts, teller, Rates(), Degrading(), tariff)

    with gateway(make) as running:
        energies = [chat(running.url).json["footprint"]["facility_energy"]["value"] for _ in range(2)]
    assert usage(store, account).spent == pytest.approx(sum(energies) * 0.01 * EUR, abs=2)


@pytest.mark.parametrize("price", ["2 kWh", "0.25", "free", "-1 EUR"])
def test_what_is_no_price_is_refused(price):
    with pytest.raises(ConfigError):
        EnergyTariff(price, pue_high=1.5)


def test_a_stream_that_ignores_its_limit_is_cut_and_charged_at_its_bound(store):  # noqa: F811
    account = limit(store, 100, indicator="EUR")
    upstream = Upstream()
    upstream.pause_s = 0.002
    with paid(store, upstream) as running:
        answer = chat(running.url, model="big", max_tokens=8, stream=True)
        honest = chat(running.url, model="big", max_tokens=60, stream=True)
    assert b"[DONE]" not in answer.body
    assert b"goes on beyond the limit of 8 tokens" in answer.body
    assert 8 <= answer.body.count(b'"word"') < 50
    assert honest.body.endswith(b"data: [DONE]\n\n")
    end = usage(store, account)
    assert end.spent > (1 + 0.02 * 8 + 0.1 + 0.02 * 60) * EUR, "the prompt counts by its bytes"
    assert (end.held, end.requests) == (0, 2)
