"""A loopback server that plays the providers' APIs: whole answers, events, refusals, broken lines."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What the server does with one request.

    ``events`` are sent one by one, ``body`` at once. A reply that is ``cut`` breaks the connection before its
    end. ``hold`` is awaited after the first event, so that a test can tell that streams stay lazy.
    """

    body: Any = None
    events: list[str] | None = None
    status: int = 200
    cut: bool = False
    hold: threading.Event | None = None


class Provider:
    """The server; ``replies`` are given in their order, ``requests`` hold path and body of what came."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                provider.requests.append((self.path, json.loads(self.rfile.read(size) or b"{}")))
                reply = provider.replies.pop(0)
                if reply.events is None:
                    data = json.dumps(reply.body).encode()
                    self.send_response(reply.status)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                else:
                    self._events(reply)

            def _events(self, reply: Reply) -> None:
                self.send_response(reply.status)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                try:
                    for number, event in enumerate(reply.events or []):
                        self._chunk(event.encode())
                        if number == 0 and reply.hold is not None:
                            reply.hold.wait(10)
                    if not reply.cut:
                        self._chunk(b"")
                except OSError:
                    pass
                if reply.cut:
                    self.close_connection = True

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that hang up are part of the play
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def data(content: Any) -> str:
    """An event of OpenAI's kind."""
    return f"data: {json.dumps(content)}\n\n"


DONE = "data: [DONE]\n\n"


def named(content: dict[str, Any]) -> str:
    """An event of Anthropic's kind."""
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n"


# What the providers' references document, shortened to the fields that the clients need.

CHAT_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024},
    "completion_tokens_details": {"reasoning_tokens": 128},
}


def chat(usage: dict[str, Any] | None = CHAT_USAGE, *, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A whole chat completion; ``more`` replaces or adds fields."""
    message: dict[str, Any] = {"role": "assistant", "content": "because"}
    if finish == "tool_calls":
        message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
        **more,
    }


TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
}


def chat_chunk(content: str | None, usage: dict[str, Any] | None = None, **more: Any) -> str:
    """An event of a streamed chat; without content it's the one that carries usage only."""
    choices = (
        []
        if content is None
        else [{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": None}]
    )
    return data(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "gpt-4o-2024-08-06",
            "choices": choices,
            "usage": usage,
            **more,
        }
    )


def response(usage: dict[str, Any] | None, status: str = "completed") -> dict[str, Any]:
    """An answer of the Responses API."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "model": "gpt-4o-2024-08-06",
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "because", "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


RESPONSE_USAGE = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 25,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 65,
}


def message(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An answer of Anthropic's Messages API."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": [{"type": "text", "text": "because"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
        **more,
    }


MESSAGE_USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "output_tokens": 200,
}


def message_events() -> list[str]:
    """A streamed message, from start to stop."""
    start = message({**MESSAGE_USAGE, "output_tokens": 1}, content=[], stop_reason=None)
    return [
        named({"type": "message_start", "message": start}),
        named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        named({"type": "ping"}),
        named(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "because"}}
        ),
        named({"type": "content_block_stop", "index": 0}),
        named(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 200},
            }
        ),
        named({"type": "message_stop"}),
    ]


def generated(
    usage: dict[str, Any] | None, part: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """An answer of Google's generateContent, or a chunk of one."""
    content = {"role": "model", "parts": [part or {"text": "because"}]}
    body: dict[str, Any] = {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "modelVersion": "gemini-2.5-flash",
        **more,
    }
    return body if usage is None else {**body, "usageMetadata": usage}


GOOGLE_USAGE = {
    "promptTokenCount": 500,
    "cachedContentTokenCount": 400,
    "candidatesTokenCount": 60,
    "thoughtsTokenCount": 40,
    "toolUsePromptTokenCount": 20,
    "totalTokenCount": 620,
}
