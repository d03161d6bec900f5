"""The real ``google-genai`` client against a loopback server that plays its API."""

from __future__ import annotations

import asyncio
import threading

import pytest

from instrument.apis import GOOGLE_USAGE, Reply, data, generated

genai = pytest.importorskip("google.genai", reason="the client isn't installed: make test installs it")
types = pytest.importorskip("google.genai.types")

# The client inherits from a class of aiohttp that doesn't like it.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

ASK = {"model": "gemini-2.5-flash", "contents": "why?"}


@pytest.fixture
def client(provider, followed):
    with genai.Client(
        api_key="none", http_options=types.HttpOptions(base_url=provider.url, api_version="v1beta")
    ) as client:
        yield client


@pytest.fixture
def run(client):
    """Run an asynchronous test."""

    def run(work):
        async def main():
            async with client.aio as aio:
                return await work(aio)

        return asyncio.run(main())

    return run


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def test_thoughts_and_results_of_tools_are_counted(provider, client, rows):
    provider.replies = [Reply(generated(GOOGLE_USAGE))]
    answer = client.models.generate_content(**ASK)
    assert answer.text == "because"
    assert answer.footprint.it_energy.value > 0
    assert "footprint" not in answer.model_dump()
    (row,) = rows()
    assert (row.tokens_in, row.tokens_cached, row.tokens_out) == (520, 400, 100)
    assert (row.kind, row.stage, row.model) == ("request", "inference", "gemini-2.5-flash")


def test_the_asynchronous_client(provider, run, rows):
    provider.replies = [Reply(generated(GOOGLE_USAGE))]
    answer = run(lambda aio: aio.models.generate_content(**ASK))
    assert answer.footprint.it_energy.value > 0
    assert len(rows()) == 1


def chunks() -> list[str]:
    growing = [{**GOOGLE_USAGE, "candidatesTokenCount": count} for count in (20, 40, 60)]
    return [data(generated(usage)) for usage in growing]


def test_a_stream_stays_lazy_and_its_last_chunk_has_the_footprint(provider, client, rows):
    hold = threading.Event()
    provider.replies = [Reply(events=chunks(), hold=hold)]
    stream = client.models.generate_content_stream(**ASK)
    assert provider.requests == [], "nothing is sent before the first chunk is asked for"
    assert next(iter(stream)).text == "because"
    hold.set()
    last = None
    for chunk in stream:
        last = chunk
    assert last.footprint.it_energy.value > 0
    assert [(row.status, row.tokens_out) for row in rows()] == [("ok", 100)]


def test_a_stream_broken_off_is_booked_with_what_was_counted(provider, client, rows):
    provider.replies = [Reply(events=chunks())]
    stream = client.models.generate_content_stream(**ASK)
    chunk = next(iter(stream))
    stream.close()
    (row,) = rows()
    assert (row.status, row.tokens_in, row.tokens_out) == ("cancelled", 520, 60)
    assert row.footprint.it_energy == chunk.footprint.it_energy


def test_an_asynchronous_stream(provider, run, rows):
    async def work(aio):
        stream = await aio.models.generate_content_stream(**ASK)
        return [chunk async for chunk in stream]

    provider.replies = [Reply(events=chunks())]
    assert run(work)[-1].footprint.it_energy.value > 0
    assert [(row.status, row.tokens_out) for row in rows()] == [("ok", 100)]


def test_an_asynchronous_stream_broken_off(provider, run, rows):
    async def work(aio):
        stream = await aio.models.generate_content_stream(**ASK)
        async for _ in stream:
            break
        await stream.aclose()

    provider.replies = [Reply(events=chunks())]
    run(work)
    assert [row.status for row in rows()] == ["cancelled"]


def test_tools_that_the_client_calls_make_two_requests_and_one_answer(provider, client, rows):
    wish = {"functionCall": {"name": "weather", "args": {"city": "Paris"}}}
    provider.replies = [Reply(generated(GOOGLE_USAGE, wish)), Reply(generated(GOOGLE_USAGE))]
    answer = client.models.generate_content(**ASK, config=types.GenerateContentConfig(tools=[weather]))
    assert answer.text == "because"
    booked = rows()
    assert [row.tokens_out for row in booked] == [100, 100]
    both = sum(row.footprint.it_energy.value for row in booked)
    assert answer.footprint.it_energy.value == pytest.approx(both)


def test_a_chat(provider, client, rows):
    provider.replies = [Reply(generated(GOOGLE_USAGE)), Reply(events=chunks())]
    chat = client.chats.create(model=ASK["model"])
    assert chat.send_message("why?").footprint.it_energy.value > 0
    assert list(chat.send_message_stream("and?"))[-1].footprint.it_energy.value > 0
    assert len(rows()) == 2


@pytest.mark.parametrize("usage", [None, {}, {"promptTokenCount": 5}])
def test_an_answer_without_usage_is_unknown_and_never_zero(provider, client, rows, usage):
    provider.replies = [Reply(generated(usage))]
    answer = client.models.generate_content(**ASK)
    assert answer.footprint.it_energy is None
    assert rows()[0].tokens_out is None


def test_refusals_pass_unchanged_and_are_not_booked(provider, client, rows):
    refusal = {"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}
    provider.replies = [Reply(refusal, status=400)] * 2
    with pytest.raises(genai.errors.ClientError, match="API key not valid"):
        client.models.generate_content(**ASK)
    with pytest.raises(genai.errors.ClientError, match="API key not valid"):
        list(client.models.generate_content_stream(**ASK))
    assert rows() == []


def test_a_server_that_fails_may_have_worked(provider, client, rows):
    provider.replies = [Reply({"error": {"code": 500, "message": "oops"}}, status=500)]
    with pytest.raises(genai.errors.ServerError):
        client.models.generate_content(**ASK)
    assert [(row.status, row.tokens_out) for row in rows()] == [("failed", None)]
