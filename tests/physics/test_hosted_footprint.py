"""From hosted estimates to footprints: each identity by hand, and the errors of peers as tests of ours."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.catalog import lookup
from negajoule.errors import ConfigError
from negajoule.physics import (
    Doubt,
    EstimateSum,
    HostedSum,
    Lengths,
    estimate,
    factors_for,
    footprint,
    hosted_footprint,
)
from negajoule.units import Energy, Part, total

KWH = 3.6e6
ENDS = ("low", "value", "high")
KNOWN = {"pue": 1.5, "wue_l_per_kwh": 2.0, "carbon_g_per_kwh": 100.0}

tokens = st.integers(1, 50_000)
models = st.sampled_from(["gpt-4o", "llama-3.1-8b", "claude-sonnet-4-5", "gpt-oss-120b"])


def of(model="gpt-4o", prompt=1200, answer=300, zone="FRA", **knowledge):
    found = estimate(model, prompt, answer, **knowledge)
    return found, hosted_footprint(found, factors_for(zone, **KNOWN))


def test_each_indicator_is_the_product_it_says():
    found, cost = of()
    kwh = found.it_energy.value / KWH
    assert cost.it_energy == found.it_energy
    assert cost.facility_energy.value == pytest.approx(1.5 * found.it_energy.value)
    assert cost.carbon_location.value == pytest.approx(150.0 * kwh)
    assert cost.water_onsite.value == pytest.approx(2.0 * kwh)
    assert cost.water_offsite.value == pytest.approx(1.5 * kwh * lookup("grid.water.FRA").value)
    assert cost.carbon_market is None


def test_pue_is_applied_once_and_water_on_site_is_per_it_energy():
    found = estimate("gpt-4o", 1200, 300)
    without, with_pue = (
        hosted_footprint(found, factors_for("FRA", **{**KNOWN, "pue": pue})) for pue in (1.0, 2.0)
    )
    assert with_pue.water_onsite == without.water_onsite
    for name in ("facility_energy", "carbon_location", "water_offsite"):
        ratio = getattr(with_pue, name).value / getattr(without, name).value
        assert ratio == pytest.approx(2.0), name


def test_embodied_is_reserved_time_over_service_life():
    found, cost = of()
    making, life = lookup("embodied.gpu.with-server"), lookup("lifetime.gpu")
    year_s = 365.25 * 86_400
    by_hand = found.reserved_time.value / (life.value * year_s) * making.value * 1e3
    assert cost.embodied.value == pytest.approx(by_hand)
    assert cost.embodied.low == pytest.approx(
        found.reserved_time.low / (life.high * year_s) * making.low * 1e3
    )
    assert cost.embodied.boundary == "life cycle"


@given(tokens, tokens, models)
def test_parts_add_up_and_intervals_hold_their_values(prompt, answer, model):
    _, cost = of(model, prompt, answer, zone=None)
    whole = total(part.energy for part in cost.parts)
    for end in ENDS:
        assert getattr(whole, end) == pytest.approx(getattr(cost.it_energy, end), rel=1e-9)
    for name in ("facility_energy", "carbon_location", "water_onsite", "water_offsite", "embodied"):
        quantity = getattr(cost, name)
        assert 0 <= quantity.low <= quantity.value <= quantity.high < math.inf


@given(tokens, tokens, st.integers(1, 10_000), models)
def test_more_tokens_are_never_less(prompt, answer, more, model):
    least = of(model, prompt, answer)[1]
    for longer in (of(model, prompt + more, answer)[1], of(model, prompt, answer + more)[1]):
        for name in ("it_energy", "carbon_location", "water_offsite", "embodied"):
            assert getattr(longer, name).value >= getattr(least, name).value


def test_input_tokens_are_not_free():
    assert of(prompt=20_000)[1].carbon_location.value > 1.2 * of(prompt=100)[1].carbon_location.value


def test_the_batch_is_not_fixed():
    alone, together, unknown = of(batch=1)[1], of(batch=256)[1], of()[1]
    assert alone.it_energy.value > 5 * together.it_energy.value
    batch = next(cause for cause in unknown.contributors if cause.name == "batch")
    assert batch.high / batch.low > 4
    assert unknown.it_energy.low < of(batch=256)[0].it_energy.value < unknown.it_energy.high


def test_idle_accelerators_are_shared_out_in_energy_and_in_embodied():
    found, cost = of()
    idle = next(part for part in cost.parts if part.name == "idle")
    assert idle.energy.value > 0
    busy_only = found.accelerator_time.value / found.reserved_time.value
    assert busy_only == pytest.approx(lookup("hosted.utilisation").value)


def test_an_unknown_place_holds_clean_and_dirty_grids_and_is_named():
    found = estimate("gpt-4o", 1200, 300, batch=32, accelerator="H100")
    somewhere = hosted_footprint(found, factors_for(None))
    assert somewhere.carbon_location.low < hosted_footprint(found, factors_for("SWE")).carbon_location.high
    assert somewhere.carbon_location.high > hosted_footprint(found, factors_for("USA")).carbon_location.value
    assert somewhere.widest == "carbon intensity"
    assert somewhere.abiotic_depletion is None


def test_the_widest_cause_is_first_in_json():
    _, cost = of(zone=None)
    data = json.loads(json.dumps(cost.to_dict()))
    assert data["schema"] == "negajoule.footprint/1"
    assert data["model"] == "gpt-4o"
    assert data["contributors"][0]["name"] == data["widest"] == cost.widest == "batch"
    assert {"hosted.batch", "embodied.gpu.with-server", "lifetime.gpu"} <= {f["key"] for f in data["factors"]}


def test_a_hosted_footprint_can_be_added_to_one_of_this_machine():
    part = Part("cpu active", Energy.exact(10.0, "measured", "node"), "test", "A")
    factors = factors_for("FRA", **KNOWN)
    own = footprint([part], factors, node_seconds=1.0, cores=1.0, memory_gb=1.0)
    _, theirs = of()
    both = own + theirs
    assert both.it_energy.value == pytest.approx(10.0 + theirs.it_energy.value)
    assert both.embodied.value == pytest.approx(own.embodied.value + theirs.embodied.value)
    assert {"cpu active", "idle"} <= {one.name for one in both.parts}
    assert both.widest is not None


def test_a_grid_of_no_carbon_has_no_doubt_of_its_own():
    found = estimate("gpt-4o", 1200, 300)
    cost = hosted_footprint(found, factors_for("FRA", carbon_g_per_kwh=0.0))
    assert cost.carbon_location.value == 0
    assert next(cause for cause in cost.contributors if cause.name == "carbon intensity").high == 1


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=6), models)
def test_a_sum_is_the_sum_of_its_requests(lengths, model):
    requests = HostedSum(model)
    for prompt, answer in lengths:
        requests.add(Lengths(prompt, answer))
    alone = [estimate(model, prompt, answer) for prompt, answer in lengths]
    whole = requests.result()
    for name in ("energy", "it_energy", "accelerator_time", "reserved_time"):
        for end in ENDS:
            summed = math.fsum(getattr(getattr(one, name), end) for one in alone)
            assert getattr(getattr(whole, name), end) == pytest.approx(summed, rel=1e-9)
    names = {cause.name for one in alone for cause in one.contributors}
    assert {cause.name for cause in whole.contributors} == names
    shares = [part.energy.value for part in whole.parts]
    assert sum(shares) == pytest.approx(whole.it_energy.value)


def test_doubts_about_lengths_widen_and_are_named():
    sure, unsure = HostedSum("gpt-4o"), HostedSum("gpt-4o")
    lengths = Lengths(1000, 200, 500)
    sure.add(lengths)
    unsure.add(lengths, [Doubt("length", Lengths(500, 100, 250), Lengths(4000, 800, 500))])
    first, second = sure.result(), unsure.result()
    assert first.it_energy.value == second.it_energy.value
    assert second.it_energy.low < first.it_energy.low
    assert second.it_energy.high > first.it_energy.high
    assert second.reserved_time.high > first.reserved_time.high
    cause = next(cause for cause in second.contributors if cause.name == "length")
    assert cause.low < 1 < cause.high
    wide = estimate("gpt-4o", 4000, 800, cached_tokens=500).it_energy.value
    assert cause.high == pytest.approx(wide / first.it_energy.value, rel=0.01)


def test_a_request_that_may_be_all_cached_has_a_lower_end_of_zero():
    requests = HostedSum("gpt-4o")
    requests.add(Lengths(1000, 0), [Doubt("cache", Lengths(1000, 0, 1000), Lengths(1000, 0))])
    found = requests.result()
    assert found.it_energy.low == 0
    again = EstimateSum()
    again.include(found)
    assert again.result().it_energy == found.it_energy


def test_nothing_sums_to_nothing_that_is_known():
    with pytest.raises(ConfigError):
        HostedSum("gpt-4o").result()


def test_several_models_are_one_sum():
    both = EstimateSum()
    for model in ("gpt-4o", "llama-3.1-8b"):
        both.include(estimate(model, 500, 300))
    assert both.result().model == "several models"
