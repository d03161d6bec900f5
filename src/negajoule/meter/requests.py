"""Each request's share of the joules under batching; the shares and the idle time add up to the meter.

A batching engine works in steps. Every step produces tokens for the sequences in it, so the energy of a step
is split over its sequences by the tokens it computed for each: a prompt token weighs what an output token
does, plus a term for the length of the context that attention reads. Weights are read once a step for all of
them, which is why batching saves and why the split is by tokens and not by time.

The meter is read where a step ends, that is at the first report of its tokens (``steps``), and at most once
in ``spacing_s``. What is reported up to the end of the next step belongs to the window that ends there.
Requests come and go in the middle of steps: a newcomer's first tokens come with a later step, and one that
ends takes its fraction out of the window that holds its last tokens; a step under way waits for its own.

Time in which nothing ran goes to idle. Time for which nobody reports tokens (a long prefill that is
cancelled) goes to those present, by the time they were there. Calls that are only passed on: ``passing``.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from negajoule.meter.marginal import MarginalCost
from negajoule.meter.steps import Steps
from negajoule.units import Basis, Energy, Part, weakest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from negajoule.meter.steps import Work
    from negajoule.meter.window import Snapshot, Window

__all__ = ["Balance", "Reads", "RequestSplitter", "Share", "Splitter"]


class Reads(Protocol):
    """A meter."""

    def read(self) -> Snapshot:
        """A copy of its sums."""

    def between(self, first: Snapshot, last: Snapshot) -> Window:
        """What was used between two of them."""


class Splitter(Protocol):
    """Splits what a meter reads over requests."""

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended."""

    def begin(self, request: Hashable) -> None:
        """A request starts to run."""

    def end(self, request: Hashable) -> Share:
        """A request has ended; returns its share."""

    def take_idle(self) -> Share:
        """The share of idle time since the last call."""

    def balance(self) -> Balance:
        """The books up to now."""


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
        meter: Reads,
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
        self._opened_at_step = False
        self._closing: Snapshot | None = None
        self._closing_at_step = False
        self._left = 1.0  # of the window from opened to closing: what those who ended have not taken
        self._work: dict[Hashable, float] = {}
        self._steps = Steps()
        self._window_steps = 0
        self._window_weight = 0.0
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
            if not self._active:
                self._settle_all()
                self._steps.restart(self._opened.time_s)
            elif any(account.context_tokens for account in self._active.values()):
                self._close_window()
            else:
                self._settle_all()
            self._active[request] = _Account(self._clock())

    def work(self, request: Hashable, tokens: int, kind: Work) -> None:
        """Tokens were computed for a request; cache hits don't count."""
        with self._lock:
            account = self._active.get(request)
            if account is None:
                return
            mean_context = account.context_tokens + tokens / 2
            weight = tokens * (1.0 + mean_context / self._attention_tokens)
            if self._steps.report(request, kind, weight, self._clock()):
                self._step_ended()
            if kind == "decode":
                account.decoded_tokens += tokens
            else:
                self._only_decoded = False
            account.context_tokens += tokens
            self._work[request] = self._work.get(request, 0.0) + weight
            self._window_weight += weight

    def end(self, request: Hashable) -> Share:
        """A request has ended, however it ended; returns its share.

        Raises:
            KeyError: if it isn't running.
        """
        with self._lock:
            account = self._active[request]
            if len(self._active) == 1 or not account.context_tokens:
                self._settle_all()
            else:
                self._close_window()
                self._take_out(request)
            del self._active[request]
            self._ended_j += account.energy_j
            return account.share(self._marginal.of(account.decoded_tokens))

    def take_idle(self) -> Share:
        """The share of idle time since the last call."""
        with self._lock:
            if not self._active:
                self._settle_all()
            idle, self._idle = self._idle, _Account(self._opened.time_s)
            self._idle_taken_j += idle.energy_j
            return idle.share()

    def balance(self) -> Balance:
        """The books up to now, for whoever wants to check them; what isn't split yet is in flight."""
        with self._lock:
            if not self._active:
                self._settle_all()
            now = self._meter.read() if self._active else self._opened
            unsplit_j = self._energy_j(self._opened, now)
            if self._closing is not None:
                unsplit_j -= (1.0 - self._left) * self._energy_j(self._opened, self._closing)
            return Balance(
                meter_j=self._energy_j(self._first, now),
                requests_j=self._ended_j,
                in_flight_j=sum(account.energy_j for account in self._active.values()) + unsplit_j,
                idle_j=self._idle_taken_j + self._idle.energy_j,
            )

    def _energy_j(self, first: Snapshot, last: Snapshot) -> float:
        return self._meter.between(first, last).energy.value

    def _step_ended(self) -> None:
        if self._closing is not None:
            self._settle(self._closing, at_step=self._closing_at_step)
        if self._clock() - self._opened.time_s >= self._spacing_s:
            self._closing, self._closing_at_step = self._meter.read(), True
        self._window_steps += 1

    def _close_window(self) -> None:
        """Let the window end here if it holds work and has no end yet; late reports still count into it."""
        if self._closing is None and self._work:
            self._closing, self._closing_at_step = self._meter.read(), False

    def _take_out(self, request: Hashable) -> None:
        """Give a request that ends its fraction of the window, and leave the rest to the others."""
        weight = self._work.pop(request, 0.0)
        if self._closing is None or weight <= 0.0:
            return
        others = sum(self._work.values()) + self._steps.outstanding(self._active)
        fraction = self._left * weight / (weight + others)
        self._active[request].add(self._meter.between(self._opened, self._closing), fraction)
        self._left -= fraction

    def _settle_all(self) -> None:
        if self._closing is not None:
            self._settle(self._closing, at_step=self._closing_at_step)
        self._settle(self._meter.read(), at_step=False)

    def _settle(self, until: Snapshot, *, at_step: bool) -> None:
        window = self._meter.between(self._opened, until)
        for account, fraction in self._fractions(until):
            account.add(window, self._left * fraction)
        if self._only_decoded and self._window_steps and self._opened_at_step and at_step:
            self._marginal.learn(self._window_steps, self._window_weight, window.energy.value)
        self._opened, self._opened_at_step = until, at_step
        self._closing = None
        self._left = 1.0
        self._work.clear()
        self._window_steps, self._window_weight, self._only_decoded = 0, 0.0, True

    def _fractions(self, until: Snapshot) -> list[tuple[_Account, float]]:
        if not self._active:
            return [(self._idle, 1.0)]
        weights: Mapping[Hashable, float] = self._work
        whole = sum(weights.values())
        if whole <= 0.0:
            weights = {
                request: max(0.0, until.time_s - max(account.joined_s, self._opened.time_s))
                for request, account in self._active.items()
            }
            whole = sum(weights.values())
        if whole <= 0.0:
            weights = dict.fromkeys(self._active, 1.0)
            whole = float(len(weights))
        return [(self._active[request], weight / whole) for request, weight in weights.items()]
