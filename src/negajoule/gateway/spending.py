"""Budgets before and after each call: set its bound aside, or less, or refuse it; charge what it took.

What a call took is charged by its best estimate. What isn't known of it is charged at the bound, and so is a
call whose end nobody saw. A call that an upstream refused before it took it on, or that never ran, is
charged nothing.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.errors import EngineError, LedgerError, NegajouleError, RequestError
from negajoule.gateway.bounds import INDICATORS, Ask, Rates, figures
from negajoule.gateway.caller import CALLER
from negajoule.gateway.logs import LOGGER
from negajoule.gateway.prices import unpriced
from negajoule.ledger import new_id
from negajoule.ledger.accounts import Refusal
from negajoule.ledger.accounts.amounts import scale_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from negajoule.gateway.accounts import Accounts, Tokens
    from negajoule.gateway.backend import Backend, Exchange
    from negajoule.gateway.caller import Caller
    from negajoule.gateway.prices import Tariff
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.ledger.accounts import Account, Reservation, Teller
    from negajoule.units import Footprint

__all__ = ["BudgetedBackend", "BudgetedExchange", "Degrading"]

_FEWEST_TOKENS = 16
"""Shorter answers aren't worth asking for: rather refuse."""

_NEVER_RAN = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429})
"""What an upstream answers to a request that it didn't take on."""

_ATTEMPTS = 3
_MORE_EVENTS = 1.125  # events for each token of the limit
_EMPTY_EVENTS = 32
_LARGEST_UNITS = 2.0**52


class Degrading(NamedTuple):
    """What is done to calls that a budget counts.

    Attributes:
        output_tokens: limit of the answer of a call that sets none [tokens].
        cheaper_models: asked instead, in this order, where the one asked for doesn't fit.
    """

    output_tokens: int = 1024
    cheaper_models: tuple[str, ...] = ()


class BudgetedBackend:
    """A backend that calls reach only within their budgets.

    Args:
        inner: answers the calls.
        accounts: books them, and tells how each ended.
        teller: this worker's counter; closed with this backend.
        rates: bounds calls.
        degrading: what is done before a call is refused.
        tariff: what calls cost in money; ``None`` if nobody said.
    """

    def __init__(
        self,
        inner: Backend,
        accounts: Accounts,
        teller: Teller,
        rates: Rates,
        degrading: Degrading,
        tariff: Tariff | None = None,
    ) -> None:
        self.teller = teller
        self._inner = inner
        self._rates = rates
        self._degrading = degrading
        self._tariff = tariff
        self._holds: dict[str, BudgetedExchange] = {}
        self._probes: dict[str, asyncio.Event] = {}
        self._stopping = threading.Event()
        self.overruns = self.degraded = self.refused = 0
        accounts.watcher = self
        watch = accounts.metrics.watch
        watch("negajoule_budget_open", "Calls that hold a budget", lambda: teller.open_reservations)
        watch("negajoule_budget_refused", "Calls refused by a budget since the start", lambda: self.refused)
        watch(
            "negajoule_budget_degraded", "Calls degraded for a budget since the start", lambda: self.degraded
        )
        watch("negajoule_budget_overruns", "Calls beyond their bound since the start", lambda: self.overruns)
        self._tender = threading.Thread(target=self._tend, name="negajoule-budgets", daemon=True)
        self._tender.start()

    async def models(self) -> list[dict[str, Any]]:
        """The models of what stands behind."""
        return await self._inner.models()

    async def open(self, call: Call) -> Exchange:
        """Take a call on within its budgets.

        Raises:
            RequestError: (R108) if a budget has no room for it, (R109) if its cost can't be bounded.
            LedgerError: (L101) if the budgets can't be reached; nothing is let through then.
        """
        caller = CALLER.get()
        budgets = self._budgets(caller, call.model)
        if not budgets or call.task == "count":
            return await self._inner.open(call)
        await self._learnt(call.model)
        try:
            hold = await self._hold(call, caller, budgets)
        except BaseException as error:
            self._probe_ended(call.model)
            self.refused += isinstance(error, RequestError)
            raise
        try:
            inner = await self._inner.open(hold.call)
        except BaseException:
            self.teller.release(hold.reservation)
            self._probe_ended(call.model)
            raise
        exchange = BudgetedExchange(self, inner, hold)
        self._holds[inner.request_id] = exchange
        return exchange

    async def close(self) -> None:
        """Let running calls finish, charge them, give back what is left."""
        await self._inner.close()
        self._stopping.set()
        await asyncio.to_thread(self._tender.join)
        try:
            await asyncio.to_thread(self.teller.close)
        except LedgerError as error:
            LOGGER.error("budgets: %s", error.message)

    def booked(
        self, request_id: str, model: str, status: Status, tokens: Tokens, cost: Footprint, own: Footprint
    ) -> None:
        """Charge a call that was booked; see ``Watcher``."""
        if status == "ok":
            self._rates.learn(model, tokens, own)
        exchange = self._holds.get(request_id)
        if exchange is None:
            return
        actual = figures(cost, "value")
        if status == "failed" and None in actual.values():
            return  # whether it ran at all shows when its error comes
        self.settle(exchange, actual)

    def dropped(self, request_id: str) -> None:
        """Give back what a call held that never ran; see ``Watcher``."""
        exchange = self._holds.get(request_id)
        if exchange is not None:
            self.release(exchange)

    def settle(self, exchange: BudgetedExchange, actual: dict[str, float | None] | None) -> None:
        """Charge a call, once; what isn't known of it at its bound."""
        if self._forget(exchange):
            if self._tariff is not None and actual is not None:
                actual = {**actual, **self._tariff.actual(exchange.inner)}
            receipt = self.teller.settle(exchange.hold.reservation, actual)
            self.overruns += receipt.overrun

    def release(self, exchange: BudgetedExchange) -> None:
        """Give back what a call held, once."""
        if self._forget(exchange):
            self.teller.release(exchange.hold.reservation)

    def _forget(self, exchange: BudgetedExchange) -> bool:
        self._probe_ended(exchange.hold.call.model)
        return self._holds.pop(exchange.request_id, None) is not None

    def _budgets(self, caller: Caller, model: str) -> tuple[Account, ...]:
        return self.teller.accounts_for(
            key=caller.name, team=caller.team, project=caller.project, model=model
        )

    async def _learnt(self, model: str) -> None:
        """Wait until it is known what a token takes, or be the one that finds out."""
        while not self._rates.known(model):
            probe = self._probes.get(model)
            if probe is None:
                self._probes[model] = asyncio.Event()
                return
            await probe.wait()

    def _probe_ended(self, model: str) -> None:
        probe = self._probes.pop(model, None)
        if probe is not None:
            probe.set()

    async def _hold(self, call: Call, caller: Caller, budgets: Sequence[Account]) -> Hold:
        """Set a call's bound aside, of a lesser one if need be."""
        ask = Ask.of(call)
        if not self._rates.known(call.model):
            return await self._hold_all(_limited(call, ask, self._limit(ask)), budgets)
        longest = self._limit(ask)
        found = await self._reserve(call.model, ask, longest, budgets)
        model = call.model
        if isinstance(found, Refusal) and found.reason != "unknown":
            found, model, longest = await self._hold_less(found, call, ask, caller, budgets)
        if isinstance(found, Refusal):
            if self._tariff is not None and found.reason == "unknown" and _counts_money(found.account):
                raise unpriced(found.account, model, self._tariff.currencies(model))
            raise found.to_error(_field(call))
        notes = [] if model == call.model else [f"model={model}"]
        if longest < self._limit(ask):
            notes.append(f"max_tokens={longest}")
        self.degraded += bool(notes)
        lesser = call if model == call.model else _asking(call, model)
        told = _told(ask, longest)
        return Hold(_limited(lesser, ask, longest), found, tuple(notes), told, longest * ask.answers)

    async def _hold_less(
        self, refusal: Refusal, call: Call, ask: Ask, caller: Caller, budgets: Sequence[Account]
    ) -> tuple[Reservation | Refusal, str, int]:
        """What can be set aside for less than was asked: a cheaper model, then a shorter answer.

        Returns:
            What was set aside or the first refusal, the model, and the limit of its answer.
        """
        longest = self._limit(ask)
        cheaper: list[tuple[str, Sequence[Account]]] = [
            (model, self._budgets(caller, model))
            for model in self._degrading.cheaper_models
            if model != call.model and caller.may_ask(model) and self._rates.known(model)
        ]
        for model, theirs in cheaper:
            found = await self._reserve(model, ask, longest, theirs)
            if not isinstance(found, Refusal):
                return found, model, longest
        if longest > _FEWEST_TOKENS:
            for model, theirs in ((call.model, budgets), *cheaper):
                shorter = longest
                for _ in range(_ATTEMPTS):
                    shorter = await self._fitting(model, ask, shorter, theirs)
                    if shorter < _FEWEST_TOKENS:
                        break
                    found = await self._reserve(model, ask, shorter, theirs)
                    if not isinstance(found, Refusal):
                        return found, model, shorter
        return refusal, call.model, longest

    async def _hold_all(self, call: Call, budgets: Sequence[Account]) -> Hold:
        """Set all there is aside for the first call of a model, which shows what a token takes."""
        headroom = await asyncio.to_thread(self.teller.quote, budgets)
        bounds: dict[str, float | None] = {}
        money = () if self._tariff is None else self._tariff.currencies(call.model)
        for name in (*INDICATORS, *money):
            smallest, amount = 1.0 / scale_of(name), headroom.amounts.get(name, 0.0)
            bounds[name] = max(smallest, min(amount * (1 - 1e-9), _LARGEST_UNITS * smallest))
        found = await self._take(bounds, budgets)
        if isinstance(found, Refusal):
            raise found.to_error(_field(call))
        return Hold(call, found, (), _told(Ask.of(call), None))

    async def _reserve(
        self, model: str, ask: Ask, output_tokens: int, budgets: Sequence[Account]
    ) -> Reservation | Refusal:
        return await self._take(self._bound(model, ask.tokens(output_tokens)), budgets)

    def _bound(self, model: str, tokens: Tokens | None) -> dict[str, float | None]:
        bounds = self._rates.bound(model, tokens)
        if self._tariff is not None:
            bounds.update(self._tariff.bound(model, tokens, bounds))
        return bounds

    async def _take(
        self, bounds: dict[str, float | None], budgets: Sequence[Account]
    ) -> Reservation | Refusal:
        name = new_id("hold")
        found = self.teller.reserve_now(name, bounds, budgets)
        if found is None:
            found = await self._reserve_at_store(name, bounds, budgets)
        return found

    async def _reserve_at_store(
        self, name: str, bounds: dict[str, float | None], budgets: Sequence[Account]
    ) -> Reservation | Refusal:
        """Reserve in a thread; what it gets for a client that has gone meanwhile goes back."""
        work = asyncio.ensure_future(asyncio.to_thread(self.teller.reserve, name, bounds, budgets))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._give_back)
            raise

    def _give_back(self, work: asyncio.Future[Reservation | Refusal]) -> None:
        if not work.cancelled() and work.exception() is None:
            found = work.result()
            if not isinstance(found, Refusal):
                self.teller.release(found)

    async def _fitting(self, model: str, ask: Ask, longest: int, budgets: Sequence[Account]) -> int:
        """The longest answer that fits what the budgets have left; 0 if not even the prompt does."""
        headroom = await asyncio.to_thread(self.teller.quote, budgets)
        least = self._bound(model, ask.tokens(0))
        most = self._bound(model, ask.tokens(longest))
        fits = longest - 1
        for name, amount in headroom.amounts.items():
            low, high = least.get(name), most.get(name)
            if low is None or high is None or amount < low:
                return 0
            if high > amount:
                fits = min(fits, int((amount - low) / (high - low) * longest))
        return fits

    def _limit(self, ask: Ask) -> int:
        return self._degrading.output_tokens if ask.output_tokens is None else ask.output_tokens

    def _tend(self) -> None:
        while not self._stopping.wait(self.teller.tend_s):
            try:
                self.teller.tend()
            except LedgerError as error:
                LOGGER.error("budgets: %s", error.message)


class Hold(NamedTuple):
    """What was set aside for a call.

    Attributes:
        call: the call as it goes on.
        reservation: what it holds.
        degraded: what was made less of it.
        told: further header fields of its answer.
        output_tokens: limit of all its answers together; ``None`` if there is none.
    """

    call: Call
    reservation: Reservation
    degraded: tuple[str, ...]
    told: tuple[tuple[bytes, bytes], ...]
    output_tokens: int | None = None

    @property
    def most_events(self) -> float:
        """How many events a stream may have before it is cut.

        An event with text holds a token or more, so more events than tokens were allowed show a server that
        ignores its limit. Some events hold no text, hence the room.
        """
        if self.output_tokens is None:
            return float("inf")
        return self.output_tokens * _MORE_EVENTS + _EMPTY_EVENTS


class BudgetedExchange:
    """An exchange that is charged once, however it ends.

    Args:
        backend: charges it.
        inner: the exchange itself.
        hold: what was set aside for it.

    Attributes:
        fields: header fields that say what was done for the budget's sake.
    """

    def __init__(self, backend: BudgetedBackend, inner: Exchange, hold: Hold) -> None:
        self.request_id = inner.request_id
        self.hold = hold
        self.fields = [*hold.told]
        if hold.degraded:
            self.fields.append((b"x-negajoule-degraded", "; ".join(hold.degraded).encode("ascii", "replace")))
        self._backend = backend
        self.inner = inner

    async def plain(self) -> dict[str, Any]:
        """The whole answer."""
        try:
            return await self.inner.plain()
        except NegajouleError as error:
            self._failed(error)
            raise
        except Exception:
            self._backend.settle(self, None)
            raise
        finally:
            self._settle()

    async def events(self) -> AsyncIterator[bytes]:
        """The answer's events."""
        begun, events, most = False, 0, self.hold.most_events
        try:
            async for piece in self.inner.events():
                begun = True
                events += piece.count(b"data:")
                if events > most:
                    await self.inner.cancel()
                    raise _ignored(self.hold)
                yield piece
        except NegajouleError as error:
            if not begun:
                self._failed(error)
            raise
        except Exception:
            self._backend.settle(self, None)
            raise
        finally:
            self._settle()

    @property
    def cost(self) -> Footprint | None:
        """The footprint."""
        return self.inner.cost

    @property
    def status(self) -> Status:
        """How it ended."""
        return self.inner.status

    @property
    def tokens(self) -> Tokens:
        """What was counted."""
        return self.inner.tokens

    async def cancel(self) -> None:
        """The client has gone: what still runs is charged when it is booked."""
        await self.inner.cancel()
        self._settle()

    def _failed(self, error: NegajouleError) -> None:
        """Charge nothing for what was refused before any work."""
        if getattr(error, "status", 500) in _NEVER_RAN and self.inner.cost is not None:
            self._backend.release(self)

    def _settle(self) -> None:
        """Charge what was booked but not yet charged."""
        if self.inner.cost is not None:
            self._backend.settle(self, figures(self.inner.cost, "value"))


def _counts_money(account: Account) -> bool:
    return account.terms.indicator not in INDICATORS


def _ignored(hold: Hold) -> EngineError:
    return EngineError(
        f"the answer was cut: its server goes on beyond the limit of {hold.output_tokens} tokens",
        code="E103",
        fix="ask for a longer answer, or have the operator look at the server",
    )


def _field(call: Call) -> str:
    return "max_completion_tokens" if b'"max_completion_tokens"' in call.raw else "max_tokens"


def _limited(call: Call, ask: Ask, output_tokens: int) -> Call:
    """The call with that limit of its answer."""
    if ask.output_tokens == output_tokens:
        return call
    body = call.body()
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if body.get(name) is not None:
            body[name] = min(body[name], output_tokens)
    if ask.output_tokens is None:
        body["max_tokens"] = output_tokens
    return msgspec.structs.replace(call, raw=msgspec.json.encode(body))


def _asking(call: Call, model: str) -> Call:
    raw = msgspec.json.encode({**call.body(), "model": model})
    return msgspec.structs.replace(call, model=model, raw=raw)


def _told(ask: Ask, output_tokens: int | None) -> tuple[tuple[bytes, bytes], ...]:
    if ask.output_tokens is not None or output_tokens is None:
        return ()
    return ((b"x-negajoule-max-tokens", b"%d" % output_tokens),)
