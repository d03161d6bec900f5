"""From joules and seconds to indicators: each identity by hand, PUE once, unknown stays unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.catalog import lookup
from negajoule.errors import CatalogError
from negajoule.physics import factors_for, footprint
from negajoule.units import Energy, Part, total

KWH = 3.6e6
KNOWN = {"pue": 1.5, "wue_l_per_kwh": 2.0, "carbon_g_per_kwh": 100.0, "market_g_per_kwh": 10.0}


def parts(*joules: float) -> list[Part]:
    return [Part(f"part {i}", Energy.exact(j, "measured", "node"), "test", "A") for i, j in enumerate(joules)]


def of(joules: float, factors, **changes):
    options = {"node_seconds": 0.0, "cores": 1.0, "memory_gb": 0.0, **changes}
    return footprint(parts(joules), factors, **options)


def test_each_indicator_is_the_product_it_says():
    cost = of(KWH, factors_for("FRA", **KNOWN))
    assert cost.facility_energy.value == pytest.approx(1.5 * KWH)
    assert cost.carbon_location.value == pytest.approx(150.0)
    assert cost.carbon_market.value == pytest.approx(15.0)


def test_water_on_site_is_per_it_energy_so_pue_isnt_applied_twice():
    assert of(KWH, factors_for("FRA", **KNOWN)).water_onsite.value == pytest.approx(2.0)


def test_water_off_site_follows_the_energy_of_the_facility():
    factors = factors_for("FRA", **KNOWN)
    grid = factors.water_grid.quantity.value
    assert of(KWH, factors).water_offsite.value == pytest.approx(1.5 * KWH * grid)


def test_embodied_follows_time_cores_and_memory_over_the_service_life():
    factors = factors_for(None)
    year_s = 365.25 * 86_400
    life_s = factors.lifetime.quantity.value
    whole = of(0.0, factors, node_seconds=life_s, cores=2.0, memory_gb=10.0).embodied
    by_hand = 2.0 * lookup("embodied.core").value + 10.0 * lookup("embodied.memory").value
    assert life_s / year_s == pytest.approx(lookup("lifetime.server").value, rel=2e-3)
    assert whole.value / 1e3 == pytest.approx(by_hand)
    assert whole.boundary == "life cycle"
    assert of(0.0, factors, node_seconds=0.0).embodied.value == 0.0


def test_boundaries_say_what_each_figure_includes():
    cost = of(1.0, factors_for("FRA", **KNOWN))
    found = {name: getattr(cost, name).boundary for name in ("it_energy", "facility_energy", "embodied")}
    assert found == {"it_energy": "node", "facility_energy": "facility", "embodied": "life cycle"}


def test_no_energy_at_all_is_unknown_and_not_zero():
    cost = footprint([], factors_for("FRA"), node_seconds=1.0, cores=1.0, memory_gb=1.0)
    assert cost.it_energy is None
    assert cost.carbon_location is None
    assert cost.embodied.value > 0


def test_without_contracts_there_is_no_market_based_figure():
    assert of(1.0, factors_for("FRA")).carbon_market is None


def test_an_unknown_place_has_the_spread_of_the_grids_and_never_the_value_of_a_clean_country():
    unknown = factors_for(None).carbon_location
    mean = factors_for("world").carbon_location
    quebec = factors_for("CA-QC").carbon_location.quantity
    assert (unknown.key, mean.key) == ("grid.carbon.unknown", "grid.carbon.world")
    assert unknown.quantity.value == pytest.approx(mean.quantity.value, rel=0.05)
    assert unknown.quantity.low < mean.quantity.low < mean.quantity.high < unknown.quantity.high
    assert unknown.quantity.low > quebec.value
    assert (
        of(KWH, factors_for(None)).carbon_location.spread
        > of(KWH, factors_for("world")).carbon_location.spread
    )


def test_a_place_without_an_intensity_is_as_unknown_as_no_place_and_says_so():
    antarctica = factors_for("ATA")
    assert antarctica.carbon_location.key == "grid.carbon.unknown"
    assert any("ATA" in note for note in antarctica.notes)
    assert not factors_for("ATA", carbon_g_per_kwh=20.0).notes


def test_a_provider_has_its_own_pue_and_water_and_an_unknown_one_is_an_error():
    ours, theirs = factors_for(None), factors_for(None, provider="google")
    assert (theirs.pue.key, theirs.wue.key) == ("pue.provider.google", "wue.provider.google")
    assert theirs.pue.quantity.value < ours.pue.quantity.value
    assert factors_for(None, provider="world") == ours
    with pytest.raises(CatalogError, match="google"):
        factors_for(None, provider="gogle")


def test_a_place_that_doesnt_exist_is_an_error():
    with pytest.raises(CatalogError, match="F101"):
        factors_for("ATLANTIS")


def test_minerals_and_primary_energy_are_left_out_where_no_figure_can_be_trusted():
    cost = of(KWH, factors_for(None))
    assert cost.abiotic_depletion is None
    assert cost.primary_energy is None
    french = of(KWH, factors_for("FRA", pue=1.0))
    assert french.primary_energy.value > KWH


def test_the_biggest_doubt_is_named():
    sure = Part("cpu active", Energy(100.0, 99.0, 101.0, "measured", "node"), "test", "A")
    factors = factors_for("FRA", carbon_g_per_kwh=50.0)
    assert footprint([sure], factors, node_seconds=1, cores=1, memory_gb=1).widest == "PUE"
    wide = Part("cpu active", Energy(100.0, 1.0, 900.0, "modelled", "node"), "test", "D")
    assert footprint([wide], factors, node_seconds=1, cores=1, memory_gb=1).widest == "cpu active"


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_the_footprint_of_the_whole_is_the_sum_of_its_pieces(joules):
    factors = factors_for("DEU")
    pieces = [of(j, factors, node_seconds=1.0) for j in joules]
    whole = footprint(parts(*joules), factors, node_seconds=float(len(joules)), cores=1.0, memory_gb=0.0)
    for name in ("it_energy", "facility_energy", "carbon_location", "water_onsite", "embodied"):
        summed = total(getattr(piece, name) for piece in pieces)
        for end in ("low", "value", "high"):
            assert getattr(summed, end) == pytest.approx(getattr(getattr(whole, name), end), rel=1e-9)


@given(st.floats(0, 1e9), st.floats(1.0, 3.0), st.floats(1.0, 3.0))
def test_more_pue_never_means_less_carbon(joules, first, second):
    low, high = sorted((first, second))
    assert (
        of(joules, factors_for("USA", pue=low)).carbon_location.value
        <= of(joules, factors_for("USA", pue=high)).carbon_location.value
    )
