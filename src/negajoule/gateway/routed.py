"""A backend that lets a pool of models answer: ``negajoule/auto`` goes to the one that fits best.

It stands above the budgets, which hold what they hold: a model that they refuse gives way to the next one. So
does a model that can't be reached before its answer begins.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.catalog import lookup
from negajoule.errors import EngineError, RequestError
from negajoule.gateway.accounts import Tokens
from negajoule.gateway.caller import CALLER
from negajoule.gateway.decisions import DecisionLog, Judgeable
from negajoule.gateway.pool_plan import WISHES
from negajoule.gateway.sse import DONE, event
from negajoule.ledger import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from negajoule.errors import NegajouleError
    from negajoule.gateway.backend import Backend, Exchange
    from negajoule.gateway.metrics import Metrics
    from negajoule.gateway.pool import Pool, Ruling
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.units import Footprint

__all__ = ["ROUTE_HEADER", "RoutedBackend"]

ROUTE_HEADER = "x-negajoule-route"
_DRY = "dry-run"
_TRIES = 3
_GIVES_WAY = frozenset({"R103", "R104", "R107", "R108", "R109"})
"""Refusals of one model that say nothing of another."""


class RoutedBackend:
    """Sends calls for a pool to one of its models.

    Args:
        inner: answers them.
        pools: the pools.
        metrics: shows what was decided.
        check: raises if a model surely can't answer a call.
        log: where decisions go.
    """

    def __init__(
        self,
        inner: Backend,
        pools: Sequence[Pool],
        metrics: Metrics,
        check: Callable[[Call], None] = lambda call: None,
        log: DecisionLog | None = None,
    ) -> None:
        self.inner = inner
        self.log = DecisionLog() if log is None else log
        self.fallbacks = 0
        self.judged = 0
        self._check = check
        self._pools: dict[str, Pool] = {}
        self.replace(pools)
        core_w = lookup("cpu.core.active_power").value
        watch = metrics.watch

        def total(name: str) -> Callable[[], float]:
            return lambda: float(sum(getattr(pool, name) for pool in self._pools.values()))

        watch("negajoule_route_decisions", "Calls whose model a pool chose", total("decisions"))
        watch("negajoule_route_learned", "Of these, where the prompt overruled the mix", total("learned"))
        watch("negajoule_route_blind", "Of these, without a look at the prompt", total("blind"))
        watch("negajoule_route_explored", "Of these, by chance, to learn", total("explored"))
        watch("negajoule_route_kept", "Of these, kept by their conversation's model", total("kept"))
        watch("negajoule_route_fallbacks", "Times that a chosen model gave way", lambda: self.fallbacks)
        watch("negajoule_route_judged", "Answers that were judged", lambda: self.judged)
        watch("negajoule_route_cpu_seconds", "CPU time of deciding", total("cpu_s"))
        cpu_s = total("cpu_s")
        watch(
            "negajoule_route_assumed_joules",
            "Energy of that time at the catalogue's power of a core; in the requests' joules already",
            lambda: core_w * cpu_s(),
        )

    def replace(self, pools: Sequence[Pool]) -> None:
        """Let other pools decide from now on; what was learned of a pool of the same name stays."""
        for pool in pools:
            before = self._pools.get(pool.plan.name)
            if before is not None:
                pool.inherit(before)
        self._pools = {pool.plan.name: pool for pool in pools}

    async def models(self) -> list[dict[str, Any]]:
        """The models of what stands behind, and the names of pools."""
        names = [
            {
                "id": f"{name}/{wish}",
                "object": "model",
                "created": 0,
                "owned_by": "negajoule",
                "pool": list(pool.plan.models),
            }
            for name, pool in self._pools.items()
            for wish in WISHES
        ]
        return [*await self.inner.models(), *names]

    async def open(self, call: Call) -> Exchange:
        """Take a call on, for a pool by the model that it chooses.

        Raises:
            RequestError: (R111) if the caller may ask none of the pool's models; else as what stands behind
                says of the model that was chosen.
        """
        wanted = call.headers.get(ROUTE_HEADER)
        if wanted is not None:
            headers = {name: value for name, value in call.headers.items() if name != ROUTE_HEADER}
            call = msgspec.structs.replace(call, headers=headers)
            if wanted != _DRY:
                raise RequestError(f"the header {ROUTE_HEADER} says {wanted[:40]!r}", fix=f"say {_DRY}")
        if not self.is_pool(call.model):
            if wanted is not None:
                raise _no_pool(call.model, self._pools)
            return await self.inner.open(call)
        ruling = self.rule(call)
        if wanted is not None:
            return DryExchange(call, ruling)
        exchange = RoutedExchange(self, call, ruling)
        await exchange.begin()
        return exchange

    def is_pool(self, model: str) -> bool:
        """Whether a name is that of a pool with a wish."""
        name, _, wish = model.rpartition("/")
        return wish in WISHES and name in self._pools

    def rule(self, call: Call) -> Ruling:
        """Decide who answers a call for a pool; nothing is sent.

        Raises:
            RequestError: (R103) if it is for no pool, (R111) if the caller may ask none of its models; the
                refusal of the first if none could answer.
        """
        if not self.is_pool(call.model):
            raise _no_pool(call.model, self._pools)
        name, _, wish = call.model.rpartition("/")
        pool, caller = self._pools[name], CALLER.get()
        allowed = [model for model in pool.plan.models if caller.may_ask(model)]
        if not allowed:
            caller.check_model(pool.plan.models[0])
        able: list[str] = []
        refusal: RequestError | None = None
        for model in allowed:
            try:
                self._check(msgspec.structs.replace(call, model=model))
                able.append(model)
            except RequestError as error:
                refusal = refusal or error
        if not able:
            assert refusal is not None, "who isn't able was refused"
            raise refusal
        return pool.rule(call, wish, able)

    async def close(self) -> None:
        """Close what stands behind."""
        await self.inner.close()


class RoutedExchange:
    """A call on its way to a pool's model, or to the next one where that gives way.

    Args:
        backend: whose call it is.
        call: what was asked.
        ruling: what was decided.
    """

    def __init__(self, backend: RoutedBackend, call: Call, ruling: Ruling) -> None:
        self.ruling = ruling
        self.served = ruling.model
        self._backend = backend
        self._call = call
        self._caller = CALLER.get().name
        self._left = [model for model in ruling.order if model not in ruling.pool.plan.trial][:_TRIES]
        self._gave_way: list[str] = []
        self._inner: Exchange | None = None
        self._ticket = 0
        self._noted = False

    async def begin(self) -> None:
        """Put it to the first model that takes it on.

        Raises:
            NegajouleError: what the first said, if none does.
        """
        first: NegajouleError | None = None
        while self._left:
            self.served = self._left.pop(0)
            breaker = self.ruling.pool.breakers[self.served]
            self._ticket = breaker.enter(time.monotonic())
            try:
                self._inner = await self._backend.inner.open(_asking(self._call, self.served))
            except (EngineError, RequestError) as error:
                if isinstance(error, EngineError):
                    breaker.failed(time.monotonic(), self._ticket)
                else:
                    breaker.released(self._ticket)
                first = first or error
                if isinstance(error, RequestError) and error.code not in _GIVES_WAY:
                    raise
                self._note_way(error)
            except BaseException:
                breaker.released(self._ticket)
                raise
            else:
                return
        assert first is not None, "a pool has a model"
        raise first

    @property
    def request_id(self) -> str:
        """Its id: that of the call behind."""
        return self._behind.request_id

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Header fields: who answers and why."""
        ruling = self.ruling
        view = ruling.view(self.served)
        reason = ruling.reason
        if self._gave_way:
            reason = f"{self.served} answers, since {'; '.join(self._gave_way)}. Decided was: {reason}"
        told = [
            (b"x-negajoule-route-model", _ascii(self.served)),
            (b"x-negajoule-route-reason", _ascii(reason)),
            (b"x-negajoule-route-cpu-us", b"%.0f" % (1e6 * ruling.cpu_s)),
        ]
        if view is not None and view.energy_j is not None:
            told.append((b"x-negajoule-route-predicted-j", b"%.6g" % view.energy_j))
        if ruling.decision is not None:
            told.append((b"x-negajoule-route-task", _ascii(ruling.decision.task)))
        if ruling.shadowed:
            told.append((b"x-negajoule-route-shadow", _ascii(ruling.shadowed)))
        return [*told, *getattr(self._inner, "fields", ())]

    async def plain(self) -> dict[str, Any]:
        """The whole answer."""
        while True:
            try:
                answer = await self._behind.plain()
            except EngineError as error:
                await self._next(error)
                continue
            self._learn()
            return answer

    async def events(self) -> AsyncIterator[bytes]:
        """The answer's events."""
        begun = False
        while True:
            try:
                async for piece in self._behind.events():
                    begun = True
                    yield piece
            except EngineError as error:
                if begun:
                    self._failed()
                    raise
                await self._next(error)
                continue
            self._learn()
            return

    @property
    def cost(self) -> Footprint | None:
        """The footprint."""
        return self._behind.cost

    @property
    def status(self) -> Status:
        """How it ended."""
        return self._behind.status

    @property
    def tokens(self) -> Tokens:
        """What was counted."""
        return self._behind.tokens

    async def cancel(self) -> None:
        """The client has gone."""
        await self._behind.cancel()
        if not self._noted:
            self._noted = True
            self.ruling.pool.breakers[self.served].released(self._ticket)
            self.ruling.pool.learn(self.ruling, self.served, None)

    @property
    def _behind(self) -> Exchange:
        assert self._inner is not None, "a call that was opened has begun"
        return self._inner

    async def _next(self, error: EngineError) -> None:
        """Go on with the next model.

        Raises:
            EngineError: the same, if there is none.
        """
        self._failed()
        if not self._left:
            raise error
        self._note_way(error)
        self._noted = False
        await self.begin()

    def _failed(self) -> None:
        self.ruling.pool.breakers[self.served].failed(time.monotonic(), self._ticket)
        self._noted = True

    def _note_way(self, error: NegajouleError) -> None:
        self._backend.fallbacks += 1
        self._gave_way.append(f"{self.served} gave way ({error.code})")

    def _learn(self) -> None:
        pool, cost = self.ruling.pool, self.cost
        self._noted = True
        pool.breakers[self.served].succeeded()
        told = getattr(self._inner, "fields", ())
        made_less = any(name == b"x-negajoule-degraded" for name, _ in told)
        pool.learn(self.ruling, self.served, None if made_less else cost)
        energy = None if cost is None else cost.it_energy
        self._backend.log.ended(
            self.request_id,
            Judgeable(self.ruling, self.served, self._caller),
            None if energy is None else energy.value,
        )


class DryExchange:
    """What would be done with a call, told in the shape of an answer; no model runs.

    Args:
        call: the call.
        ruling: what was decided.
    """

    def __init__(self, call: Call, ruling: Ruling) -> None:
        self.request_id = new_id("req")
        self.cost: Footprint | None = None
        self.status: Status = "ok"
        self.tokens = Tokens()
        self.fields = [(b"x-negajoule-route-model", _ascii(ruling.model))]
        self._call = call
        self._ruling = ruling

    async def plain(self) -> dict[str, Any]:
        """The decision."""
        return self._answer(chunk=False)

    async def events(self) -> AsyncIterator[bytes]:
        """The decision as one event."""
        yield event(msgspec.json.encode(self._answer(chunk=True))) + DONE

    async def cancel(self) -> None:
        """There is nothing to stop."""

    def _answer(self, *, chunk: bool) -> dict[str, Any]:
        chat, said = self._call.task != "completion", self._ruling.reason
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        if chat:
            choice["delta" if chunk else "message"] = {"role": "assistant", "content": said}
        else:
            choice["text"] = said
        kind = "chat.completion.chunk" if chunk else "chat.completion"
        return {
            "id": self.request_id,
            "object": kind if chat else "text_completion",
            "created": int(time.time()),
            "model": self._ruling.model,
            "choices": [choice],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            "route": self._ruling.told(),
        }


def _asking(call: Call, model: str) -> Call:
    raw = msgspec.json.encode({**call.body(), "model": model})
    return msgspec.structs.replace(call, model=model, raw=raw)


def _no_pool(model: str, pools: dict[str, Pool]) -> RequestError:
    names = [f"{name}/{wish}" for name in pools for wish in WISHES]
    return RequestError(
        f"the model {model!r} is no pool",
        code="R103",
        status=404,
        param="model",
        fix=f"use {', '.join(names)}",
    )


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace").replace(b"\n", b" ").replace(b"\r", b" ")
