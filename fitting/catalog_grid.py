"""Carbon intensity, water, minerals and primary energy of electricity by country and grid zone.

    python fitting/catalog_grid.py --data ../shared/data [--check]

Reads ``carbon_intensity/``; writes one file per licence, as no file can obey two share-alike licences:
``grid.carbon.csv`` (free), ``grid.carbon_CC-BY-SA.csv``, ``grid.carbon_ODbL.csv`` and three MPL-2.0 files.
Where a country stands in several, the catalogue settles it at run time. On the intervals see
``docs/design/catalog.md``.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from catalog_files import PACKAGE_DATA, Row, arguments, fingerprint, settle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

THIS_YEAR = 2026  # the year for which intervals are stated
OLDEST_YEAR = 2015  # an intensity of before says little about today
LONGEST_LAG = 4  # years; five years of zones give lags of one to four
BANDS = (100.0, 300.0)  # gCO2e/kWh: low-carbon grids vary most in relative terms
LBS_PER_MWH = 0.45359237  # g/kWh
Series = dict[str, dict[int, float]]

OWID = "Our World in Data; Ember, via CodeCarbon 3.3.2"
EMBER = "Ember, via co2.js 27cbe83 (The Green Web Foundation)"
MAPS = "Electricity Maps, via co2.js 27cbe83 (The Green Web Foundation)"
EGRID = "EPA eGRID2023 (STC2ERTA), via CodeCarbon 3.3.2"
CHINA = "MEE and NBS of China, Announcement 2025 No. 47, via CodeCarbon 3.3.2"
WATER = "WRI, via EcoLogits 0.11.3"
MIX = "ADEME Base Empreinte, via EcoLogits 0.11.3"
FREE, SHARE, ODBL, MPL = "CC BY 4.0", "CC BY-SA 4.0", "ODbL 1.0", "MPL-2.0"

# The world's mean was 481 g/kWh in 2023 (below) and 473 in 2024 (Ember); newer sources have 458 to 482. It
# falls by 1.6 % a year: two more years on the lowest give 444, a year's error on the highest 490.
WORLD_INTERVAL = (440.0, 490.0)
LIFE_CYCLE = 1.2  # USA 2023: 420 g/kWh by life cycle (Electricity Maps) against 350 direct (eGRID)

# Water consumed per kWh generated, medians with cooling towers (Macknick et al. 2012, Environ. Res. Lett. 7,
# 045802); hydropower by evaporation from reservoirs, which not everyone counts: once with, once without it.
WATER_L_PER_KWH = {
    "coal_TWh": 2.60,
    "gas_TWh": 0.78,
    "oil_TWh": 2.60,
    "nuclear_TWh": 2.54,
    "biofuel_TWh": 2.09,
    "solar_TWh": 0.10,
    "wind_TWh": 0.0,
    "other_renewable_exc_biofuel_TWh": 0.90,
}
HYDRO_L_PER_KWH = 17.0
# Least and most against the median of one technology, coal with a tower: 480, 687 and 1,100 gal/MWh.
LEAST_WATER, MOST_WATER = 480 / 687, 1100 / 687


class Spread:
    """How far an annual mean may be off, as natural logarithms of a factor; 90th percentiles."""

    def __init__(self, zones: Series, same_year: Iterable[tuple[float, float]]) -> None:
        self._drift = {
            (inner, lag): _by_band(_changes(zones, lag, inner=inner))
            for inner in (False, True)
            for lag in range(1, LONGEST_LAG + 1)
        }
        self._method = _by_band([(theirs, abs(math.log(ours / theirs))) for ours, theirs in same_year])
        for (inner, lag), bands in self._drift.items():
            print(f"  drift over {lag} y, {'inner zones' if inner else 'countries'}: {_factors(bands)}")
        print(f"  method, two publishers in one year: {_factors(self._method)}")

    def around(
        self, value: float, year: int, *, inner: bool = False, only_source: bool
    ) -> tuple[float, float, str]:
        """Low, high and the words for the note; ``only_source``: nobody else publishes this figure."""
        width = self._drift[inner, min(THIS_YEAR - year, LONGEST_LAG)][_band(value)]
        words = f"interval: drift to {THIS_YEAR}"
        if only_source:
            width = math.hypot(width, self._method[_band(value)])
            words += " and method"
        return value / math.exp(width), value * math.exp(width), words


def _band(value: float) -> int:
    return sum(value >= edge for edge in BANDS)


def _by_band(points: Iterable[tuple[float, float]]) -> list[float]:
    sorted_in: dict[int, list[float]] = defaultdict(list)
    for value, spread in points:
        sorted_in[_band(value)].append(spread)
    return [float(np.percentile(sorted_in[band], 90)) for band in range(len(BANDS) + 1)]


def _factors(bands: list[float]) -> str:
    names = (f"< {BANDS[0]:g}", f"{BANDS[0]:g}-{BANDS[1]:g}", f"> {BANDS[1]:g}")
    return ", ".join(f"{name} g/kWh x{math.exp(width):.2f}" for name, width in zip(names, bands, strict=True))


def _changes(zones: Series, lag: int, *, inner: bool) -> list[tuple[float, float]]:
    return [
        (value, abs(math.log(years[year + lag] / value)))
        for zone, years in zones.items()
        if ("-" in zone) is inner
        for year, value in years.items()
        if year + lag in years
    ]


def free_rows(folder: Path, owid: list[dict[str, str]], spread: Spread, shared: set[str]) -> list[Row]:
    """Countries of Our World in Data, the world, states of the USA and provinces of China."""
    rows = []
    for row in owid:
        value, year = float(row["carbon_intensity_g_per_kwh"]), int(row["year"])
        if value == 0 or year < OLDEST_YEAR:
            print(f"  left out: OWID {row['iso3']} {year} {value:g} g/kWh")
            continue
        low, high, words = spread.around(value, year, only_source=row["iso3"] not in shared)
        note = f"{row['country_name']}; generation, life cycle; {words}"
        rows.append(Row(f"grid.carbon.{row['iso3']}", value, low, high, "gCO2e/kWh", year, OWID, FREE, note))
    return rows + world_rows(owid) + inner_rows(folder, spread)


def world_rows(owid: list[dict[str, str]]) -> list[Row]:
    """The mean over all countries by generation, and where one kWh of unknown place lies."""
    countries = sorted((float(r["carbon_intensity_g_per_kwh"]), float(r["total_TWh"] or 0)) for r in owid)
    total = sum(weight for _, weight in countries)
    mean = sum(value * weight for value, weight in countries) / total
    reached, ends = 0.0, []
    for value, weight in countries:
        ends += [value for share in (0.05, 0.95) if reached < share * total <= reached + weight]
        reached += weight
    print(f"  world mean {mean:.1f} g/kWh; 5 % and 95 % of generation: {ends}")
    return [
        Row(
            "grid.carbon.world",
            mean,
            *WORLD_INTERVAL,
            "gCO2e/kWh",
            2023,
            OWID,
            FREE,
            "mean of 213 countries by generation; interval of the world's mean, not of a place in it",
        ),
        Row(
            "grid.carbon.unknown",
            mean,
            *ends,
            "gCO2e/kWh",
            2023,
            OWID,
            FREE,
            "a kWh of which the country isn't known: 5-95 % of the world's generation by country",
        ),
    ]


def inner_rows(folder: Path, spread: Spread) -> list[Row]:
    """States of the USA and provinces of China: direct emissions, so the upper end is raised."""
    states = json.loads((folder / "subnational/usa_emissions.json").read_text(encoding="utf-8"))
    provinces = json.loads(
        (folder / "subnational/china_provincial_emissions.json").read_text(encoding="utf-8")
    )
    places = [
        (f"US-{state['regionCode']}", state["emissions"] * LBS_PER_MWH, name.title(), EGRID, "public domain")
        for name, state in states.items()
        if not name.startswith("_") and len(state["regionCode"]) == 2
    ] + [
        (code, province["emission_factor"], province["description"], CHINA, "MIT (compilation)")
        for code, province in provinces["data"].items()
    ]
    rows = []
    for code, value, name, source, licence in places:
        low, high, words = spread.around(value, 2023, inner=True, only_source=True)
        note = f"{name}; direct emissions, so high is at least x{LIFE_CYCLE:g}; {words}"
        rows.append(
            Row(
                f"grid.carbon.{code}",
                value,
                low,
                max(high, value * LIFE_CYCLE),
                "gCO2e/kWh",
                2023,
                source,
                licence,
                note,
            )
        )
    return rows


def ember_rows(ember: list[dict[str, str]], spread: Spread, shared: set[str]) -> list[Row]:
    """Countries, the EU and the world of Ember."""
    rows = []
    for row in ember:
        code = row["country_code"] or {"EU": "EU", "World": "world"}.get(row["key"])
        value, year = float(row["emissions_intensity_gco2_per_kwh"]), int(row["year"])
        if code is None:
            continue
        if value == 0:
            print(f"  left out: Ember {code} {year} {value:g} g/kWh")
            continue
        low, high, words = spread.around(value, year, only_source=code not in shared)
        if code == "world":
            low, high, words = *WORLD_INTERVAL, "interval of the world's mean, not of a place in it"
        note = f"{row['country_or_region']}; generation, life cycle; {words}"
        rows.append(Row(f"grid.carbon.{code}", value, low, high, "gCO2e/kWh", year, EMBER, SHARE, note))
    return rows


def maps_rows(
    zones: Series, names: dict[str, str], alpha3: dict[str, str], spread: Spread, shared: set[str]
) -> list[Row]:
    """Countries and inner zones of Electricity Maps, newest year only."""
    rows = []
    for zone, years in zones.items():
        year = max(years)
        inner = "-" in zone
        place = zone if inner else alpha3[zone]
        low, high, words = spread.around(years[year], year, inner=inner, only_source=place not in shared)
        note = f"{names[zone]}; consumption, life cycle; {words}"
        rows.append(Row(f"grid.carbon.{place}", years[year], low, high, "gCO2e/kWh", year, MAPS, ODBL, note))
    return rows


def mix_rows(folder: Path, constants: Path, owid: list[dict[str, str]]) -> dict[str, list[Row]]:
    """Water, minerals and primary energy of EcoLogits; copies of its world row are left out."""
    mixes = json.loads((folder / "MPL-2.0_ecologits_electricity_mixes.json").read_text(encoding="utf-8"))[
        "electricity_mixes"
    ]
    adpe_factor, primary_factor = version_disagreement(constants)
    generation = {row["iso3"]: row for row in owid}
    water, adpe, primary = [], [], []
    for mix in mixes:
        code, warnings = mix["name"], mix["warnings"] or ()
        if code not in generation:  # WOR and EEE are no countries
            continue
        if "electricity-mix-wue-world" not in warnings:
            without, with_hydro = mix_water([generation[code]])
            ends = LEAST_WATER * min(mix["wue"], without), MOST_WATER * max(mix["wue"], with_hydro)
            note = (
                "off-site consumption; interval: the mix with Macknick's figures, with and without hydropower"
            )
            water.append(Row(f"grid.water.{code}", mix["wue"], *ends, "L/kWh", 2024, WATER, MPL, note))
        for name, column, factor, rows in (
            ("adpe", "adpe", adpe_factor, adpe),
            ("primary", "pe", primary_factor, primary),
        ):
            if f"electricity-mix-{column}-world" in warnings:
                continue
            value = mix[column]
            unit = "kgSbeq/kWh" if name == "adpe" else "MJ/kWh"
            note = (
                "one source; interval: the factor between two EcoLogits versions"
                if name == "adpe"
                else "non-renewable, it seems (hydropower counts almost nothing); interval as for minerals"
            )
            rows.append(
                Row(
                    f"grid.{name}.{code}",
                    value,
                    value / factor,
                    value * factor,
                    unit,
                    2024,
                    MIX,
                    MPL,
                    note,
                )
            )
    world = next(mix["wue"] for mix in mixes if mix["name"] == "WOR")
    without, with_hydro = mix_water(owid)
    ends = [float(end) for end in np.percentile([row.value for row in water], [5, 95])]
    print(
        f"  world water {world}; mix without/with hydropower {without:.2f}/{with_hydro:.2f}; countries {ends}"
    )
    note = "also stands in for countries without a row, so the interval is that of the 49 countries (5-95 %)"
    water.append(
        Row(
            "grid.water.world",
            world,
            min(LEAST_WATER * without, ends[0]),
            max(MOST_WATER * with_hydro, ends[1]),
            "L/kWh",
            2024,
            WATER,
            MPL,
            note,
        )
    )
    return {
        "grid.water_MPL-2.0.csv": water,
        "grid.adpe_MPL-2.0.csv": adpe,
        "grid.primary_MPL-2.0.csv": primary,
    }


def mix_water(countries: list[dict[str, str]]) -> tuple[float, float]:
    """Litres per kWh of a generation mix, without and with evaporation from reservoirs."""
    amounts = {
        column: sum(float(row[column] or 0) for row in countries)
        for column in (*WATER_L_PER_KWH, "hydroelectricity_TWh")
    }
    total = sum(amounts.values())
    without = sum(amounts[column] * litres for column, litres in WATER_L_PER_KWH.items()) / total
    return without, without + HYDRO_L_PER_KWH * amounts["hydroelectricity_TWh"] / total


def version_disagreement(constants: Path) -> tuple[float, float]:
    """Factor between two EcoLogits versions of one GPU, for minerals and for primary energy."""
    rows = [row for row in read(constants) if row["source"] == "EcoLogits" and row["item"] == "GPU H100 80GB"]
    factors = [
        max(numbers) / min(numbers)
        for numbers in ([float(row[column]) for row in rows] for column in ("adpe_kgsb", "pe_mj"))
    ]
    print(f"  EcoLogits versions differ by x{factors[0]:.2f} (minerals), x{factors[1]:.2f} (primary energy)")
    return factors[0], factors[1]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def main() -> None:
    """Make the files."""
    data, check = arguments("Make the catalogue's files on electricity.")
    folder = data / "carbon_intensity"
    for path in sorted(folder.rglob("*.*")):
        fingerprint(path)
    owid = read(folder / "country_owid_ember.csv")
    ember = read(folder / "country_ember_2024_CC-BY-SA.csv")
    maps = read(folder / "zones_electricitymaps_2021_2025_ODbL.csv")
    alpha3 = {row["alpha2"]: row["alpha3"] for row in read(PACKAGE_DATA / "zones.csv")}
    zones: Series = defaultdict(dict)
    for row in maps:
        zones[row["zone"]][int(row["year"])] = float(row["g_per_kwh"])
    names = {row["zone"]: row["zone_name"] for row in maps}

    strangers = ({row["iso3"] for row in owid} | {row["country_code"] for row in ember}) - {
        "",
        *alpha3.values(),
    }
    assert not strangers, f"countries without a row in zones.csv: {strangers}"
    on_maps = {alpha3[zone]: zone for zone in zones if "-" not in zone}
    elsewhere = {row["iso3"] for row in owid} | {row["country_code"] for row in ember}
    # Countries with two independent publishers; the EU is the mean of 27 well metered ones.
    shared = (elsewhere & set(on_maps)) | {"EU"}
    # The method's spread comes from countries that Ember had complete for 2024: there both have real data.
    same_year = [
        (zones[on_maps[row["country_code"]]][2024], float(row["emissions_intensity_gco2_per_kwh"]))
        for row in ember
        if row["year"] == "2024" and row["country_code"] in on_maps
    ]
    spread = Spread(zones, same_year)
    settle(
        {
            "grid.carbon.csv": free_rows(folder, owid, spread, shared),
            "grid.carbon_CC-BY-SA.csv": ember_rows(ember, spread, shared),
            "grid.carbon_ODbL.csv": maps_rows(zones, names, alpha3, spread, shared),
            **mix_rows(folder, data / "hardware/embodied_constants.csv", owid),
        },
        check=check,
    )


if __name__ == "__main__":
    main()
