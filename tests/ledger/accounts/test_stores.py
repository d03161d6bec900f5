"""The owner of the budgets, by every implementation: terms, limits, windows, and who may speak."""

from __future__ import annotations

import pytest

from budget_world import START_S, Clock
from negajoule.errors import ConfigError, LedgerError
from negajoule.ledger.accounts import Terms
from negajoule.ledger.accounts.slices import Statement, Want

ALICE = Terms.checked("key", "alice", "J", "hour")
BOB = Terms.checked("key", "bob", "gCO2e", "total")
J = 10**6


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(make_store, clock):
    store = make_store(clock.wall)
    store.open_worker("w", 30.0)
    store.open_worker("v", 30.0)
    return store


def grant(store, worker, account, need, wish=None):
    """Ask for units and return what was granted in all, or ``None``."""
    answer = store.exchange(worker, (), [Want(account.id, need, need if wish is None else wish)])
    return None if answer.lacking else answer.standings[account.id].mine.granted


def test_budgets_are_opened_changed_and_closed(store):
    alice, bob = store.create(ALICE, 5.0), store.create(BOB, 7.0)
    assert store.accounts() == [alice, bob]
    assert alice.limit == 5 * J
    assert store.update(alice.id, 6.0).limit == 6 * J
    store.close_account(alice.id)
    assert store.accounts() == [bob]
    closed, _ = store.accounts(closed=True)
    assert (closed.closed, closed.limit) == (True, 6 * J)
    anew = store.create(ALICE, 1.0)
    assert anew.id not in (alice.id, bob.id)


def test_two_open_budgets_never_have_the_same_terms(store):
    store.create(ALICE, 5.0)
    with pytest.raises(LedgerError) as refused:
        store.create(ALICE, 6.0)
    assert refused.value.code == "L104"
    assert len(store.accounts()) == 1


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_limit_that_is_none_changes_nothing(store, wrong):
    alice = store.create(ALICE, 5.0)
    with pytest.raises(ConfigError):
        store.update(alice.id, wrong)
    with pytest.raises(ConfigError):
        store.create(BOB, wrong)
    assert store.accounts() == [alice]


def test_a_budget_that_is_not_there_is_named(store):
    gone = store.create(ALICE, 5.0)
    store.close_account(gone.id)
    for number in (gone.id, 99):
        with pytest.raises(LedgerError, match=f"no open budget {number}"):
            store.update(number, 1.0)
        with pytest.raises(LedgerError, match=f"no open budget {number}"):
            store.close_account(number)
    with pytest.raises(LedgerError, match="99"):
        store.usage(account_id=99)


def test_every_change_is_seen_in_the_version(store):
    bob = store.create(BOB, 7.0)
    versions = [store.standings("w", [bob.id]).version]
    store.update(bob.id, 8.0)
    versions.append(store.standings("w", [bob.id]).version)
    store.close_account(store.create(ALICE, 1.0).id)
    versions.append(store.standings("w", [bob.id]).version)
    assert sorted(set(versions)) == versions


def test_slices_never_exceed_the_limit(store):
    alice = store.create(ALICE, 100.0)
    assert grant(store, "w", alice, 10 * J, 1000 * J) == 10 * J  # a sixteenth is less than it needs
    assert grant(store, "v", alice, 1 * J, 1000 * J) == 90 * J // 16
    assert grant(store, "w", alice, 90 * J) is None
    left = 90 * J - 90 * J // 16
    assert grant(store, "w", alice, left) == 10 * J + left
    assert grant(store, "v", alice, 1) is None
    (usage,) = store.usage()
    assert (usage.charged, usage.held, usage.spent) == (100 * J, 100 * J, 0)


def test_all_wants_are_granted_or_none(store):
    alice, bob = store.create(ALICE, 100.0), store.create(BOB, 0.001)
    wants = [Want(alice.id, J, J), Want(bob.id, 10**9, 10**9)]
    answer = store.exchange("w", (), wants)
    assert answer.lacking == (bob.id,)
    assert [usage.charged for usage in store.usage()] == [0, 0]


def test_statements_are_totals_and_count_once(store):
    alice = store.create(ALICE, 100.0)
    hour = store.standings("w", [alice.id]).standings[alice.id].window
    grant(store, "w", alice, 50 * J)
    later = Statement(alice.id, hour, spent=20 * J, returned=10 * J, requests=3, refusals=1)
    earlier = Statement(alice.id, hour, spent=5 * J, requests=1)
    for statement in (later, later, earlier):
        store.exchange("w", [statement], ())
    (usage,) = store.usage()
    assert (usage.spent, usage.held, usage.requests, usage.refusals) == (20 * J, 20 * J, 3, 1)
    assert grant(store, "v", alice, 60 * J) == 60 * J


def test_no_more_is_returned_than_was_granted(store):
    alice = store.create(ALICE, 100.0)
    hour = store.standings("w", [alice.id]).standings[alice.id].window
    grant(store, "w", alice, 10 * J)
    grant(store, "v", alice, 90 * J)
    store.exchange("w", [Statement(alice.id, hour, returned=80 * J)], ())
    assert grant(store, "w", alice, 11 * J) is None


def test_an_overrun_counts_in_full(store):
    alice = store.create(ALICE, 100.0)
    hour = store.standings("w", [alice.id]).standings[alice.id].window
    grant(store, "w", alice, 10 * J)
    store.exchange("w", [Statement(alice.id, hour, spent=130 * J, overrun=120 * J)], ())
    (usage,) = store.usage()
    assert (usage.spent, usage.overrun, usage.charged) == (130 * J, 120 * J, 130 * J)
    assert grant(store, "v", alice, 1) is None


def test_a_worker_not_heard_of_is_presumed_to_have_spent_its_slice_until_it_speaks(store, clock):
    bob = store.create(BOB, 10.0)
    grant(store, "w", bob, 4 * 10**9)
    clock.passed_s += 31.0
    (usage,) = store.usage()
    assert (usage.held, usage.presumed) == (0, 4 * 10**9)
    assert grant(store, "v", bob, 7 * 10**9) is None
    store.exchange("w", [Statement(bob.id, 0, returned=4 * 10**9)], ())
    (usage,) = store.usage()
    assert usage.charged == 0


def test_a_closed_worker_speaks_no_more(store):
    alice = store.create(ALICE, 100.0)
    hour = store.standings("w", [alice.id]).standings[alice.id].window
    grant(store, "w", alice, 50 * J)
    assert store.close_worker("w", [Statement(alice.id, hour, spent=20 * J, requests=2)])
    assert not store.close_worker("w", [Statement(alice.id, hour, spent=40 * J)])
    assert store.exchange("w", [Statement(alice.id, hour, returned=50 * J)], ()) is None
    assert store.exchange("nobody", (), [Want(alice.id, 1, 1)]) is None
    (usage,) = store.usage()
    assert (usage.charged, usage.spent, usage.requests) == (20 * J, 20 * J, 2)


def test_what_nobody_can_account_for_is_forfeited(store):
    alice = store.create(ALICE, 100.0)
    hour = store.standings("w", [alice.id]).standings[alice.id].window
    grant(store, "w", alice, 50 * J)
    store.exchange("w", [Statement(alice.id, hour, spent=5 * J, requests=1)], ())
    store.close_worker("w", forfeit=True)
    (usage,) = store.usage()
    assert (usage.spent, usage.forfeited, usage.held, usage.charged) == (5 * J, 45 * J, 0, 50 * J)


def test_a_window_resets_at_its_end_and_never_again(store, clock):
    alice = store.create(ALICE, 10.0)
    assert grant(store, "w", alice, 10 * J) == 10 * J
    assert grant(store, "w", alice, 1) is None
    clock.passed_s += 3600.0
    assert grant(store, "w", alice, 10 * J) == 10 * J
    clock.skew_s -= 3600.0  # back in the first hour: it is closed for ever
    assert grant(store, "w", alice, 1) is None
    clock.skew_s += 3600.0  # and its return is no new window
    assert grant(store, "w", alice, 1) is None
    first, second = store.usage(windows=5)
    assert first.window == second.window + 1
    assert first.charged == second.charged == 10 * J


def test_the_report_names_the_window_that_is_open_though_nobody_used_it(store, clock):
    alice = store.create(ALICE, 10.0)
    grant(store, "w", alice, 10 * J)
    clock.passed_s += 7200.0
    fresh, used = store.usage(windows=9)
    assert fresh.charged == 0
    assert fresh.starts_s <= START_S + 7200.0 < fresh.ends_s
    assert used.charged == 10 * J


def test_a_lower_limit_calls_nothing_back_and_grants_nothing_more(store):
    alice = store.create(ALICE, 10.0)
    grant(store, "w", alice, 6 * J)
    store.update(alice.id, 5.0)
    assert grant(store, "w", alice, 1) is None
    (usage,) = store.usage()
    assert (usage.charged, usage.limit, usage.highest_limit) == (6 * J, 5 * J, 10 * J)
    store.update(alice.id, 20.0)
    assert grant(store, "w", alice, 14 * J) == 20 * J


def test_a_closed_budget_has_no_standing_and_its_statements_still_count(store):
    alice = store.create(ALICE, 10.0)
    hour = store.standings("w", [alice.id]).standings[alice.id].window
    grant(store, "w", alice, 6 * J)
    store.close_account(alice.id)
    answer = store.exchange(
        "w", [Statement(alice.id, hour, spent=2 * J, returned=4 * J)], [Want(alice.id, 1, 1)]
    )
    assert (answer.standings, answer.lacking) == ({}, ())
    (usage,) = store.usage(account_id=alice.id)
    assert (usage.spent, usage.held) == (2 * J, 0)


def test_asking_how_things_stand_changes_nothing(store, clock):
    alice = store.create(ALICE, 10.0)
    clock.skew_s += 7200.0
    ahead = store.standings("w", [alice.id, 99]).standings
    clock.skew_s -= 7200.0
    assert list(ahead) == [alice.id]
    assert store.standings("w", [alice.id]).standings[alice.id].window == ahead[alice.id].window - 2
    assert store.standings("nobody", []).standings == {}


def test_the_json_form_has_amounts_in_the_indicator(store):
    alice = store.create(ALICE, 10.0)
    grant(store, "w", alice, 6 * J)
    (usage,) = store.usage()
    form = usage.to_dict()
    assert (form["limit"], form["held"], form["charged"]) == (10.0, 6.0, 6.0)
    assert form["budget"]["name"] == "alice"
    assert form["resets"] == "2023-11-14T23:00:00Z"


def test_a_finished_slice_is_forgotten_and_its_sums_stay(store):
    alice = store.create(ALICE, 10.0)
    hour = store.standings("w", [alice.id]).standings[alice.id].window
    grant(store, "w", alice, 6 * J)
    store.exchange("w", [Statement(alice.id, hour, spent=2 * J)], (), [(alice.id, hour)])
    store.exchange("w", (), (), [(alice.id, hour)])  # 4 J are held: it isn't finished
    assert store.standings("w", [alice.id]).standings[alice.id].mine.granted == 6 * J
    store.exchange("w", [Statement(alice.id, hour, spent=2 * J, returned=4 * J)], ())
    for _ in range(2):
        store.exchange("w", (), (), [(alice.id, hour)])
    assert store.standings("w", [alice.id]).standings[alice.id].mine.granted == 0
    (usage,) = store.usage()
    assert (usage.spent, usage.charged) == (2 * J, 2 * J)
    assert grant(store, "w", alice, 8 * J) == 8 * J
