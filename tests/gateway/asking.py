"""Ask a server over plain HTTP, as little wrapped as can be."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 8}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


def ask(
    url: str, path: str, *, body: object = None, key: str = "", method: str = "", **headers: str
) -> Answer:
    """Send one request; underscores in header names stand for hyphens."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        fields["authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, data, fields)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def chat(url: str, *, key: str = "", **changes: Any) -> Answer:
    """Ask for a chat completion."""
    return ask(url, "/v1/chat/completions", body={**CHAT, **changes}, key=key)


def raw(url: str) -> socket.socket:
    """A bare connection."""
    host, port = urlsplit(url).netloc.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    pieces = []
    try:
        while piece := connection.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)
