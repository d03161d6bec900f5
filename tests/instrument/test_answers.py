"""Token counts of every API, and that nothing a server says can become a wrong count or an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrument.apis import CHAT_USAGE, GOOGLE_USAGE, MESSAGE_USAGE, RESPONSE_USAGE, chat, generated, message
from instrument.apis import response as openai_response
from negajoule.instrument.clients.answers import APIS, Listener, Said, gateway_footprint
from negajoule.instrument.clients.providers import provider_name

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted(
    {*CHAT_USAGE, *RESPONSE_USAGE, *MESSAGE_USAGE, *GOOGLE_USAGE, "cached_tokens", "reasoning_tokens"}
)


@pytest.mark.parametrize(
    ("api", "answer", "counts"),
    [
        ("chat", chat(), (1200, 1024, 300, 128)),
        ("chat", chat(None), (None, None, None, None)),
        ("completions", chat({"prompt_tokens": 3, "completion_tokens": 4}), (3, None, 4, None)),
        ("embeddings", {"usage": {"prompt_tokens": 3}}, (3, None, 0, None)),
        ("embeddings", {}, (None, None, None, None)),
        ("responses", openai_response(RESPONSE_USAGE), (40, 8, 25, 5)),
        ("messages", message(MESSAGE_USAGE), (1110, 1000, 200, None)),
        ("messages", message({"input_tokens": 5, "output_tokens": 2}), (5, None, 2, None)),
        ("messages", message({"output_tokens": 2}), (None, None, 2, None)),
        ("generate_content", generated(GOOGLE_USAGE), (520, 400, 100, 40)),
        ("generate_content", generated(None), (None, None, None, None)),
    ],
)
def test_counts(api, answer, counts):
    assert APIS[api].answer(answer)[:4] == counts


@given(
    api=st.sampled_from(sorted(APIS)),
    usage=st.dictionaries(st.sampled_from(FIELDS), anything) | anything,
    where=st.sampled_from(["usage", "usageMetadata", "message", "response"]),
    kind=st.sampled_from(["message_start", "message_delta", "x"]),
)
def test_no_answer_raises_or_gives_a_count_below_zero(api, usage, where, kind):
    for answer in ({where: usage, "type": kind}, {where: {"usage": usage}, "type": kind}):
        for said in (APIS[api].answer(answer), APIS[api].chunk(answer)):
            assert all(count is None or (type(count) is int and count >= 0) for count in said[:4])


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_a_listener_keeps_the_last_word(counts):
    listener = Listener(APIS["generate_content"].chunk)
    for count in counts:
        listener.hear(generated({**GOOGLE_USAGE, "candidatesTokenCount": count, "thoughtsTokenCount": 0}))
        listener.hear({"candidates": []})
    assert listener.said.tokens_out == counts[-1]


def test_a_listener_that_hears_nothing_knows_nothing():
    listener = Listener(APIS["chat"].chunk)
    listener.hear(object())
    assert listener.said == Said()


@given(st.dictionaries(st.sampled_from(["schema", "boundary", "it_energy", "notes", "factors"]), anything))
def test_only_a_gateways_footprint_is_taken_for_one(fields):
    assert gateway_footprint(fields) is None
    gateway_footprint({"schema": "negajoule.footprint/1", "boundary": "facility", **fields})


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1/", "openai"),
        ("https://eu.api.openai.com/v1/", "openai"),
        ("https://x.openai.azure.com/openai/", "azure.ai.openai"),
        ("https://bedrock-runtime.eu-west-3.amazonaws.com", "aws.bedrock"),
        ("https://europe-west4-aiplatform.googleapis.com/", "gcp.vertex_ai"),
        ("https://generativelanguage.googleapis.com/", "gcp.gemini"),
        ("https://notopenai.com.evil.example/v1", "flavour"),
        ("https://evil-api.openai.com.example", "flavour"),
        ("http://[::1]:8000/v1", "flavour"),
        ("http://[broken", "flavour"),
        ("", "flavour"),
    ],
)
def test_names_of_providers(url, name):
    assert provider_name(url, "flavour") == name
