"""Upstream servers as a backend: bytes pass through, usage is always counted, faults are gone round.

A call may be tried again, or on the next server of its fallback list, while no byte of an answer has come.
This machine's joules for passing a call on are metered like any other; the model's own energy can't be read
from here, so it is estimated, or said to be unknown.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import EngineError, NegajouleError, RequestError
from negajoule.gateway.accounts import Tokens, until_safe
from negajoule.gateway.adapters import Frame, Usage
from negajoule.gateway.caller import CALLER
from negajoule.gateway.hop import HOP_FAULTS
from negajoule.gateway.plan import plan_for
from negajoule.gateway.replicas import Replicas
from negajoule.gateway.retry import Retry, passing
from negajoule.gateway.routes import Routes
from negajoule.gateway.server import Server, decoded
from negajoule.gateway.sse import DONE, EventCutter, data_of, event
from negajoule.gateway.words import answer_of, as_openai, request_of, stream_of
from negajoule.ledger import new_id
from negajoule.units import Footprint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from negajoule.gateway.accounts import Accounts
    from negajoule.gateway.adapters import UpstreamStream
    from negajoule.gateway.hop import Answer
    from negajoule.gateway.prices import Price
    from negajoule.gateway.routes import Route
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.meter import Splitter

    Estimate = Callable[[str, Tokens], Footprint | None]

__all__ = ["Fleet", "UpstreamBackend"]

_UNCOUNTED = Tokens()

_ENDS = re.compile(rb'"finish_reason"\s*:\s*"|"usage"\s*:\s*\{')
"""Events that may be the last: they end a choice or hold the usage."""

_STIRS = re.compile(_ENDS.pattern + rb"|\[DONE\]|\r")
"""What isn't in whole events that simply pass."""


class Fleet:
    """Passes calls on to servers, each to the one that has its model.

    Args:
        servers: the servers, in order of preference.
        splitter: splits this process's joules over the calls that pass.
        accounts: books them.
        retry: how often and how patiently each server is tried.

    Attributes:
        retired: servers that are to be let go once their last calls end; see ``turnover``.
        leaving: the tasks that do so.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        splitter: Splitter,
        accounts: Accounts,
        *,
        retry: Retry | None = None,
    ) -> None:
        self.splitter = splitter
        self.accounts = accounts
        self.retry = retry or Retry()
        self.routes = Routes(servers)
        self.retired: list[Server] = []
        self.leaving: set[asyncio.Task[None]] = set()
        self.replicas = Replicas(self.running_at)
        self._open: set[UpstreamExchange] = set()

    async def models(self) -> list[dict[str, Any]]:
        """The models of all servers that can be asked; the first server to list a name counts.

        Raises:
            EngineError: (E103, E104) if none can be asked.
        """
        return await self.routes.models()

    async def open(self, call: Call) -> UpstreamExchange:
        """Take a call on.

        Raises:
            RequestError: (R102, R103, R104) if no server has the model, or none that could answer this call.
        """
        routes = self.routes.find(call)
        if routes[0].server.plan.replica_of:
            routes = self.replicas.order(call, routes)
        exchange = UpstreamExchange(self, call, routes)
        self._open.add(exchange)
        return exchange

    async def close(self) -> None:
        """Book what is still open and let the connections go."""
        for exchange in list(self._open):
            await exchange.cancel()
        for task in self.leaving:
            task.cancel()
        for server in (*self.routes.servers, *self.retired):
            await server.close()

    def running_at(self, server: Server) -> int:
        """How many calls run at a server."""
        return sum(exchange.is_at(server) for exchange in self._open)

    def may_ask(self, server: Server) -> bool:
        """Whether a call under way may come to a server."""
        return any(exchange.may_ask(server) for exchange in self._open)

    def dearest(self, model: str, tokens: Tokens) -> Footprint | None:
        """The highest estimate among all servers that may come to answer; ``None`` if one isn't known.

        Args:
            model: the public name.
            tokens: the counts.
        """
        costs = [route.server.estimate(route.model, tokens) for route in self.routes.of_model(model)]
        highest: Footprint | None = None
        for cost in costs:
            if cost is None or cost.it_energy is None:
                return None
            if highest is None or highest.it_energy is None or cost.it_energy.high > highest.it_energy.high:
                highest = cost
        return highest

    def forget(self, exchange: UpstreamExchange) -> None:
        """An exchange has been booked."""
        self._open.discard(exchange)


class UpstreamBackend(Fleet):
    """One OpenAI-compatible server.

    Args:
        url: its base, with or without ``/v1``.
        splitter: splits this process's joules over the calls that pass.
        accounts: books them.
        estimate: footprint of the model's own work; ``None`` from it means unknown.
        key: sent as bearer token; without it the client's own ``Authorization`` isn't passed on.
        silence_s: longest silence before the server counts as gone [s].
        retry: how often and how patiently it is tried.
    """

    def __init__(
        self,
        url: str,
        splitter: Splitter,
        accounts: Accounts,
        *,
        estimate: Estimate,
        key: str | None = None,
        silence_s: float = 600.0,
        retry: Retry | None = None,
    ) -> None:
        server = Server(plan_for(url), estimate=estimate, key=key, silence_s=silence_s)
        super().__init__([server], splitter, accounts, retry=retry)


class UpstreamExchange:
    """One call passed on; booked once, under the model that answered, however it ends."""

    def __init__(self, fleet: Fleet, call: Call, routes: Sequence[Route]) -> None:
        self.request_id = new_id("req")
        self.cost: Footprint | None = None
        self.status: Status = "ok"
        self.tokens = Tokens()
        self._fleet = fleet
        self._call = call
        self._routes = routes
        self._route = routes[0]
        self._tries: list[str] = []
        self._caller = CALLER.get()
        self._started_s = time.time()
        self._asked_s = 0.0
        self._response: Answer | None = None
        self._begun = False
        self._stream: UpstreamStream | None = None
        self._held: bytes | None = None
        fleet.splitter.begin(self.request_id)

    async def plain(self) -> dict[str, Any]:
        """The whole answer."""
        async with self._booked_on_failure():
            response, _ = await self._connect()
            data = await response.read()
            answer = answer_of(data, self._route.server.plan.provider_for(self._call), self._frame())
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
        async with self._booked_on_failure():
            cutter = EventCutter()
            async for piece in await self._pieces():
                passing, rest = _parted(piece) if cutter.is_empty else (b"", piece)
                if passing:
                    passing = self._release() + passing
                if not rest:
                    yield passing
                    continue
                ready = bytearray(passing)
                for raw in cutter.feed(rest):
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

    def is_at(self, server: Server) -> bool:
        """Whether a server is the one that it is at now."""
        return self._route.server is server

    def may_ask(self, server: Server) -> bool:
        """Whether it may come to a server."""
        return any(route.server is server for route in self._routes)

    @property
    def price(self) -> Price | None:
        """What the server that answered asks for its tokens."""
        return self._route.server.plan.price_of(self._call.model)

    async def cancel(self) -> None:
        """The client has gone: drop the connection, keep the account."""
        await self._book("cancelled")

    @asynccontextmanager
    async def _booked_on_failure(self) -> AsyncIterator[None]:
        try:
            yield
        except NegajouleError as error:
            if error.code == "E103":
                self._blame()
            await self._book("failed")
            raise
        except HOP_FAULTS as error:
            self._blame()
            await self._book("failed")
            raise self._route.server.unreachable(error) from None
        except asyncio.CancelledError:
            await self._book("cancelled")
            raise

    def _blame(self) -> None:
        """Tell the breaker of a server that broke off, unless it was the client who did."""
        if self._begun and self.cost is None:
            self._route.server.breaker.failed(time.monotonic())

    async def _connect(self) -> tuple[Answer, bytes]:
        """An answer that has begun, and what of its stream has come; tried again and elsewhere until then.

        Raises:
            EngineError: (E103) the last failure, if no server answers.
            RequestError: (R102, R103) if the call can't be put to the first server.
        """
        failure: EngineError | None = None
        for route in self._routes:
            try:
                path, body = request_of(self._call, route.server.plan.provider_for(self._call), route.model)
            except RequestError as error:
                if failure is None:
                    raise
                self._tries.append(f"{route.server.plan.name} can't be asked: {error.message}")
                continue
            self._route = route
            tried = 0
            while True:
                try:
                    return await self._try(route.server, path, body)
                except EngineError as error:
                    if self.cost is not None or not passing(error.status):
                        raise
                    failure = error
                tried += 1
                self._tries.append(f"a try at {route.server.plan.name} failed: {failure.message[:200]}")
                resting = route.server.breaker.state(time.monotonic()) != "closed"
                wait_s = self._fleet.retry.wait_s(
                    tried, failure.status, failure.retry_after_s, random.random()
                )
                if wait_s is None or resting:
                    break
                await asyncio.sleep(wait_s)
        assert failure is not None, "a call has at least one route"
        raise failure

    async def _try(self, server: Server, path: str, body: bytes) -> tuple[Answer, bytes]:
        """Ask a server once; its breaker hears how that went."""
        if self.cost is not None:
            raise EngineError("the client went away", code="E103", status=499)
        ticket = server.breaker.enter(time.monotonic())
        if not ticket:
            raise server.resting(time.monotonic())
        self._asked_s = time.monotonic()
        try:
            self._response = response = await server.post(path, body, self._call.headers)
            if self.cost is not None:
                response.close()
                raise EngineError("the client went away", code="E103", status=499)
            first = b""
            if self._call.stream:
                try:
                    first = await response.piece()
                except HOP_FAULTS as error:
                    raise server.unreachable(error) from None
                if not first:
                    raise EngineError("the upstream broke off before its answer began", code="E103")
        except EngineError as error:
            if self._response is not None:
                self._response.close()
            if self.cost is not None:
                server.breaker.released(ticket)
            elif error.status >= 500:
                server.breaker.failed(time.monotonic(), ticket)
            else:
                server.breaker.succeeded()
            raise
        except BaseException:
            server.breaker.released(ticket)
            raise
        server.breaker.succeeded()
        self._begun = True
        return response, first

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The answer's stream in OpenAI's words, once it has begun."""
        response, first = await self._connect()
        pieces = _joined(first, response)
        self._stream = stream_of(self._route.server.plan.provider_for(self._call), self._frame())
        return pieces if self._stream is None else as_openai(pieces, self._stream)

    def _frame(self) -> Frame:
        return Frame(self.request_id, int(self._started_s), self._route.model)

    def _passed(self, raw: bytes, data: bytes | None) -> bytes:
        """What leaves when this event comes: itself as it is, or the one held back before it, or nothing.

        An event that ends a choice or holds the usage is held back: it may be the last before the end mark.
        """
        if data is None or not _ENDS.search(data):
            return self._release() + raw + b"\n\n"
        chunk = decoded(data)
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
        chunk = decoded(self._held) if self._held is not None else None
        if not isinstance(chunk, dict):
            chunk = {"object": "chat.completion.chunk", "model": self._call.model, "choices": []}
        return event(msgspec.json.encode({**chunk, "footprint": self._footprint()}))

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._take(Usage.of(usage))

    def _take(self, usage: Usage) -> None:
        told = Tokens(usage.prompt, usage.cached, usage.completion)
        self.tokens = told if self.tokens == _UNCOUNTED else self.tokens.larger(told)

    async def _book(self, status: Status) -> None:
        if self.cost is not None:
            return
        self.status = status
        if self._response is not None:
            self._response.release() if status == "ok" else self._response.close()
        if self._stream is not None and self._stream.usage.known:
            self._take(self._stream.usage)
        fleet, route = self._fleet, self._route
        share = fleet.splitter.end(self.request_id)
        own = fleet.accounts.here.cost(share.parts, share.node_seconds)
        theirs = route.server.cost_of(route.model, self.tokens, self._asked_s)
        if theirs is None:
            note = "the energy of the upstream's model isn't known; the parts list this machine's only"
            cost = Footprint(
                boundary=own.boundary, parts=own.parts, factors=own.factors, notes=(*own.notes, note)
            )
        else:
            cost = own + theirs
        told = [*self._tries]
        if route.model != self._call.model:
            told.append(
                f"{self._call.model!r} was asked for; {route.server.plan.name} has it as {route.model!r}"
            )
        self.cost = msgspec.structs.replace(cost, notes=(*told, *cost.notes)) if told else cost
        fleet.forget(self)
        written = fleet.accounts.book_request(
            request_id=self.request_id,
            model=route.model,
            status=status,
            started_s=self._started_s,
            tokens=self.tokens,
            cpu_seconds=share.cpu_seconds,
            cost=self.cost,
            own=own,
            caller=self._caller,  # a server that stops books for those whose tasks are elsewhere
        )
        await until_safe(written)

    def _footprint(self) -> dict[str, Any]:
        assert self.cost is not None, "a call that has ended has been booked"
        return {"request_id": self.request_id, **self.cost.to_dict(detail=False)}


def _parted(piece: bytes) -> tuple[bytes, bytes]:
    """What begins with an event: the whole events that simply pass, and the rest, which must be looked at."""
    found = _STIRS.search(piece)
    end = piece.rfind(b"\n\n", 0, len(piece) if found is None else found.start()) + 2
    return (piece[:end], piece[end:]) if end > 1 else (b"", piece)


async def _joined(first: bytes, response: Answer) -> AsyncIterator[bytes]:
    yield first
    async for piece in response.pieces():
        yield piece
