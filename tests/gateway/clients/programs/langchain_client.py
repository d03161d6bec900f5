"""LangChain's ChatOpenAI: plain, streamed, tools, a field it doesn't know. Prints what it read as JSON."""

import json
import sys

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

url, model = sys.argv[1:]


@tool
def weather(at: str) -> str:
    """Tell the weather at a place."""
    return f"rain at {at}"


chat = ChatOpenAI(
    base_url=f"{url}/v1",
    api_key="none",
    model=model,
    max_retries=0,
    timeout=20,
    max_tokens=8,
    stream_usage=True,
    extra_body={"x_unknown": {"deep": [1]}},
)
ask = [HumanMessage("one two three")]
plain = chat.invoke(ask)
whole = None
for chunk in chat.stream(ask):
    whole = chunk if whole is None else whole + chunk
bound = chat.bind_tools([weather])
called = bound.invoke(ask)
streamed_call = None
for chunk in bound.stream(ask):
    streamed_call = chunk if streamed_call is None else streamed_call + chunk
after = None
if called.tool_calls:
    results = [weather.invoke(call) for call in called.tool_calls]
    after = bound.invoke([*ask, called, *results]).content
print(
    json.dumps(
        {
            "plain": plain.content,
            "streamed": whole.content,
            "plain_usage": plain.usage_metadata["output_tokens"],
            "streamed_usage": whole.usage_metadata["output_tokens"],
            "calls": [called.tool_calls, streamed_call.tool_calls],
            "after": after,
        }
    )
)
