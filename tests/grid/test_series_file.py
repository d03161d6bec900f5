"""The user's own series: what is read, and what is refused with file and line."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from negajoule import extras
from negajoule.errors import ExtraMissingError, GridError
from negajoule.grid.series_file import SeriesFile

HOUR = 3600.0
T0 = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
GOOD = """time,zone,g_per_kwh
2026-03-01T00:00Z,FR,40
2026-03-01T01:00:00+00:00,FRA,50
2026-03-01T03:00+01:00,France,60
2026-03-01T00:00Z,DE,400
"""


def written(tmp_path, text):
    path = tmp_path / "hours.csv"
    path.write_text(text)
    return SeriesFile(path, clock=lambda: T0)


def test_times_zones_and_grams_are_read(tmp_path):
    signal = written(tmp_path, GOOD).intensity("FRA", T0, T0 + 5 * HOUR)
    assert signal.slots == tuple(
        (T0 + i * HOUR, T0 + (i + 1) * HOUR, g, False) for i, g in enumerate((40.0, 50.0, 60.0))
    )
    assert (signal.zone, signal.kind, signal.scope, signal.source) == (
        "FRA",
        "average",
        "as given",
        "hours.csv",
    )


def test_only_what_touches_the_span_is_given(tmp_path):
    series = written(tmp_path, GOOD)
    assert len(series.intensity("FRA", T0 + 1.5 * HOUR, T0 + 1.6 * HOUR).slots) == 1
    assert series.intensity("FRA", T0 + 50 * HOUR, T0 + 51 * HOUR).slots == ()


def test_a_series_without_zones_holds_for_any_place(tmp_path):
    series = written(tmp_path, "g_per_kwh,time,remark\n40,2026-03-01T00:00Z,x\n")
    signal = series.intensity("JPN", T0, T0)
    assert signal.slots == ((T0, T0 + HOUR, 40.0, False),)


def test_a_place_that_is_not_in_it_is_said(tmp_path):
    with pytest.raises(GridError, match="holds DEU, FRA, not JPN") as raised:
        written(tmp_path, GOOD).intensity("JPN", T0, T0)
    assert raised.value.code == "G103"


def test_a_missing_stretch_is_a_gap(tmp_path):
    rows = "".join(f"2026-03-01T{hour:02d}:00Z,{hour + 1}\n" for hour in (0, 1, 2, 8, 9))
    slots = written(tmp_path, "time,g_per_kwh\n" + rows).intensity("FRA", T0, T0 + 24 * HOUR).slots
    assert [(slot.start_s - T0) / HOUR for slot in slots] == [0, 1, 2, 8, 9]
    assert {slot.end_s - slot.start_s for slot in slots} == {HOUR}


def test_a_changed_file_is_read_again(tmp_path):
    series = written(tmp_path, GOOD)
    assert series.intensity("DEU", T0, T0).slots[0].g_per_kwh == 400
    series.path.write_text(GOOD.replace("400", "300"))
    os.utime(series.path, (1, 1))
    assert series.intensity("DEU", T0, T0).slots[0].g_per_kwh == 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column time or g_per_kwh among none"),
        ("time,g_per_kwh\n", "no rows"),
        ("time,intensity\n2026-03-01T00:00Z,40\n", ":1: no column g_per_kwh among time, intensity"),
        ("time,g_per_kwh\n2026-03-01T00:00Z,forty\n", ":2: 'forty' isn't a number"),
        ("time,g_per_kwh\n2026-03-01T00:00Z,\n", ":2: '' isn't a number"),
        ("time,g_per_kwh\n2026-03-01T00:00Z\n", ":2: None isn't a number"),
        ("time,g_per_kwh\n2026-03-01T00:00Z,nan\n", ":2: .*no grid has"),
        ("time,g_per_kwh\n2026-03-01T00:00Z,-1\n", ":2: .*no grid has"),
        ("time,g_per_kwh\n2026-03-01T00:00Z,1\n2026-03-01T01:00Z,99999\n", ":3: .*no grid has"),
        ("time,g_per_kwh\n2026-03-01 00:00,40\n", ":2: .*names no time zone"),
        ("time,g_per_kwh\nnoon,40\n", ":2: .*'noon', which isn't an ISO 8601 time"),
        ("time,zone,g_per_kwh\n2026-03-01T00:00Z,Atlantis,40\n", ":2: no zone is called 'Atlantis'"),
        ("time,g_per_kwh\n2026-03-01T00:00Z,40\n2026-03-01T00:00Z,41\n", ":3: a second intensity"),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path, text, says):
    with pytest.raises(GridError, match=says) as raised:
        written(tmp_path, text).intensity("FRA", T0, T0)
    assert raised.value.code == "C106"


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(GridError, match="can't read") as raised:
            SeriesFile(path).intensity("FRA", T0, T0)
        assert raised.value.code == "C106"
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(GridError):
        SeriesFile(binary).intensity("FRA", T0, T0)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    def absent(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module.split(".")[0])

    monkeypatch.setattr(extras, "import_module", absent)
    path = tmp_path / "hours.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(ExtraMissingError, match="pyarrow") as raised:
        SeriesFile(path).intensity("FRA", T0, T0)
    assert "negajoule[grid]" in raised.value.fix


class TestParquet:
    def written(self, tmp_path, **columns):
        pyarrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet as parquet

        path = tmp_path / "hours.parquet"
        parquet.write_table(pyarrow.table(columns), path)
        return SeriesFile(path, clock=lambda: T0)

    def test_it_is_read_like_csv(self, tmp_path):
        times = [datetime.fromtimestamp(T0 + i * HOUR, UTC) for i in range(3)]
        series = self.written(
            tmp_path, time=times, g_per_kwh=[40.0, 50.0, 60.0], zone=["FR"] * 3, other=[1, 2, 3]
        )
        assert [slot.g_per_kwh for slot in series.intensity("FRA", T0, T0 + 9 * HOUR).slots] == [40, 50, 60]

    @pytest.mark.parametrize("grams", [[None], [float("nan")], [-1.0], ["x"]])
    def test_bad_figures_are_refused(self, tmp_path, grams):
        series = self.written(tmp_path, time=[datetime.fromtimestamp(T0, UTC)], g_per_kwh=grams)
        with pytest.raises(GridError, match=":1: ") as raised:
            series.intensity("FRA", T0, T0)
        assert raised.value.code == "C106"

    def test_times_without_a_zone_missing_columns_and_no_parquet_are_refused(self, tmp_path):
        naive = self.written(tmp_path, time=[datetime(2026, 3, 1)], g_per_kwh=[1.0])
        with pytest.raises(GridError, match="names no time zone"):
            naive.intensity("FRA", T0, T0)
        other = self.written(tmp_path, ts_utc=["x"], ci=[1.0])
        with pytest.raises(GridError, match="no column time or g_per_kwh among ts_utc, ci"):
            other.intensity("FRA", T0, T0)
        other.path.write_bytes(b"no parquet at all")
        os.utime(other.path, (1, 1))
        with pytest.raises(GridError, match="can't read"):
            other.intensity("FRA", T0, T0)
