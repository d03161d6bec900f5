"""Anthropic both ways: what is kept, what is refused, every split of a stream, real clients' types."""

from __future__ import annotations

import json

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from negajoule.errors import EngineError, RequestError
from negajoule.gateway.adapters import anthropic, decode_event, named_event

from .conversations import (
    FRAME,
    as_bytes,
    at_most,
    by_meaning,
    conversations,
    counts,
    damaged,
    few,
    folded,
    ids,
    json_objects,
    json_values,
    meaning,
    names,
    pieces,
    texts,
)

EVENT = TypeAdapter(RawMessageStreamEvent)
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {}}},
}
REQUEST = {
    "model": "claude",
    "max_tokens": 50,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["END"],
    "stream": True,
    "user": "u1",
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": "I'll look.",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"at": "here"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ],
}
CLIENT_REQUEST = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u1"},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "tools": [{"name": "weather", "description": "Now", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    "messages": [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I'll look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"at": "here"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [
                        {"type": "text", "text": "rain"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                        },
                    ],
                },
                {"type": "text", "text": "So?"},
            ],
        },
    ],
}


def test_a_request_is_what_anthropic_documents():
    got = anthropic.upstream_request(REQUEST)
    assert got.lost == ()
    assert got.body == {
        "model": "claude",
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "stream": True,
        "metadata": {"user_id": "u1"},
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [
            {"name": "weather", "description": "Now", "input_schema": {"type": "object", "properties": {}}}
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
                        "title": "a.pdf",
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "I'll look."},
                    {"type": "tool_use", "id": "c1", "name": "weather", "input": {"at": "here"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}]},
        ],
    }


def ask(**changes):
    return {"model": "claude", "messages": [{"role": "user", "content": "hi"}], **changes}


def test_max_tokens_is_never_left_out():
    assert anthropic.upstream_request(ask()).body["max_tokens"] == anthropic.DEFAULT_MAX_TOKENS
    assert anthropic.upstream_request(ask(), default_max_tokens=9).body["max_tokens"] == 9
    assert anthropic.upstream_request(ask(max_completion_tokens=3, max_tokens=8)).body["max_tokens"] == 3


def test_what_has_no_word_is_named_and_what_changes_nothing_is_not():
    got = anthropic.upstream_request(
        ask(
            seed=1,
            logit_bias={"1": 2},
            n=1,
            frequency_penalty=0,
            presence_penalty=0.5,
            temperature=1.7,
            stop="\n",
        )
    )
    assert got.lost == ("seed", "logit_bias", "presence_penalty", "temperature", "stop")
    assert got.body["temperature"] == 1
    assert "stop_sequences" not in got.body


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ],
)
def test_what_anthropic_cant_do_is_refused_by_name(changes, param):
    with pytest.raises(RequestError) as caught:
        anthropic.upstream_request(ask(**changes))
    assert (caught.value.code, caught.value.param) == ("R102", param)


def test_anthropics_own_fields_and_tools_pass_as_they_are():
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    got = anthropic.upstream_request(ask(thinking={"type": "adaptive"}, top_k=5, tools=[search]))
    assert got.lost == ()
    assert (got.body["thinking"], got.body["top_k"], got.body["tools"]) == ({"type": "adaptive"}, 5, [search])


@pytest.mark.parametrize(
    ("changes", "choice"),
    [
        ({}, {"type": "tool", "name": anthropic.JSON_TOOL}),
        ({"tools": [TOOL]}, {"type": "any"}),
        ({"tools": [TOOL], "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"type": "tool", "name": anthropic.JSON_TOOL}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"type": "tool", "name": "weather"},
        ),
    ],
)
def test_json_mode_is_a_tool_whose_input_is_the_answer(changes, choice):
    asked = anthropic.upstream_request(ask(response_format={"type": "json_object"}, **changes)).body
    assert asked["tool_choice"] == choice
    answer = anthropic.openai_answer(
        {
            "content": [{"type": "tool_use", "id": "t", "name": anthropic.JSON_TOOL, "input": {"a": 1}}],
            "stop_reason": "tool_use",
        },
        FRAME,
    )
    choice_given = answer["choices"][0]
    assert choice_given["finish_reason"] == "stop"
    assert json.loads(choice_given["message"]["content"]) == {"a": 1}
    assert "tool_calls" not in choice_given["message"]


def test_arguments_that_arent_json_dont_stop_a_conversation():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    got = anthropic.upstream_request(ask(messages=messages)).body["messages"]
    assert got[0]["content"][0]["input"] == {"unparsed_arguments": '{"a": '}


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=4, unique=True))
def test_ids_that_anthropic_refuses_are_rewritten_the_same_way_every_time(call_ids):
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in call_ids]
    messages = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": id, "content": "x"} for id in call_ids),
    ]
    called, answered = anthropic.upstream_request(ask(messages=messages)).body["messages"]
    written = [block["id"] for block in called["content"]]
    assert written == [block["tool_use_id"] for block in answered["content"]]
    assert len(set(written)) == len(call_ids)
    assert all(
        set(id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") for id in written
    )


@few
@given(conversations())
def test_a_conversation_survives_the_way_there_and_back(messages):
    there = anthropic.upstream_request(ask(messages=messages, tools=[TOOL]))
    back = anthropic.openai_request(there.body)
    assert meaning(back.body["messages"]) == meaning(messages)
    assert back.body["tools"] == [TOOL]
    assert there.lost == back.lost == ()


def test_a_clients_request_is_what_openai_documents():
    got = anthropic.openai_request(CLIENT_REQUEST)
    assert got.lost == ("thinking.budget_tokens",)
    assert got.body == {
        "model": "m",
        "max_completion_tokens": 9,
        "stop": ["END"],
        "user": "u1",
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "Now", "parameters": {"type": "object"}},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "messages": [
            {
                "role": "system",
                "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
            },
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": "I'll look.",
                "reasoning_content": "hm",
                "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
                "tool_calls": [
                    {
                        "id": "t1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"at":"here"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "rain"}]},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_a_clients_request_that_cant_be_met_is_refused_by_name(changes, param):
    with pytest.raises(RequestError) as caught:
        anthropic.openai_request({**CLIENT_REQUEST, **changes})
    assert (caught.value.code, caught.value.param) == ("R102", param)


@given(st.sampled_from([REQUEST, CLIENT_REQUEST]).flatmap(damaged) | json_objects)
def test_any_damage_to_a_request_is_translated_or_refused_but_never_a_crash(body):
    for translate in (anthropic.upstream_request, anthropic.openai_request):
        with at_most("R102"):
            translate(body)


@st.composite
def answers(draw) -> dict:
    """Anthropic's plain answers."""
    blocks = draw(
        st.lists(
            st.one_of(
                st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=30)),
                st.builds(
                    lambda text, mark: {"type": "thinking", "thinking": text, "signature": mark}, texts, texts
                ),
                st.builds(lambda data: {"type": "redacted_thinking", "data": data}, texts),
                st.builds(
                    lambda id, name, given: {"type": "tool_use", "id": id, "name": name, "input": given},
                    ids,
                    names,
                    json_objects,
                ),
                st.just({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}}),
            ),
            max_size=5,
        )
    )
    reasons = ["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "pause_turn", "new_reason"]
    reason = draw(st.sampled_from(reasons))
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": "END" if reason == "stop_sequence" else None,
        "usage": {
            "input_tokens": draw(counts),
            "cache_read_input_tokens": draw(counts),
            "cache_creation_input_tokens": draw(counts),
            "output_tokens": draw(counts),
        },
    }
    if reason == "refusal":
        answer["stop_details"] = {"type": "refusal", "category": None, "explanation": draw(st.none() | texts)}
    return answer


@st.composite
def streamed(draw, answer: dict) -> list[dict]:
    """The same answer as events, its texts cut anywhere, with pings and news among them."""
    beginning = {name: answer[name] for name in ("id", "type", "role", "model")}
    usage = answer["usage"]
    begun = {**usage, "output_tokens": 1}
    events = [{"type": "message_start", "message": {**beginning, "content": [], "usage": begun}}]
    for index, block in enumerate(answer["content"]):
        kind = block["type"]
        start, deltas = dict(block), []
        if kind == "text":
            start["text"] = ""
            deltas = [{"type": "text_delta", "text": piece} for piece in draw(pieces(block["text"]))]
        elif kind == "thinking":
            start |= {"thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": piece} for piece in draw(pieces(block["thinking"]))
            ]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        elif kind in ("tool_use", "server_tool_use"):
            start["input"] = {}
            whole = json.dumps(block["input"]) if block["input"] or draw(st.booleans()) else ""
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in draw(pieces(whole))]
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ending = {name: answer.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    # Older servers tell the output only at the end, newer ones everything again.
    told = usage if draw(st.booleans()) else {"output_tokens": usage["output_tokens"]}
    events += [{"type": "message_delta", "delta": ending, "usage": told}, {"type": "message_stop"}]
    for place in draw(st.lists(st.integers(0, len(events)), max_size=3)):
        events.insert(
            place, draw(st.sampled_from([{"type": "ping"}, {"type": "news_from_tomorrow", "x": 1}]))
        )
    return draw(as_bytes(events, named_event))


@few
@given(st.data(), answers())
def test_every_split_of_a_stream_folds_to_the_plain_answer(data, answer):
    events = data.draw(streamed(answer))
    stream = anthropic.OpenAIChunks(FRAME)
    chunks = [chunk for event in events for chunk in stream.feed(event)]
    assert stream.ended
    assert stream.finish() == []
    plain = anthropic.openai_answer(answer, FRAME)
    assert by_meaning(folded(chunks)) == by_meaning(plain)
    assert stream.usage.to_openai() == plain.get("usage")


@few
@given(st.data(), answers())
def test_a_stream_cut_anywhere_never_looks_whole(data, answer):
    events = data.draw(streamed(answer))
    stop = next(place for place, event in enumerate(events) if event["type"] == "message_stop")
    cut = data.draw(st.integers(0, stop))
    stream = anthropic.OpenAIChunks(FRAME)
    chunks = [chunk for event in events[:cut] for chunk in stream.feed(event)]
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
    with pytest.raises(EngineError) as caught:
        stream.finish()
    assert caught.value.code == "E103"


def test_what_was_counted_before_a_cut_is_known_and_the_rest_is_not():
    stream = anthropic.OpenAIChunks(FRAME)
    counted = {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 1}
    stream.feed({"type": "message_start", "message": {"usage": counted}})
    assert (stream.usage.prompt, stream.usage.cached, stream.usage.completion) == (10, 3, None)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ({}, None),
        ([1], None),
        ({"input_tokens": -1, "output_tokens": "many"}, None),
        (
            {"output_tokens": 5},
            {"prompt_tokens": None, "completion_tokens": 5, "total_tokens": None},
        ),
        (
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 20,
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 4},
            },
            {
                "prompt_tokens": 130,
                "completion_tokens": 5,
                "total_tokens": 135,
                "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
        ),
    ],
)
def test_usage_is_counted_as_openai_counts_and_never_made_up(usage, expected):
    answer = anthropic.openai_answer({"content": [], "usage": usage}, FRAME)
    assert answer.get("usage") == expected
    assert anthropic.client_answer(answer)["usage"]["input_tokens"] == (
        usage.get("input_tokens") if expected and "input_tokens" in usage else None
    )


EVENTS = [
    {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "t", "name": "f"},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]


@few
@given(st.one_of(damaged(EVENTS), st.lists(json_objects, max_size=3)))
def test_damaged_events_are_e104_or_harmless_but_never_a_crash(events):
    stream = anthropic.OpenAIChunks(FRAME)
    with at_most("E103", "E104"):
        for event in events:
            if isinstance(event, dict):
                stream.feed(event)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 0, "delta": {}},
        {"type": "message_start"},
        {"type": "message_start", "message": "x"},
        {"type": "error"},
    ],
)
def test_malformed_events_are_said_to_be(event):
    with pytest.raises(EngineError) as caught:
        anthropic.OpenAIChunks(FRAME).feed(event)
    assert caught.value.code == "E104"


@given(
    damaged(
        {"content": [{"type": "text", "text": "x"}, EVENTS[4]["content_block"]], "stop_reason": "end_turn"}
    )
)
def test_a_damaged_plain_answer_is_e104_or_read(answer):
    with at_most("E103", "E104"):
        anthropic.openai_answer(answer, FRAME)


def test_an_error_in_a_stream_is_raised_with_its_status():
    stream = anthropic.OpenAIChunks(FRAME)
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}}
    with pytest.raises(EngineError, match="too busy") as caught:
        stream.feed(error)
    assert (caught.value.code, caught.value.status) == ("E103", 503)


openai_usages = st.none() | st.builds(
    lambda prompt, completion, cached: {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    },
    counts,
    counts,
    counts,
)


@few
@given(st.data(), answers())
def test_an_anthropic_client_folds_our_events_to_our_plain_answer(data, original):
    """OpenAI chunks to events to the official client's own accumulator, against the plain translation."""
    stream = anthropic.OpenAIChunks(FRAME)
    chunks = [chunk for event in data.draw(streamed(original)) for chunk in stream.feed(event)]
    client = anthropic.ClientEvents()
    events = [event for chunk in chunks for event in client.feed(chunk)] + client.finish()
    snapshot, buffers = None, {}
    for event in data.draw(as_bytes(events, named_event)):
        typed = EVENT.validate_python(_typed(event))
        snapshot = accumulate_event(event=typed, current_snapshot=snapshot, json_bufs=buffers)
    plain = anthropic.client_answer(folded(chunks))
    assert _comparable(snapshot.to_dict()) == _comparable(plain)


def _typed(event: dict) -> dict:
    """Counts that nobody told are null, which the client's types don't foresee but its code takes."""
    event = json.loads(json.dumps(event))
    usage = event.get("usage") or event.get("message", {}).get("usage") or {}
    for name in ("input_tokens", "output_tokens"):
        if usage.get(name, 0) is None:
            usage[name] = -1
    return event


def _comparable(message: dict) -> dict:
    """A message but for the order of unlike blocks, which a plain OpenAI answer doesn't keep."""
    message = json.loads(json.dumps(message))
    usage = {name: None if count == -1 else count for name, count in message["usage"].items()}
    blocks = [
        {name: value for name, value in block.items() if value is not None} for block in message["content"]
    ]
    return {
        **{name: message.get(name) for name in ("id", "model", "role", "stop_reason", "stop_sequence")},
        "refused": message.get("stop_details"),
        "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
        "thought": [block for block in blocks if "thinking" in block["type"]],
        "calls": [block for block in blocks if block["type"] == "tool_use"],
        "usage": {name: count for name, count in usage.items() if count is not None},
    }


@few
@given(answers())
def test_an_answer_survives_the_way_there_and_back(original):
    ours = anthropic.openai_answer(original, FRAME)
    theirs = anthropic.client_answer(ours)
    again = anthropic.openai_answer(theirs, FRAME)
    for answer in (ours, again):
        message = answer["choices"][0]["message"]
        message["content"] = message.get("content") or None  # Anthropic takes no empty text
        answer["choices"][0].pop("native_finish_reason", None)
    assert again == ours
    Message.model_validate(_typed(theirs))


def test_a_failure_in_a_stream_is_an_error_event():
    client = anthropic.ClientEvents()
    assert client.fail(EngineError("it broke", code="E103", status=502)) == [
        {"type": "error", "error": {"type": "api_error", "message": "it broke [E103]"}}
    ]


def test_the_footprint_passes_in_plain_and_streamed_answers():
    plain = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "footprint": {"j": 1}}
    assert anthropic.client_answer(plain)["footprint"] == {"j": 1}
    client = anthropic.ClientEvents()
    client.feed({"choices": [], "footprint": {"j": 1}})
    assert client.finish()[0]["footprint"] == {"j": 1}


def test_tool_calls_whose_arguments_come_mixed_are_kept_apart():
    def call(index, **more):
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, **more}]}}]}

    client = anthropic.ClientEvents()
    events = [
        event
        for chunk in (
            call(0, id="a", function={"name": "f", "arguments": '{"x"'}),
            call(1, id="b", function={"name": "g", "arguments": "{}"}),
            call(0, function={"arguments": ":1}"}),
        )
        for event in client.feed(chunk)
    ] + client.finish()
    written = {0: "", 1: ""}
    for event in events:
        if event["type"] == "content_block_delta":
            written[event["index"]] += event["delta"]["partial_json"]
    assert written == {0: '{"x":1}', 1: "{}"}


@given(json_values)
def test_an_openai_answer_of_any_shape_is_translated_or_e104(value):
    for answer in (value, {"choices": value}, {"choices": [value]}, {"choices": [{"message": value}]}):
        if not isinstance(answer, dict):
            continue
        with at_most("E104"):
            anthropic.client_answer(answer)
        with at_most("E104"):
            anthropic.ClientEvents().feed(answer)


def test_an_event_that_isnt_an_object_is_e104():
    for data in (b"[1]", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(EngineError) as caught:
            decode_event(data)
        assert caught.value.code == "E104"
