"""``negajoule budgets``: open, list, show, close, check; and the mistakes one makes."""

from __future__ import annotations

import json
import sqlite3

import pytest

from negajoule.ledger.accounts import SqliteStore, Teller, default_accounts_path, workers_folder


def spend(joules):
    """Use some of Alice's budget, as a gateway does."""
    store = SqliteStore()
    with Teller(store, workers_folder()) as teller:
        accounts = teller.accounts_for(key="alice", model="small")
        teller.settle(teller.reserve("r", {"J": joules * 2}, accounts), {"J": joules})
        teller.reserve("too much", {"J": 1e9}, accounts)
    store.close()


def test_a_budget_is_opened_and_used_and_changed_and_closed(nj):
    opened = nj("budgets", "set", "2 kWh", "--key", "alice", "--per", "day")
    assert opened.returncode == 0
    assert opened.stderr == "opened budget 1\n"
    spend(3.6e6)
    (row,) = nj("budgets", "list").stdout.splitlines()[2:]
    assert row.split()[:8] == ["1", "key", "alice", "day", "2", "kWh", "1", "kWh"]
    assert "1 kWh" in row[row.index("0 J") :]
    changed = nj("budgets", "set", "3 kWh", "--key", "alice", "--per", "day", "--json")
    assert changed.stderr == "changed budget 1\n"
    (usage,) = json.loads(changed.stdout)["budgets"]
    assert (usage["limit"], usage["spent"], usage["held"]) == (10.8e6, 3.6e6, 0.0)
    assert (usage["requests"], usage["refusals"]) == (1, 1)
    assert usage["budget"]["indicator"] == "J"
    shown = json.loads(nj("budgets", "show", "1", "--json").stdout)
    assert shown["schema"] == "negajoule.budgets/1"
    assert shown["budgets"] == [usage]
    assert "window from" in nj("budgets", "show", "1").stdout
    assert nj("budgets", "close", "1").stderr == "closed budget 1\n"
    assert json.loads(nj("budgets", "list", "--json").stdout)["budgets"] == []
    assert "closed" in nj("budgets", "show", "1").stdout


def test_budgets_differ_by_whose_what_and_window(nj):
    nj("budgets", "set", "2 kWh", "--key", "alice", "--per", "day")
    nj("budgets", "set", "2 kWh", "--key", "alice")
    nj("budgets", "set", "5 EUR", "--team", "search")
    nj("budgets", "set", "1 tCO2e", "--per", "total")
    listed = json.loads(nj("budgets", "list", "--json").stdout)["budgets"]
    terms = [(u["budget"]["scope"], u["budget"]["indicator"], u["budget"]["window"]) for u in listed]
    assert terms == [
        ("key", "J", "day"),
        ("key", "J", "month"),
        ("team", "EUR", "month"),
        ("global", "gCO2e", "total"),
    ]
    assert (listed[3]["limit"], listed[3]["resets"]) == (1e6, None)


def test_an_empty_list_says_how_to_begin(nj):
    done = nj("budgets", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "negajoule budgets set" in done.stderr


def test_budgets_may_live_elsewhere(nj, tmp_path):
    place = str(tmp_path / "elsewhere.sqlite")
    nj("budgets", "--accounts", place, "set", "1 L", "--model", "small")
    by_variable = nj("budgets", "list", "--json", env={"NEGAJOULE_ACCOUNTS": place})
    assert json.loads(by_variable.stdout)["budgets"][0]["budget"]["name"] == "small"
    assert not default_accounts_path().exists()


def test_books_are_checked_against_the_journal(nj):
    nj("budgets", "set", "2 kWh", "--key", "alice")
    spend(1.0)
    good = nj("budgets", "check")
    assert good.returncode == 0
    assert "agree" in good.stdout
    with sqlite3.connect(default_accounts_path()) as db:
        db.execute("UPDATE budget_period SET claimed = claimed + 1")
    db.close()
    bad = nj("budgets", "check", "--json")
    assert bad.returncode == 1
    assert "the journal says" in json.loads(bad.stdout)["faults"][0]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("set", "2"), "C101"),
        (("set", "2 parsecs"), "C101"),
        (("set", "2 kWh", "--key", ""), "C101"),
        (("show", "7"), "L104"),
        (("close", "7"), "L104"),
        (("--accounts", "mysql://there/is", "list"), "C101"),
    ],
)
def test_mistakes_end_in_one_message(nj, arguments, code):
    done = nj("budgets", *arguments)
    assert done.returncode == 1
    assert f"error[{code}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "2 kWh", "--key", "a", "--team", "b"),
        ("set", "2 kWh", "--per", "fortnight"),
        ("show", "alice"),
        ("show", "1", "--windows", "0"),
    ],
)
def test_wrong_usage_is_told(nj, arguments):
    done = nj("budgets", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
