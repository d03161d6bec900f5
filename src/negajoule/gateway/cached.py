"""A backend that answers from memory what it has answered before, and says what that cost and avoided.

A hit is a request of its own: it has its id, its row, and the joules that this machine took for it. What
making the answer took the first time is told beside them as avoided, and is in no sum of what was used.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import RequestError
from negajoule.gateway.accounts import until_safe
from negajoule.gateway.cache import CACHE_HEADER, Stored, keeps
from negajoule.gateway.caller import CALLER
from negajoule.gateway.sse import DONE, EventCutter, data_of, event
from negajoule.ledger import new_id
from negajoule.units import Energy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from negajoule.gateway.accounts import Accounts, Tokens
    from negajoule.gateway.backend import Backend, Exchange
    from negajoule.gateway.cache import AnswerCache
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.meter import Splitter
    from negajoule.units import Footprint

__all__ = ["CachedBackend"]

_HIT = "the answer came out of the cache; what that avoided is told apart and not subtracted"


class CachedBackend:
    """Looks into the cache before a call goes on.

    Args:
        inner: answers what isn't there.
        cache: the answers.
        splitter: splits this process's joules over its requests, hits among them.
        accounts: books hits.
        cheaper_models: whose answers will do as well where a budget refuses.
    """

    def __init__(
        self,
        inner: Backend,
        cache: AnswerCache,
        splitter: Splitter,
        accounts: Accounts,
        cheaper_models: Sequence[str] = (),
    ) -> None:
        self.cache = cache
        self.splitter = splitter
        self.accounts = accounts
        self._inner = inner
        self._cheaper_models = cheaper_models
        self.hits = self.misses = self.unknown = 0
        self.avoided_j = self.avoided_low_j = self.avoided_high_j = 0.0
        watch = accounts.metrics.watch
        watch("negajoule_cache_hits", "Answers out of the cache since the start", lambda: self.hits)
        watch("negajoule_cache_misses", "Calls that weren't in the cache", lambda: self.misses)
        watch("negajoule_cache_entries", "Answers in the cache", lambda: len(cache))
        watch("negajoule_cache_bytes", "Bytes that they take", lambda: cache.size_bytes)
        watch("negajoule_cache_avoided_joules", "IT energy that hits avoided", lambda: self.avoided_j)
        watch("negajoule_cache_avoided_low_joules", "The same, lower end", lambda: self.avoided_low_j)
        watch("negajoule_cache_avoided_high_joules", "The same, upper end", lambda: self.avoided_high_j)
        watch(
            "negajoule_cache_avoided_unknown", "Hits whose avoided energy isn't known", lambda: self.unknown
        )

    async def models(self) -> list[dict[str, Any]]:
        """The models of what stands behind."""
        return await self._inner.models()

    async def open(self, call: Call) -> Exchange:
        """Answer from memory, or take the call on.

        Raises:
            RequestError: as what stands behind; (R108) only if the cache has nothing that would do.
        """
        kept = keeps(self.cache.plan, call)
        if CACHE_HEADER in call.headers:
            headers = {name: value for name, value in call.headers.items() if name != CACHE_HEADER}
            call = msgspec.structs.replace(call, headers=headers)
        if not kept:
            return await self._inner.open(call)
        key = self.cache.key_of(call, CALLER.get())
        found = self.cache.get(key)
        if found is not None:
            return self._hit(found, call)
        self.misses += 1
        try:
            return FillingExchange(await self._inner.open(call), call, self.cache, key)
        except RequestError as error:
            found = self._last_resort(call, key) if error.code == "R108" else None
            if found is None:
                raise
            return self._hit(found, call, degraded=True)

    async def close(self) -> None:
        """Close what stands behind."""
        await self._inner.close()

    def _last_resort(self, call: Call, key: bytes) -> Stored | None:
        """An older answer, or that of a cheaper model, where a budget would refuse the call."""
        caller = CALLER.get()
        keys = [key]
        keys += [
            self.cache.key_of(call, caller, name) for name in self._cheaper_models if caller.may_ask(name)
        ]
        for one in keys:
            found = self.cache.get(one, last_resort=True)
            if found is not None:
                return found
        return None

    def _hit(self, found: Stored, call: Call, *, degraded: bool = False) -> HitExchange:
        self.hits += 1
        if found.avoided is None:
            self.unknown += 1
        else:
            self.avoided_j += found.avoided.value
            self.avoided_low_j += found.avoided.low
            self.avoided_high_j += found.avoided.high
        return HitExchange(self, found, degraded=degraded)


class HitExchange:
    """One answer out of the cache; it isn't charged to budgets, which count calls that reach a model.

    Args:
        backend: where it is booked.
        found: the answer.
        degraded: whether a budget had no room for another one.
    """

    def __init__(self, backend: CachedBackend, found: Stored, *, degraded: bool) -> None:
        self.request_id = new_id("req")
        self.cost: Footprint | None = None
        self.status: Status = "ok"
        self.tokens: Tokens = found.tokens._replace(cached=found.tokens.prompt, output=0)
        self._backend = backend
        self._found = found
        self._age_s = backend.cache.clock() - found.made_s
        self._started_s = time.time()
        self.fields = [(b"x-negajoule-cache", b"hit; age=%d" % self._age_s)]
        if found.avoided is not None:
            self.fields.append((b"x-negajoule-avoided-j", b"%.6g" % found.avoided.value))
        if degraded:
            self.fields.append((b"x-negajoule-degraded", b"cache"))
        backend.splitter.begin(self.request_id)

    async def plain(self) -> dict[str, Any]:
        """The whole answer."""
        answer: dict[str, Any] = msgspec.json.decode(self._found.last)
        await self._book("ok")
        answer["footprint"] = self._footprint()
        return answer

    async def events(self) -> AsyncIterator[bytes]:
        """The answer's events as they were, but for the footprint."""
        if self._found.events:
            yield self._found.events
        last: dict[str, Any] = msgspec.json.decode(self._found.last)
        await self._book("ok")
        last["footprint"] = self._footprint()
        yield event(msgspec.json.encode(last)) + DONE

    async def cancel(self) -> None:
        """The client has gone."""
        await self._book("cancelled")

    async def _book(self, status: Status) -> None:
        if self.cost is not None:
            return
        self.status = status
        accounts, found = self._backend.accounts, self._found
        share = self._backend.splitter.end(self.request_id)
        cost = accounts.here.cost(share.parts, share.node_seconds)
        self.cost = msgspec.structs.replace(cost, notes=(_HIT, *cost.notes))
        written = accounts.book_request(
            request_id=self.request_id,
            model=found.model,
            status=status,
            started_s=self._started_s,
            tokens=self.tokens,
            cpu_seconds=share.cpu_seconds,
            cost=self.cost,
            avoided=found.avoided,
        )
        await until_safe(written)

    def _footprint(self) -> dict[str, Any]:
        assert self.cost is not None, "a hit that has ended has been booked"
        avoided = self._found.avoided
        return {
            "request_id": self.request_id,
            **self.cost.to_dict(detail=False),
            "cache": {
                "hit": True,
                "age_s": round(self._age_s, 3),
                "avoided_it_energy": None if avoided is None else avoided.to_dict(),
            },
        }


class FillingExchange:
    """A call that goes on; if it ends well, its answer is kept.

    Args:
        inner: the call.
        call: what was asked.
        cache: where its answer goes.
        key: under which key.
    """

    def __init__(self, inner: Exchange, call: Call, cache: AnswerCache, key: bytes) -> None:
        self._inner = inner
        self._call = call
        self._cache = cache
        self._key = key

    @property
    def request_id(self) -> str:
        """Its id; that of a call that is held first is settled when it is let go."""
        return self._inner.request_id

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Header fields."""
        return [(b"x-negajoule-cache", b"miss"), *getattr(self._inner, "fields", ())]

    async def plain(self) -> dict[str, Any]:
        """The whole answer."""
        answer = await self._inner.plain()
        if self._may_be_kept():
            whole = {name: value for name, value in answer.items() if name != "footprint"}
            if not self._was_cut_short([whole]):
                self._keep(None, msgspec.json.encode(whole))
        return answer

    async def events(self) -> AsyncIterator[bytes]:
        """The answer's events."""
        seen = bytearray()
        most = self._cache.plan.size_bytes
        async for piece in self._inner.events():
            if len(seen) <= most:
                seen += piece
            yield piece
        if len(seen) <= most and self._may_be_kept():
            self._keep_stream(bytes(seen))

    @property
    def cost(self) -> Footprint | None:
        """The footprint."""
        return self._inner.cost

    @property
    def status(self) -> Status:
        """How it ended."""
        return self._inner.status

    @property
    def tokens(self) -> Tokens:
        """What was counted."""
        return self._inner.tokens

    async def cancel(self) -> None:
        """The client has gone; half an answer isn't kept."""
        await self._inner.cancel()

    def _may_be_kept(self) -> bool:
        """Whether it ended well and is what was asked for, not what a budget made of it."""
        degraded = any(name == b"x-negajoule-degraded" for name, _ in self.fields)
        return self._inner.status == "ok" and self._inner.cost is not None and not degraded

    def _was_cut_short(self, chunks: Sequence[dict[str, Any]]) -> bool:
        """Whether the answer ended at a limit that a budget set, which another day may set elsewhere."""
        if not any(name == b"x-negajoule-max-tokens" for name, _ in self.fields):
            return False
        choices = [choice for chunk in chunks for choice in chunk.get("choices") or ()]
        return any(choice.get("finish_reason") == "length" for choice in choices)

    def _keep_stream(self, seen: bytes) -> None:
        cutter = EventCutter()
        pieces = cutter.feed(seen)
        if len(pieces) < 2 or (data_of(pieces[-1]) or b"").strip() != b"[DONE]":
            return
        last = msgspec.json.decode(data_of(pieces[-2]) or b"null")
        if not isinstance(last, dict):
            return
        last.pop("footprint", None)
        if b'"length"' in seen and self._was_cut_short(_chunks(pieces[:-1])):
            return
        events = b"".join(piece + b"\n\n" for piece in pieces[:-2])
        self._keep(events, msgspec.json.encode(last))

    def _keep(self, events: bytes | None, last: bytes) -> None:
        cost, tokens = self._inner.cost, self._inner.tokens
        assert cost is not None, "what ended well has been booked"
        self._cache.put(
            self._key,
            Stored(
                model=self._call.model,
                tokens=tokens,
                avoided=_avoided(cost.it_energy, tokens),
                events=events,
                last=last,
                made_s=self._cache.clock(),
            ),
        )


def _chunks(pieces: Sequence[bytes]) -> list[dict[str, Any]]:
    found = [msgspec.json.decode(data) for piece in pieces if (data := data_of(piece))]
    return [chunk for chunk in found if isinstance(chunk, dict)]


def _avoided(energy: Energy | None, tokens: Tokens) -> Energy | None:
    """What making an answer again would take.

    Its prompt might have come out of the model server's own prompt cache the second time. So the lower end
    counts the generated tokens only, each with at least the mean share of all that were computed: a generated
    token takes no less than a prompt token.
    """
    if energy is None:
        return None
    low = 0.0
    if tokens.prompt is not None and tokens.output is not None:
        computed = tokens.prompt - (tokens.cached or 0) + tokens.output
        low = energy.low * tokens.output / computed if computed > 0 else 0.0
    return Energy(energy.value, max(0.0, min(low, energy.low)), energy.high, energy.basis, energy.boundary)
