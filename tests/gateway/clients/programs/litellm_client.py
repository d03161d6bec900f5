"""LiteLLM's OpenAI client: plain, streamed, tools, a field it doesn't know. Prints what it read as JSON."""

import json
import sys

import litellm

url, model = sys.argv[1:]
ask = {
    "model": f"openai/{model}",
    "api_base": f"{url}/v1",
    "api_key": "none",
    "messages": [{"role": "user", "content": "one two three"}],
    "max_tokens": 8,
    "num_retries": 0,
    "timeout": 20,
    "extra_body": {"x_unknown": {"deep": [1]}},
}
parameters = {"type": "object", "properties": {"at": {"type": "string"}}}
tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]


def calls_of(answer):
    return [call.model_dump() for call in answer.choices[0].message.tool_calls or ()]


plain = litellm.completion(**ask)
chunks = list(litellm.completion(**ask, stream=True, stream_options={"include_usage": True}))
streamed = litellm.stream_chunk_builder(chunks, messages=ask["messages"])
called = litellm.completion(**ask, tools=tools)
streamed_call = litellm.stream_chunk_builder(list(litellm.completion(**ask, tools=tools, stream=True)))
print(
    json.dumps(
        {
            "plain": plain.choices[0].message.content,
            "streamed": streamed.choices[0].message.content,
            "plain_usage": plain.usage.completion_tokens,
            "streamed_usage": streamed.usage.completion_tokens,
            "calls": [calls_of(called), calls_of(streamed_call)],
        }
    )
)
