"""Budgets held by servers of real processes that share one store, one of which is killed."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError

import pytest

from negajoule.ledger.accounts import SqliteStore, Terms
from servers import serve

from .asking import chat
from .conftest import serving
from .test_spending import Upstream

LIMIT_J = 200


def try_chat(url):
    """A call's status; ``None`` if its server was killed."""
    try:
        return chat(url, model="gpt-4o-mini", max_tokens=20).status
    except (OSError, URLError):
        return None


@pytest.mark.slow
def test_two_processes_and_a_kill_never_spend_more_than_there_is(fresh_home):
    upstream = Upstream()
    with (
        contextlib.closing(SqliteStore(fresh_home / "accounts.sqlite")) as store,
        serving(upstream.app()) as behind,
    ):
        account = store.create(Terms.checked("global", "", "J", "total"), LIMIT_J)
        with (
            serve(fresh_home, "--upstream", behind) as one,
            serve(fresh_home, "--upstream", behind) as other,
            ThreadPoolExecutor(8) as pool,
        ):
            first = list(pool.map(try_chat, [one.url, other.url] * 15))
            assert 200 in first
            running = [pool.submit(try_chat, url) for url in [one.url, other.url] * 15]
            other.process.kill()
            later = [call.result() for call in running]
            assert 429 in first + later
        with serve(fresh_home, "--upstream", behind) as again:
            assert try_chat(again.url) in (200, 429)
        (end,) = store.usage(account_id=account.id)
    answered = sum(status == 200 for status in (*first, *later))
    assert end.charged <= LIMIT_J * 1_000_000
    assert end.overrun == 0
    assert answered <= end.requests <= 61
    assert end.held + end.presumed == 0
