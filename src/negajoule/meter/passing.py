"""The share of each call that is only passed on: the meter is read now and then, and the books still balance.

Passing a call on takes a fraction of a millisecond, and reading the meter twice would cost a tenth of it. So
the meter is read for each call only while calls are few. Under load it is read every tenth of a second, and a
call that ends in between pays for its time by the rate of the windows before.

Time is exact without any reading: each moment goes in equal parts to the calls present, or to idle. The
joules of a window are known when it closes. Idle time takes what idle time took when it was last alone; the
rest goes by time. What calls that have ended since paid too little or too much is owed by, or to, those of
the next window; what is owed when nothing runs goes to idle time. So calls, idle time and what is owed always
add up to the meter.
"""

from __future__ import annotations

import threading
import time
from math import exp
from typing import TYPE_CHECKING, NamedTuple

from negajoule.meter.requests import Balance, Share
from negajoule.units import Basis, Energy, Part, weakest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from negajoule.meter.requests import Reads
    from negajoule.meter.window import Window

__all__ = ["PassingSplitter"]

_BURST = 8
"""Readings that may come at once after a pause."""

_MEMORY_S = 0.2
"""Time of calls over which their rate is taken: counters tick, so it jumps from window to window [s]."""

_LEAST_S = 0.02
"""Before so much time of calls has been seen, each is read for itself [s]."""

_SHORTEST_IDLE_S = 0.01
"""Idle time that shows what idle time takes must last as long [s]."""


class _Key(NamedTuple):
    """Which part of the meter; its basis may become weaker."""

    name: str
    source: str
    grade: str


_CPU = _Key("", "", "")  # CPU seconds are kept like a part: value, low and high are the same

_Sums = dict[_Key, list[float]]


class _Call:
    """A call that is under way: what it has been given, and the virtual times of its begin and of that."""

    __slots__ = ("began", "settled", "sums")

    def __init__(self, began: float) -> None:
        self.began = self.settled = began
        self.sums: _Sums = {}


class PassingSplitter:
    """Splits what the meter reads over the calls in flight, by time; safe to call from several threads.

    Args:
        meter: the meter of the process that passes calls on.
        spacing_s: mean time between two readings under load [s].
        clock: the meter's monotonic clock [s].
    """

    def __init__(
        self, meter: Reads, *, spacing_s: float = 0.1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._meter = meter
        self._spacing_s = spacing_s
        self._clock = clock
        self._lock = threading.Lock()
        self._first = self._opened = meter.read()
        self._now_s = self._opened.time_s
        self._next_read_s = self._now_s - _BURST * spacing_s
        self._active: dict[Hashable, _Call] = {}
        self._bases: dict[_Key, Basis] = {}
        self._virtual_s = 0.0  # grows by 1/n of the time while n calls run
        self._idle_s = 0.0  # not yet taken
        self._window_idle_s = 0.0
        self._window_ended_s = 0.0  # time of calls that ended in the window, in it
        self._given: _Sums = {}  # to them, for that time
        self._rates: dict[_Key, tuple[float, float, float]] | None = None
        self._recent: _Sums = {}
        self._recent_s = 0.0
        self._idle_rates: dict[_Key, list[float]] = {}
        self._idle: _Sums = {}
        self._owed: _Sums = {}
        self._ended_j = 0.0
        self._idle_taken_j = 0.0

    @property
    def in_flight(self) -> int:
        """Calls begun and not ended."""
        return len(self._active)

    def begin(self, request: Hashable) -> None:
        """A call starts.

        Raises:
            ValueError: if it is under way already: it would be counted twice.
        """
        with self._lock:
            if request in self._active:
                raise ValueError(f"{request!r} runs already")
            now_s = self._clock()
            if now_s >= self._next_read_s:
                self._read(now_s)
            else:
                self._advance(now_s)
            self._active[request] = _Call(self._virtual_s)

    def end(self, request: Hashable) -> Share:
        """A call has ended, however it ended; returns its share.

        Raises:
            KeyError: if it isn't under way.
        """
        with self._lock:
            call = self._active[request]
            now_s = self._clock()
            if self._rates is None or now_s >= self._next_read_s:
                self._read(now_s)
            else:
                self._advance(now_s)
                self._pay(call)
            del self._active[request]
            share = self._share(call.sums, self._virtual_s - call.began)
            self._ended_j += sum(part.energy.value for part in share.parts)
            return share

    def take_idle(self) -> Share:
        """The share of idle time since the last call of this."""
        with self._lock:
            self._read(self._clock())
            idle, seconds = self._idle, self._idle_s
            self._idle, self._idle_s = {}, 0.0
            self._idle_taken_j += _energy_j(idle)
            return self._share(idle, seconds)

    def balance(self) -> Balance:
        """The books up to now, for whoever wants to check them; what is owed counts as in flight."""
        with self._lock:
            self._read(self._clock())
            return Balance(
                meter_j=self._meter.between(self._first, self._opened).energy.value,
                requests_j=self._ended_j,
                in_flight_j=sum(_energy_j(call.sums) for call in self._active.values())
                + _energy_j(self._owed),
                idle_j=self._idle_taken_j + _energy_j(self._idle),
            )

    def _advance(self, now_s: float) -> None:
        """Let time pass: to those present, or to idle."""
        passed_s = now_s - self._now_s
        if passed_s <= 0.0:
            return
        self._now_s = now_s
        if self._active:
            self._virtual_s += passed_s / len(self._active)
        else:
            self._idle_s += passed_s
            self._window_idle_s += passed_s

    def _pay(self, call: _Call) -> None:
        """Give a call that ends its share of a window that isn't closed, by the rates of the one before."""
        seconds = self._virtual_s - call.settled
        self._window_ended_s += seconds
        assert self._rates is not None, "a window has been closed before"
        for key, (value, low, high) in self._rates.items():
            _add(call.sums, key, value * seconds, low * seconds, high * seconds)
            _add(self._given, key, value * seconds, low * seconds, high * seconds)

    def _read(self, now_s: float) -> None:
        """Close the window."""
        self._next_read_s = max(self._next_read_s, now_s - _BURST * self._spacing_s) + self._spacing_s
        until = self._meter.read()
        self._advance(until.time_s)
        window = self._meter.between(self._opened, until)
        running_s = sum(self._virtual_s - call.settled for call in self._active.values())
        busy_s = self._window_ended_s + running_s
        rates: dict[_Key, list[float]] = {}
        for key, energy in self._energies(window).items():
            idle = self._idle_part(key, energy, busy_s, window.seconds)
            _add(self._idle, key, *idle)
            rest = [max(0.0, whole - part) for whole, part in zip(energy, idle, strict=True)]
            if busy_s > 0.0:
                rates[key] = [joules / busy_s for joules in rest]
            elif not self._active:
                _add(self._owed, key, *rest)
            else:
                count = len(self._active)
                for call in self._active.values():
                    _add(call.sums, key, *(joules / count for joules in rest))
        for key, rate in rates.items():
            for call in self._active.values():
                seconds = self._virtual_s - call.settled
                _add(call.sums, key, *(each * seconds for each in rate))
            _add(self._owed, key, *(each * self._window_ended_s for each in rate))
        for key, given in self._given.items():
            _add(self._owed, key, *(-joules for joules in given))
        if busy_s > 0.0:
            self._price(rates, busy_s)
        if not self._active:
            self._fold()
        for call in self._active.values():
            call.settled = self._virtual_s
        self._opened = until
        self._window_idle_s = self._window_ended_s = 0.0
        self._given = {}

    def _energies(self, window: Window) -> dict[_Key, tuple[float, float, float]]:
        found = {_CPU: (window.cpu_s, window.cpu_s, window.cpu_s)}
        for part in window.parts:
            key, energy = _Key(part.name, part.source, part.grade), part.energy
            self._bases[key] = weakest(self._bases.get(key, energy.basis), energy.basis)
            found[key] = (energy.value, energy.low, energy.high)
        return found

    def _idle_part(
        self, key: _Key, energy: tuple[float, float, float], busy_s: float, seconds: float
    ) -> list[float]:
        """What of a window's energy is the idle time's."""
        idle_s = self._window_idle_s
        if idle_s <= 0.0:
            # A window of no length goes to those present, or to nobody: then to idle.
            return [0.0, 0.0, 0.0] if self._active or busy_s > 0.0 else [*energy]
        if busy_s <= 0.0:
            if idle_s >= _SHORTEST_IDLE_S:
                self._idle_rates[key] = [joules / idle_s for joules in energy]
            return [*energy]
        rates = self._idle_rates.get(key)
        if rates is None:
            return [joules * idle_s / seconds for joules in energy]
        return [min(rate * idle_s, joules) for rate, joules in zip(rates, energy, strict=True)]

    def _price(self, rates: dict[_Key, list[float]], busy_s: float) -> None:
        """What a second of the next window costs: as in the latest ones, and what is owed with it."""
        kept = exp(-busy_s / _MEMORY_S)
        self._recent_s = self._recent_s * kept + busy_s
        expected_s = max(self._window_ended_s, self._spacing_s / 2)
        prices: dict[_Key, tuple[float, float, float]] = {}
        for key, rate in rates.items():
            recent = self._recent.get(key, (0.0, 0.0, 0.0))
            sums = [each * kept + new * busy_s for each, new in zip(recent, rate, strict=True)]
            self._recent[key] = sums
            value, low, high = (
                _corrected(each / self._recent_s, debt / expected_s)
                for each, debt in zip(sums, self._owed.get(key, (0.0, 0.0, 0.0)), strict=True)
            )
            prices[key] = (value, min(low, value), max(high, value))
        self._rates = prices if self._recent_s >= _LEAST_S else None

    def _fold(self) -> None:
        """Nothing runs: what is owed goes to idle time, as far as that doesn't make its energy negative."""
        for key, owed in self._owed.items():
            idle = self._idle.get(key, [0.0, 0.0, 0.0])
            if key != _CPU and owed[0] < 0.0 and not any(idle):
                continue
            moved = [max(debt, -have) for debt, have in zip(owed, idle, strict=True)]
            _add(self._idle, key, *moved)
            _add(self._owed, key, *(-each for each in moved))

    def _share(self, sums: _Sums, seconds: float) -> Share:
        cpu_s = sums.get(_CPU, (0.0, 0.0, 0.0))[0]
        parts = tuple(
            Part(
                key.name,
                Energy(value, min(low, value), max(high, value), self._bases[key], "node"),
                key.source,
                key.grade,
            )
            for key, (value, low, high) in sums.items()
            if key is not _CPU
        )
        return Share(parts, seconds, cpu_s)


def _corrected(rate: float, debt: float) -> float:
    """A rate with what is owed, at least half and at most twice itself."""
    return min(2 * rate, max(rate / 2, rate + debt))


def _add(sums: _Sums, key: _Key, value: float, low: float, high: float) -> None:
    mine = sums.get(key)
    if mine is None:
        sums[key] = [value, low, high]
    else:
        mine[0] += value
        mine[1] += low
        mine[2] += high


def _energy_j(sums: _Sums) -> float:
    return sum(each[0] for key, each in sums.items() if key is not _CPU)
