"""The Responses API over chat completions: requests, responses, the events' order, the client's own types."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from negajoule.errors import EngineError, RequestError
from negajoule.gateway.adapters import named_event, responses

from .conversations import (
    as_bytes,
    at_most,
    calls_with,
    conversations,
    counts,
    damaged,
    few,
    folded,
    ids,
    json_objects,
    json_values,
    meaning,
    pieces,
    texts,
)

EVENT = TypeAdapter(ResponseStreamEvent)
TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
REQUEST = {
    "model": "m",
    "instructions": "Be brief.",
    "stream": True,
    "max_output_tokens": 9,
    "temperature": 0.5,
    "reasoning": {"effort": "low"},
    "text": {
        "format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}},
        "verbosity": "low",
    },
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "weather"},
    "store": False,
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
            ],
        },
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg",
            "status": "completed",
            "content": [{"type": "output_text", "text": "I'll look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
    ],
}


def test_a_request_is_what_chat_completions_document():
    got = responses.openai_request(REQUEST)
    assert got.lost == ()
    call = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert got.body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}},
        },
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": True,
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"},
                    },
                    {
                        "type": "file",
                        "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": "I'll look.",
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c1", **call}, {"id": "c2", **call}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "sun"}]},
        ],
    }


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "narrator", "content": "x"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": None, "instructions": None}, "input"),
        ({"input": [], "instructions": None}, "input"),
    ],
)
def test_what_needs_a_server_with_a_memory_is_refused_by_name(changes, param):
    with pytest.raises(RequestError) as caught:
        responses.openai_request({**REQUEST, **changes})
    assert (caught.value.code, caught.value.param) == ("R102", param)


def test_a_refused_earlier_response_comes_with_the_next_step():
    with pytest.raises(RequestError, match="whole conversation"):
        responses.openai_request({**REQUEST, "previous_response_id": "resp_1"})


def test_what_has_no_word_is_named():
    changes = {
        "truncation": "auto",
        "include": ["reasoning.encrypted_content"],
        "store": True,
        "max_tool_calls": 2,
    }
    assert set(responses.openai_request({**REQUEST, **changes}).lost) == set(changes)


def as_items(messages: list[dict]) -> list[dict]:
    """A chat conversation as a client of the Responses API sends it."""
    items: list[dict] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "tool":
            items.append(
                {"type": "function_call_output", "call_id": message["tool_call_id"], "output": content}
            )
            continue
        if role == "assistant":
            if content is not None:
                text = {"type": "output_text", "text": content, "annotations": []}
                items.append({"type": "message", "role": role, "content": [text]})
            items += [
                {"type": "function_call", "call_id": call["id"], **call["function"]}
                for call in message.get("tool_calls", ())
            ]
        elif isinstance(content, str):
            items.append({"role": role, "content": content})
        else:
            parts = [{"type": "input_text", "text": part["text"]} for part in content]
            items.append({"role": role, "content": parts})
    return items


@few
@given(conversations())
def test_a_conversation_keeps_roles_texts_calls_and_ids(messages):
    got = responses.openai_request({"model": "m", "input": as_items(messages)})
    merged: list[dict] = []
    for message in messages:  # an assistant's messages in a row are one turn, as items can't tell them apart
        last = merged[-1] if merged else {}
        if message["role"] == last.get("role") == "assistant" and "tool_calls" not in last:
            content = "".join(text for text in (last["content"], message["content"]) if text)
            merged[-1] = {**message, "content": content}
        else:
            merged.append(message)
    assert meaning(got.body["messages"]) == meaning(merged)


def test_a_text_alone_is_a_users_message():
    got = responses.openai_request({"model": "m", "input": "hi"}).body
    assert got == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@given(damaged(REQUEST) | json_objects)
def test_any_damage_to_a_request_is_translated_or_refused_but_never_a_crash(body):
    with at_most("R102"):
        responses.openai_request(body)


@st.composite
def chats(draw) -> dict:
    """Plain chat answers."""
    call_ids = draw(st.lists(ids, unique=True, max_size=2))
    message = {"role": "assistant", "content": draw(st.none() | texts)}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(texts)
    if draw(st.booleans()):
        message["refusal"] = draw(texts)
    if call_ids:
        message["tool_calls"] = draw(calls_with(call_ids))
    usage = draw(
        st.none()
        | st.builds(
            lambda prompt, completion, cached: {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
            counts,
            counts,
            counts,
        )
    )
    reason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        **({} if usage is None else {"usage": usage}),
    }


@st.composite
def chunked(draw, chat: dict) -> list[dict]:
    """The same chat answer in chunks that are split anywhere."""
    choice = chat["choices"][0]
    message = choice["message"]
    deltas: list[dict] = [{"role": "assistant", "content": None}]
    for field in ("reasoning_content", "content", "refusal"):
        if message.get(field):
            deltas += [{field: piece} for piece in draw(pieces(message[field]))]
    for index, call in enumerate(message.get("tool_calls", ())):
        start = {**call, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [{"index": index, **start}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in draw(pieces(call["function"]["arguments"]))
        ]
    head = {"id": chat["id"], "object": "chat.completion.chunk", "created": 5, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if "usage" in chat:
        if draw(st.booleans()):
            chunks[-1]["usage"] = chat["usage"]
        else:
            chunks.append({**head, "choices": [], "usage": chat["usage"]})
    return chunks


def stream_of(chunks: list[dict]) -> list[dict]:
    client = responses.ClientEvents({**REQUEST, "tools": [TOOL]})
    return [event for chunk in chunks for event in client.feed(chunk)] + client.finish()


@few
@given(st.data(), chats())
def test_every_split_ends_in_the_plain_response(data, chat):
    chunks = data.draw(chunked(chat))
    events = data.draw(as_bytes(stream_of(chunks), named_event))
    plain = responses.client_answer(chat, REQUEST)
    assert events[-1]["type"] == f"response.{plain['status']}"
    assert events[-1]["response"] == plain
    assert responses.client_answer(folded(chunks), REQUEST) == plain


@few
@given(st.data(), chats())
def test_events_follow_the_documented_sequence(data, chat):
    events = stream_of(data.draw(chunked(chat)))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    opened: dict[int, str] = {}
    grown: dict[int, str] = {}
    for event in events[2:-1]:
        kind, place = event["type"], event["output_index"]
        if kind == "response.output_item.added":
            assert place == len(opened)
            opened[place], grown[place] = event["item"]["id"], ""
        elif kind == "response.output_item.done":
            assert event["item"]["id"] == opened[place]
            assert event["item"] == events[-1]["response"]["output"][place]
        else:
            assert event["item_id"] == opened[place]
            grown[place] += event.get("delta", "")
            whole = next((event[name] for name in ("text", "refusal", "arguments") if name in event), None)
            assert whole is None or whole == grown[place]
    assert len(events[-1]["response"]["output"]) == len(opened)


@few
@given(st.data(), chats())
def test_the_official_client_reads_every_event_and_folds_the_stream(data, chat):
    events = stream_of(data.draw(chunked(chat)))
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for event in events:
        known = json.loads(json.dumps(event))
        if known.get("response", {}).get("usage"):
            known["response"]["usage"] = None  # its types want a number where nobody counted
        state.handle_event(EVENT.validate_python(known))
    plain = responses.client_answer(chat, REQUEST)
    Response.model_validate({**plain, "usage": None})


def test_usage_stands_where_it_was_counted_and_nowhere_else():
    chat = {"choices": [{"message": {"content": "x"}}]}
    assert responses.client_answer(chat, REQUEST)["usage"] is None
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert responses.client_answer({**chat, "usage": usage}, REQUEST)["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": None},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 9,
    }


def test_a_response_repeats_what_was_asked_and_says_that_nothing_is_stored():
    got = responses.client_answer(
        {"choices": [{"message": {"content": "x"}}], "footprint": {"j": 1}}, REQUEST
    )
    assert (got["tools"], got["temperature"], got["instructions"]) == ([TOOL], 0.5, "Be brief.")
    assert (got["store"], got["previous_response_id"], got["footprint"]) == (False, None, {"j": 1})


def test_an_answer_that_breaks_off_is_a_failed_response():
    client = responses.ClientEvents(REQUEST)
    client.feed({"id": "1", "choices": [{"delta": {"content": "x"}}]})
    failed = client.fail(EngineError("it broke", code="E103", status=502))[0]
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "it broke [E103]"}
    assert failed["response"]["usage"] is None
    early = responses.ClientEvents(REQUEST).fail(EngineError("it broke", code="E103"))[0]
    assert (early["type"], early["sequence_number"]) == ("error", 0)


@given(json_values)
def test_a_chat_answer_of_any_shape_is_translated_or_e104(value):
    for answer in (value, {"choices": value}, {"choices": [value]}, {"choices": [{"message": value}]}):
        if isinstance(answer, dict):
            with at_most("E104"):
                responses.client_answer(answer, REQUEST)
            with at_most("E104"):
                responses.ClientEvents(REQUEST).feed(answer)
    with pytest.raises(EngineError):
        responses.ClientEvents(REQUEST).finish()
