"""Bounds stay above what is charged, whatever is kept or rounded to find them quickly."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.gateway import Rates, Tokens, upstream_cost
from negajoule.gateway.bounds import _REMEMBERED, INDICATORS, figures
from negajoule.instrument import find_here
from negajoule.units import Carbon, Energy, Footprint, Water

MODEL = "gpt-4o-mini"
here = find_here()
priced = upstream_cost("http://127.0.0.1:1", here)
lengths = st.integers(0, 200_000)


def own(joules: float | None) -> Footprint:
    if joules is None:
        return Footprint("facility")
    energy = Energy(joules, joules, 2 * joules, "modelled", "node")
    water = Water.exact(0.0, "modelled", "facility")
    carbon = Carbon.exact(joules / 1e4, "modelled", "facility")
    return Footprint(
        "facility", it_energy=energy, carbon_location=carbon, water_onsite=water, water_offsite=water
    )


@settings(max_examples=60, deadline=None)
@given(prompt=lengths, output=lengths, less_prompt=lengths, less_output=lengths)
def test_an_upstreams_bound_covers_every_call_that_is_no_longer(prompt, output, less_prompt, less_output):
    actual = Tokens(min(prompt, less_prompt), 0, max(1, min(output, less_output)))
    bound = Rates(priced).bound(MODEL, Tokens(prompt, 0, max(1, output)))
    charged = figures(priced(MODEL, actual), "value")
    assert all(bound[name] >= charged[name] for name in INDICATORS)


@given(output=st.integers(1, 10**7))
def test_rounding_adds_little(output):
    asked: list[Tokens] = []

    def estimate(_, tokens):
        asked.append(tokens)
        return own(float(tokens.output))

    bound = Rates(estimate).bound("any", Tokens(0, 0, output))
    assert output <= asked[0].output <= output * 17 / 16
    assert bound["J"] == 4 * asked[0].output  # twice the high end: no call has shown yet what we take


@settings(max_examples=40)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 50)), min_size=1, max_size=40),
    st.integers(1, 3 * _REMEMBERED),
)
def test_what_a_token_takes_is_the_most_of_the_latest_calls(figures_j, calls):
    rates, seen = Rates(), []
    for number in range(calls):
        joules = figures_j[number % len(figures_j)]
        seen.append(joules)
        rates.learn("here", Tokens(1, 0, 1), own(joules))
    latest = seen[-_REMEMBERED:]
    expected = None if None in latest else max(latest) * 2.0 * 10
    assert rates.bound("here", Tokens(4, 0, 6))["J"] == expected


def test_the_estimate_is_asked_once_for_calls_of_about_one_length():
    asked = []

    def estimate(_, tokens):
        asked.append(tokens)
        return own(1.0)

    rates = Rates(estimate)
    for output in range(1000, 1024):
        rates.bound("any", Tokens(500, 0, output))
    assert len(asked) <= 2


def test_clients_cannot_fill_the_memory_with_names():
    rates = Rates(lambda *_: own(1.0))
    for number in range(5000):
        rates.bound(f"model {number}", Tokens(1, 0, 1))
    assert len(rates._theirs) <= 4096
