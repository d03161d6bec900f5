"""Each request's share of the joules under batching; the shares and the idle time add up to the meter.

A batching engine works in steps. Every step produces tokens for the sequences in it, so the energy of a step
is split over its sequences by the tokens it computed for each: a prompt token weighs what an output token
does, plus a term for the length of the context that attention reads. Weights are read once a step for all of
them, which is why batching saves and why the split is by tokens and not by time.

Steps aren't announced, but a sequence decodes one token a step: when one that has reported a token reports
again, another step has ended. The meter is read at that report, and at most once in ``spacing_s``; what is
reported up to the next such moment belongs to the window that ends there. No clock decides, so threads that
report late don't matter.
Time in which nothing ran goes to idle; time in which requests ran without a token (a long prefill that is
cancelled) goes to those present, by the time they were there.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from negajoule.meter.marginal import MarginalCost
from negajoule.units import Basis, Energy, Part, weakest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from negajoule.meter.window import Snapshot, Window

__all__ = ["Balance", "RequestSplitter", "Share"]


class _Reads(Protocol):
    def read(self) -> Snapshot: ...
    def between(self, first: Snapshot, second: Snapshot) -> Window: ...


class Share(NamedTuple):
    """What one request, or the idle time, took.

    Attributes:
        parts: shares of the meter's parts [J].
        node_seconds: share of the machine's time [s]; shares and idle add up to the time passed.
        cpu_seconds: share of the CPU time [s].
        marginal: what its output would have saved by not being there [J]; ``None`` while that can't be told.
    """

    parts: tuple[Part, ...]
    node_seconds: float
    cpu_seconds: float
    marginal: Energy | None = None


class Balance(NamedTuple):
    """The splitter's books: the three shares add up to what the meter read.

    Attributes:
        meter_j: the meter's own total since the start [J].
        requests_j: of requests that have ended [J].
        in_flight_j: of requests that still run [J].
        idle_j: of time in which nothing ran [J].
    """

    meter_j: float
    requests_j: float
    in_flight_j: float
    idle_j: float

    @property
    def residual_relative(self) -> float:
        """What the shares miss of the meter's total, relative to it [1]."""
        gap = self.meter_j - self.requests_j - self.in_flight_j - self.idle_j
        return abs(gap) / self.meter_j if self.meter_j else abs(gap)


class _Account:
    """Running sums of one request."""

    __slots__ = ("context_tokens", "cpu_s", "decoded_tokens", "energies", "joined_s", "seconds")

    def __init__(self, joined_s: float) -> None:
        self.joined_s = joined_s
        self.context_tokens = 0
        self.decoded_tokens = 0
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.energies: dict[tuple[str, str, str], tuple[float, float, float, Basis]] = {}

    def add(self, window: Window, fraction: float) -> None:
        self.seconds += window.seconds * fraction
        self.cpu_s += window.cpu_s * fraction
        for part in window.parts:
            key = (part.name, part.source, part.grade)
            energy = part.energy
            value, low, high, basis = self.energies.get(key, (0.0, 0.0, 0.0, energy.basis))
            self.energies[key] = (
                value + energy.value * fraction,
                low + energy.low * fraction,
                high + energy.high * fraction,
                weakest(basis, energy.basis),
            )

    @property
    def energy_j(self) -> float:
        return sum(energy[0] for energy in self.energies.values())

    def share(self, marginal: Energy | None = None) -> Share:
        parts = tuple(
            Part(name, Energy(value, min(low, value), max(high, value), basis, "node"), source, grade)
            for (name, source, grade), (value, low, high, basis) in self.energies.items()
        )
        return Share(parts, self.seconds, self.cpu_s, marginal)


class RequestSplitter:
    """Splits what the meter reads over the requests in flight; safe to call from several threads.

    Args:
        meter: the meter of the process that does the work.
        spacing_s: shortest time between two readings while tokens flow [s].
        attention_tokens: context length at which attention costs as much as the rest of a token's work
            [tokens]; infinite to leave the term out.
        clock: the meter's monotonic clock [s].
    """

    def __init__(
        self,
        meter: _Reads,
        *,
        spacing_s: float = 0.05,
        attention_tokens: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter = meter
        self._spacing_s = spacing_s
        self._clock = clock
        self._attention_tokens = attention_tokens
        self._lock = threading.Lock()
        self._first = self._opened = meter.read()
        self._closing: Snapshot | None = None
        self._reported: set[Hashable] = set()
        self._work: dict[Hashable, float] = {}
        self._steps = 0
        self._only_decoded = True
        self._marginal = MarginalCost()
        self._active: dict[Hashable, _Account] = {}
        self._idle = _Account(self._opened.time_s)
        self._ended_j = 0.0
        self._idle_taken_j = 0.0

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended."""
        return len(self._active)

    def begin(self, request: Hashable) -> None:
        """A request starts to run.

        Raises:
            ValueError: if it is running already: it would be counted twice.
        """
        with self._lock:
            if request in self._active:
                raise ValueError(f"{request!r} runs already")
            now = self._settle_all()
            self._active[request] = _Account(now.time_s)

    def work(self, request: Hashable, tokens: int, kind: Literal["prefill", "decode"]) -> None:
        """Tokens were computed for a request; cache hits don't count."""
        with self._lock:
            if kind == "decode":
                if request in self._reported or not self._reported:
                    self._step_ended()
                self._reported.add(request)
            else:
                self._only_decoded = False
            account = self._active.get(request)
            if account is not None:
                mean_context = account.context_tokens + tokens / 2
                weight = tokens * (1.0 + mean_context / self._attention_tokens)
                account.context_tokens += tokens
                account.decoded_tokens += tokens if kind == "decode" else 0
                self._work[request] = self._work.get(request, 0.0) + weight

    def end(self, request: Hashable) -> Share:
        """A request has ended, however it ended; returns its share.

        Raises:
            KeyError: if it isn't running.
        """
        with self._lock:
            self._settle_all()
            account = self._active.pop(request)
            self._ended_j += account.energy_j
            return account.share(self._marginal.of(account.decoded_tokens))

    def take_idle(self) -> Share:
        """The share of idle time since the last call."""
        with self._lock:
            now = self._settle_all()
            idle, self._idle = self._idle, _Account(now.time_s)
            self._idle_taken_j += idle.energy_j
            return idle.share()

    def balance(self) -> Balance:
        """The books up to now, for whoever wants to check them."""
        with self._lock:
            now = self._settle_all()
            meter = self._meter.between(self._first, now)
            return Balance(
                meter_j=meter.energy.value,
                requests_j=self._ended_j,
                in_flight_j=sum(account.energy_j for account in self._active.values()),
                idle_j=self._idle_taken_j + self._idle.energy_j,
            )

    def _step_ended(self) -> None:
        self._reported.clear()
        if self._closing is not None:
            self._settle(self._closing)
        if self._clock() - self._opened.time_s >= self._spacing_s:
            self._closing = self._meter.read()
        self._steps += 1

    def _settle_all(self) -> Snapshot:
        if self._closing is not None:
            self._settle(self._closing)
        now = self._meter.read()
        self._settle(now)
        return now

    def _settle(self, until: Snapshot) -> None:
        window = self._meter.between(self._opened, until)
        for account, fraction in self._fractions(until):
            account.add(window, fraction)
        if self._only_decoded and self._steps:
            self._marginal.learn(self._steps, sum(self._work.values()), window.energy.value)
        self._opened = until
        self._closing = None
        self._work.clear()
        self._steps, self._only_decoded = 0, True

    def _fractions(self, until: Snapshot) -> list[tuple[_Account, float]]:
        if not self._active:
            return [(self._idle, 1.0)]
        weights: Mapping[Hashable, float] = {
            request: weight for request, weight in self._work.items() if request in self._active
        }
        whole = sum(weights.values())
        if whole <= 0.0:
            weights = {
                request: until.time_s - max(account.joined_s, self._opened.time_s)
                for request, account in self._active.items()
            }
            whole = sum(weights.values())
        if whole <= 0.0:
            weights = dict.fromkeys(self._active, 1.0)
            whole = float(len(weights))
        return [(self._active[request], weight / whole) for request, weight in weights.items()]
