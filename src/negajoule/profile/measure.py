"""Measure one cell: the prompts alone, then their answers with the prompts kept.

Two rounds of the same requests. The first asks for one token each, so all its work is prefill. The second
asks for the answers; an engine that keeps prompts (llama.cpp's slots, prefix caching) needn't compute them
again. Its window opens when the last request has its first token and closes when the first answer is whole:
nothing but decode steps of the full batch lies in between, whatever the engine mixes before.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Protocol

from negajoule.errors import EngineError
from negajoule.profile.cell import PhaseSample, Sample
from negajoule.units import total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from negajoule.engine import Engine, Progress, Result, Task
    from negajoule.meter import MachineUsage, Meter, Snapshot, Window
    from negajoule.profile.cell import Cell
    from negajoule.units import Energy

__all__ = ["Gauge", "Prompts", "measure_cell"]

_TRIES = 3
"""Times that a batch may fail to come together: a thread of ours that starts late isn't its fault."""


class Prompts(Protocol):
    """Makes prompts that no cache has seen."""

    task: Task

    def make(self, tokens: int, seed: int) -> Mapping[str, Any]:
        """The fields of a request that carry a prompt of about that many tokens."""


class Gauge(NamedTuple):
    """What is read at the edges of a window.

    Attributes:
        meter: CPU time and energy of the engine; ``None`` if it runs elsewhere and nothing here can tell.
        machine: busy time of this machine.
        engine_here: whether the meter's CPU time is the engine's.
        parts: take only the energy of parts whose names begin like this, e.g. ``gpu``.
    """

    meter: Meter | None
    machine: MachineUsage
    engine_here: bool
    parts: str = ""

    def read(self) -> _Edge:
        """Read everything, now."""
        snapshot = None if self.meter is None else self.meter.read()
        return _Edge(time.perf_counter(), snapshot, self.machine.cpu_s(), time.process_time())

    def energy(self, window: Window) -> Energy | None:
        """The energy of the parts that count; ``None`` if none is there."""
        if not self.parts:
            return window.energy
        return total(part.energy for part in window.parts if part.name.startswith(self.parts))

    def phase(self, first: _Edge, last: _Edge, tokens: int, context_tokens: float) -> PhaseSample:
        """What lies between two edges."""
        window = (
            self.meter.between(first.snapshot, last.snapshot)
            if self.meter is not None and first.snapshot is not None and last.snapshot is not None
            else None
        )
        energy = None if window is None else self.energy(window)
        seconds = max(last.time_s - first.time_s, 1e-9)
        ours_s = last.own_s - first.own_s
        return PhaseSample(
            tokens=tokens,
            context_tokens=context_tokens,
            seconds=seconds,
            cpu_s=window.cpu_s if window is not None and self.engine_here else None,
            energy_j=None if energy is None else (energy.value, energy.low, energy.high),
            others_busy=max(last.machine_s - first.machine_s - ours_s, 0.0) / seconds,
        )


class _Edge(NamedTuple):
    time_s: float
    snapshot: Snapshot | None
    machine_s: float
    own_s: float


class _Track:
    """What one request reported."""

    __slots__ = ("result", "stamps_s", "start_s")

    def __init__(self) -> None:
        self.start_s = 0.0
        self.stamps_s: list[float] = []
        self.result: Result | None = None

    @property
    def tokens_per_report(self) -> float:
        """Tokens for each report; endpoints may send several in a chunk."""
        assert self.result is not None, "every request has ended"
        return self.result.timings.output_tokens / max(len(self.stamps_s), 1)

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, kept parts too."""
        assert self.result is not None, "every request has ended"
        return self.result.timings.prompt_tokens + self.result.timings.cached_tokens


def measure_cell(
    engine: Engine, cell: Cell, prompts: Prompts, gauge: Gauge, *, repeat: int, seed: int
) -> Sample:
    """Measure one repeat of a cell; blocks until both rounds are done.

    Args:
        engine: has at least ``cell.batch`` slots.
        cell: what to measure.
        prompts: makes them.
        gauge: what to read.
        repeat: number of the round, kept in the sample.
        seed: of the prompts; never the same twice on one engine.

    Raises:
        EngineError: (E104) if an answer ended before its second token, or its usage is missing.
        RequestError: (R104) if the prompt doesn't fit.
    """
    bodies = [
        {**prompts.make(cell.prompt_tokens, seed * 4096 + number), "temperature": 0.0, "ignore_eos": True}
        for number in range(cell.batch)
    ]
    start = gauge.read()
    first = _all_at_once(
        engine, prompts.task, [{**body, "max_tokens": 1, "cache_prompt": False} for body in bodies]
    )
    end = gauge.read()
    computed = sum(track.result.timings.prompt_tokens for track in first if track.result is not None)
    lengths = [track.prompt_tokens for track in first]
    whole = cell.output_tokens + 1
    for _ in range(_TRIES):
        window = _Window(gauge, cell.batch, whole)
        kept = [{**body, "max_tokens": whole, "cache_prompt": True} for body in bodies]
        second = _all_at_once(engine, prompts.task, kept, window)
        if window.is_whole:
            break
    return Sample(
        cell=cell,
        repeat=repeat,
        prefill=gauge.phase(start, end, computed, sum(lengths) / 2),
        decode=window.decode(second, lengths),
        ttft_s=median(track.stamps_s[0] - track.start_s for track in first),
        **_latencies(second),
    )


class _Window:
    """Opens with the last first token, closes with the first whole answer."""

    def __init__(self, gauge: Gauge, batch: int, whole: int) -> None:
        self._gauge, self._batch, self._whole = gauge, batch, whole
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}
        self._early = False
        self._opened: tuple[_Edge, dict[int, int]] | None = None
        self._closed: tuple[_Edge, dict[int, int]] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the full batch decoded together."""
        return not self._early and self._opened is not None and self._closed is not None

    def token(self, number: int) -> None:
        """A request reports a token."""
        with self._lock:
            count = self._counts[number] = self._counts.get(number, 0) + 1
            if self._opened is None and len(self._counts) == self._batch:
                self._opened = (self._gauge.read(), dict(self._counts))
            elif self._opened is not None and self._closed is None and count >= self._whole:
                self._closed = (self._gauge.read(), dict(self._counts))

    def ended(self) -> None:
        """A request has ended, maybe before its length was reached."""
        with self._lock:
            if self._opened is None:
                self._early = True
            elif self._closed is None:
                self._closed = (self._gauge.read(), dict(self._counts))

    def decode(self, tracks: Sequence[_Track], prompt_tokens: Sequence[int]) -> PhaseSample:
        """The phase between the edges."""
        if self._early or self._opened is None or self._closed is None:
            raise EngineError(
                "an answer ended before the whole batch had begun to decode",
                code="E104",
                fix="take longer answers (--output), or a smaller --batch than the server works on at once",
            )
        (first, before), (last, after) = self._opened, self._closed
        made_before, made_after = (
            sum(count * tracks[number].tokens_per_report for number, count in counts.items())
            for counts in (before, after)
        )
        tokens = round(made_after - made_before)
        if tokens < 1:
            raise EngineError(
                "the answers came in one piece, so decode can't be told from prefill",
                code="E104",
                fix="ask a server that streams token by token, with longer answers (--output)",
            )
        context = sum(prompt_tokens) + (made_before + made_after) / 2
        return self._gauge.phase(first, last, tokens, context)


def _all_at_once(
    engine: Engine, task: Task, bodies: Sequence[Mapping[str, Any]], window: _Window | None = None
) -> list[_Track]:
    """Send all requests at one moment; returns what each reported."""
    tracks = [_Track() for _ in bodies]
    gate = threading.Barrier(len(bodies))

    def ask(number: int) -> None:
        track = tracks[number]

        def progress(event: Progress) -> None:
            if event.kind == "decode":
                track.stamps_s.append(time.perf_counter())
                if window is not None:
                    window.token(number)

        gate.wait()
        track.start_s = time.perf_counter()
        track.result = engine.run(task, bodies[number], _pass, progress)
        if window is not None:
            window.ended()

    with ThreadPoolExecutor(len(bodies)) as pool:
        list(pool.map(ask, range(len(bodies))))
    if not all(track.stamps_s for track in tracks):
        raise EngineError("an answer held no token", code="E104", fix="see what the server answers to a chat")
    return tracks


_pass: Callable[[dict[str, Any]], bool] = lambda chunk: False  # noqa: E731


def _latencies(tracks: Sequence[_Track]) -> dict[str, float]:
    gaps = sorted(
        (later - earlier) / track.tokens_per_report
        for track in tracks
        for earlier, later in zip(track.stamps_s, track.stamps_s[1:], strict=False)
    )
    if not gaps:
        return {"itl_s": 0.0, "itl_p95_s": 0.0}
    return {"itl_s": median(gaps), "itl_p95_s": gaps[min(int(0.95 * len(gaps)), len(gaps) - 1)]}
