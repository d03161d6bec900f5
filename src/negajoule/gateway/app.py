"""The web application: routes, headers, limits, errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from negajoule._version import __version__
from negajoule.errors import NegajouleError, RequestError
from negajoule.gateway.sse import event
from negajoule.gateway.wire import error_body, parse_call, status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from negajoule.gateway.accounts import Accounts
    from negajoule.gateway.backend import Backend, Exchange
    from negajoule.gateway.wire import Task
    from negajoule.ledger import Ledger
    from negajoule.meter import RequestSplitter

__all__ = ["create_app"]

_JSON = "application/json"
_IDLE_HEARTBEAT_S = 60.0


class _Gateway:
    def __init__(
        self,
        backend: Backend,
        accounts: Accounts,
        splitter: RequestSplitter,
        ledger: Ledger,
        max_body_bytes: int,
    ) -> None:
        self.backend = backend
        self.accounts = accounts
        self.splitter = splitter
        self.ledger = ledger
        self.max_body_bytes = max_body_bytes
        self.started_s = time.time()
        accounts.metrics.watch("negajoule_in_flight", "Requests that run now", lambda: splitter.in_flight)
        accounts.metrics.watch(
            "negajoule_ledger_pending", "Rows not yet written", lambda: accounts.writer.pending
        )

    async def chat(self, request: Request) -> Response:
        return await self._call("chat", request)

    async def completion(self, request: Request) -> Response:
        return await self._call("completion", request)

    async def models(self, request: Request) -> Response:
        models = await self.backend.models()
        wanted = request.path_params.get("model")
        if wanted is None:
            return _json({"object": "list", "data": models})
        for model in models:
            if model["id"] == wanted:
                return _json(model)
        raise RequestError(f"the model {wanted!r} isn't served here", code="R103", status=404, param="model")

    async def footprint(self, request: Request) -> Response:
        found = await asyncio.to_thread(self.ledger.get, request.path_params["id"])
        if found is None:
            raise RequestError("no request of that id is in the ledger", code="R106", status=404)
        return _json(
            {
                "id": found.id,
                "model": found.model,
                "status": found.status,
                "tokens_in": found.tokens_in,
                "tokens_out": found.tokens_out,
                "cpu_seconds": found.cpu_seconds,
                "footprint": found.footprint.to_dict(),
            }
        )

    async def health(self, _: Request) -> Response:
        balance = self.splitter.balance()
        writer = self.accounts.writer
        return _json(
            {
                "schema": "negajoule.health/1",
                "status": "ok" if not writer.failures or not writer.pending else "ledger behind",
                "version": __version__,
                "zone": self.accounts.here.factors.zone,
                "cpu_seconds": time.process_time(),
                "energy": {**balance._asdict(), "residual_relative": balance.residual_relative},
                "ledger": {"pending": writer.pending, "failed_writes": writer.failures},
            }
        )

    async def metrics(self, _: Request) -> Response:
        text = await asyncio.to_thread(self.accounts.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _call(self, task: Task, request: Request) -> Response:
        call = parse_call(task, await self._body(request))
        exchange = await self.backend.open(call)
        watch = asyncio.create_task(_cancel_when_gone(request, exchange))
        try:
            if not call.stream:
                answer = await exchange.plain()
                watch.cancel()
                return _json(answer, headers=self._headers(exchange))
            events = exchange.events()
            first = await anext(events)
        except BaseException as error:
            watch.cancel()
            if isinstance(error, asyncio.CancelledError):
                await exchange.cancel()
            raise
        return _EventStream(first, events, exchange, watch, self._headers(exchange))

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self.max_body_bytes:
                raise RequestError(
                    f"the body is larger than {self.max_body_bytes} bytes", code="R105", status=413
                )
        return bytes(body)

    def _headers(self, exchange: Exchange) -> dict[str, str]:
        headers = {
            "x-negajoule-request-id": exchange.request_id,
            "x-negajoule-zone": self.accounts.here.factors.zone,
            "x-negajoule-footprint": f"/v1/footprints/{exchange.request_id}",
        }
        cost = exchange.cost
        if cost is not None and cost.it_energy is not None:
            energy = cost.it_energy
            headers["x-negajoule-energy-j"] = f"{energy.value:.6g}"
            headers["x-negajoule-energy-j-range"] = f"{energy.low:.6g}-{energy.high:.6g}"
            headers["x-negajoule-basis"] = energy.basis
            if cost.carbon_location is not None:
                headers["x-negajoule-carbon-g"] = f"{cost.carbon_location.value:.6g}"
        return headers

    async def keep_idle(self) -> None:
        since_s = self.started_s
        try:
            while True:
                await asyncio.sleep(_IDLE_HEARTBEAT_S)
                now_s = time.time()
                self.accounts.book_idle(self.splitter.take_idle(), since_s=since_s)
                since_s = now_s
        finally:
            self.accounts.book_idle(self.splitter.take_idle(), since_s=since_s)


async def _cancel_when_gone(request: Request, exchange: Exchange) -> None:
    """Stop the work when the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    await exchange.cancel()


class _EventStream(Response):
    """Passes events on; an error in their midst ends them with an error event and without an end mark."""

    media_type = "text/event-stream"

    def __init__(
        self,
        first: bytes,
        events: AsyncIterator[bytes],
        exchange: Exchange,
        watch: asyncio.Task[None],
        headers: dict[str, str],
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(headers)
        del self.headers["content-length"]
        self._first, self._events, self._exchange, self._watch = first, events, exchange, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        done = False
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for piece in self._events:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            done = True
            await send({"type": "http.response.body", "body": b""})
        except NegajouleError as error:
            done = True
            await send({"type": "http.response.body", "body": event(error_body(error))})
        finally:
            self._watch.cancel()
            if not done:
                await self._exchange.cancel()


def _json(data: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(data), status, media_type=_JSON, headers=headers)


async def _on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, NegajouleError)
    headers = {"retry-after": "1"} if error.code == "R107" else None
    return Response(error_body(error), status_of(error), media_type=_JSON, headers=headers)


async def _on_missing(request: Request, _: Exception) -> Response:
    error = RequestError(
        f"there is no {request.url.path} here",
        code="R106",
        status=404,
        fix="see /v1/models, /v1/chat/completions, /v1/completions, /healthz, /metrics and /",
    )
    return await _on_error(request, error)


async def _on_wrong_method(request: Request, _: Exception) -> Response:
    error = RequestError(f"{request.url.path} doesn't take {request.method}", code="R106", status=405)
    return await _on_error(request, error)


async def _on_crash(_: Request, error: Exception) -> Response:
    failure = NegajouleError(f"the server failed: {type(error).__name__}", code="E102")
    return Response(error_body(failure), 500, media_type=_JSON)


def create_app(
    *,
    backend: Backend,
    accounts: Accounts,
    splitter: RequestSplitter,
    ledger: Ledger,
    max_body_bytes: int,
    pages: Sequence[BaseRoute] = (),
) -> Starlette:
    """Put the server together.

    Args:
        backend: answers calls; closed when the server stops.
        accounts: books them.
        splitter: this process's joules.
        ledger: read for single footprints.
        max_body_bytes: largest request body.
        pages: further routes, such as the dashboard's.
    """
    gateway = _Gateway(backend, accounts, splitter, ledger, max_body_bytes)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        idle = asyncio.create_task(gateway.keep_idle())
        try:
            yield
        finally:
            await backend.close()
            idle.cancel()
            with suppress(asyncio.CancelledError):
                await idle

    return Starlette(
        routes=[
            Route("/v1/chat/completions", gateway.chat, methods=["POST"]),
            Route("/v1/completions", gateway.completion, methods=["POST"]),
            Route("/v1/models", gateway.models),
            Route("/v1/models/{model:path}", gateway.models),
            Route("/v1/footprints/{id}", gateway.footprint),
            Route("/healthz", gateway.health),
            Route("/metrics", gateway.metrics),
            *pages,
        ],
        exception_handlers={
            NegajouleError: _on_error,
            404: _on_missing,
            405: _on_wrong_method,
            Exception: _on_crash,
        },
        lifespan=lifespan,
    )
