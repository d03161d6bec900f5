"""How far an hourly carbon intensity may be off: the rows ``grid.signal.*`` of the catalogue.

    python fitting/grid_signal.py --data ../shared/data [--check]

Needs pyarrow. All are 90 % intervals of a ratio, over zones with measurements:

- ``published``: two publishers (Electricity Maps by consumption, CarbonCast by production) of one hour,
  five American and German zones, 2021; a symmetric factor, as either may be the one that is asked
- ``estimated``: that, and an hour against the mean of this hour of day in the seven days before, which is
  what an estimate without measurements can know; independent, so their logarithms add as squares
- ``forecast``: that, and CarbonCast's forecasts of the first day
- ``hour_in_year``: an hour against the mean of its year
- ``upstream`` [gCO2e/kWh]: life cycle less direct
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow.parquet as pq

from catalog_files import Row, arguments, fingerprint, settle

PAIRS = {
    "CISO": "US-CAL-CISO",
    "DE": "DE-LU",
    "ERCO": "US-TEX-ERCO",
    "NYISO": "US-NY-NYIS",
    "PJM": "US-MIDA-PJM",
}
SOURCE = "Electricity Maps by HPE sustain-cluster 293fbd15; CarbonCast by imjbassi 862fd83"
LICENCE = "results from ODbL 1.0 (credit Electricity Maps) and Apache-2.0 data"


def main() -> None:
    """Make the file."""
    data, check = arguments("Make the catalogue's rows on the doubt of hourly intensities.")
    folder = data.parent / "infrastructure"
    hours, mixes, forecasts = (
        folder / f"{name}.parquet"
        for name in ("grid_ci_hourly", "carboncast_mix_ci_hourly", "carboncast_forecast_96h_2021H2")
    )
    for path in (hours, mixes, forecasts):
        fingerprint(path)
    zones = {
        zone: table
        for zone, table in by_place(hours, "zone").items()
        if np.mean(table["estimated"]) < 0.5  # the others tell nothing about measurements
    }
    published = symmetric(two_publishers(zones, by_place(mixes, "region")))
    estimated = together(published, symmetric(against_hour_of_day(zones)))
    forecast = together(published, symmetric(first_day(forecasts)))
    in_year = np.quantile(against_year(zones), [0.05, 0.95])
    upstream = np.quantile(
        np.concatenate([z["ci_lca"] - z["ci_direct"] for z in zones.values()]), [0.05, 0.5, 0.95]
    )
    rows = [
        row(
            "published",
            1,
            1 / published,
            published,
            2021,
            "another publisher's figure of the hour over this one; 90 %",
        ),
        row("estimated", 1, 1 / estimated, estimated, 2023, "the hour as measured over its estimate; 90 %"),
        row(
            "forecast",
            1,
            1 / forecast,
            forecast,
            2021,
            "the hour as measured over its forecast, first day; 90 %",
        ),
        row(
            "hour_in_year",
            1,
            *in_year,
            2023,
            "an hour over the mean of its year; 5-95 % of 10 zones, 2021-2023",
        ),
        row(
            "upstream",
            upstream[1],
            upstream[0],
            upstream[2],
            2023,
            "life cycle less direct; 5-95 % of 10 zones",
            "gCO2e/kWh",
        ),
        Row(
            "grid.signal.plausible",
            481,
            1,
            2000,
            "gCO2e/kWh",
            2026,
            "by hand: less than a tenth of the cleanest grid's year; above lignite in old stations",
            "facts",
            "value: the world's mean; a figure outside is refused",
        ),
    ]
    settle({"grid.signal.csv": rows}, check=check)


def row(name: str, value: float, low: float, high: float, year: int, note: str, unit: str = "1") -> Row:
    """A row of this file."""
    return Row(f"grid.signal.{name}", value, low, high, unit, year, SOURCE, LICENCE, note)


def by_place(path, column: str) -> dict[str, dict[str, np.ndarray]]:  # noqa: ANN001
    """The columns of each place, in order of time."""
    table = pq.read_table(path)
    columns = {
        name: np.asarray(table[name].to_pylist())
        for name in table.column_names
        if not name.startswith("gen_")
    }
    columns["ts_utc"] = np.array([at.timestamp() for at in columns["ts_utc"]])
    result = {}
    for place in sorted(set(columns[column])):
        mine = np.flatnonzero(columns[column] == place)
        mine = mine[np.argsort(columns["ts_utc"][mine])]
        result[str(place)] = {name: values[mine] for name, values in columns.items()}
    return result


def two_publishers(zones: dict, regions: dict) -> np.ndarray:
    """Ratios of hours that both have."""
    ratios = []
    for region, zone in PAIRS.items():
        _, mine, theirs = np.intersect1d(
            zones[zone]["ts_utc"], regions[region]["ts_utc"], return_indices=True
        )
        ratios.append(regions[region]["ci_lca"][theirs] / zones[zone]["ci_lca"][mine])
    return np.concatenate(ratios)


def against_hour_of_day(zones: dict) -> np.ndarray:
    """Ratios of hours to the mean of that hour of day over the seven days before."""
    ratios = []
    for table in zones.values():
        days = table["ci_lca"].reshape(-1, 24)
        ratios += [days[day] / days[day - 7 : day].mean(axis=0) for day in range(7, len(days))]
    return np.concatenate(ratios)


def first_day(path) -> np.ndarray:  # noqa: ANN001
    """Ratios of what was to what CarbonCast expected up to 24 hours before."""
    table = pq.read_table(path).to_pydict()
    lead, actual, forecast = (np.asarray(table[name]) for name in ("lead_h", "actual", "forecast"))
    used = (lead < 24) & (actual > 0) & (forecast > 0)
    return actual[used] / forecast[used]


def against_year(zones: dict) -> np.ndarray:
    """Ratios of hours to the mean of their year of 365 days."""
    return np.concatenate(
        [year / year.mean() for table in zones.values() for year in table["ci_lca"].reshape(-1, 8760)]
    )


def symmetric(ratios: np.ndarray) -> float:
    """The factor within which 90 % of the ratios lie, up or down."""
    return float(np.exp(np.quantile(np.abs(np.log(ratios)), 0.9)))


def together(first: float, second: float) -> float:
    """The factor of two independent ones."""
    return math.exp(math.hypot(math.log(first), math.log(second)))


if __name__ == "__main__":
    main()
