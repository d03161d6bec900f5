"""Budgets: what they allow, what counts, and that what isn't known never counts as nothing."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import negajoule
from negajoule.errors import ConfigError
from negajoule.instrument.budget import (
    NOTHING_SPENT,
    Budget,
    BudgetAlarm,
    BudgetWarning,
    Spent,
    expect,
    warning_alarm,
)
from negajoule.ledger import Activity, Ledger, default_path
from negajoule.units import Carbon, Energy, Footprint, Water
from strategies import activities


def energy(value: float, low: float | None = None, high: float | None = None) -> Energy:
    return Energy(value, value if low is None else low, value if high is None else high, "modelled", "node")


def footprint(value: float | None, **others) -> Footprint:
    it_energy = None if value is None else energy(value, value / 2, value * 2)
    return Footprint(boundary="facility", it_energy=it_energy, **others)


def run(number: int, label: str, value: float | None, *, started_s: float = 1e9, **fields) -> Activity:
    return Activity(
        id=f"run-{number}",
        started_s=started_s,
        seconds=1.0,
        kind="run",
        label=label,
        footprint=footprint(value),
        **{"host": "here", **fields},
    )


class TestParse:
    @pytest.mark.parametrize(
        ("text", "limit"),
        [
            ("500 J", Energy.exact(500.0, "assumed")),
            ("0.2 Wh", Energy.exact(720.0, "assumed")),
            ("2kWh", Energy.exact(7.2e6, "assumed")),
            (" 1e3  mJ ", Energy.exact(1.0, "assumed")),
            ("50 gCO2e", Carbon.exact(50.0, "assumed")),
            ("50 g CO2e", Carbon.exact(50.0, "assumed")),
            ("1.5 kgCO2e", Carbon.exact(1500.0, "assumed")),
            ("1.5 L", Water.exact(1.5, "assumed")),
            ("2 m³", Water.exact(2000.0, "assumed")),
            ("3 \u03bcL", Water.exact(3e-6, "assumed")),
        ],
    )
    def test_amounts(self, text, limit):
        parsed = Budget.parse(text).limit
        assert type(parsed) is type(limit)
        assert parsed.value == pytest.approx(limit.value)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "5",
            "J",
            "5 apples",
            "5 mwh",
            "-5 J",
            "0 J",
            "nan J",
            "inf J",
            "1e400 J",
            "1.2.3 J",
            "1,5 L",
            "5 W",
            "5 J primary",
            "5 gCO2e/kWh",
            "5 J 3",
            "1e J",
        ],
    )
    def test_what_isnt_an_amount_is_refused_with_an_example(self, text):
        with pytest.raises(ConfigError) as caught:
            Budget.parse(text)
        assert caught.value.code == "C101"
        assert repr(text) in caught.value.message or "positive, finite" in caught.value.message

    def test_it_is_judged_on_one_of_two_figures(self):
        with pytest.raises(ConfigError, match="judged on 'low'"):
            Budget.parse("5 J", judged_on="low")

    @given(st.floats(1e-9, 1e12))
    def test_python_numbers_are_read_back(self, value):
        assert Budget.parse(f"{value!r} J").limit.value == pytest.approx(value)


class TestStanding:
    @pytest.mark.parametrize(
        ("used", "state"),
        [(0.0, "within"), (79.0, "within"), (81.0, "near"), (100.0, "near"), (101.0, "over")],
    )
    def test_the_states(self, used, state):
        standing = Budget.parse("100 J").standing(energy(used).within("none"))
        assert (standing.state, standing.share) == (state, used / 100)

    def test_the_cautious_judge_the_upper_end(self):
        used = energy(60.0, 30.0, 120.0).within("none")
        assert Budget.parse("100 J").standing(used).state == "within"
        cautious = Budget.parse("100 J", judged_on="high").standing(used)
        assert cautious.state == "over"
        assert "by the upper end" in cautious.text
        assert "best estimate" in Budget.parse("100 J").standing(used).text

    def test_unknown_is_never_nothing(self):
        standing = Budget.parse("100 J").standing(None)
        assert (standing.state, standing.share, standing.known) == ("unknown", None, None)
        assert "can't be judged" in standing.text

    def test_what_is_known_may_be_over_already_but_not_within(self):
        budget, own = Budget.parse("100 J"), energy(10.0).within("none")
        some = Spent(energy(20.0).within("none"), 3, 1)
        assert budget.standing(own, some).state == "unknown"
        assert "at least 30 J" in budget.standing(own, some).text
        assert "not known for 1 of 4" in budget.standing(own, some).text
        much = Spent(energy(95.0).within("none"), 3, 1)
        assert budget.standing(own, much).state == "over"

    def test_a_small_share_is_said_without_an_exponent(self):
        assert "used, under 0.1 % by" in Budget.parse("5 kWh").standing(energy(2.0).within("none")).text
        assert "used, 0 % by" in Budget.parse("5 kWh").standing(energy(0.0).within("none")).text

    def test_water_counts_only_when_both_waters_are_known(self):
        litre = Water.exact(1.0, "modelled", "facility")
        budget = Budget.parse("5 L")
        assert budget.counted(footprint(1.0, water_onsite=litre)) is None
        both = budget.counted(footprint(1.0, water_onsite=litre, water_offsite=litre))
        assert both is not None
        assert both.value == 2.0

    def test_carbon_counts_the_grids_mix_and_not_the_hardware(self):
        grams = Carbon.exact(3.0, "modelled", "facility")
        making = Carbon.exact(50.0, "assumed", "life cycle")
        counted = Budget.parse("5 gCO2e").counted(footprint(1.0, carbon_location=grams, embodied=making))
        assert counted is not None
        assert counted.value == 3.0

    @pytest.mark.parametrize(
        ("window_s", "text"),
        [(None, "'x'"), (1800.0, "last 30 min"), (86_400.0, "24 h"), (604_800.0, "7 days")],
    )
    def test_the_scope_is_said(self, window_s, text):
        assert text in Budget.parse("5 J", project="x", window_s=window_s).text


class TestSpent:
    def test_a_project_is_its_label_and_what_stands_under_it(self):
        rows = [run(1, "a", 1.0), run(2, "a/b", 2.0), run(3, "ab", 4.0), run(4, "", 8.0), run(5, "a/", 16.0)]
        with Ledger() as ledger:
            ledger.append(rows)
            assert Budget.parse("5 J", project="a").spent(ledger).used == Energy(19.0, 9.5, 38.0, "modelled")
            assert Budget.parse("5 J", project="").spent(ledger).activities == 5
            assert Budget.parse("5 J", project="none of them").spent(ledger) == NOTHING_SPENT

    def test_the_window_leaves_older_rows_out(self):
        with Ledger() as ledger:
            ledger.append([run(1, "a", 1.0, started_s=1000.0), run(2, "a", 2.0, started_s=2000.0)])
            spent = Budget.parse("5 J", project="a", window_s=500.0).spent(ledger, now_s=2100.0)
        assert (spent.activities, spent.used.value) == (1, 2.0)

    @settings(max_examples=20)
    @given(
        st.lists(activities(), max_size=6, unique_by=lambda one: one.id), st.sampled_from(["J", "gCO2e", "L"])
    )
    def test_it_is_the_sum_of_what_is_known_and_the_number_of_what_isnt(self, rows, unit):
        budget = Budget.parse(f"1 {unit}", project="")
        counted = [budget.counted(row.footprint) for row in rows]
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l.sqlite") as ledger:
            ledger.append(rows)
            spent = budget.spent(ledger)
        known = [one.value for one in counted if one is not None]
        assert spent.activities == len(rows)
        assert spent.missing <= counted.count(None)
        assert (spent.missing > 0) == (None in counted)
        used = 0.0 if spent.used is None else spent.used.value
        # With one water known and the other not, the known one counts towards "at least".
        assert used == pytest.approx(sum(known)) or (unit == "L" and used >= sum(known) * (1 - 1e-9))


class TestExpect:
    budget = Budget.parse("5 J")

    def test_nothing_is_expected_of_what_never_ran(self):
        assert expect(self.budget, [], host="here") is None

    def test_only_runs_that_went_well_on_this_machine_and_know_count(self):
        rows = [
            run(1, "x", 1.0, status="failed"),
            run(2, "x", 2.0, host="elsewhere"),
            run(3, "x", None),
        ]
        assert expect(self.budget, rows, host="here") is None
        found = expect(self.budget, [*rows, run(4, "x", 3.0)], host="here")
        assert (found.runs, found.amount.value) == (1, 3.0)

    @given(st.lists(st.floats(0, 1e9), min_size=1, max_size=30))
    def test_the_interval_holds_every_run_that_was_looked_at(self, values):
        found = expect(self.budget, [run(i, "x", value) for i, value in enumerate(values)], host="here")
        assert found.runs == min(len(values), 20)
        assert all(found.amount.low <= value <= found.amount.high for value in values[:20])
        assert min(values[:20]) <= found.amount.value <= max(values[:20])


class TestAlarm:
    def test_each_state_is_told_once(self):
        told: list[str] = []
        alarm = BudgetAlarm(Budget.parse("100 J"), NOTHING_SPENT, told.append)
        for used in (10.0, 85.0, 90.0, 101.0, 150.0):
            alarm.tell(alarm.standing(footprint(used)))
        assert [text.split(" (")[0] for text in told] == ["85 J", "100 J"]
        alarm.tell(alarm.standing(footprint(None)))
        assert "can't be judged" in told[-1]

    def test_what_raised_is_told_again(self):
        alarm = warning_alarm(Budget.parse("1 J"))
        standing = alarm.standing(footprint(2.0))
        for _ in range(2):
            with pytest.raises(BudgetWarning):  # warnings are errors in these tests
                alarm.tell(standing)
        with pytest.warns(BudgetWarning):
            alarm.tell(standing)
        alarm.tell(standing)

    def test_a_damaged_ledger_warns_and_makes_the_budget_unknown(self):
        default_path().parent.mkdir(parents=True)
        default_path().write_bytes(b"no ledger at all, but long enough to be looked at" * 100)
        with pytest.warns(BudgetWarning, match="L102"):
            alarm = warning_alarm(Budget.parse("5 J", project="x"))
        assert alarm.standing(footprint(1.0)).state == "unknown"


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class TestMeasure:
    def test_within(self):
        with negajoule.measure("x", budget="5 kWh") as m:
            spin(0.01)
        assert m.over_budget is False
        assert m.standing.state == "within"

    def test_over_warns_and_is_booked(self):
        with pytest.warns(BudgetWarning, match="budget: .* used"), negajoule.measure("x", budget="1 µJ") as m:
            spin(0.01)
        assert m.over_budget is True
        with Ledger(read_only=True) as ledger:
            assert ledger.latest(1)[0].id == m.id

    def test_where_warnings_are_errors_the_work_is_booked_all_the_same(self):
        measurement = negajoule.measure("x", budget="1 µJ")
        with pytest.raises(BudgetWarning), measurement:
            spin(0.01)
        assert measurement.over_budget is True
        with Ledger(read_only=True) as ledger:
            assert ledger.count() == 1

    def test_without_a_budget_there_is_nothing_to_say(self):
        with negajoule.measure("x", record=False) as m:
            pass
        assert m.over_budget is None

    def test_a_project_counts_what_the_ledger_holds(self):
        with Ledger() as ledger:
            ledger.append([run(1, "thesis/first", 3.6e6)])
        with (
            pytest.warns(BudgetWarning, match=r"1 kWh .* of 1 kWh used|100 %"),
            negajoule.measure("thesis/second", budget=Budget.parse("1 kWh", project="thesis")) as m,
        ):
            spin(0.01)
        assert m.over_budget is True
        assert m.standing.activities == 2

    def test_the_decorator_takes_one_too(self):
        @negajoule.measured(budget="1 µJ")
        def work() -> int:
            spin(0.01)
            return 7

        with pytest.warns(BudgetWarning):
            assert work() == 7

    def test_a_bad_budget_is_refused_before_anything_runs(self):
        with pytest.raises(ConfigError, match="isn't a budget"):
            negajoule.measure("x", budget="lots")
        with pytest.raises(ConfigError, match="isn't a budget"):
            negajoule.measured(budget="lots")

    def test_the_heartbeat_warns_while_it_runs(self):
        measurement = negajoule.measure("x", budget="1 µJ", record=False).start()
        spin(0.01)
        with pytest.warns(BudgetWarning):
            measurement.beat()
        measurement.stop()
        assert measurement.over_budget is True
