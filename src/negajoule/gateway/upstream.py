"""Any OpenAI-compatible server as a backend: bytes pass through, usage is always counted.

This machine's joules for passing a call on are metered like any other; the model's own energy can't be read
from here, so it is estimated, or said to be unknown.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from negajoule.errors import EngineError
from negajoule.gateway.accounts import Tokens
from negajoule.gateway.sse import DONE, EventCutter, data_of, event
from negajoule.ledger import new_id
from negajoule.units import Footprint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from negajoule.gateway.accounts import Accounts
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.meter import RequestSplitter

    Estimate = Callable[[str, Tokens], Footprint | None]

__all__ = ["UpstreamBackend"]

_PATHS = {"chat": "/chat/completions", "completion": "/completions", "embedding": "/embeddings"}
_LEDGER_PATIENCE_S = 1.0

_ENDS = re.compile(rb'"finish_reason"\s*:\s*"|"usage"\s*:\s*\{')
"""Events that may be the last: they end a choice or hold the usage."""


class UpstreamBackend:
    """Passes calls on to a server.

    Args:
        url: its base, with or without ``/v1``.
        splitter: splits this process's joules over the calls that pass.
        accounts: books them.
        estimate: footprint of the model's own work; ``None`` from it means unknown.
        key: sent as bearer token; without it the client's own ``Authorization`` isn't passed on.
        silence_s: longest silence before the server counts as gone [s].
    """

    def __init__(
        self,
        url: str,
        splitter: RequestSplitter,
        accounts: Accounts,
        *,
        estimate: Estimate,
        key: str | None = None,
        silence_s: float = 600.0,
    ) -> None:
        base = url.rstrip("/")
        self.base = base if base.endswith("/v1") else f"{base}/v1"
        self.splitter = splitter
        self.accounts = accounts
        self.estimate = estimate
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence_s)
        self._session: aiohttp.ClientSession | None = None
        self._open: set[UpstreamExchange] = set()

    async def models(self) -> list[dict[str, Any]]:
        """The models that the server lists."""
        answer = await self._get_json("/models")
        models = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(models, list):
            raise EngineError(
                "the upstream's list of models isn't one", code="E104", tried=f"{self.base}/models"
            )
        return [model for model in models if isinstance(model, dict) and "id" in model]

    async def open(self, call: Call) -> UpstreamExchange:
        """Take a call on."""
        exchange = UpstreamExchange(self, call)
        self._open.add(exchange)
        return exchange

    async def close(self) -> None:
        """Book what is still open and let the connections go."""
        for exchange in list(self._open):
            await exchange.cancel()
        if self._session is not None:
            await self._session.close()

    def forget(self, exchange: UpstreamExchange) -> None:
        """An exchange has been booked."""
        self._open.discard(exchange)

    async def post(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        """Send a body.

        Raises:
            EngineError: (E103) if the server can't be reached or refuses; its status is passed on.
        """
        try:
            response = await self._client().post(self.base + path, data=body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self.unreachable(error) from None
        if response.status != 200:
            text = await _text(response)
            response.release()
            raise EngineError(
                f"the upstream refused: {_message_in(text)}", code="E103", status=response.status
            )
        return response

    def unreachable(self, error: Exception) -> EngineError:
        """The error for a server that can't be reached or fell silent."""
        timed_out = isinstance(error, TimeoutError)
        reason = "no answer in time" if timed_out else str(error) or type(error).__name__
        return EngineError(
            f"the upstream can't be reached: {reason}",
            code="E103",
            tried=self.base,
            fix="check that the server runs and the URL is right",
            status=504 if timed_out else 502,
        )

    async def _get_json(self, path: str) -> Any:  # noqa: ANN401 (another server's JSON)
        try:
            async with self._client().get(self.base + path) as response:
                data = await response.read()
                if response.status != 200:
                    raise EngineError(
                        f"the upstream refused: {_message_in(data)}", code="E103", status=response.status
                    )
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self.unreachable(error) from None
        return _decode(data)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
            )
        return self._session


class UpstreamExchange:
    """One call passed on; booked once, however it ends."""

    def __init__(self, backend: UpstreamBackend, call: Call) -> None:
        self.request_id = new_id("req")
        self.cost: Footprint | None = None
        self.status: Status = "ok"
        self.tokens = Tokens()
        self._backend = backend
        self._call = call
        self._started_s = time.time()
        self._response: aiohttp.ClientResponse | None = None
        self._held: bytes | None = None
        backend.splitter.begin(self.request_id)

    async def plain(self) -> dict[str, Any]:
        """The whole answer."""
        try:
            self._response = await self._backend.post(_PATHS[self._call.task], self._call.raw)
            answer = _decode(await self._response.read())
            if not isinstance(answer, dict):
                raise EngineError("the upstream's answer isn't a JSON object", code="E104")
        except EngineError:
            await self._book("failed")
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            await self._book("failed")
            raise self._backend.unreachable(error) from None
        except asyncio.CancelledError:
            await self._book("cancelled")
            raise
        self._count(answer.get("usage"))
        if self._call.task == "embedding":
            self.tokens = self.tokens._replace(output=0)
        await self._book("ok")
        answer["footprint"] = self._footprint()
        return answer

    async def events(self) -> AsyncIterator[bytes]:
        """The answer's events as they come; the last one before the end mark gets the footprint.

        What arrives together leaves together, byte for byte, but for the events that end the answer.
        """
        try:
            self._response = await self._backend.post(_PATHS[self._call.task], self._streamed_body())
            cutter = EventCutter()
            async for piece in self._response.content.iter_any():
                ready = bytearray()
                for raw in cutter.feed(piece):
                    data = data_of(raw)
                    if data is not None and data.strip() == b"[DONE]":
                        await self._book("ok")
                        ready += self._last_event()
                        yield bytes(ready + DONE)
                        return
                    ready += self._passed(raw, data)
                if ready:
                    yield bytes(ready)
            if self._held is not None:
                yield event(self._held)
            raise EngineError("the upstream broke off before the end of its answer", code="E103")
        except EngineError:
            await self._book("failed")
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            await self._book("failed")
            raise self._backend.unreachable(error) from None

    async def cancel(self) -> None:
        """The client has gone: drop the connection, keep the account."""
        await self._book("cancelled")

    def _streamed_body(self) -> bytes:
        if self._call.include_usage:
            return self._call.raw
        body = self._call.body()
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        return msgspec.json.encode(body)

    def _passed(self, raw: bytes, data: bytes | None) -> bytes:
        """What leaves when this event comes: itself as it is, or the one held back before it, or nothing.

        An event that ends a choice or holds the usage is held back: it may be the last before the end mark.
        """
        if data is None or not _ENDS.search(data):
            return self._release() + raw + b"\n\n"
        chunk = _decode(data)
        if isinstance(chunk, dict) and isinstance(chunk.get("usage"), dict):
            self._count(chunk["usage"])
            if not chunk.get("choices") and not self._call.include_usage:
                return b""
        released = self._release()
        self._held = data
        return released

    def _release(self) -> bytes:
        held, self._held = self._held, None
        return b"" if held is None else event(held)

    def _last_event(self) -> bytes:
        chunk = _decode(self._held) if self._held is not None else None
        if not isinstance(chunk, dict):
            chunk = {"object": "chat.completion.chunk", "model": self._call.model, "choices": []}
        return event(msgspec.json.encode({**chunk, "footprint": self._footprint()}))

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, dict) else None
            self.tokens = Tokens(
                _count_of(usage.get("prompt_tokens")),
                _count_of(cached),
                _count_of(usage.get("completion_tokens")),
            )

    async def _book(self, status: Status) -> None:
        if self.cost is not None:
            return
        self.status = status
        if self._response is not None:
            # Only an answer read to its end may give its connection back for the next call.
            self._response.release() if status == "ok" else self._response.close()
        backend = self._backend
        share = backend.splitter.end(self.request_id)
        own = backend.accounts.here.cost(share.parts, share.node_seconds)
        theirs = backend.estimate(self._call.model, self.tokens)
        if theirs is None:
            note = "the energy of the upstream's model isn't known; the parts list this machine's only"
            self.cost = Footprint(
                boundary=own.boundary, parts=own.parts, factors=own.factors, notes=(*own.notes, note)
            )
        else:
            self.cost = own + theirs
        backend.forget(self)
        written = backend.accounts.book_request(
            request_id=self.request_id,
            model=self._call.model,
            status=status,
            started_s=self._started_s,
            tokens=self.tokens,
            cpu_seconds=share.cpu_seconds,
            cost=self.cost,
        )
        await asyncio.wait([asyncio.wrap_future(written)], timeout=_LEDGER_PATIENCE_S)

    def _footprint(self) -> dict[str, Any]:
        assert self.cost is not None, "a call that has ended has been booked"
        return {"request_id": self.request_id, **self.cost.to_dict(detail=False)}


def _decode(data: bytes) -> Any:  # noqa: ANN401 (another server's JSON)
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineError("the upstream's answer isn't JSON", code="E104") from None


def _count_of(value: object) -> int | None:
    """A count that can be believed: a whole number that isn't negative and that the ledger can hold."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


async def _text(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.read(65_536)
    except (aiohttp.ClientError, TimeoutError):
        return b""


def _message_in(data: bytes) -> str:
    """The message of an error in OpenAI's shape, or the start of whatever came."""
    try:
        error = msgspec.json.decode(data)["error"]
        message = error["message"] if isinstance(error, dict) else error
        return str(message)[:500]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return data[:200].decode(errors="replace").strip() or "no reason given"
