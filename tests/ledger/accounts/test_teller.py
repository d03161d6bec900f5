"""A worker's counter: reserve, settle, refuse, and what it does when things go wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from budget_world import LEASE_S, Clock, FlakyStore
from negajoule.errors import LedgerError
from negajoule.ledger.accounts import (
    MemoryStore,
    Refusal,
    Reservation,
    SqliteStore,
    Teller,
    Terms,
    reconcile,
)

J = 10**6


class CountingStore(FlakyStore):
    """A store that counts its exchanges."""

    exchanges = 0

    def exchange(self, *arguments):
        self.exchanges += 1
        return super().exchange(*arguments)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return CountingStore(MemoryStore(clock.wall))


@pytest.fixture
def make_teller(store, clock, tmp_path):
    def make(journal=True, **options):
        folder = tmp_path / "workers" if journal else None
        return Teller(store, folder, lease_s=LEASE_S, monotonic=clock.monotonic, **options)

    return make


@pytest.fixture
def alice(store):
    return store.create(Terms.checked("key", "alice", "J", "hour"), 100.0)


def reserve(teller, joules, name="alice", request="r"):
    return teller.reserve(request, {"J": joules}, teller.accounts_for(key=name))


def test_a_request_is_counted_by_every_budget_it_belongs_to(store, make_teller):
    names = {"key": "k", "team": "t", "project": "p", "model": "m"}
    made = [store.create(Terms.checked(*whose, "J", "day"), 10.0) for whose in names.items()]
    made.append(store.create(Terms.checked("global", "", "J", "month"), 10.0))
    store.create(Terms.checked("key", "another", "J", "day"), 10.0)
    teller = make_teller()
    accounts = teller.accounts_for(**names)
    assert sorted(account.id for account in accounts) == [account.id for account in made]
    assert teller.accounts_for()[0].terms.scope == "global"
    found = teller.reserve("r", {"J": 4.0}, accounts)
    receipt = teller.settle(found, {"J": 3.0})
    assert dict(receipt.charged) == {account.id: 3 * J for account in made}
    teller.close()
    assert [usage.spent for usage in store.usage()] == [3 * J] * 5 + [0]


def test_a_request_without_a_budget_is_let_through(make_teller, store):
    found = reserve(make_teller(), 1e9)
    assert isinstance(found, Reservation)
    assert found.takes == []


def test_all_budgets_take_a_request_or_none(store, make_teller, alice):
    tight = store.create(Terms.checked("global", "", "gCO2e", "day"), 1.0)
    teller = make_teller()
    refused = teller.reserve("r", {"J": 5.0, "gCO2e": 2.0}, teller.accounts_for(key="alice"))
    assert (refused.account.id, refused.reason) == (tight.id, "too large")
    assert teller.open_reservations == 0
    assert [usage.charged for usage in store.usage(account_id=alice.id)] == [0]


def test_most_requests_never_reach_the_store(store, make_teller):
    store.create(Terms.checked("key", "alice", "J", "hour"), 1e6)
    teller = make_teller()
    before = store.exchanges
    for number in range(1000):
        teller.settle(reserve(teller, 1.0, request=str(number)), {"J": 1.0})
    assert store.exchanges - before <= 1000 / 256 + 1


def test_reserve_now_never_waits_for_the_store(store, make_teller, alice):
    teller = make_teller()
    accounts = teller.accounts_for(key="alice")
    before = store.exchanges
    assert teller.reserve_now("r", {"J": 5.0}, accounts) is None
    assert store.exchanges == before
    teller.settle(teller.reserve("r", {"J": 1.0}, accounts), {"J": 1.0})
    found = teller.reserve_now("r", {"J": 1.0}, accounts)
    assert isinstance(found, Reservation)


def test_a_budget_is_used_to_its_last_unit_and_then_refuses(make_teller, alice):
    teller = make_teller()
    for _ in range(100):
        teller.settle(reserve(teller, 1.0), {"J": 1.0})
    refused = reserve(teller, 1e-6)
    assert isinstance(refused, Refusal)
    assert (refused.account.id, refused.reason) == (alice.id, "used up")
    assert (refused.limit, refused.spent, refused.held) == (100 * J, 100 * J, 0)
    assert refused.resets_s == 1_700_002_800.0
    assert refused.retry_after_s == pytest.approx(2_800.0)
    assert isinstance(reserve(teller, 0.0), Reservation)


def test_a_refusal_becomes_the_error_that_a_client_understands(make_teller, alice):
    teller = make_teller()
    teller.settle(reserve(teller, 99.0), {"J": 99.0})
    refused = reserve(teller, 8.0)
    error = refused.to_error("max_tokens")
    assert (error.code, error.status, error.param) == ("R108", 429, "max_tokens")
    assert error.retry_after_s == refused.retry_after_s
    for words in ("budget 1", "J of key alice, by hour", "100 J", "99 J spent", "2023-11-14T23:00:00Z"):
        assert words in error.message
    form = refused.to_dict()
    assert (form["spent"], form["needed"], form["retry_after_s"]) == (99.0, 8.0, 2800)


def test_what_running_requests_hold_may_come_back(make_teller, alice):
    teller = make_teller()
    running = reserve(teller, 99.0)
    refused = reserve(teller, 8.0)
    assert (refused.reason, refused.retry_after_s) == ("held", teller.tend_s)
    teller.settle(running, {"J": 1.0})
    assert isinstance(reserve(teller, 8.0), Reservation)


def test_a_request_larger_than_the_budget_is_told_so(make_teller, alice):
    refused = reserve(make_teller(), 101.0)
    assert (refused.reason, refused.retry_after_s) == ("too large", None)
    assert "fewer tokens" in refused.to_error().fix


@pytest.mark.parametrize("bound", [None, -1.0, float("nan"), float("inf"), 1e300])
def test_a_request_of_unknown_cost_is_not_let_through(make_teller, alice, bound):
    refused = reserve(make_teller(), bound)
    assert refused.reason == "unknown"
    error = refused.to_error("model")
    assert (error.code, error.status, error.param) == ("R109", 400, "model")
    assert refused.to_dict()["needed"] is None


def test_the_longest_of_several_refusals_is_told(store, make_teller, alice):
    store.create(Terms.checked("key", "alice", "J", "month"), 100.0)
    teller = make_teller()
    teller.settle(reserve(teller, 100.0), {"J": 100.0})
    assert reserve(teller, 1.0).account.terms.window == "month"


@pytest.mark.parametrize("actual", [None, {}, {"J": None}, {"J": -4.0}, {"J": float("nan")}, {"gCO2e": 1.0}])
def test_unknown_use_is_charged_at_the_bound(store, make_teller, alice, actual):
    teller = make_teller()
    receipt = teller.settle(reserve(teller, 10.0), actual)
    assert receipt.charged == ((alice.id, 10 * J),)
    assert receipt.at_bound == (alice.id,)
    assert receipt.outcome == ("at bound" if actual is None else "settled")


def test_a_request_is_settled_once(store, make_teller, alice):
    teller = make_teller()
    found = reserve(teller, 10.0)
    first = teller.settle(found, {"J": 4.0})
    assert teller.settle(found, {"J": 9.0}) is first
    assert teller.release(found) is first
    teller.close()
    (usage,) = store.usage()
    assert (usage.spent, usage.requests) == (4 * J, 1)


def test_every_attempt_of_a_request_reserves_anew(store, make_teller, alice):
    teller = make_teller()
    attempts = [reserve(teller, 10.0, request="same") for _ in range(3)]
    assert len({attempt.number for attempt in attempts}) == 3
    teller.settle(attempts[0], None)
    teller.settle(attempts[1], {"J": 2.0})
    teller.release(attempts[2])
    teller.close()
    (usage,) = store.usage()
    assert (usage.spent, usage.requests) == (12 * J, 2)


def test_more_than_the_bound_is_charged_in_full_and_flagged(store, make_teller, alice):
    teller = make_teller()
    receipt = teller.settle(reserve(teller, 10.0), {"J": 120.0})
    assert receipt.overrun
    teller.tend()
    (usage,) = store.usage()
    assert (usage.spent, usage.overrun) == (120 * J, 110 * J)
    assert isinstance(reserve(teller, 1.0), Refusal)


def test_a_request_counts_to_the_window_it_was_reserved_in(store, make_teller, alice, clock):
    teller = make_teller()
    running = reserve(teller, 60.0)
    clock.passed_s += 3600.0
    assert isinstance(reserve(teller, 90.0), Reservation)
    teller.settle(running, {"J": 50.0})
    teller.close()
    second, first = store.usage(windows=2)
    assert (first.spent, second.spent) == (50 * J, 90 * J)
    assert first.charged == 50 * J


@pytest.mark.parametrize("jump_s", [-7200.0, -600.0, 7200.0])
def test_jumping_clocks_open_no_window_twice(store, make_teller, alice, clock, jump_s):
    teller = make_teller()
    for jump in (0.0, jump_s, -jump_s, jump_s, -jump_s):
        clock.skew_s += jump
        clock.passed_s += 1.0
        found = reserve(teller, 60.0)
        if isinstance(found, Reservation):
            teller.settle(found, None)
        teller.tend()
    teller.close()
    assert all(usage.charged <= 100 * J for usage in store.usage(windows=9))
    assert sum(usage.requests for usage in store.usage(windows=9)) == (2 if jump_s > 0 else 1)


def test_what_is_not_needed_goes_back(store, make_teller, alice):
    teller = make_teller()
    store.update(alice.id, 1_000.0)
    teller.settle(reserve(teller, 1.0), {"J": 1.0})
    teller.tend()
    held = store.usage()[0].held
    assert held > 0  # it is in use
    teller.tend()
    assert store.usage()[0].held == 0


def test_a_forgotten_request_is_charged_at_its_bound(store, make_teller, alice, clock):
    teller = make_teller(expire_s=600.0)
    forgotten = reserve(teller, 10.0)
    clock.passed_s += 599.0
    teller.tend()
    assert forgotten.receipt is None
    clock.passed_s += 2.0
    teller.tend()
    assert forgotten.receipt.charged == ((alice.id, 10 * J),)


def test_a_quote_says_what_would_be_granted(store, make_teller, alice):
    teller = make_teller()
    tight = store.create(Terms.checked("key", "alice", "J", "month"), 40.0)
    store.create(Terms.checked("key", "alice", "EUR", "month"), 2.0)
    teller.tend()
    accounts = teller.accounts_for(key="alice")
    running = teller.reserve("r", {"J": 10.0, "EUR": 1.0}, accounts)
    room = teller.quote(accounts)
    assert room.amounts == {"J": 30.0, "EUR": 1.0}
    assert room.tightest["J"] == tight
    assert room.share({"J": 15.0, "EUR": 1.0}) == 1.0
    assert room.share({"J": 60.0, "EUR": 1.0}) == 0.5
    assert room.share({"L": 1.0}) == 1.0
    assert isinstance(teller.reserve("s", {"J": 30.0, "EUR": 1.0}, accounts), Reservation)
    assert teller.quote(accounts).amounts == {"J": 0.0, "EUR": 0.0}
    teller.release(running)
    assert teller.quote(accounts).amounts == {"J": 10.0, "EUR": 1.0}


def test_an_empty_budget_refuses_without_asking_the_store_each_time(store, make_teller, alice, clock):
    teller = make_teller()
    teller.settle(reserve(teller, 100.0), {"J": 100.0})
    assert isinstance(reserve(teller, 1.0), Refusal)
    before = store.exchanges
    for _ in range(50):
        assert isinstance(teller.reserve_now("r", {"J": 1.0}, teller.accounts_for(key="alice")), Refusal)
    assert store.exchanges == before
    store.update(alice.id, 200.0)
    clock.passed_s += 1.0
    assert isinstance(reserve(teller, 1.0), Reservation)
    teller.close()
    assert store.usage()[0].refusals == 51


def test_new_and_closed_budgets_are_seen_at_the_next_exchange(store, make_teller, alice):
    teller = make_teller()
    stale = teller.accounts_for(key="alice")
    store.close_account(alice.id)
    store.create(Terms.checked("key", "bob", "J", "day"), 1.0)
    assert isinstance(teller.reserve("r", {"J": 1e6}, stale), Reservation)
    assert teller.accounts_for(key="alice") == ()
    assert isinstance(reserve(teller, 2.0, name="bob"), Refusal)


def test_a_budget_closed_while_requests_run_still_counts_them(store, make_teller, alice):
    teller = make_teller()
    running = reserve(teller, 10.0)
    store.close_account(alice.id)
    teller.tend()
    teller.settle(running, {"J": 7.0})
    teller.tend()
    (usage,) = store.usage(account_id=alice.id)
    assert (usage.spent, usage.held) == (7 * J, 0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_store_that_fails_lets_nothing_through_and_loses_nothing(store, make_teller, alice, when):
    teller = make_teller()
    setattr(store, f"fail_{when}", True)
    with pytest.raises(LedgerError):
        reserve(teller, 10.0)
    assert teller.open_reservations == 0
    teller.settle(reserve(teller, 10.0), {"J": 5.0})
    setattr(store, f"fail_{when}", True)
    with pytest.raises(LedgerError):
        teller.tend()
    teller.close()
    (usage,) = store.usage()
    assert (usage.charged, usage.spent, usage.requests) == (5 * J, 5 * J, 1)


def test_slices_last_while_the_store_is_away(store, make_teller, clock):
    store.create(Terms.checked("key", "alice", "J", "hour"), 1e4)
    teller = make_teller()
    teller.settle(reserve(teller, 1.0), {"J": 1.0})
    store.exchange = None
    clock.passed_s += LEASE_S * 2
    for _ in range(200):
        teller.settle(reserve(teller, 1.0), {"J": 1.0})


def test_a_worker_that_was_closed_by_others_begins_anew(store, make_teller, alice):
    teller = make_teller()
    running = reserve(teller, 10.0)
    old = teller.worker
    store.close_worker(old, forfeit=True)
    teller.settle(reserve(teller, 50.0), {"J": 20.0})
    assert teller.worker != old
    teller.settle(running, {"J": 10.0})
    teller.close()
    (usage,) = store.usage()
    assert usage.spent == 20 * J
    assert usage.forfeited >= 10 * J
    assert usage.charged <= 100 * J


def test_closing_charges_what_still_runs_at_its_bound(store, make_teller, alice, tmp_path):
    teller = make_teller()
    running = reserve(teller, 10.0)
    teller.close()
    teller.close()
    assert running.receipt.outcome == "at bound"
    (usage,) = store.usage()
    assert (usage.spent, usage.held, usage.requests) == (10 * J, 0, 1)
    assert list((tmp_path / "workers").iterdir()) == []
    with pytest.raises(LedgerError, match="closed"):
        reserve(teller, 1.0)


def test_a_store_that_is_away_at_the_end_is_told_by_the_next_worker(store, make_teller, alice):
    teller = make_teller()
    teller.settle(reserve(teller, 10.0), {"J": 4.0})
    store.close_worker = None
    with pytest.raises(TypeError):
        teller.close()
    del store.close_worker
    make_teller().close()
    (usage,) = store.usage()
    assert (usage.charged, usage.spent, usage.requests) == (4 * J, 4 * J, 1)


FORKING = """
import os
from negajoule.errors import LedgerError
from negajoule.ledger.accounts import MemoryStore, Reservation, Teller, Terms

store = MemoryStore()
store.create(Terms.checked("key", "alice", "J", "total"), 100.0)
teller = Teller(store)
accounts = teller.accounts_for(key="alice")
teller.settle(teller.reserve("r", {"J": 1.0}, accounts), {"J": 1.0})
child = os.fork()
if child == 0:
    code = 1
    try:
        assert teller.reserve_now("r", {"J": 1.0}, accounts) is None
        try:
            teller.reserve("r", {"J": 1.0}, accounts)
        except LedgerError:
            teller.close()
            code = 0
    finally:
        os._exit(code)
assert os.waitpid(child, 0)[1] == 0
assert isinstance(teller.reserve_now("r", {"J": 1.0}, accounts), Reservation)
"""


def test_a_forked_child_spends_nothing_of_its_parent():
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_threads_share_a_teller_and_never_overspend(clock, tmp_path):
    store = SqliteStore(tmp_path / "accounts.sqlite")
    store.create(Terms.checked("key", "alice", "J", "total"), 1_000.0)
    store.create(Terms.checked("global", "", "gCO2e", "total"), 1e6)
    teller = Teller(store, tmp_path / "workers")
    let_through = threading.Semaphore(0)

    def ask(seed):
        for number in range(100):
            accounts = teller.accounts_for(key="alice")
            found = teller.reserve(f"{seed}-{number}", {"J": 3.0, "gCO2e": 1.0}, accounts)
            if isinstance(found, Reservation):
                let_through.release()
                teller.settle(found, {"J": 2.0, "gCO2e": 0.5} if number % 3 else None)
            if number % 20 == seed:
                teller.tend()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    count = let_through._value
    assert 333 <= count < 800
    teller.close()
    joules, carbon = store.usage()
    assert joules.requests == carbon.requests == count
    assert 997 * J < joules.spent == joules.charged <= joules.limit
    assert store.check() == []
    store.close()


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(store, tmp_path):
    (tmp_path / "workers").write_text("a file")
    with pytest.raises(LedgerError) as failed:
        Teller(store, tmp_path / "workers")
    assert failed.value.code == "L101"


def test_a_worker_without_a_journal_leaves_its_slices_spent(store, make_teller, alice, tmp_path, clock):
    teller = make_teller(journal=False)
    reserve(teller, 10.0)
    clock.passed_s += LEASE_S + 1
    assert reconcile(store, tmp_path / "workers") == 0
    (usage,) = store.usage()
    assert usage.presumed == usage.charged >= 10 * J


def test_slices_of_past_windows_do_not_pile_up(clock, tmp_path):
    store = SqliteStore(tmp_path / "accounts.sqlite", clock=clock.wall)
    store.create(Terms.checked("key", "alice", "J", "hour"), 100.0)
    teller = Teller(store, tmp_path / "workers", lease_s=LEASE_S, monotonic=clock.monotonic)
    for _ in range(10):
        teller.settle(reserve(teller, 3.0), {"J": 2.0})
        clock.passed_s += 3600.0
        teller.tend()
    teller.tend()
    assert store._db.execute("SELECT count(*) FROM budget_slice").fetchone() == (0,)
    assert [usage.spent for usage in store.usage(windows=11)] == [0] + [2 * J] * 10
    teller.close()
    store.close()
