"""A fake upstream for benchmarks: answers chat completions at once, plain or in 32 chunks; very light."""

from __future__ import annotations

import json
import sys

import uvicorn

CHUNKS = 32
_USAGE = {"prompt_tokens": 20, "completion_tokens": CHUNKS, "total_tokens": 20 + CHUNKS}
_HEAD = {"id": "chatcmpl-1", "created": 1, "model": "fake"}


def _chunk(delta: dict[str, str], finish: str | None = None, **more: object) -> bytes:
    choices = [] if "usage" in more else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {**_HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


PLAIN = json.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * CHUNKS},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
).encode()
STREAM = [_chunk({"content": "word "}) for _ in range(CHUNKS)]
STREAM += [_chunk({}, "stop"), _chunk({}, usage=_USAGE), b"data: [DONE]\n\n"]
MODELS = json.dumps({"object": "list", "data": [{"id": "fake", "object": "model"}]}).encode()


async def app(scope, receive, send) -> None:  # noqa: ANN001 (the ASGI interface)
    """Answer every request."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    streamed = b'"stream":true' in body.replace(b" ", b"")
    kind = b"text/event-stream" if streamed else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if not streamed:
        answer = MODELS if scope["method"] == "GET" else PLAIN
        await send({"type": "http.response.body", "body": answer})
        return
    for chunk in STREAM:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off"
    )
