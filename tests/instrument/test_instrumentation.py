"""Following clients: the handle, the labels, the gaps, and that nothing of it reaches the program."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import warnings

import pytest

import negajoule
from instrument.apis import MESSAGE_USAGE, Reply, chat, generated, message
from negajoule.errors import CatalogError
from negajoule.instrument.clients import instrument_clients
from negajoule.instrument.clients.patches import Patches
from negajoule.ledger import Ledger
from negajoule.units import Energy, Footprint

openai = pytest.importorskip("openai", reason="the client isn't installed: make test installs it")

ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "why?"}]}


def client_of(provider) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0)


def ask(provider, **more):
    provider.replies.append(Reply(chat()))
    with client_of(provider) as client:
        return client.chat.completions.create(**ASK, **more)


def rows_of(path=None):
    with Ledger(path) as ledger:
        return ledger.latest(1000)[::-1]


class TestHandle:
    def test_once_is_enough(self, provider):
        with negajoule.instrument_clients() as handle:
            assert instrument_clients() is handle
            ask(provider)
            assert handle.requests == 1
        assert len(rows_of()) == 1

    def test_undone_the_clients_are_their_own_again(self, provider):
        before = vars(openai._base_client.SyncAPIClient)["request"]
        handle = instrument_clients()
        assert vars(openai._base_client.SyncAPIClient)["request"] is not before
        handle.undo()
        handle.undo()
        assert vars(openai._base_client.SyncAPIClient)["request"] is before
        assert not hasattr(ask(provider), "footprint")
        assert handle.requests == 0

    def test_new_settings_replace_the_old_and_nothing_is_wrapped_twice(self, provider, tmp_path):
        first = instrument_clients()
        with instrument_clients(ledger=tmp_path / "other.sqlite", zone="FR") as second:
            ask(provider)
            assert (first.requests, second.requests) == (0, 1)
            first.undo()
            ask(provider)
            assert second.requests == 2
        (row, _) = rows_of(tmp_path / "other.sqlite")
        assert row.zone == "FRA"

    def test_a_wrapper_of_somebody_else_keeps_working_after_undo(self, provider):
        handle = instrument_clients()
        kind = openai._base_client.SyncAPIClient
        ours = kind.request
        calls = []

        def theirs(self, *args, **kwargs):
            calls.append(1)
            return ours(self, *args, **kwargs)

        kind.request = theirs
        try:
            handle.undo()
            answer = ask(provider)
            assert calls == [1]
            assert not hasattr(answer, "footprint")
        finally:
            kind.request = ours.__wrapped__

    def test_a_zone_that_does_not_exist_is_said_at_once(self):
        with pytest.raises(CatalogError):
            instrument_clients(zone="ATLANTIS")
        assert openai._base_client.SyncAPIClient.request.__qualname__ == "SyncAPIClient.request"

    def test_nothing_is_recorded_if_so_wished(self, provider, fresh_home):
        with instrument_clients(record=False):
            assert ask(provider).footprint.it_energy.value > 0
        assert not (fresh_home / "ledger.sqlite").exists()


class TestPlaces:
    def test_a_server_here_stands_where_you_are(self, provider, monkeypatch):
        monkeypatch.setenv("NEGAJOULE_ZONE", "FR")
        with instrument_clients():
            answer = ask(provider)
        assert rows_of()[0].zone == "FRA"
        keys = {factor.name: factor.key for factor in answer.footprint.factors}
        assert keys["carbon intensity"] == "grid.carbon.FRA"

    @pytest.mark.parametrize(
        ("url", "row"),
        [
            ("https://api.openai.com/v1", "pue.provider.openai"),
            ("https://me.openai.azure.com/openai/v1", "pue.provider.azure"),
            ("https://router.huggingface.co/v1", "pue.provider.huggingface"),
        ],
    )
    def test_a_provider_has_its_own_pue_and_an_unknown_place(self, url, row):
        from negajoule.instrument.clients.cost import HostedCost

        footprint = HostedCost()("gpt-oss-20b", 100, 100, 0, url)
        keys = {factor.name: factor.key for factor in footprint.factors}
        assert keys["PUE"] == row
        assert any("location unknown" in note for note in footprint.notes)

    def test_a_cache_that_nobody_mentions_widens_the_interval_downwards(self):
        from negajoule.instrument.clients.cost import HostedCost

        cost = HostedCost()
        told, untold = (
            cost("gpt-oss-20b", 20_000, 10, cached, "https://api.openai.com/v1") for cached in (0, None)
        )
        assert untold.it_energy.value == pytest.approx(told.it_energy.value)
        assert untold.it_energy.low < told.it_energy.low
        assert untold.it_energy.high == pytest.approx(told.it_energy.high)


class TestLabels:
    def test_the_innermost_name_is_booked(self, provider, followed, rows):
        ask(provider)
        with negajoule.label("search"):
            ask(provider)
            with negajoule.label("rank"):
                ask(provider)
            ask(provider)
        ask(provider)
        assert [row.label for row in rows()] == ["", "search", "rank", "search", ""]

    def test_tasks_do_not_mix_their_names(self, provider, followed, rows):
        async def one(name: str) -> None:
            with negajoule.label(name):
                await asyncio.sleep(0.001)
                async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
                    await client.chat.completions.create(**ASK)

        async def main() -> None:
            await asyncio.gather(*(one(f"task {number}") for number in range(5)))

        provider.replies = [Reply(chat())] * 5
        asyncio.run(main())
        assert sorted(row.label for row in rows()) == [f"task {number}" for number in range(5)]

    def test_a_name_is_given_back_when_its_block_fails(self, provider, followed, rows):
        with pytest.raises(ZeroDivisionError), negajoule.label("x"):
            _ = 1 / 0
        ask(provider)
        assert rows()[0].label == ""


class TestGaps:
    """The fakes here are estimators, exporters and files that fail as real ones might."""

    def test_an_unwritable_ledger_is_a_gap_and_one_warning(self, provider, tmp_path):
        (tmp_path / "file").write_text("")
        with instrument_clients(ledger=tmp_path / "file" / "ledger.sqlite") as handle:
            with pytest.warns(RuntimeWarning, match="couldn't be accounted for") as caught:
                footprints = [ask(provider).footprint for _ in range(3)]
            assert len(caught) == 1
            assert handle.gaps == 3
        assert all(footprint.it_energy.value > 0 for footprint in footprints)

    def test_an_estimator_that_fails(self, provider):
        def broken(*_: object) -> Footprint:
            raise RuntimeError("oops")

        with instrument_clients(estimator=broken) as handle:
            with pytest.warns(RuntimeWarning, match="oops"):
                answer = ask(provider)
            assert handle.gaps == 1
        assert answer.footprint.it_energy is None
        assert rows_of()[0].tokens_out == 300

    def test_an_exporter_that_fails_harms_neither_the_row_nor_the_others(self, provider):
        class Broken:
            def observe(self, finished) -> None:
                raise OSError("full")

        class Counting:
            seen = 0

            def observe(self, finished) -> None:
                self.seen += 1

        counting = Counting()
        with (
            instrument_clients(exporters=[Broken(), counting]) as handle,
            pytest.warns(RuntimeWarning, match="full"),
        ):
            ask(provider)
        assert (handle.gaps, counting.seen, len(rows_of())) == (1, 1, 1)

    def test_where_warnings_are_errors_the_call_still_succeeds(self, provider):
        def broken(*_: object) -> Footprint:
            raise RuntimeError("oops")

        with instrument_clients(estimator=broken) as handle, warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ask(provider).choices
            assert handle.gaps == 1

    def test_a_client_that_has_changed_its_inside_is_a_gap_and_not_an_error(self, provider, monkeypatch):
        monkeypatch.delattr(openai._base_client.AsyncAPIClient, "request")
        with pytest.warns(RuntimeWarning, match="has no request"):
            handle = instrument_clients()
        with handle:
            assert ask(provider).footprint.it_energy.value > 0, "the other client is followed all the same"
            assert handle.gaps == 1

    def test_options_of_a_form_we_do_not_know_pass(self, provider):
        with instrument_clients() as handle, client_of(provider) as client:
            with pytest.raises(TypeError), pytest.warns(RuntimeWarning):
                client.request()
            assert handle.gaps == 1


class TestGateway:
    """A negajoule gateway knows what a request cost, so its figure is taken."""

    COST = Footprint(
        boundary="facility",
        it_energy=Energy(5.0, 4.0, 6.0, "measured", "node"),
        notes=("measured at the server",),
    )

    def given(self, **more):
        factors = {"carbon intensity": "grid.carbon.FRA"}
        return {"request_id": "req-123", **self.COST.to_dict(detail=False), "factors": factors, **more}

    def test_its_footprint_is_taken_with_its_id_and_zone(self, provider, followed, rows):
        provider.replies = [Reply(chat(footprint=self.given()))]
        with client_of(provider) as client:
            answer = client.chat.completions.create(**ASK)
        assert answer.footprint.it_energy == self.COST.it_energy
        assert "measured at the server" in answer.footprint.notes
        assert answer.model_extra["footprint"]["request_id"] == "req-123", "as the server gave it"
        (row,) = rows()
        assert (row.id, row.zone, row.footprint.it_energy) == ("req-123", "FRA", self.COST.it_energy)

    def test_in_one_ledger_it_is_not_booked_twice(self, provider, followed, rows):
        provider.replies = [Reply(chat(footprint=self.given()))] * 2
        with client_of(provider) as client:
            for _ in range(2):
                client.chat.completions.create(**ASK)
        assert len(rows()) == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"schema": "other.footprint/1"},
            {"boundary": "galaxy"},
            {"it_energy": {"value": -1}},
            {"it_energy": 5},
            {"it_energy": {**COST.it_energy.to_dict(), "low": 9.0}},
        ],
    )
    def test_what_only_looks_like_one_is_estimated(self, provider, followed, rows, wrong):
        provider.replies = [Reply(chat(footprint=self.given(**wrong)))]
        with client_of(provider) as client:
            answer = client.chat.completions.create(**ASK)
        assert answer.footprint.it_energy.basis == "modelled"
        assert rows()[0].id != "req-123"

    def test_a_real_gateway_and_its_client_on_one_ledger_book_each_request_once(self, followed, rows):
        pytest.importorskip("uvicorn")
        from gateway.conftest import gateway
        from negajoule.engine import FakeEngine
        from negajoule.gateway import EngineBackend

        with gateway(lambda splitter, accounts: EngineBackend(FakeEngine(), splitter, accounts)) as served:
            with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
                ask_fake = {"model": "fake", "messages": ASK["messages"], "max_tokens": 8}
                whole = client.chat.completions.create(**ask_fake)
                stream = client.chat.completions.create(**ask_fake, stream=True)
                list(stream)
            booked = rows()
        assert whole.footprint.it_energy.value > 0
        assert stream.footprint.it_energy.value > 0
        assert [row.id for row in booked] == [
            whole.model_extra["footprint"]["request_id"],
            booked[1].id,
        ]
        assert sum(row.kind == "request" for row in booked) == 2


class TestProcesses:
    """Programs of their own, as users write them."""

    def run(self, provider, program: str, home) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), provider.url],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "NEGAJOULE_HOME": str(home)},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    @pytest.mark.slow
    def test_libraries_imported_later_are_followed_and_none_is_imported_for_us(self, provider, fresh_home):
        pytest.importorskip("anthropic")
        pytest.importorskip("google.genai")
        provider.replies = [Reply(chat()), Reply(message(MESSAGE_USAGE)), Reply(generated({}))]
        out = self.run(
            provider,
            """
            import sys
            import negajoule
            negajoule.instrument_clients()
            assert not {"openai", "anthropic", "google.genai"} & set(sys.modules)
            import openai, anthropic
            from google import genai
            url, why = sys.argv[1], [{"role": "user", "content": "why?"}]
            answer = openai.OpenAI(base_url=url + "/v1", api_key="x").chat.completions.create(
                model="gpt-4o", messages=why)
            print(answer.footprint.it_energy.value > 0)
            answer = anthropic.Anthropic(base_url=url, api_key="x").messages.create(
                model="claude-sonnet-5-5", max_tokens=9, messages=why)
            print(answer.footprint.it_energy.value > 0)
            client = genai.Client(api_key="x", http_options={"base_url": url})
            print(client.models.generate_content(model="gemini-2.5-flash", contents="why?").footprint)
            """,
            fresh_home,
        )
        assert out.splitlines()[:2] == ["True", "True"]
        assert len(rows_of()) == 3

    def test_a_program_that_ends_without_a_word_has_its_rows_and_its_open_stream(self, provider, fresh_home):
        from instrument.apis import DONE, chat_chunk

        provider.replies = [Reply(chat()), Reply(events=[chat_chunk("be")] * 9 + [DONE])]
        self.run(
            provider,
            """
            import sys, openai, negajoule
            negajoule.instrument_clients()
            client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="x")
            ask = dict(model="gpt-4o", messages=[{"role": "user", "content": "why?"}])
            client.chat.completions.create(**ask)
            stream = client.chat.completions.create(**ask, stream=True)
            next(stream)
            """,
            fresh_home,
        )
        assert [row.status for row in rows_of()] == ["ok", "cancelled"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
    def test_a_forked_child_books_its_own(self, provider, fresh_home):
        provider.replies = [Reply(chat())] * 4
        self.run(
            provider,
            """
            import os, sys, openai, negajoule
            negajoule.instrument_clients()
            ask = dict(model="gpt-4o", messages=[{"role": "user", "content": "why?"}])
            def once():
                with openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="x") as client:
                    client.chat.completions.create(**ask)
            once()
            child = os.fork()
            once()
            if child == 0:
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            once()
            """,
            fresh_home,
        )
        assert len({row.id for row in rows_of()}) == 4


class TestPatches:
    def test_only_what_a_class_itself_defines_is_replaced(self):
        class Parent:
            def work(self) -> int:
                return 1

        class Child(Parent):
            """Inherits work."""

        patches = Patches(lambda error: None)
        with pytest.raises(AttributeError, match="has no work"):
            patches.replace(Child, "work", lambda old: old)
        patches.replace(Parent, "work", lambda old: lambda self: old(self) + 1)
        assert Child().work() == 2
        patches.undo()
        assert Child().work() == 1

    def test_what_is_there_is_not_added_over(self):
        class Full:
            footprint = "mine"

        patches = Patches(lambda error: None)
        patches.add(Full, "footprint", "ours")
        assert Full.footprint == "mine"
        patches.undo()
        assert Full.footprint == "mine"


def test_a_finaliser_that_comes_in_the_midst_of_a_booking_waits_its_turn(provider):
    """The collector may run while a lock of ours or an exporter is held; a booking from there would hang."""
    import threading

    from instrument.apis import DONE, chat_chunk

    class Locking:
        """An exporter with a lock that isn't re-entrant, in which streams are forgotten."""

        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.forgotten: list[object] = []
            self.seen: list[str] = []

        def observe(self, finished) -> None:
            assert self.lock.acquire(timeout=5), "booked from within a booking"
            try:
                self.forgotten.clear()
                self.seen.append(finished.activity.status)
            finally:
                self.lock.release()

    exporter = Locking()
    provider.replies = [Reply(events=[chat_chunk("be")] * 9 + [DONE]), Reply(chat())]
    with instrument_clients(exporters=[exporter]) as handle, client_of(provider) as client:
        stream = client.chat.completions.create(**ASK, stream=True)
        next(stream)
        # Out of the stream's own ring of references, so that dropping it finalises it at once.
        exporter.forgotten.append(vars(stream).pop("_iterator"))
        client.chat.completions.create(**ASK)
        stream.close()
        handle.flush()
        assert handle.gaps == 0
    assert sorted(exporter.seen) == ["cancelled", "ok"]
