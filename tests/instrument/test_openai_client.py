"""The real ``openai`` client against a loopback server that plays its API."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from instrument.apis import (
    CHAT_USAGE,
    DONE,
    RESPONSE_USAGE,
    Provider,
    Reply,
    chat,
    chat_chunk,
    data,
    response,
)

openai = pytest.importorskip("openai", reason="the client isn't installed: make test installs it")

ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "why?"}]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def client(provider, followed):
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def run(provider, followed):
    """Run an asynchronous test with a client of its own."""

    def run(work):
        async def main():
            async with openai.AsyncOpenAI(
                base_url=f"{provider.url}/v1", api_key="none", max_retries=0
            ) as client:
                return await work(client)

        return asyncio.run(main())

    return run


def streamed(*, usage: bool = True) -> list[str]:
    last = [chat_chunk(None, CHAT_USAGE)] if usage else []
    return [chat_chunk("be"), chat_chunk("cause"), *last, DONE]


def test_an_answer_has_a_footprint_and_a_row(provider, client, rows):
    provider.replies = [Reply(chat())]
    answer = client.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "because"
    assert answer.footprint.it_energy.value > 0
    assert answer.footprint.carbon_location.high > answer.footprint.carbon_location.value > 0
    (row,) = rows()
    assert (row.kind, row.stage, row.status, row.model) == ("request", "inference", "ok", "gpt-4o-2024-08-06")
    assert (row.tokens_in, row.tokens_cached, row.tokens_out) == (1200, 1024, 300)
    assert row.footprint.it_energy == answer.footprint.it_energy
    assert row.seconds > 0


def test_the_answer_is_what_it_would_be_without_us(provider, client):
    provider.replies = [Reply(chat()), Reply(chat())]
    answer = client.chat.completions.create(**ASK)
    assert "footprint" not in answer.model_dump()
    assert "footprint" not in answer.model_dump_json()
    assert "footprint" not in repr(answer)
    assert type(answer) is openai.types.chat.ChatCompletion
    assert answer == client.chat.completions.create(**ASK)


def test_cached_tokens_cost_less(provider, client):
    fresh = {**CHAT_USAGE, "prompt_tokens_details": {"cached_tokens": 0}}
    provider.replies = [Reply(chat()), Reply(chat(fresh))]
    cached, full = (client.chat.completions.create(**ASK).footprint for _ in range(2))
    assert cached.it_energy.value < full.it_energy.value


def test_reasoning_is_part_of_the_answer_and_not_counted_again(provider, client):
    plain = {**CHAT_USAGE, "completion_tokens_details": None}
    provider.replies = [Reply(chat()), Reply(chat(plain))]
    with_details, without = (client.chat.completions.create(**ASK).footprint for _ in range(2))
    assert with_details.it_energy == without.it_energy


def test_tool_calls_are_answers_like_others(provider, client, rows):
    provider.replies = [Reply(chat(finish="tool_calls"))]
    answer = client.chat.completions.create(**ASK, tools=[WEATHER])
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"
    assert answer.footprint.it_energy.value > 0
    assert rows()[0].tokens_out == 300


def test_the_asynchronous_client(provider, run, rows):
    provider.replies = [Reply(chat())]
    answer = run(lambda client: client.chat.completions.create(**ASK))
    assert answer.footprint.it_energy.value > 0
    assert rows()[0].tokens_in == 1200


def test_a_stream_is_booked_at_its_end_and_stays_lazy(provider, client, rows):
    hold = threading.Event()
    provider.replies = [Reply(events=streamed(), hold=hold)]
    stream = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    assert isinstance(stream, openai.Stream)
    first = next(stream)
    assert first.choices[0].delta.content == "be", "the first chunk came while the server held the second"
    assert stream.footprint is None
    hold.set()
    rest = list(stream)
    assert [chunk.choices[0].delta.content for chunk in rest if chunk.choices] == ["cause"]
    assert stream.footprint.it_energy.value > 0
    assert rest[-1].footprint == stream.footprint
    (row,) = rows()
    assert (row.status, row.tokens_in, row.tokens_out) == ("ok", 1200, 300)


def test_an_asynchronous_stream(provider, run, rows):
    async def work(client):
        stream = await client.chat.completions.create(
            **ASK, stream=True, stream_options={"include_usage": True}
        )
        assert isinstance(stream, openai.AsyncStream)
        words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
        return words, stream.footprint

    provider.replies = [Reply(events=streamed())]
    words, footprint = run(work)
    assert words == ["be", "cause"]
    assert footprint.it_energy.value > 0
    assert rows()[0].tokens_out == 300


def test_a_stream_without_usage_has_unknown_tokens_and_never_zero(provider, client, rows):
    provider.replies = [Reply(events=streamed(usage=False))]
    stream = client.chat.completions.create(**ASK, stream=True)
    assert len(list(stream)) == 2
    assert stream.footprint.it_energy is None
    assert "didn't tell" in stream.footprint.notes[0]
    (row,) = rows()
    assert (row.status, row.tokens_in, row.tokens_out) == ("ok", None, None)


@pytest.mark.parametrize("leave", ["close", "with", "forget"])
def test_a_stream_that_its_consumer_breaks_off_is_booked_as_cancelled(provider, client, rows, leave):
    provider.replies = [Reply(events=[chat_chunk("be")] * 50 + [DONE])]
    stream = client.chat.completions.create(**ASK, stream=True)
    if leave == "with":
        with stream:
            next(stream)
    else:
        for _ in stream:
            break
    if leave == "close":
        stream.close()
    response_of_it = stream.response
    if leave == "forget":
        del stream
        gc.collect()
    else:
        assert response_of_it.is_closed
    (row,) = rows()
    assert (row.status, row.tokens_in, row.tokens_out) == ("cancelled", None, None)
    assert row.footprint.it_energy is None


def test_an_asynchronous_stream_that_is_broken_off(provider, run, rows):
    async def work(client):
        async with await client.chat.completions.create(**ASK, stream=True) as stream:
            async for _ in stream:
                break
        return stream

    provider.replies = [Reply(events=[chat_chunk("be")] * 50 + [DONE])]
    stream = run(work)
    assert stream.footprint.it_energy is None
    assert [row.status for row in rows()] == ["cancelled"]


def test_a_cancelled_task_is_booked_as_cancelled(provider, run, rows):
    hold = threading.Event()

    async def work(client):
        async def read():
            stream = await client.chat.completions.create(**ASK, stream=True)
            async for _ in stream:
                started.set()

        started = asyncio.Event()
        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.set()

    provider.replies = [Reply(events=[chat_chunk("be")] * 3 + [DONE], hold=hold)]
    run(work)
    assert [row.status for row in rows()] == ["cancelled"]


def test_a_line_that_breaks_raises_what_it_would_raise_and_is_booked_as_failed(provider, client, rows):
    provider.replies = [Reply(events=[chat_chunk("be")], cut=True)]
    stream = client.chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIConnectionError):
        list(stream)
    assert [(row.status, row.tokens_out) for row in rows()] == [("failed", None)]


def test_the_helper_around_a_stream(provider, client, rows):
    provider.replies = [Reply(events=streamed())]
    with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
        assert stream.footprint is None
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert "content.delta" in kinds
    assert answer.footprint.it_energy.value > 0
    assert stream.footprint == answer.footprint
    assert len(rows()) == 1


def test_the_helper_broken_off(provider, client, rows):
    provider.replies = [Reply(events=[chat_chunk("be")] * 50 + [DONE])]
    with client.chat.completions.stream(**ASK) as stream:
        next(stream)
    assert [row.status for row in rows()] == ["cancelled"], "while the helper is still held"
    assert stream.footprint is not None


def test_the_asynchronous_helper(provider, run, rows):
    async def work(client):
        async with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
            return await stream.get_final_completion()

    provider.replies = [Reply(events=streamed())]
    assert run(work).footprint.it_energy.value > 0
    assert len(rows()) == 1


def test_parsed_answers(provider, client, rows):
    from pydantic import BaseModel

    class Why(BaseModel):
        reason: str

    body = chat()
    body["choices"][0]["message"]["content"] = '{"reason": "light"}'
    provider.replies = [Reply(body)]
    answer = client.chat.completions.parse(**ASK, response_format=Why)
    assert answer.choices[0].message.parsed.reason == "light"
    assert answer.footprint.it_energy.value > 0
    assert len(rows()) == 1


def test_an_answer_cut_at_its_length_is_raised_by_the_client_and_still_counted(provider, client, rows):
    from pydantic import BaseModel

    class Why(BaseModel):
        reason: str

    provider.replies = [Reply(chat(finish="length"))]
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**ASK, response_format=Why)
    (row,) = rows()
    assert (row.status, row.tokens_out) == ("failed", 300)
    assert row.footprint.it_energy.value > 0


def test_raw_responses_are_booked_whether_parsed_or_not(provider, client, rows):
    provider.replies = [Reply(chat()), Reply(chat())]
    raw = client.chat.completions.with_raw_response.create(**ASK)
    assert raw.footprint.it_energy.value > 0
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().footprint == raw.footprint
    client.chat.completions.with_raw_response.create(**ASK)
    assert [row.tokens_out for row in rows()] == [300, 300]


def test_a_raw_response_with_a_stream_in_it(provider, client, rows):
    provider.replies = [Reply(events=streamed())]
    stream = client.chat.completions.with_raw_response.create(
        **ASK, stream=True, stream_options={"include_usage": True}
    ).parse()
    gc.collect()
    assert len(list(stream)) == 3
    assert stream.footprint.it_energy.value > 0
    assert [row.status for row in rows()] == ["ok"]


@pytest.mark.parametrize("read", ["parse", "json", "nothing"])
def test_a_response_that_is_read_later(provider, client, rows, read):
    provider.replies = [Reply(chat())]
    with client.chat.completions.with_streaming_response.create(**ASK) as raw:
        if read != "nothing":
            assert getattr(raw, read)()
    (row,) = rows()
    if read == "nothing":
        assert (row.status, row.tokens_out) == ("cancelled", None)
    else:
        assert (row.status, row.tokens_out) == ("ok", 300)


@pytest.mark.parametrize("read", ["parse", "nothing"])
def test_an_asynchronous_response_that_is_read_later(provider, run, rows, read):
    async def work(client):
        async with client.chat.completions.with_streaming_response.create(**ASK) as raw:
            if read == "parse":
                answer = await raw.parse()
                assert answer.footprint.it_energy.value > 0

    provider.replies = [Reply(chat())]
    run(work)
    assert [row.status for row in rows()] == ["ok" if read == "parse" else "cancelled"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "BadRequestError"), (401, "AuthenticationError"), (429, "RateLimitError")],
)
def test_refusals_pass_unchanged_and_are_not_booked(provider, client, rows, status, kind):
    provider.replies = [Reply({"error": {"message": "no", "code": "x"}}, status=status)]
    with pytest.raises(getattr(openai, kind)) as caught:
        client.chat.completions.create(**ASK)
    assert caught.value.status_code == status
    assert type(caught.value).__name__ == kind
    assert any(
        frame.name == "_make_status_error_from_response" or "openai" in str(frame.path)
        for frame in caught.traceback
    )
    assert rows() == []


def test_a_server_that_fails_may_have_worked_so_its_row_has_no_figures(provider, client, rows):
    provider.replies = [Reply({"error": {"message": "oops"}}, status=500)]
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**ASK)
    (row,) = rows()
    assert (row.status, row.tokens_in, row.footprint.it_energy) == ("failed", None, None)


def test_a_server_that_is_not_there_computed_nothing(followed, rows):
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0)
    with client, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ASK)
    assert rows() == []


def test_a_retried_request_is_one_request(provider, followed, rows):
    provider.replies = [Reply({"error": {"message": "busy"}}, status=503), Reply(chat())]
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=1) as client:
        client.chat.completions.create(**ASK)
    assert len(provider.requests) == 2
    assert [row.status for row in rows()] == ["ok"]


def test_an_unknown_model_has_a_footprint_without_figures_and_a_reason(provider, client, rows):
    provider.replies = [Reply(chat(model="my-secret-model"))]
    answer = client.chat.completions.create(model="my-secret-model", messages=ASK["messages"])
    assert answer.footprint.it_energy is None
    assert "no size is known for the model 'my-secret-model'" in answer.footprint.notes[0]
    (row,) = rows()
    assert (row.tokens_in, row.tokens_out) == (1200, 300)


def test_the_model_that_was_asked_for_stands_in_for_an_unknown_deployment(provider, client):
    provider.replies = [Reply(chat(model="deployment-7"))]
    assert client.chat.completions.create(**ASK).footprint.it_energy.value > 0


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": "many", "completion_tokens": 3},
        {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens": 0, "completion_tokens": 0},
    ],
)
def test_a_server_that_lies_about_usage_costs_no_exception(provider, client, rows, usage):
    provider.replies = [Reply(chat(usage))]
    answer = client.chat.completions.create(**ASK)
    assert answer.footprint.it_energy is None
    assert answer.footprint.notes
    assert len(rows()) == 1


def test_the_responses_api(provider, client, rows):
    provider.replies = [Reply(response(RESPONSE_USAGE))]
    answer = client.responses.create(model="gpt-4o", input="why?")
    assert answer.output_text == "because"
    assert answer.footprint.it_energy.value > 0
    (row,) = rows()
    assert (row.tokens_in, row.tokens_cached, row.tokens_out) == (40, 8, 25)


def response_events(last: str = "completed") -> list[str]:
    events = [
        {"type": "response.created", "sequence_number": 0, "response": response(None, "in_progress")},
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": "because",
            "logprobs": [],
        },
        {"type": f"response.{last}", "sequence_number": 2, "response": response(RESPONSE_USAGE, last)},
    ]
    return [f"event: {event['type']}\n{data(event)}" for event in events]


@pytest.mark.parametrize("last", ["completed", "incomplete"])
def test_a_stream_of_the_responses_api(provider, client, rows, last):
    provider.replies = [Reply(events=response_events(last))]
    stream = client.responses.create(model="gpt-4o", input="why?", stream=True)
    assert [event.type for event in stream][-1] == f"response.{last}"
    assert stream.footprint.it_energy.value > 0
    assert rows()[0].tokens_out == 25


def test_completions_and_embeddings(provider, client, rows):
    text = {"index": 0, "text": "because", "finish_reason": "stop", "logprobs": None}
    provider.replies = [
        Reply(chat(object="text_completion", choices=[text])),
        Reply(
            {
                "object": "list",
                "model": "text-embedding-3-small",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
                "usage": {"prompt_tokens": 9, "total_tokens": 9},
            }
        ),
    ]
    assert client.completions.create(model="gpt-4o", prompt="why?").footprint.it_energy.value > 0
    vectors = client.embeddings.create(model="text-embedding-3-small", input="why?", encoding_format="float")
    assert vectors.data[0].embedding == [0.5]
    assert vectors.footprint.notes
    assert [(row.tokens_in, row.tokens_out) for row in rows()] == [(1200, 300), (9, 0)]


def test_other_calls_are_left_alone(provider, client, rows):
    provider.replies = [Reply({"id": "modr-1", "model": "omni-moderation-latest", "results": []})]
    client.moderations.create(input="why?")
    assert rows() == []


def test_azure_is_followed_too(provider, followed, rows):
    provider.replies = [Reply(chat())]
    with openai.AzureOpenAI(
        azure_endpoint=provider.url, api_key="none", api_version="2024-10-21", max_retries=0
    ) as client:
        assert client.chat.completions.create(**ASK).footprint.it_energy.value > 0
    assert "/deployments/gpt-4o/" in provider.requests[0][0]
    assert len(rows()) == 1


def test_a_hundred_threads_lose_nothing(provider, client, rows):
    provider.replies = [Reply(chat())] * 100
    threads = [threading.Thread(target=client.chat.completions.create, kwargs=ASK) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row.id for row in rows()}) == 100


class TestAskingForUsage:
    """``ask_for_usage``: counts where the server would tell none, and no chunk more than was asked for."""

    @pytest.fixture
    def asking(self, provider):
        from negajoule.instrument.clients import instrument_clients

        with instrument_clients(ask_for_usage=True) as handle:
            with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
                yield client
            assert handle.gaps == 0

    def test_the_extra_chunk_is_counted_and_hidden(self, provider: Provider, asking):
        provider.replies = [Reply(events=streamed())]
        stream = asking.chat.completions.create(**ASK, stream=True)
        assert all(chunk.choices for chunk in stream)
        assert stream.footprint.it_energy.value > 0
        assert provider.requests[0][1]["stream_options"] == {"include_usage": True}

    def test_who_asked_for_it_gets_it(self, provider: Provider, asking):
        provider.replies = [Reply(events=streamed())]
        options = {"include_usage": True, "include_obfuscation": False}
        stream = asking.chat.completions.create(**ASK, stream=True, stream_options=options)
        assert [bool(chunk.choices) for chunk in stream] == [True, True, False]
        assert provider.requests[0][1]["stream_options"] == options

    def test_whole_answers_are_asked_for_as_before(self, provider: Provider, asking):
        provider.replies = [Reply(chat())]
        asking.chat.completions.create(**ASK)
        assert "stream_options" not in provider.requests[0][1]
