"""A synthetic meter and a synthetic batching engine, both of which know the truth."""

from __future__ import annotations

import heapq
import itertools
import random
from math import fsum
from typing import TYPE_CHECKING

from negajoule.meter import RequestSplitter, Snapshot, Window
from negajoule.units import Energy, Part

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (("cpu active", "model", "D"), ("memory", "model", "D"))


class SyntheticMeter:
    """Time passes and energy flows only when told; two parts, with intervals."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.cpu_s = 0.0
        self.reads = 0
        self._sums = [0.0] * (3 * len(NAMES))

    def spend(self, seconds: float, energy_j: float, memory_j: float = 0.0) -> None:
        """Let time pass, with so much energy of the processor and of the memory."""
        self.time_s += seconds
        self.cpu_s += 2 * seconds
        for at, joules in enumerate((energy_j, memory_j)):
            for end, factor in enumerate((1.0, 0.5, 2.0)):
                self._sums[3 * at + end] += joules * factor

    @property
    def energy_j(self) -> float:
        return fsum(self._sums[::3])

    def clock(self) -> float:
        return self.time_s

    def read(self) -> Snapshot:
        self.reads += 1
        return Snapshot(self.time_s, self.time_s, self.cpu_s, tuple(self._sums), id(self))

    def between(self, first: Snapshot, last: Snapshot) -> Window:
        rises = [after - before for after, before in zip(last.sums, first.sums, strict=True)]
        parts = tuple(
            Part(name, Energy(*rises[3 * at : 3 * at + 3], "modelled", "node"), source, grade)
            for at, (name, source, grade) in enumerate(NAMES)
        )
        energy = parts[0].energy + parts[1].energy
        return Window(last.time_s - first.time_s, last.cpu_s - first.cpu_s, parts, energy)


class SyntheticEngine:
    """Requests arrive at random moments, share steps of known cost, report late and end later still."""

    SLOTS, SLICE_TOKENS = 8, 128
    IDLE_W, STEP_J, TOKEN_J, STEP_S, TOKEN_S = 5.0, 2.0, 0.3, 0.05, 0.004

    def __init__(self, seed: int, *, requests: int = 40, late_s: float = 0.002, **options: float) -> None:
        self.meter = SyntheticMeter()
        self.splitter = RequestSplitter(self.meter, clock=self.meter.clock, **options)
        self.truth_j: dict[int, float] = {}
        self.shares_j: dict[int, float] = {}
        self.idle_j = 0.0
        self._rng = random.Random(seed)
        self._late_s = late_s
        self._events: list[tuple[float, int, Callable[..., None], tuple[int, ...]]] = []
        self._order = itertools.count()
        self._waiting: list[int] = []
        self._left: dict[int, list[int]] = {}
        self._running: dict[int, int] = {}
        self._power_w = self.IDLE_W
        moment_s = 0.0
        for request in range(requests):
            moment_s += self._rng.expovariate(1.0)
            self._later(moment_s, self._arrive, request)

    def run(self, disturb: Callable[[RequestSplitter], float] = lambda _: 0.0) -> None:
        """Run to the end; ``disturb`` is called at every event and returns the idle energy that it took."""
        while self._events:
            moment_s, _, act, arguments = heapq.heappop(self._events)
            passed_s = moment_s - self.meter.time_s
            self.meter.spend(passed_s, self._power_w * passed_s)
            act(*arguments)
            self.idle_j += disturb(self.splitter)
        self.idle_j += energy_j(self.splitter.take_idle())

    @property
    def moved(self) -> float:
        """Share of the requests' energy that was given to the wrong one."""
        wrong = fsum(abs(self.shares_j[one] - true_j) for one, true_j in self.truth_j.items())
        return wrong / 2 / fsum(self.truth_j.values())

    def _later(self, moment_s: float, act: Callable[..., None], *arguments: int) -> None:
        heapq.heappush(
            self._events, (moment_s, len(self._events) + self._rng.getrandbits(40), act, arguments)
        )

    def _arrive(self, request: int) -> None:
        self._waiting.append(request)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._left) < self.SLOTS:
            request = self._waiting.pop(0)
            self.splitter.begin(request)
            self.truth_j[request] = 0.0
            self._left[request] = [self._rng.choice([10, 50, 300, 600]), self._rng.randint(1, 60)]
        if not self._running:
            self._start_step()

    def _start_step(self) -> None:
        self._running = {
            request: min(prompt, self.SLICE_TOKENS) or 1
            for request, (prompt, output) in self._left.items()
            if prompt or output
        }
        self._power_w = self.IDLE_W
        if self._running:
            tokens = sum(self._running.values())
            joules, seconds = self.STEP_J + self.TOKEN_J * tokens, self.STEP_S + self.TOKEN_S * tokens
            self._power_w = joules / seconds
            for request, mine in self._running.items():
                self.truth_j[request] += joules * mine / tokens
            self._later(self.meter.time_s + seconds, self._end_step)

    def _end_step(self) -> None:
        moment_s = self.meter.time_s
        for request in self._rng.sample(sorted(self._running), len(self._running)):
            moment_s += self._rng.random() * self._late_s / self.SLOTS
            left, done = self._left[request], self._running[request]
            prefilled = done if left[0] else 0
            left[0] -= prefilled
            decoded = 0 if left[0] else 1
            left[1] -= decoded
            self._later(moment_s, self._report, request, prefilled, decoded)
            if left[1] == 0:
                self._later(moment_s + self._rng.random() * self._late_s, self._finish, request)
        self._start_step()

    def _report(self, request: int, prefilled: int, decoded: int) -> None:
        if prefilled:
            self.splitter.work(request, prefilled, "prefill")
        if decoded:
            self.splitter.work(request, decoded, "decode")

    def _finish(self, request: int) -> None:
        del self._left[request]
        self.shares_j[request] = energy_j(self.splitter.end(request))
        self._admit()


def energy_j(share) -> float:
    """The energy of a share."""
    return fsum(part.energy.value for part in share.parts)
