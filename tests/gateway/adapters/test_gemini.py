"""Gemini both ways: what is kept, what is refused, every split of a stream, the client's own types."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from negajoule.errors import EngineError, RequestError
from negajoule.gateway.adapters import gemini, unnamed_event

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

TARGET = gemini.Target("gemini-3-flash", stream=False)
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {}}},
}
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"at": "here"}'},
    "extra_content": {"google": {"thought_signature": "c2ln"}},
}
REQUEST = {
    "model": "gemini-3-flash",
    "max_tokens": 50,
    "temperature": 1.5,
    "top_p": 0.9,
    "n": 2,
    "seed": 3,
    "stop": "END",
    "tools": [TOOL, {"googleSearch": {}}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png?size=1"}},
                {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
            ],
        },
        {"role": "assistant", "content": "I'll look.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ],
}
CLIENT_REQUEST = {
    "system_instruction": {"parts": [{"text": "Be brief."}]},
    "generationConfig": {
        "maxOutputTokens": 9,
        "topP": 0.5,
        "stopSequences": ["END"],
        "candidateCount": 2,
        "responseMimeType": "application/json",
        "responseSchema": {
            "type": "OBJECT",
            "properties": {
                "a": {"type": "STRING", "nullable": True},
                "b": {"type": "ARRAY", "items": {"type": "INTEGER"}},
            },
            "propertyOrdering": ["a", "b"],
        },
        "thinkingConfig": {"thinkingBudget": 0},
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
    "tools": [
        {"functionDeclarations": [{"name": "weather", "parameters": {"type": "OBJECT"}}, {"name": "other"}]}
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
    "contents": [
        {"parts": [{"text": "hi"}, {"inline_data": {"mime_type": "image/png", "data": "AA-_"}}]},
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {"text": "I'll look."},
                {"functionCall": {"name": "weather", "args": {"at": "here"}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "weather", "args": {"at": "there"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"output": "rain"}}},
                {"functionResponse": {"name": "weather", "response": {"sky": "blue"}}},
            ],
        },
    ],
}


def test_a_request_is_what_google_documents():
    got = gemini.upstream_request(REQUEST)
    assert got.lost == ()
    assert got.body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {
            "maxOutputTokens": 50,
            "temperature": 1.5,
            "topP": 0.9,
            "candidateCount": 2,
            "seed": 3,
            "stopSequences": ["END"],
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"thinkingLevel": "LOW"},
        },
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "Now",
                        "parametersJsonSchema": {"type": "object", "properties": {}},
                    }
                ]
            },
            {"googleSearch": {}},
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "What is it?"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                    {"fileData": {"fileUri": "https://example.org/a.png?size=1", "mimeType": "image/png"}},
                    {"inlineData": {"mimeType": "audio/wav", "data": "CCCC"}},
                    {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "I'll look."},
                    {
                        "functionCall": {"id": "c1", "name": "weather", "args": {"at": "here"}},
                        "thoughtSignature": "c2ln",
                    },
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "rain"}}}
                ],
            },
        ],
    }
    for content in got.body["contents"]:
        types.Content.model_validate(content)
    types.GenerationConfig.model_validate(got.body["generationConfig"])
    for tool in got.body["tools"]:
        types.Tool.model_validate(tool)


def ask(**changes):
    return {"model": "gemini-3-flash", "messages": [{"role": "user", "content": "hi"}], **changes}


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024}),
        ("gemini-2.5-pro", "medium", {"thinkingBudget": 8192}),
        ("models/gemini-2.5-pro", "high", {"thinkingBudget": 24576}),
        ("gemini-3-pro", "high", {"thinkingLevel": "HIGH"}),
    ],
)
def test_efforts_follow_googles_table(model, effort, config):
    got = gemini.upstream_request(ask(model=model, reasoning_effort=effort))
    assert got.body["generationConfig"] == {"thinkingConfig": config}


def test_a_call_that_another_model_made_says_so_to_gemini_3_only():
    unsigned = {name: value for name, value in CALL.items() if name != "extra_content"}
    messages = [{"role": "assistant", "content": None, "tool_calls": [unsigned, {**unsigned, "id": "c2"}]}]
    first, second = gemini.upstream_request(ask(messages=messages)).body["contents"][0]["parts"]
    assert first["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in second
    old = gemini.upstream_request(ask(model="gemini-2.5-pro", messages=messages)).body["contents"][0]["parts"]
    assert all("thoughtSignature" not in part for part in old)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 9}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_what_gemini_cant_do_is_refused_by_name(changes, param):
    with pytest.raises(RequestError) as caught:
        gemini.upstream_request(ask(**changes))
    assert (caught.value.code, caught.value.param) == ("R102", param)


def test_what_has_no_word_is_named():
    got = gemini.upstream_request(ask(logit_bias={"1": 2}, user="u", parallel_tool_calls=False, n=1))
    assert got.lost == ("logit_bias", "user", "parallel_tool_calls")


@few
@given(conversations(), st.sampled_from(["gemini-2.5-pro", "gemini-3-flash"]))
def test_a_conversation_survives_the_way_there_and_back(messages, model):
    there = gemini.upstream_request(ask(model=model, messages=messages, tools=[TOOL]))
    back = gemini.openai_request(there.body, gemini.Target(model, stream=False))
    assert meaning(back.body["messages"]) == meaning(messages)
    assert back.body["tools"] == [TOOL]
    assert there.lost == back.lost == ()
    assert "extra_content" not in json.dumps(back.body)


def test_a_clients_request_is_what_openai_documents():
    got = gemini.openai_request(CLIENT_REQUEST, gemini.Target("m", stream=True))
    assert got.lost == ()
    assert got.body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 9,
        "top_p": 0.5,
        "stop": ["END"],
        "n": 2,
        "reasoning_effort": "none",
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": {
                    "type": "object",
                    "properties": {
                        "a": {"type": ["string", "null"]},
                        "b": {"type": "array", "items": {"type": "integer"}},
                    },
                },
            },
        },
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA+/"}},
                ],
            },
            {
                "role": "assistant",
                "content": "I'll look.",
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "call_0",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"at":"here"}'},
                        "extra_content": {"google": {"thought_signature": "c2ln"}},
                    },
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"at":"there"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"sky":"blue"}'},
        ],
    }


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"contents": []}, "contents"),
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "generationConfig.responseModalities"),
        ({"contents": [{"role": "system", "parts": []}]}, "contents[0].role"),
        (
            {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
            "contents[0].parts[0].functionResponse",
        ),
    ],
)
def test_a_clients_request_that_cant_be_met_is_refused_by_name(changes, param):
    with pytest.raises(RequestError) as caught:
        gemini.openai_request({**CLIENT_REQUEST, **changes}, TARGET)
    assert (caught.value.code, caught.value.param) == ("R102", param)


def test_what_a_clients_request_loses_is_named():
    body = {
        **CLIENT_REQUEST,
        "cachedContent": "x",
        "generationConfig": {"speechConfig": {}, "thinkingConfig": {"thinkingBudget": 99}},
    }
    assert gemini.openai_request(body, TARGET).lost == (
        "cachedContent",
        "generationConfig.speechConfig",
        "generationConfig.thinkingConfig.thinkingBudget",
    )


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("gemini-x:generateContent", ("gemini-x", False)),
        ("models/tuned/a:streamGenerateContent", ("tuned/a", True)),
    ],
)
def test_the_path_tells_model_and_stream(path, target):
    assert gemini.target_of(path) == target


@pytest.mark.parametrize("path", ["", "m", ":generateContent", "m:countTokens"])
def test_other_methods_dont_exist(path):
    with pytest.raises(RequestError) as caught:
        gemini.target_of(path)
    assert (caught.value.code, caught.value.status) == ("R106", 404)


@given(st.sampled_from([REQUEST, CLIENT_REQUEST]).flatmap(damaged) | json_objects)
def test_any_damage_to_a_request_is_translated_or_refused_but_never_a_crash(body):
    with at_most("R102"):
        gemini.upstream_request(body)
    with at_most("R102"):
        gemini.openai_request(body, TARGET)


REASONS = ["STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "MALFORMED_FUNCTION_CALL", "NEW_REASON"]


@st.composite
def parts(draw) -> list[dict]:
    """What one candidate may hold, texts that follow each other being of different kinds."""
    made = draw(
        st.lists(
            st.one_of(
                st.builds(lambda text: {"text": text}, texts),
                st.builds(lambda text: {"text": text, "thought": True}, texts),
                st.builds(
                    lambda id, name, given, mark: {
                        "functionCall": {"name": name, "args": given, **({"id": id} if id else {})},
                        **({"thoughtSignature": mark} if mark else {}),
                    },
                    st.none() | ids,
                    names,
                    json_objects,
                    st.none() | st.binary(min_size=1, max_size=9).map(lambda mark: b64encode(mark).decode()),
                ),
                st.just({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
                st.just({"executableCode": {"code": "1+1"}}),
            ),
            max_size=5,
        )
    )
    return made


@st.composite
def answers(draw) -> dict:
    """Gemini's plain answers."""
    candidates = [
        {
            "index": index,
            "content": {"role": "model", "parts": draw(parts())},
            "finishReason": draw(st.sampled_from(REASONS)),
        }
        for index in range(draw(st.integers(1, 2)))
    ]
    usage = draw(
        st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                name: st.integers(0, 10**6)
                for name in (
                    "promptTokenCount",
                    "candidatesTokenCount",
                    "thoughtsTokenCount",
                    "cachedContentTokenCount",
                    "totalTokenCount",
                    "toolUsePromptTokenCount",
                )
            },
        )
    )
    answer = {"candidates": candidates, "modelVersion": "gemini-x", "responseId": "r1"}
    return answer if usage is None else {**answer, "usageMetadata": usage}


@st.composite
def streamed(draw, answer: dict) -> list[dict]:
    """The same answer in pieces, candidates mixed, usage in the last ones or in all."""
    head = {name: answer[name] for name in ("modelVersion", "responseId")}
    rows: list[list[dict]] = []
    for candidate in answer["candidates"]:
        row = []
        for part in candidate["content"]["parts"]:
            cut = (
                [{**part, "text": piece} for piece in draw(pieces(part["text"]))]
                if "text" in part
                else [part]
            )
            row += [
                {"index": candidate["index"], "content": {"role": "model", "parts": [piece]}} for piece in cut
            ]
        row.append({"index": candidate["index"], "finishReason": candidate["finishReason"]})
        rows.append(row)
    events = []
    while any(rows):
        row = draw(st.sampled_from([row for row in rows if row]))
        events.append({"candidates": [row.pop(0)], **head})
    if "usageMetadata" in answer:
        early = {**answer["usageMetadata"], "candidatesTokenCount": 0}
        if draw(st.booleans()):
            events = [{**event, "usageMetadata": early} for event in events]
        if draw(st.booleans()):
            events[-1]["usageMetadata"] = answer["usageMetadata"]
        else:
            events.append({**head, "usageMetadata": answer["usageMetadata"]})
    return draw(as_bytes(events, unnamed_event))


def by_index(answer: dict) -> dict:
    return {**answer, "choices": sorted(answer["choices"], key=lambda choice: choice["index"])}


@few
@given(st.data(), answers())
def test_every_split_of_a_stream_folds_to_the_plain_answer(data, answer):
    stream = gemini.OpenAIChunks(FRAME)
    chunks = [chunk for event in data.draw(streamed(answer)) for chunk in stream.feed(event)]
    assert stream.ended
    chunks += stream.finish()
    plain = gemini.openai_answer(answer, FRAME)
    assert by_meaning(folded(chunks)) == by_meaning(plain)
    assert stream.usage.to_openai() == plain.get("usage")


@few
@given(st.data(), answers())
def test_a_stream_cut_anywhere_never_looks_whole(data, answer):
    events = data.draw(streamed(answer))
    last = max(
        place
        for place, event in enumerate(events)
        if any("finishReason" in candidate for candidate in event.get("candidates", ()))
    )
    missing = {candidate["index"] for candidate in answer["candidates"]}
    stream = gemini.OpenAIChunks(FRAME)
    for event in events[: data.draw(st.integers(0, last))]:
        stream.feed(event)
        missing -= {c["index"] for c in event.get("candidates", ()) if "finishReason" in c}
    assert missing
    if len(answer["candidates"]) == 1:
        with pytest.raises(EngineError) as caught:
            stream.finish()
        assert caught.value.code == "E103"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, None),
        ({}, None),
        ([1], None),
        ({"promptTokenCount": -1, "candidatesTokenCount": "x"}, None),
        ({"promptTokenCount": 4}, {"prompt_tokens": 4, "completion_tokens": None, "total_tokens": None}),
        # All of the cap went into thoughts: Google leaves the zero of the candidates out.
        (
            {"promptTokenCount": 4, "thoughtsTokenCount": 96, "totalTokenCount": 100},
            {
                "prompt_tokens": 4,
                "completion_tokens": 96,
                "total_tokens": 100,
                "completion_tokens_details": {"reasoning_tokens": 96},
            },
        ),
        (
            {
                "promptTokenCount": 40,
                "cachedContentTokenCount": 30,
                "toolUsePromptTokenCount": 5,
                "candidatesTokenCount": 7,
                "thoughtsTokenCount": 3,
                "totalTokenCount": 55,
            },
            {
                "prompt_tokens": 45,
                "completion_tokens": 10,
                "total_tokens": 55,
                "prompt_tokens_details": {"cached_tokens": 30},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        ),
    ],
)
def test_usage_is_counted_as_openai_counts_and_never_made_up(metadata, expected):
    answer = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": metadata}
    got = gemini.openai_answer(answer, FRAME)
    assert got.get("usage") == expected
    again = gemini.client_answer(got)
    assert ("usageMetadata" in again) == (expected is not None)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", {"finish_reason": "stop"}),
        ("MAX_TOKENS", {"finish_reason": "length"}),
        ("SAFETY", {"finish_reason": "content_filter", "native_finish_reason": "SAFETY"}),
        (
            "MALFORMED_FUNCTION_CALL",
            {"finish_reason": "error", "native_finish_reason": "MALFORMED_FUNCTION_CALL"},
        ),
        (None, {"finish_reason": None}),
    ],
)
def test_reasons_to_finish_are_openais_and_googles_own_stays_readable(reason, finish):
    candidate = {} if reason is None else {"finishReason": reason}
    choice = gemini.openai_answer({"candidates": [candidate]}, FRAME)["choices"][0]
    assert {name: choice.get(name) for name in finish} == finish
    assert ("native_finish_reason" in choice) == ("native_finish_reason" in finish)
    back = gemini.client_answer({"choices": [choice]})["candidates"][0]
    assert back.get("finishReason") == reason


def test_a_blocked_prompt_is_a_refusal_plain_and_streamed():
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    plain = gemini.openai_answer(blocked, FRAME)
    assert plain["choices"][0]["finish_reason"] == "content_filter"
    assert "SAFETY" in plain["choices"][0]["message"]["refusal"]
    stream = gemini.OpenAIChunks(FRAME)
    assert folded(stream.feed(blocked) + stream.finish()) == plain


def test_an_error_in_a_stream_is_raised_with_its_status():
    error = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}
    for read in (gemini.OpenAIChunks(FRAME).feed, lambda answer: gemini.openai_answer(answer, FRAME)):
        with pytest.raises(EngineError, match="quota") as caught:
            read(error)
        assert (caught.value.code, caught.value.status) == ("E103", 429)


ANSWER = {
    "candidates": [
        {
            "index": 0,
            "content": {
                "parts": [
                    {"text": "x", "thought": True},
                    {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "s"},
                    {"inlineData": {"mimeType": "image/png", "data": "A"}},
                ]
            },
            "finishReason": "STOP",
        }
    ],
    "promptFeedback": {"blockReason": "OTHER"},
    "usageMetadata": {"promptTokenCount": 1},
}


@given(damaged(ANSWER) | json_objects)
def test_a_damaged_answer_is_e104_or_read_but_never_a_crash(answer):
    stream = gemini.OpenAIChunks(FRAME)
    for read in (
        lambda: gemini.openai_answer(answer, FRAME),
        lambda: stream.feed(answer) and stream.finish(),
    ):
        with at_most("E103", "E104"):
            read()


@pytest.mark.parametrize(
    "answer", [{}, {"candidates": "x"}, {"candidates": [{"content": {"parts": [{"text": 1}]}}]}]
)
def test_malformed_answers_are_said_to_be(answer):
    with pytest.raises(EngineError) as caught:
        gemini.openai_answer(answer, FRAME)
    assert caught.value.code == "E104"


def kept(response: dict) -> dict:
    """A response folded: texts joined by kind, calls in order, per candidate."""
    candidates: dict[int, dict] = {}
    for candidate in response["candidates"]:
        into = candidates.setdefault(
            candidate["index"], {"text": "", "thought": "", "calls": [], "end": None}
        )
        for part in candidate["content"]["parts"]:
            if "text" in part:
                into["thought" if part.get("thought") else "text"] += part["text"]
            else:
                into["calls"].append(part)
        ended = (candidate.get("finishReason"), candidate.get("finishMessage"))
        into["end"] = ended if any(ended) else into["end"]
    head = {name: response.get(name) for name in ("modelVersion", "responseId", "usageMetadata", "footprint")}
    return {**head, "candidates": candidates}


@few
@given(st.data(), answers())
def test_a_gemini_client_folds_our_events_to_our_plain_answer(data, original):
    stream = gemini.OpenAIChunks(FRAME)
    chunks = [chunk for event in data.draw(streamed(original)) for chunk in stream.feed(event)]
    chunks += stream.finish()
    client = gemini.ClientEvents()
    events = [event for chunk in chunks for event in client.feed(chunk)] + client.finish()
    whole = {**events[-1], "candidates": [candidate for event in events for candidate in event["candidates"]]}
    plain = gemini.client_answer(folded(chunks))
    assert kept(whole) == kept(plain)
    for response in (plain, *events):
        types.GenerateContentResponse.model_validate(response)


@few
@given(answers())
def test_an_answer_survives_the_way_there_and_back(original):
    ours = gemini.openai_answer(original, FRAME)
    again = gemini.openai_answer(gemini.client_answer(ours), FRAME)
    for answer in (ours, again):
        for choice in answer["choices"]:
            choice["message"].pop("images", None)  # which an OpenAI answer has no agreed place for
            if choice.get("native_finish_reason") not in REASONS[:5]:
                choice.pop("native_finish_reason", None)
    assert by_index(again) == by_index(ours)


def test_a_failure_in_a_stream_begins_as_googles_client_looks_for():
    event = gemini.ClientEvents().fail(EngineError("it broke", code="E103", status=504))[0]
    assert json.dumps(event).startswith('{"error":')
    assert event["error"] == {"code": 504, "message": "it broke [E103]", "status": "DEADLINE_EXCEEDED"}


def test_the_footprint_passes_in_plain_and_streamed_answers():
    plain = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "footprint": {"j": 1}}
    assert gemini.client_answer(plain)["footprint"] == {"j": 1}
    client = gemini.ClientEvents()
    client.feed({"choices": [], "footprint": {"j": 1}})
    assert client.finish()[0]["footprint"] == {"j": 1}


@given(json_values)
def test_an_openai_answer_of_any_shape_is_translated_or_e104(value):
    for answer in (value, {"choices": value}, {"choices": [value]}, {"choices": [{"message": value}]}):
        if not isinstance(answer, dict):
            continue
        with at_most("E104"):
            gemini.client_answer(answer)
        with at_most("E104"):
            gemini.ClientEvents().feed(answer)


@given(st.data(), counts)
def test_counts_of_a_stream_are_the_last_ones(data, completion):
    usage = {"prompt_tokens": 3, "completion_tokens": completion, "total_tokens": None}
    client = gemini.ClientEvents()
    client.feed({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}})
    client.feed({"choices": [], "usage": usage})
    assert client.finish()[0]["usageMetadata"].get("candidatesTokenCount") == completion
