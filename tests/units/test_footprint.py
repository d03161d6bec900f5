"""Footprints add up indicator by indicator, and what isn't known stays unknown."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.errors import UnitError
from negajoule.units import (
    INDICATORS,
    Carbon,
    CarbonIntensity,
    Energy,
    Factor,
    Footprint,
    Part,
    Ratio,
)
from negajoule.units.footprint import SCHEMA
from strategies import footprints, parts

few = settings(max_examples=25)  # a footprint is large to make up
pairs = st.tuples(footprints("node"), footprints("node"))


def energy(value: float, spread: float = 0.0) -> Energy:
    return Energy(value, value - spread / 2, value + spread / 2, "measured", "node")


def part(name: str, value: float, spread: float = 0.0, *, source: str = "model", grade: str = "D") -> Part:
    return Part(name, energy(value, spread), source, grade)


class TestAddition:
    @few
    @given(pairs)
    def test_every_indicator_is_the_sum_or_unknown(self, pair):
        whole = pair[0] + pair[1]
        for name in INDICATORS:
            first, second = (getattr(footprint, name) for footprint in pair)
            expected = None if first is None or second is None else first + second
            assert getattr(whole, name) == expected

    @few
    @given(pairs)
    def test_parts_of_one_name_source_and_grade_become_one(self, pair):
        merged = (pair[0] + pair[1]).parts
        keys = [(one.name, one.source, one.grade) for one in merged]
        assert len(keys) == len(set(keys))
        assert set(keys) == {(one.name, one.source, one.grade) for both in pair for one in both.parts}

    @few
    @given(st.lists(parts(), max_size=6), st.lists(parts(), max_size=6))
    def test_no_energy_of_a_part_is_lost(self, first, second):
        whole = Footprint(boundary="node", parts=tuple(first)) + Footprint(
            boundary="node", parts=tuple(second)
        )
        for end in ("value", "low", "high"):
            expected = math.fsum(getattr(one.energy, end) for one in (*first, *second))
            assert math.fsum(getattr(one.energy, end) for one in whole.parts) == pytest.approx(expected)

    @few
    @given(pairs)
    def test_factors_and_notes_are_listed_once(self, pair):
        result = pair[0] + pair[1]
        assert list(result.factors) == list(dict.fromkeys((*pair[0].factors, *pair[1].factors)))
        assert list(result.notes) == list(dict.fromkeys((*pair[0].notes, *pair[1].notes)))

    def test_different_boundaries_are_refused(self):
        with pytest.raises(UnitError, match="'node' and 'facility'") as caught:
            Footprint(boundary="node") + Footprint(boundary="facility")
        assert caught.value.code == "U102"

    def test_parts_of_different_boundaries_are_refused(self):
        outside = Part("cpu", Energy.exact(1.0, boundary="facility"), "model", "D")
        with pytest.raises(UnitError):
            Footprint(boundary="node", parts=(part("cpu", 1.0),)) + Footprint(
                boundary="node", parts=(outside,)
            )


class TestWidest:
    def test_nothing_is_widest_where_nothing_has_a_width(self):
        assert Footprint(boundary="node").widest is None
        assert Footprint(boundary="node", it_energy=energy(5.0), parts=(part("cpu", 5.0),)).widest is None
        assert Footprint(boundary="node", it_energy=energy(0.0), parts=(part("cpu", 0.0),)).widest is None

    def test_it_names_the_part_with_the_most_joules_of_doubt(self):
        footprint = Footprint(
            boundary="node",
            it_energy=energy(100.0),
            parts=(part("memory", 1.0, 1.0), part("cpu", 99.0, 20.0)),
        )
        assert footprint.widest == "cpu"

    def test_parts_of_one_name_count_together(self):
        footprint = Footprint(
            boundary="node",
            it_energy=energy(100.0),
            parts=(
                part("gpu", 30.0, 6.0, source="nvml 0"),
                part("gpu", 30.0, 6.0, source="nvml 1"),
                part("cpu", 40.0, 10.0),
            ),
        )
        assert footprint.widest == "gpu"

    def test_a_vague_factor_beats_an_exact_meter(self):
        footprint = Footprint(
            boundary="facility",
            it_energy=energy(100.0),
            parts=(part("cpu", 100.0, 5.0),),
            factors=(
                Factor("PUE", "pue.world", Ratio(1.5, 1.2, 1.8)),
                Factor("carbon intensity", "grid.carbon.world", CarbonIntensity(4.0, 1.0, 8.0)),
                Factor("lifetime", "lifetime.server", Ratio(4.0, 1.0, 40.0)),
            ),
        )
        assert footprint.widest == "carbon intensity"

    def test_of_two_factors_of_one_name_the_vaguer_counts(self):
        vague = Factor("carbon intensity", "grid.carbon.world", CarbonIntensity(4.0, 1.0, 8.0))
        sharp = Factor("carbon intensity", "grid.carbon.FRA", CarbonIntensity.exact(1.0))
        pue = Factor("PUE", "pue.world", Ratio(1.5, 1.2, 1.8))
        for order in ((vague, sharp, pue), (sharp, vague, pue)):
            assert Footprint(boundary="facility", factors=order).widest == "carbon intensity"


class TestJson:
    @few
    @given(footprints())
    def test_every_indicator_stands_in_it_and_the_unknown_is_null(self, footprint):
        for detail in (True, False):
            data = json.loads(json.dumps(footprint.to_dict(detail=detail)))
            assert data["schema"] == SCHEMA
            assert data["boundary"] == footprint.boundary
            assert data["notes"] == list(footprint.notes)
            for name, kind in INDICATORS.items():
                quantity = getattr(footprint, name)
                assert data[name] is None if quantity is None else kind.from_dict(data[name]) == quantity

    @few
    @given(footprints())
    def test_detail_lists_parts_and_factors_with_unit_and_source(self, footprint):
        data = footprint.to_dict()
        assert [Energy.from_dict(one) for one in data["parts"]] == [one.energy for one in footprint.parts]
        assert [(one["name"], one["source"], one["grade"]) for one in data["parts"]] == [
            (one.name, one.source, one.grade) for one in footprint.parts
        ]
        assert [
            type(f.quantity).from_dict(one) for f, one in zip(footprint.factors, data["factors"], strict=True)
        ] == [one.quantity for one in footprint.factors]
        assert [(one["key"], one["year"]) for one in data["factors"]] == [
            (one.key, one.year) for one in footprint.factors
        ]

    def test_the_short_form_names_the_factors_keys(self):
        footprint = Footprint(boundary="facility", factors=(Factor("PUE", "pue.world", Ratio.exact(1.5)),))
        short = footprint.to_dict(detail=False)
        assert short["factors"] == {"PUE": "pue.world"}
        assert "parts" not in short


def test_a_known_zero_differs_from_an_unknown():
    known = Footprint(boundary="node", embodied=Carbon.exact(0.0))
    unknown = Footprint(boundary="node")
    assert (known + known).embodied == Carbon.exact(0.0)
    assert (known + unknown).embodied is None
