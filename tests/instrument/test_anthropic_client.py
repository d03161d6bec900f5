"""The real ``anthropic`` client against a loopback server that plays its API."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from instrument.apis import MESSAGE_USAGE, Reply, message, message_events, named

anthropic = pytest.importorskip("anthropic", reason="the client isn't installed: make test installs it")

# The client says so of any model whose last day is set, and that may be ours one day.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")

ASK = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "why?"}],
}


@pytest.fixture
def client(provider, followed):
    with anthropic.Anthropic(base_url=provider.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def run(provider, followed):
    """Run an asynchronous test with a client of its own."""

    def run(work):
        async def main():
            async with anthropic.AsyncAnthropic(
                base_url=provider.url, api_key="none", max_retries=0
            ) as client:
                return await work(client)

        return asyncio.run(main())

    return run


def test_cache_reads_and_writes_are_part_of_the_prompt(provider, client, rows):
    provider.replies = [Reply(message(MESSAGE_USAGE))]
    answer = client.messages.create(**ASK)
    assert answer.content[0].text == "because"
    assert answer.footprint.it_energy.value > 0
    assert "footprint" not in answer.model_dump()
    (row,) = rows()
    assert (row.tokens_in, row.tokens_cached, row.tokens_out) == (1110, 1000, 200)
    assert row.model == "claude-sonnet-5-5"


def test_tool_use(provider, client):
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
    provider.replies = [Reply(message(MESSAGE_USAGE, content=[use], stop_reason="tool_use"))]
    tool = {"name": "weather", "input_schema": {"type": "object"}}
    answer = client.messages.create(**ASK, tools=[tool])
    assert answer.content[0].input == {"city": "Paris"}
    assert answer.footprint.it_energy.value > 0


def test_the_asynchronous_client(provider, run, rows):
    provider.replies = [Reply(message(MESSAGE_USAGE))]
    answer = run(lambda client: client.messages.create(**ASK))
    assert answer.footprint.it_energy.value > 0
    assert len(rows()) == 1


def test_the_beta_surface(provider, client, rows):
    provider.replies = [Reply(message(MESSAGE_USAGE))]
    assert client.beta.messages.create(**ASK).footprint.it_energy.value > 0
    assert len(rows()) == 1


def test_a_stream_stays_lazy_and_is_booked_at_its_end(provider, client, rows):
    hold = threading.Event()
    provider.replies = [Reply(events=message_events(), hold=hold)]
    stream = client.messages.create(**ASK, stream=True)
    assert isinstance(stream, anthropic.Stream)
    assert next(stream).type == "message_start"
    assert stream.footprint is None
    hold.set()
    assert list(stream)[-1].type == "message_stop"
    assert stream.footprint.it_energy.value > 0
    (row,) = rows()
    assert (row.status, row.tokens_in, row.tokens_cached, row.tokens_out) == ("ok", 1110, 1000, 200)


def test_a_stream_broken_off_knows_its_prompt_and_not_its_answer(provider, client, rows):
    provider.replies = [Reply(events=message_events())]
    with client.messages.create(**ASK, stream=True) as stream:
        next(stream)
    (row,) = rows()
    assert (row.status, row.tokens_in, row.tokens_out) == ("cancelled", 1110, None)
    assert row.footprint.it_energy is None


def test_a_stream_that_is_forgotten_is_closed_and_booked(provider, client, rows):
    provider.replies = [Reply(events=message_events())]
    stream = client.messages.create(**ASK, stream=True)
    next(stream)
    connection = stream.response
    del stream
    gc.collect()
    assert connection.is_closed
    assert [row.status for row in rows()] == ["cancelled"]


def test_the_helper(provider, client, rows):
    provider.replies = [Reply(events=message_events())]
    with client.messages.stream(**ASK) as stream:
        assert list(stream.text_stream) == ["because"]
        answer = stream.get_final_message()
    assert answer.usage.output_tokens == 200
    assert answer.footprint.it_energy.value > 0
    assert stream.footprint == answer.footprint
    assert [row.tokens_out for row in rows()] == [200]


def test_the_helper_broken_off(provider, client, rows):
    provider.replies = [Reply(events=message_events())]
    with client.messages.stream(**ASK) as stream:
        for _ in stream:
            break
    assert [(row.status, row.tokens_in, row.tokens_out) for row in rows()] == [("cancelled", 1110, None)]


def test_the_asynchronous_helper(provider, run, rows):
    async def work(client):
        async with client.messages.stream(**ASK) as stream:
            words = [text async for text in stream.text_stream]
            return words, await stream.get_final_message(), stream.footprint

    provider.replies = [Reply(events=message_events())]
    words, answer, footprint = run(work)
    assert words == ["because"]
    assert answer.footprint == footprint
    assert footprint.it_energy.value > 0
    assert len(rows()) == 1


def test_an_asynchronous_stream_broken_off(provider, run, rows):
    async def work(client):
        stream = await client.messages.create(**ASK, stream=True)
        async for _ in stream:
            break
        await stream.close()

    provider.replies = [Reply(events=message_events())]
    run(work)
    assert [row.status for row in rows()] == ["cancelled"]


def test_an_error_in_the_midst_of_a_stream(provider, client, rows):
    broken = named({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    provider.replies = [Reply(events=[message_events()[0], broken])]
    stream = client.messages.create(**ASK, stream=True)
    with pytest.raises(anthropic.APIStatusError, match="busy"):
        list(stream)
    (row,) = rows()
    assert (row.status, row.tokens_in, row.tokens_out) == ("failed", 1110, None)


def test_raw_responses(provider, client, run, rows):
    provider.replies = [Reply(message(MESSAGE_USAGE))] * 3
    raw = client.messages.with_raw_response.create(**ASK)
    assert raw.parse().footprint == raw.footprint
    with client.messages.with_streaming_response.create(**ASK) as later:
        assert later.parse().footprint.it_energy.value > 0

    async def work(client):
        raw = await client.messages.with_raw_response.create(**ASK)
        return await raw.parse()

    assert run(work).footprint.it_energy.value > 0
    assert [row.tokens_out for row in rows()] == [200, 200, 200]


def test_refusals_pass_unchanged_and_are_not_booked(provider, client, rows):
    refusal = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
    provider.replies = [Reply(refusal, status=401)]
    with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
        client.messages.create(**ASK)
    assert rows() == []


def test_a_server_that_is_not_there_computed_nothing(followed, rows):
    client = anthropic.Anthropic(base_url="http://127.0.0.1:9", api_key="none", max_retries=0)
    with client, pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**ASK)
    assert rows() == []


def test_counting_tokens_is_no_inference(provider, client, rows):
    provider.replies = [Reply({"input_tokens": 9})]
    assert client.messages.count_tokens(model=ASK["model"], messages=ASK["messages"]).input_tokens == 9
    assert rows() == []
