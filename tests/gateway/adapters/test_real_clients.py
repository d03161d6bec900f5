"""The official clients against a server on the adapters, over real connections."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from negajoule.errors import EngineError
from negajoule.gateway.adapters import anthropic as anthropic_adapter
from negajoule.gateway.adapters import decode_event
from negajoule.gateway.adapters import gemini as gemini_adapter
from negajoule.gateway.sse import EventCutter, data_of

from ..conftest import serving
from .conversations import FRAME, by_meaning, folded
from .front import CALLS, Front

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}}
HELLO = "hello there"


@pytest.fixture
def front():
    return Front()


@pytest.fixture
def url(front):
    with serving(front.app()) as url:
        yield url


@pytest.fixture
def claude(url):
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def google(url):
    options = genai_types.HttpOptions(base_url=url)
    with genai.Client(api_key="none", vertexai=False, http_options=options) as client:
        yield client


@pytest.fixture
def gpt(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


ASK_CLAUDE = {"model": "fake", "max_tokens": 20, "messages": [{"role": "user", "content": HELLO}]}
CLAUDES_TOOL = {"name": "weather", "input_schema": SCHEMA}


def test_anthropic_plain_and_streamed_are_the_same(claude, front):
    plain = claude.messages.create(**ASK_CLAUDE, system="Be brief.")
    assert front.asked[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": HELLO},
    ]
    with claude.messages.stream(**ASK_CLAUDE, system="Be brief.") as stream:
        text = "".join(stream.text_stream)
        whole = stream.get_final_message()
    assert text == plain.content[0].text == whole.content[0].text
    assert plain.content[0].text.startswith("fake:")
    assert whole.stop_reason == plain.stop_reason
    assert whole.usage.input_tokens == plain.usage.input_tokens > 0
    assert whole.usage.output_tokens == plain.usage.output_tokens > 0
    assert plain.footprint == {"it_energy": None}


def test_anthropic_tools_go_there_and_back(claude, front):
    asked = {**ASK_CLAUDE, "tools": [CLAUDES_TOOL]}
    plain = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        whole = stream.get_final_message()
    for message in (plain, whole):
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
        assert [block.input for block in message.content[2:]] == [{"at": "Zürich"}, {}]
        assert message.stop_reason == "tool_use"
        assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (7, 2)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "rain"} for block in whole.content[2:]
    ]
    claude.messages.create(
        **{
            **asked,
            "messages": [
                *ASK_CLAUDE["messages"],
                {"role": "assistant", "content": whole.content},
                {"role": "user", "content": results},
            ],
        }
    )
    _, said, first, second = front.asked[-1]["messages"]
    assert by_ids(said["tool_calls"]) == by_ids(CALLS)
    assert said["reasoning_content"] == "Which one? "
    assert [first["tool_call_id"], second["tool_call_id"]] == ["call_a", "call_b"]


def by_ids(calls):
    return {
        call["id"]: (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls
    }


def test_anthropic_raises_on_refusals_and_broken_streams(claude, front):
    with pytest.raises(anthropic.BadRequestError, match="web_search"):
        claude.messages.create(**ASK_CLAUDE, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    front.breaks = EngineError("it broke", code="E103", status=502)
    with pytest.raises(anthropic.APIStatusError, match="it broke"):
        list(claude.messages.create(**ASK_CLAUDE, stream=True))


def test_gemini_plain_and_streamed_are_the_same(google, front):
    config = genai_types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=20)
    plain = google.models.generate_content(model="fake", contents=HELLO, config=config)
    assert front.asked[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": HELLO},
    ]
    chunks = list(google.models.generate_content_stream(model="fake", contents=HELLO, config=config))
    assert "".join(chunk.text or "" for chunk in chunks) == plain.text
    assert plain.text.startswith("fake:")
    for answer in (plain, chunks[-1]):
        assert answer.usage_metadata.prompt_token_count > 0
        assert answer.usage_metadata.candidates_token_count > 0
        assert answer.candidates[0].finish_reason == "STOP"


def test_gemini_tools_go_there_and_back(google, front):
    tool = genai_types.Tool(
        function_declarations=[{"name": "weather", "parameters_json_schema": SCHEMA}, {"name": "other"}]
    )
    config = genai_types.GenerateContentConfig(
        tools=[tool], automatic_function_calling={"disable": True}, thinking_config={"include_thoughts": True}
    )
    plain = google.models.generate_content(model="fake", contents=HELLO, config=config)
    chunks = list(google.models.generate_content_stream(model="fake", contents=HELLO, config=config))
    assert front.asked[0]["tools"][0]["function"]["parameters"] == SCHEMA
    for answer in (plain, chunks[-1]):
        assert [call.args for call in answer.function_calls] == [{"at": "Zürich"}, {}]
        assert answer.usage_metadata.cached_content_token_count == 2
    contents = [
        genai_types.UserContent(HELLO),
        plain.candidates[0].content,
        genai_types.UserContent(
            [
                genai_types.Part.from_function_response(name=call.name, response={"output": "rain"})
                for call in plain.function_calls
            ]
        ),
    ]
    google.models.generate_content(model="fake", contents=contents, config=config)
    _, said, first, second = front.asked[-1]["messages"]
    assert by_ids(said["tool_calls"]) == by_ids(CALLS)
    assert [first["tool_call_id"], second["tool_call_id"]] == ["call_a", "call_b"]
    assert first["content"] == "rain"


def test_gemini_raises_on_refusals_and_broken_streams(google, front):
    search = genai_types.GenerateContentConfig(tools=[{"google_search": {}}])
    with pytest.raises(genai_errors.ClientError, match="googleSearch"):
        google.models.generate_content(model="fake", contents=HELLO, config=search)
    front.breaks = EngineError("it broke", code="E103", status=503)
    with pytest.raises(genai_errors.APIError, match="it broke"):
        list(google.models.generate_content_stream(model="fake", contents=HELLO))


GPTS_TOOL = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}


def test_responses_plain_and_streamed_are_the_same(gpt, front):
    asked = {"model": "fake", "instructions": "Be brief.", "input": HELLO, "max_output_tokens": 20}
    plain = gpt.responses.create(**asked)
    with gpt.responses.stream(**asked) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        whole = stream.get_final_response()
    assert "".join(deltas) == whole.output_text == plain.output_text
    assert plain.output_text.startswith("fake:")
    assert plain.usage.input_tokens == whole.usage.input_tokens > 0
    assert plain.status == "completed"
    assert plain.footprint == {"it_energy": None}
    assert front.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_responses_tools_go_there_and_back(gpt, front):
    asked = {"model": "fake", "input": [{"role": "user", "content": HELLO}], "tools": [GPTS_TOOL]}
    plain = gpt.responses.create(**asked)
    with gpt.responses.stream(**asked) as stream:
        whole = stream.get_final_response()
    for answer in (plain, whole):
        assert [item.type for item in answer.output] == [
            "reasoning",
            "message",
            "function_call",
            "function_call",
        ]
        assert [json.loads(item.arguments) for item in answer.output[2:]] == [{"at": "Zürich"}, {}]
        assert answer.usage.input_tokens_details.cached_tokens == 2
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "rain"}
        for item in plain.output[2:]
    ]
    gpt.responses.create(**{**asked, "input": [*asked["input"], *plain.output, *results]})
    _, said, first, second = front.asked[-1]["messages"]
    assert (said["content"], said["reasoning_content"]) == ("Let me look.", "Which one? ")
    assert by_ids(said["tool_calls"]) == by_ids(CALLS)
    assert [first["tool_call_id"], second["tool_call_id"]] == ["call_a", "call_b"]


def test_responses_raise_on_refusals_and_tell_broken_streams(gpt, front):
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        gpt.responses.create(model="fake", input=HELLO, previous_response_id="resp_1")
    front.breaks = EngineError("it broke", code="E103", status=502)
    last = list(gpt.responses.create(model="fake", input=HELLO, stream=True))[-1]
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert "it broke" in last.response.error.message


ASK = {
    "model": "fake",
    "messages": [{"role": "user", "content": HELLO}],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
}


@pytest.mark.parametrize("tools", [True, False])
@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
def test_an_openai_request_through_another_dialect_and_back_is_the_engines_own_answer(
    url, front, dialect, tools
):
    """Both directions of an adapter in one loop: our upstream is our own server in that dialect."""
    body = ASK if tools else {name: value for name, value in ASK.items() if name != "tools"}
    if dialect == "anthropic":
        path, stream_path, adapter = "/v1/messages", "/v1/messages", anthropic_adapter
    else:
        path = "/v1beta/models/fake:generateContent"
        stream_path, adapter = "/v1beta/models/fake:streamGenerateContent?alt=sse", gemini_adapter
    plain = adapter.openai_answer(decode_event(post(url + path, adapter.upstream_request(body).body)), FRAME)
    stream = adapter.OpenAIChunks(FRAME)
    cutter, chunks = EventCutter(), []
    for raw in cutter.feed(post(url + stream_path, adapter.upstream_request({**body, "stream": True}).body)):
        chunks += stream.feed(decode_event(data_of(raw)))
    chunks += stream.finish()
    assert stream.ended
    assert by_meaning(folded(chunks))["choices"] == by_meaning(plain)["choices"]
    direct = front.answer({**body, "max_completion_tokens": 4096})
    message, expected = plain["choices"][0]["message"], direct["choices"][0]["message"]
    assert message["content"] == expected["content"]
    assert by_ids(message.get("tool_calls", ())) == by_ids(expected.get("tool_calls", ()))
    assert plain["choices"][0]["finish_reason"] == direct["choices"][0]["finish_reason"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"):
        assert plain["usage"][name] == stream.usage.to_openai()[name] == direct["usage"][name]


def post(url: str, body: dict) -> bytes:
    with urlopen(Request(url, json.dumps(body).encode()), timeout=20) as response:
        return response.read()
