"""Two hosts, one PostgreSQL: real servers in processes of their own, real keys, budgets that hold."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from negajoule.errors import ConfigError
from negajoule.gateway.keys import KeyFile, digest_of
from negajoule.ledger.accounts import Terms, open_store
from postgres_server import postgres_server, why_not
from servers import serve

from .asking import ask
from .conftest import serving
from .test_spending import Upstream

EUR = 10**9
TABLES = """
[[upstream]]
name = "paid"
url = "{url}"
currency = "EUR"
prices = {{"*" = {{input = 10000, output = 20000}}}}
"""


class Provider(Upstream):
    """The scripted server, with embeddings."""

    async def embed(self, request):
        self.bodies.append(await request.json())
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        return JSONResponse({"object": "list", "data": data, "usage": {"prompt_tokens": 10}})

    def app(self):
        chats = Route("/v1/chat/completions", self.chat, methods=["POST"])
        return Starlette(routes=[chats, Route("/v1/embeddings", self.embed, methods=["POST"])])


def hosts_of(tmp_path, url):
    """Two data folders, as two hosts have them; the second one's keys are a copy."""
    homes = [tmp_path / "one", tmp_path / "two"]
    secrets = {}
    for home in homes:
        home.mkdir()
        (home / "config.toml").write_text(TABLES.format(url=url))
    file = KeyFile(homes[0] / "keys.sqlite")
    for name, team, project in (("a", "t", "p"), ("b", "t", ""), ("c", "", "p")):
        secrets[name] = file.create(name, team=team, project=project)[1]
    assert file.copy_to(homes[1] / "keys.sqlite") == 3
    return homes, secrets


def call(url, key, *, embed=False):
    """A call's status; 0 if its server was killed."""
    chat = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 20}
    path, body = ("/v1/embeddings", {"model": "e", "input": "x"}) if embed else ("/v1/chat/completions", chat)
    try:
        return ask(url, path, body=body, key=key).status
    except OSError:
        return 0


@pytest.mark.slow
def test_budgets_of_key_team_and_project_hold_across_hosts(tmp_path, monkeypatch):
    if why_not():
        pytest.skip(why_not())
    provider = Provider()
    with postgres_server() as server, serving(provider.app()) as behind:
        place = server.fresh_database()
        monkeypatch.setenv("NEGAJOULE_ACCOUNTS", place)
        (one, two), secrets = hosts_of(tmp_path, behind)
        with contextlib.closing(open_store(place)) as store:
            limits = {("key", "a"): 6.0, ("team", "t"): 9.0, ("project", "p"): 10.0}
            accounts = {
                whose: store.create(Terms.checked(*whose, "EUR", "total"), amount)
                for whose, amount in limits.items()
            }
            with serve(one) as first, serve(two) as second, ThreadPoolExecutor(8) as pool:
                assert call(first.url, "nj-nobody") == 401
                asked = [
                    pool.submit(call, url, secrets[name], embed=embed)
                    for _ in range(14)
                    for url in (first.url, second.url)
                    for name in secrets
                    for embed in (False, True)
                ]
                statuses = [one.result() for one in asked]
                second.process.kill()
                after = [call(first.url, secrets[name]) for name in secrets for _ in range(3)]
            with serve(two) as again:
                assert call(again.url, secrets["c"]) in (200, 429)
            ends = {whose: store.usage(account_id=account.id)[0] for whose, account in accounts.items()}
    assert set(statuses) == {200, 429}
    assert set(after) <= {200, 429}
    for whose, end in ends.items():
        assert 0 < end.spent <= end.charged <= limits[whose] * EUR
        assert (end.overrun, end.held) == (0, 0)
    # Every answer was charged to somebody: a chat is 0.5 EUR and embeddings 0.1 EUR, in two or three budgets.
    told = sum(0.5 if "messages" in body else 0.1 for body in provider.bodies)
    assert told * EUR <= sum(end.spent for end in ends.values())


@pytest.mark.slow
def test_a_key_revoked_on_one_host_is_refused_on_another_once_the_file_is_copied(tmp_path):
    provider = Provider()
    with serving(provider.app()) as behind:
        (one, two), secrets = hosts_of(tmp_path, behind)
        with serve(two) as running:
            assert call(running.url, secrets["a"]) == 200
            KeyFile(one / "keys.sqlite").revoke("a")
            KeyFile(one / "keys.sqlite").copy_to(two / "keys.sqlite")
            time.sleep(1.2)
            assert call(running.url, secrets["a"]) == 401
            assert call(running.url, secrets["b"]) == 200


def test_copied_keys_are_the_owners_only_and_replace_what_was_there(tmp_path):
    file, copy = KeyFile(tmp_path / "keys.sqlite"), tmp_path / "copy.sqlite"
    with pytest.raises(ConfigError, match="no keys to copy"):
        file.copy_to(copy)
    secret = file.create("a")[1]
    copy.write_bytes(b"something else")
    assert file.copy_to(copy) == 1
    assert copy.stat().st_mode & 0o777 == 0o600
    mark = KeyFile(copy).change_mark()
    file.create("b")
    file.copy_to(copy)
    assert KeyFile(copy).change_mark() != mark
    assert digest_of(secret.encode()) in KeyFile(copy).by_digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.sqlite", "keys.sqlite"]
    with pytest.raises(ConfigError, match="can't be copied"):
        file.copy_to(tmp_path / "nowhere" / "keys.sqlite")
