"""Any OpenAI-compatible server, seen as an engine: for measuring it from outside.

Only the standard library is needed. Counts are the server's own ``usage``; progress is one report a chunk,
which may stand for several tokens, so whoever needs tokens scales reports to the usage. Fields that only
some servers know (``ignore_eos``, ``cache_prompt``) are sent until the server refuses them.
"""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from negajoule.engine.protocol import ModelCard, Progress, Result, Task, Timings
from negajoule.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from http.client import HTTPResponse

__all__ = ["EndpointEngine"]

_PATHS: dict[Task, str] = {"chat": "/chat/completions", "completion": "/completions"}
_EXTENSIONS = ("ignore_eos", "cache_prompt")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_MESSAGE = 300


class EndpointEngine:
    """One model of one server.

    Attributes:
        name: "endpoint".
        models: its one card; the context's length is what the caller said.
        slots: how many requests may be sent at once; the server decides how many it works on.
        url: the server's base.
        is_local: whether the server runs on this machine.
    """

    name = "endpoint"

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        slots: int = 256,
        context_tokens: int = 131_072,
        silence_s: float = 600.0,
    ) -> None:
        """Find the server and its model.

        Args:
            url: the base, with or without ``/v1``.
            model: which of its models; may be left out if it has one.
            key: sent as bearer token.
            slots: requests sent at once at most.
            context_tokens: longest prompt and answer together.
            silence_s: longest silence before the server counts as gone [s].

        Raises:
            ConfigError: (C101) if the URL is none, the key would travel in the open, or the model must be
                named.
            EngineError: (E102, E103, E104) if the server can't be asked for its models.
        """
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            parts, self._port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address of a server", fix="http://localhost:8000/v1")
        self.is_local = parts.hostname in _LOOPBACK
        if key is not None and parts.scheme == "http" and not self.is_local:
            raise ConfigError(f"a key would travel in the open to {parts.hostname}", fix="use https")
        self._host, self._secure = parts.hostname, parts.scheme == "https"
        base = parts.path.rstrip("/")
        self._base = base if base.endswith("/v1") else base + "/v1"
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._base}"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._silence_s = silence_s
        self._extended = True
        self._closed = False
        self.slots = slots
        name = model if model is not None else self._only_model()
        self.models = (
            ModelCard(
                id=name,
                context_tokens=context_tokens,
                parameters=None,
                quantisation=None,
                licence=None,
                source=self.url,
            ),
        )

    def run(
        self,
        task: Task,
        body: Mapping[str, Any],
        on_chunk: Callable[[dict[str, Any]], bool],
        on_progress: Callable[[Progress], bool | None] | None = None,
    ) -> Result:
        """See ``Engine.run``; prefill is reported once, when the first token is there.

        Raises:
            EngineError: (E102) if the server refuses, (E103) if it breaks off, (E104) if it says no usage.
        """
        begin_s = first_s = time.perf_counter()
        chunks, usage, cancelled = 0, None, False
        for chunk in self._chunks(task, body):
            if isinstance(chunk.get("usage"), dict):
                usage = chunk["usage"]
            if _holds_text(chunk):
                if not chunks:
                    first_s = time.perf_counter()
                chunks += 1
                cancelled = on_progress is not None and bool(on_progress(Progress("decode", 1)))
            if cancelled or on_chunk(chunk):
                cancelled = True
                break
        end_s = time.perf_counter()
        if usage is None and not cancelled:
            raise EngineError(
                f"{self.url} returns no usage, so its tokens can't be counted",
                code="E104",
                tried="stream_options.include_usage",
                fix="use a server that honours it: vLLM, SGLang, llama.cpp, Ollama, negajoule serve",
            )
        counted = _counts(usage or {}, chunks)
        timings = Timings(
            cached_tokens=counted[1],
            prompt_tokens=counted[0] - counted[1],
            prompt_s=first_s - begin_s,
            output_tokens=counted[2],
            output_s=end_s - first_s,
        )
        return Result(timings=timings, usage=dict(usage or {}), cancelled=cancelled)

    def close(self) -> None:
        """Nothing to free: each request has a connection of its own."""
        self._closed = True

    def _only_model(self) -> str:
        connection, response = self._ask("GET", "/models", None)
        try:
            listed = json.loads(response.read())
            names = [str(item["id"]) for item in listed["data"]]
        except (ValueError, KeyError, TypeError, OSError, HTTPException) as error:
            raise EngineError(
                f"{self.url}/models isn't an OpenAI-style list ({type(error).__name__})",
                code="E104",
                fix="name the model with --served-model",
            ) from None
        finally:
            _let_go(connection, response)
        if len(names) != 1:
            raise ConfigError(
                f"{self.url} serves {len(names)} models",
                fix=f"name one with --served-model: {', '.join(names[:8])}",
            )
        return names[0]

    def _chunks(self, task: Task, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        connection, response = self._begin(task, body)
        try:
            for line in response:
                data = line.strip()
                if not data.startswith(b"data:"):
                    continue
                data = data[5:].strip()
                if data == b"[DONE]":
                    return
                chunk = json.loads(data)
                if not isinstance(chunk, dict):
                    raise ValueError("a chunk is no object")
                if chunk.get("error"):
                    raise EngineError(f"{self.url} failed: {_message(chunk)}")
                yield chunk
        except ValueError as error:
            raise EngineError(f"{self.url} streams something else: {error}", code="E104") from None
        except (OSError, HTTPException) as error:
            raise EngineError(f"{self.url} broke off: {error}", code="E103") from None
        finally:
            _let_go(connection, response)

    def _begin(self, task: Task, body: Mapping[str, Any]) -> tuple[HTTPConnection, HTTPResponse]:
        request = {
            **body,
            "model": self.models[0].id,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if not self._extended:
            request = {name: value for name, value in request.items() if name not in _EXTENSIONS}
        connection, response = self._ask("POST", _PATHS[task], json.dumps(request).encode(), may_refuse=True)
        if response.status == 200:
            return connection, response
        text = response.read(65_536)
        _let_go(connection, response)
        if response.status in (400, 422) and self._extended:
            self._extended = False
            return self._begin(task, body)
        raise self._refusal(response.status, text)

    def _ask(
        self, method: str, path: str, body: bytes | None, *, may_refuse: bool = False
    ) -> tuple[HTTPConnection, HTTPResponse]:
        if self._closed:
            raise EngineError("the engine is closed", status=503)
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=self._silence_s)
        try:
            connection.request(method, self._base + path, body, self._headers)
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise EngineError(
                f"{self.url} can't be reached: {error}", code="E103", fix="check the address and that it runs"
            ) from None
        if response.status != 200 and not may_refuse:
            text = response.read(65_536)
            _let_go(connection, response)
            raise self._refusal(response.status, text)
        return connection, response

    def _refusal(self, status: int, text: bytes) -> EngineError:
        try:
            said = _message(json.loads(text))
        except (ValueError, AttributeError):
            said = text[:_LONGEST_MESSAGE].decode("utf-8", "replace").strip()
        fix = "give a key with --key-variable NAME" if status in (401, 403) else ""
        return EngineError(f"{self.url} answered {status}: {said or 'nothing'}", fix=fix, status=status)


def _let_go(connection: HTTPConnection, response: HTTPResponse) -> None:
    """Close both: the answer keeps the socket where the server won't keep the connection."""
    response.close()
    connection.close()


def _message(answer: Mapping[str, Any]) -> str:
    error = answer.get("error") or answer.get("detail") or answer.get("message") or ""
    if isinstance(error, dict):
        error = error.get("message", "")
    return str(error)[:_LONGEST_MESSAGE]


def _holds_text(chunk: Mapping[str, Any]) -> bool:
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        if choice.get("text") or any(
            delta.get(field) for field in ("content", "reasoning_content", "reasoning")
        ):
            return True
    return False


def _counts(usage: Mapping[str, Any], chunks: int) -> tuple[int, int, int]:
    """Prompt, cached and output tokens; an answer cut short counts its chunks."""
    try:
        details = usage.get("prompt_tokens_details") or {}
        cached = int(details.get("cached_tokens") or 0)
        return int(usage.get("prompt_tokens", 0)), cached, int(usage.get("completion_tokens", chunks))
    except (TypeError, ValueError, AttributeError) as error:
        raise EngineError(f"the usage holds something else than counts: {error}", code="E104") from None
