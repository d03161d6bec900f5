"""A backend that holds calls for a while, where a plan says so, and lets them go together.

The policies are those of the simulator, and each class of calls has a queue of its own. What was promised is
measured; when it isn't kept, or answers are slower than the plan foresaw, nobody is held until the guard
tries again. A call is taken on by what stands behind, and counted by its budgets, only when it is let go.
"""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.errors import RequestError
from negajoule.gateway.accounts import Tokens
from negajoule.gateway.logs import LOGGER
from negajoule.ledger import new_id
from negajoule.shape.guard import Guard
from negajoule.simulate import View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from negajoule.gateway.backend import Backend, Exchange
    from negajoule.gateway.metrics import Metrics
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.shape.live import HoldRule
    from negajoule.units import Footprint

__all__ = ["CLASS_HEADER", "HOLD_HEADER", "ShapedBackend"]

CLASS_HEADER = "x-negajoule-class"
HOLD_HEADER = "x-negajoule-hold-s"
_OURS = (CLASS_HEADER, HOLD_HEADER)
_PLAIN_CLASS = "interactive"
_HELD_TASKS = ("chat", "completion")


def _unknown() -> float:
    return math.nan


class _Held(NamedTuple):
    """A call that waits, since when and until when at most [s]."""

    since_s: float
    until_s: float
    gate: asyncio.Future[None]


class ShapedBackend:
    """Holds calls by rules.

    Args:
        inner: answers them.
        rules: which are held, and how; the first that fits a call holds it.
        metrics: shows queues and alarms.
        carbon_g_per_kwh: the grid's intensity now; NaN if it isn't known [gCO2e/kWh].
        clock: the time [s].
    """

    def __init__(
        self,
        inner: Backend,
        rules: Sequence[HoldRule],
        metrics: Metrics,
        carbon_g_per_kwh: Callable[[], float] = _unknown,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self.clock = clock
        self.carbon_g_per_kwh = carbon_g_per_kwh
        self.running = 0
        self.queues = tuple(HoldQueue(rule, self) for rule in rules)
        self._earlier_alarms = 0
        watch = metrics.watch
        watch("negajoule_shape_held", "Calls that are held", lambda: sum(len(q.held) for q in self.queues))
        watch(
            "negajoule_shape_alarms",
            "Times that holding was stopped, for a promise wasn't kept",
            lambda: self._earlier_alarms + sum(queue.guard.alarms for queue in self.queues),
        )

    def replace(self, rules: Sequence[HoldRule]) -> None:
        """Hold by other rules from now on; who is held goes. To be called from the loop's thread."""
        before = self.queues
        self._earlier_alarms += sum(queue.guard.alarms for queue in before)
        self.queues = tuple(HoldQueue(rule, self) for rule in rules)
        loop = asyncio.get_running_loop()
        for queue in before:
            loop.call_soon_threadsafe(queue.release_all)  # wakes the loop also when a signal brought us here

    async def models(self) -> list[dict[str, Any]]:
        """The models of what stands behind."""
        return await self.inner.models()

    async def open(self, call: Call) -> Exchange:
        """Take a call on; it may have to wait before it is let go.

        Raises:
            RequestError: (R102) if it says no sound time for the longest hold.
            NegajouleError: as what stands behind, for a call that no rule holds.
        """
        kind, most_s = call.headers.get(CLASS_HEADER, _PLAIN_CLASS), math.inf
        if CLASS_HEADER in call.headers or HOLD_HEADER in call.headers:
            most_s = _most_s(call.headers.get(HOLD_HEADER))
            headers = {name: text for name, text in call.headers.items() if name not in _OURS}
            call = msgspec.structs.replace(call, headers=headers)
        if call.task in _HELD_TASKS and most_s > 0.0:
            for queue in self.queues:
                if queue.rule.fits(call.model, kind):
                    return HeldExchange(call, queue, most_s)
        return await self.inner.open(call)

    def ended(self) -> None:
        """A call that was let go is answered."""
        self.running -= 1
        for queue in self.queues:
            queue.ask()

    async def close(self) -> None:
        """Let all go, and close what stands behind."""
        for queue in self.queues:
            queue.release_all()
        await self.inner.close()


class HoldQueue:
    """The held calls of one rule.

    Args:
        rule: the rule.
        backend: whose calls they are.
    """

    def __init__(self, rule: HoldRule, backend: ShapedBackend) -> None:
        self.rule = rule
        self.guard = Guard(rule.promise, rule.predicted_s)
        self.held: deque[_Held] = deque()
        self._backend = backend
        self._policy = copy.deepcopy(rule.policy)
        self._alarm: asyncio.TimerHandle | None = None

    def join(self, gate: asyncio.Future[None], most_s: float) -> None:
        """Wait in line, at most for so long [s]: the gate opens when the call may go."""
        now_s = self._backend.clock()
        self.held.append(_Held(now_s, now_s + min(most_s, self.rule.promise.limit_s), gate))
        self.ask()

    def leave(self, gate: asyncio.Future[None]) -> None:
        """Whoever waits at the gate has gone."""
        if not gate.done():
            gate.set_exception(RequestError("the client went away", code="R107", status=499))
        self.held = deque(held for held in self.held if held.gate is not gate)

    def ask(self) -> None:
        """Ask the policy who goes now."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self.held:
            return
        now_s = self._backend.clock()
        if not self.guard.holds(now_s):
            self.release_all()
            return
        view = View(
            now_s=now_s,
            held=len(self.held),
            oldest_s=self.held[0].since_s,
            running=self._backend.running,
            awake=1,
            carbon_g_per_kwh=self._backend.carbon_g_per_kwh(),
            carbon_until_s=now_s + 300.0,
        )
        count, again_s = self._policy.decide(view)
        self._release(count)
        # Whatever a policy says, nobody is held beyond what was promised, or what its caller bears.
        last_s = min((held.until_s for held in self.held), default=math.inf)
        if last_s <= now_s:
            due = [held for held in self.held if held.until_s <= now_s]
            self.held = deque(held for held in self.held if held.until_s > now_s)
            for held in due:
                self._open(held.gate)
            last_s = min((held.until_s for held in self.held), default=math.inf)
        if self.held:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(0.0, min(again_s, last_s) - now_s), self.ask)

    def release_all(self) -> None:
        """Let all go."""
        self._release(len(self.held))

    def note(self, time_s: float) -> None:
        """A call was answered after this time [s]."""
        if self.guard.note(time_s, self._backend.clock()):
            LOGGER.warning("%s; nobody is held for a while", self.guard.reason)

    def done(self) -> None:
        """A call that was let go has ended."""
        self._backend.ended()

    def _release(self, count: int) -> None:
        for _ in range(count):
            self._open(self.held.popleft().gate)

    def _open(self, gate: asyncio.Future[None]) -> None:
        if not gate.done():
            self._backend.running += 1
            gate.set_result(None)

    async def open(self, call: Call) -> Exchange:
        """Hand a call on that was let go."""
        return await self._backend.inner.open(call)

    def now_s(self) -> float:
        """The backend's time [s]."""
        return self._backend.clock()


class HeldExchange:
    """A call that waits first.

    Args:
        call: the call.
        queue: where it waits.
        most_s: the longest that its caller bears [s].
    """

    def __init__(self, call: Call, queue: HoldQueue, most_s: float = math.inf) -> None:
        self.held_s: float | None = None
        self._own_id = new_id("req")
        self._call = call
        self._queue = queue
        self._most_s = most_s
        self._inner: Exchange | None = None
        self._gone = False
        self._gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._since_s = queue.now_s()

    @property
    def request_id(self) -> str:
        """Its id: that of the call behind, once there is one."""
        return self._own_id if self._inner is None else self._inner.request_id

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Header fields: how long it was held."""
        held = [] if self.held_s is None else [(b"x-negajoule-held-s", b"%.3f" % self.held_s)]
        return [*held, *getattr(self._inner, "fields", ())]

    async def plain(self) -> dict[str, Any]:
        """The whole answer, once it was let go."""
        await self._let_go()
        try:
            self._inner = await self._queue.open(self._call)
            answer = await self._inner.plain()
            self._note()
            return answer
        finally:
            self._queue.done()

    async def events(self) -> AsyncIterator[bytes]:
        """The answer's events, once it was let go."""
        await self._let_go()
        try:
            self._inner = await self._queue.open(self._call)
            first = True
            async for piece in self._inner.events():
                if first and self._queue.rule.promise.measure == "ttft":
                    self._note()
                first = False
                yield piece
            if self._queue.rule.promise.measure != "ttft":
                self._note()
        finally:
            self._queue.done()

    @property
    def cost(self) -> Footprint | None:
        """The footprint."""
        return None if self._inner is None else self._inner.cost

    @property
    def status(self) -> Status:
        """How it ended."""
        return "cancelled" if self._inner is None else self._inner.status

    @property
    def tokens(self) -> Tokens:
        """What was counted."""
        return Tokens() if self._inner is None else self._inner.tokens

    async def cancel(self) -> None:
        """The client has gone: who is still held leaves, and nothing runs."""
        self._gone = True
        if self._inner is not None:
            await self._inner.cancel()
        else:
            self._queue.leave(self._gate)

    async def _let_go(self) -> None:
        self._queue.join(self._gate, self._most_s)
        try:
            await self._gate
        except asyncio.CancelledError:
            if self._gate.cancelled() or self._gate.exception() is not None:
                self._queue.leave(self._gate)
            else:
                self._queue.done()
            raise
        self.held_s = self._queue.now_s() - self._since_s
        if self._gone:
            self._queue.done()
            raise RequestError("the client went away", code="R107", status=499)

    def _note(self) -> None:
        self._queue.note(self._queue.now_s() - self._since_s)


def _most_s(text: str | None) -> float:
    """The longest hold that a caller bears [s]."""
    if text is None:
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0.0:
        raise RequestError(
            f"the header {HOLD_HEADER} says {text[:40]!r}", fix=f"{HOLD_HEADER}: 2.5, in seconds"
        )
    return seconds
