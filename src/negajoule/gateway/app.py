"""The web application: who may ask, within which limits, and how an answer or an error leaves.

Calls to a model are served here, directly on ASGI, for they come by the thousand; all other pages go through
Starlette's routes.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Router

from negajoule.errors import EngineError, NegajouleError, RequestError
from negajoule.gateway.caller import CALLER
from negajoule.gateway.dialects import CALLS, find_surface
from negajoule.gateway.door import Door, once_only
from negajoule.gateway.headers import client_id, passed_on
from negajoule.gateway.intake import Intake
from negajoule.gateway.limits import Limits
from negajoule.gateway.logs import LOGGER, log_crash, log_visit
from negajoule.gateway.pages import Pages
from negajoule.gateway.reply import Fields, Reply
from negajoule.gateway.visit import Visit
from negajoule.ledger import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from negajoule.gateway.accounts import Accounts
    from negajoule.gateway.backend import Backend, Exchange
    from negajoule.gateway.batches import Batches
    from negajoule.gateway.dialects import Surface, Talk
    from negajoule.gateway.traces import Tracer
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Ledger
    from negajoule.meter import Splitter
    from negajoule.units import Footprint

__all__ = ["Gateway", "create_app"]

_HEARTBEAT_S = 60.0
_WATCH_AFTER_S = 0.02


class Gateway:
    """The application, as ASGI calls it.

    Args:
        backend: answers calls; closed when the server stops.
        accounts: books them.
        splitter: this process's joules.
        pages: what isn't a call to a model.
        door: lets requests in.
        limits: how much and how long; may be replaced while it runs.
        tracer: records requests as spans.
        batches: runs what clients left here, if they may.
    """

    def __init__(
        self,
        backend: Backend,
        accounts: Accounts,
        splitter: Splitter,
        pages: Sequence[BaseRoute],
        door: Door,
        limits: Limits,
        tracer: Tracer | None,
        batches: Batches | None = None,
    ) -> None:
        self.door = door
        self.limits = limits
        self._backend = backend
        self._accounts = accounts
        self._splitter = splitter
        self._tracer = tracer
        self._batches = batches
        self._zone = (b"x-negajoule-zone", accounts.here.factors.zone.encode("ascii", "replace"))
        self._started_s = time.time()
        self._known_paths = {
            *CALLS,
            *(path for page in pages if "{" not in (path := getattr(page, "path", "{"))),
        }
        self._pages = Router(list(pages), redirect_slashes=False, lifespan=self._lifespan)
        accounts.metrics.watch("negajoule_in_flight", "Requests that run now", lambda: splitter.in_flight)
        accounts.metrics.watch(
            "negajoule_ledger_pending", "Rows not yet written", lambda: accounts.writer.pending
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and stop."""
        if scope["type"] == "http":
            posted = scope["method"] == "POST"
            surface = find_surface(scope["path"], scope["query_string"]) if posted else None
            if surface is None:
                await self._page(scope, receive, send)
            else:
                await self._call(surface, scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._pages(scope, receive, send)

    async def _call(self, surface: Surface, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a call to a model."""
        visit, talk = Visit("POST", surface.path, surface.task), surface.talk()
        intake, reply = Intake(receive, self.limits.max_body_bytes), Reply(send, talk)
        failure: NegajouleError | None = None
        try:
            async with asyncio.timeout(self.limits.body_timeout_s) as clock:
                headers = _headers(visit, scope)
                visit.caller = self.door.admit(surface.authorised(headers), surface.need)
                CALLER.set(visit.caller)
                call = talk.read(await intake.read())
                visit.model, visit.stream = call.model, call.stream
                visit.caller.check_model(call.model)
                passed = passed_on(scope["headers"])
                if passed:
                    call = msgspec.structs.replace(call, headers=passed)
                clock.reschedule(asyncio.get_running_loop().time() + self.limits.request_timeout_s)
                self.door.enter(visit.caller)
                try:
                    await self._answer(call, talk, visit, receive, reply)
                finally:
                    self.door.leave(visit.caller)
        except TimeoutError as error:
            status = 504 if intake.whole else 408
            late = RequestError("the request took too long", code="R112", status=status)
            failure = late if clock.expired() else _crash(error)
        except NegajouleError as error:
            failure = error
        except Exception as error:
            failure = _crash(error)
        if failure is not None:
            visit.error = failure.code
            await reply.fail(failure, self._fields(visit), intake)
        visit.status = visit.status or reply.status
        log_visit(visit)
        if self._tracer is not None:
            self._tracer.record(visit, dict(scope["headers"]))

    async def _answer(self, call: Call, talk: Talk, visit: Visit, receive: Receive, reply: Reply) -> None:
        exchange = await self._backend.open(call)
        visit.request_id = exchange.request_id
        watch = _Watch(receive, exchange, visit)
        try:
            if call.stream:
                events = talk.events(exchange.events())
                first = await anext(events)
                visit.request_id = exchange.request_id
                await reply.events(first, events, self._told(talk, visit, exchange))
            else:
                answer = talk.whole(await exchange.plain())
                visit.request_id = exchange.request_id
                await reply.whole(answer, self._told(talk, visit, exchange))
        finally:
            watch.end()
            if exchange.cost is None:
                await exchange.cancel()
            visit.take(exchange)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve any other page."""
        path = scope["path"]
        visit = Visit(scope["method"], path if path in self._known_paths else "other")
        intake, reply = Intake(receive, self.limits.max_body_bytes), Reply(send)
        failure: NegajouleError | None = None
        try:
            headers = _headers(visit, scope)
            reply.fields = self._fields(visit)
            visit.caller = self.door.admit_to_page(headers, path)
            CALLER.set(visit.caller)
            scope["app"], scope["intake"] = self, intake
            await self._pages(scope, receive, reply.send)
        except HTTPException as error:
            asks_model = find_surface(path, b"") is not None
            failure = _page_error(path, scope["method"], error, asks_model=asks_model)
            allowed = "POST" if asks_model else (error.headers or {}).get("Allow", "")
            reply.fields += [(b"allow", allowed.encode())] if allowed else []
        except NegajouleError as error:
            failure = error
        except Exception as error:
            failure = _crash(error)
        if failure is not None:
            visit.error = failure.code
            if not reply.status:
                await reply.fail(failure, reply.fields, intake, page=not path.startswith("/v1/"))
        visit.path = getattr(scope.get("route"), "path", visit.path)
        visit.status = reply.status
        log_visit(visit)

    def _fields(self, visit: Visit, exchange: Exchange | None = None) -> Fields:
        """Header fields of an answer: its ids and, once it is known, its footprint."""
        if not visit.request_id:
            visit.request_id = new_id("req")
        ours = visit.request_id.encode()
        fields = [
            (b"x-request-id", ours if visit.client_id is None else visit.client_id.encode()),
            (b"x-negajoule-request-id", ours),
        ]
        if exchange is not None:
            fields += [self._zone, (b"x-negajoule-footprint", b"/v1/footprints/" + ours)]
            if exchange.cost is not None:
                fields += _cost_fields(exchange.cost)
        return fields

    def _told(self, talk: Talk, visit: Visit, exchange: Exchange) -> Fields:
        """Header fields of a call's answer: also what of the request couldn't be passed on."""
        fields = self._fields(visit, exchange)
        fields += getattr(exchange, "fields", ())
        return [*fields, (b"x-negajoule-lost", talk.lost.encode())] if talk.lost else fields

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        self._accounts.metrics.watch(
            "negajoule_tasks", "Tasks of the server's loop", lambda: len(asyncio.all_tasks(loop))
        )
        learning = asyncio.create_task(self._learn_models())
        beat = asyncio.create_task(self._keep())
        if self._batches is not None:
            self._batches.start(self._backend, self.door, lambda: self.limits)
        try:
            yield
        finally:
            learning.cancel()
            if self._batches is not None:
                await self._batches.close()
            await self._backend.close()
            beat.cancel()
            with suppress(asyncio.CancelledError):
                await beat
            if self._tracer is not None:
                await asyncio.to_thread(self._tracer.close)

    async def _learn_models(self) -> None:
        """Find out which models have counters of their own."""
        try:
            models = await self._backend.models()
            self._accounts.metrics.know(str(model.get("served_as", model["id"])) for model in models)
        except NegajouleError as error:
            LOGGER.info("the models aren't known yet: %s", error.message)
        except Exception as error:
            log_crash(error)

    async def _keep(self) -> None:
        """Book idle time and note which keys were used, now and then and at the end."""
        since_s = self._started_s
        try:
            while True:
                await asyncio.sleep(_HEARTBEAT_S)
                now_s = time.time()
                self._accounts.book_idle(self._splitter.take_idle(), since_s=since_s)
                since_s = now_s
                await asyncio.to_thread(self.door.note_use)
                if self._accounts.metrics.met_stranger:
                    await self._learn_models()
        finally:
            self._accounts.book_idle(self._splitter.take_idle(), since_s=since_s)
            self.door.note_use()


def _headers(visit: Visit, scope: Scope) -> dict[bytes, bytes]:
    headers = once_only(scope["headers"])
    visit.client_id = client_id(headers.get(b"x-request-id"))
    return headers


def _cost_fields(cost: Footprint) -> Fields:
    energy = cost.it_energy
    if energy is None:
        return []
    fields = [
        (b"x-negajoule-energy-j", b"%.6g" % energy.value),
        (b"x-negajoule-energy-j-range", b"%.6g-%.6g" % (energy.low, energy.high)),
        (b"x-negajoule-basis", energy.basis.encode()),
    ]
    if cost.carbon_location is not None:
        fields.append((b"x-negajoule-carbon-g", b"%.6g" % cost.carbon_location.value))
    return fields


class _Watch:
    """Stops the work when the client hangs up; most calls are over before it starts to look.

    Args:
        receive: tells of the client.
        exchange: the work.
        visit: remembers that the client has gone.
    """

    __slots__ = ("_exchange", "_receive", "_start", "_task", "_visit")

    def __init__(self, receive: Receive, exchange: Exchange, visit: Visit) -> None:
        self._receive = receive
        self._exchange = exchange
        self._visit = visit
        self._task: asyncio.Task[None] | None = None
        self._start = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._look)

    def end(self) -> None:
        """The call is over."""
        self._start.cancel()
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        self._task = asyncio.create_task(self._cancel_when_gone())

    async def _cancel_when_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._visit.status = 499
        await self._exchange.cancel()


def _page_error(path: str, method: str, error: HTTPException, *, asks_model: bool) -> RequestError:
    if error.status_code == 404 and not asks_model:
        return RequestError(
            f"there is no {path[:200]} here",
            code="R106",
            status=404,
            fix=f"see {', '.join(CALLS)}, /v1/models, /openapi.json, /healthz, /metrics, /",
        )
    return RequestError(f"{path[:200]} doesn't take {method}", code="R106", status=405)


def _crash(error: Exception) -> EngineError:
    log_crash(error)
    return EngineError(f"the server failed: {type(error).__name__}", status=500)


def create_app(
    *,
    backend: Backend,
    accounts: Accounts,
    splitter: Splitter,
    ledger: Ledger,
    pages: Sequence[BaseRoute] = (),
    door: Door | None = None,
    limits: Limits | None = None,
    tracer: Tracer | None = None,
    batches: Batches | None = None,
) -> Gateway:
    """Put the server together.

    Args:
        backend: answers calls; closed when the server stops.
        accounts: books them.
        splitter: this process's joules.
        ledger: read for single footprints.
        pages: further routes, such as the dashboard's.
        door: lets requests in; by default all of them.
        limits: how much and how long; by default as the settings' defaults.
        tracer: records requests as spans.
        batches: runs what clients left here; ``None`` if they may leave nothing.
    """
    own = Pages(backend, accounts, splitter, ledger).routes()
    theirs = [] if batches is None else batches.routes()
    return Gateway(
        backend,
        accounts,
        splitter,
        [*own, *theirs, *pages],
        door or Door(),
        limits or Limits(),
        tracer,
        batches,
    )
