"""The same serving in SimPy: a process for the arrivals, one for the replica, one event a step.

Continuous batching with chunked prefill and the KV cache's limit, as in ``negajoule.simulate``; nobody is
pre-empted, for the benchmark's cache is never full.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import simpy

if TYPE_CHECKING:
    from collections.abc import Generator

    from negajoule.physics.serving import StepTable
    from negajoule.simulate import Trace

__all__ = ["serve"]


class _Request:
    __slots__ = ("answer", "arrival_s", "computed", "end_s", "made", "prompt")

    def __init__(self, arrival_s: float, prompt: int, answer: int) -> None:
        self.arrival_s, self.prompt, self.answer = arrival_s, prompt, answer
        self.computed, self.made, self.end_s = 0, 0, 0.0


class _Replica:
    def __init__(self, env: simpy.Environment, table: StepTable, step_tokens: int) -> None:
        self.env, self.table, self.step_tokens = env, table, step_tokens
        self.queue: deque[_Request] = deque()
        self.batch: list[_Request] = []
        self.woken = env.event()
        self.energy_j = 0.0

    def put(self, request: _Request) -> None:
        self.queue.append(request)
        if not self.woken.triggered:
            self.woken.succeed()

    def run(self) -> Generator[simpy.Event, None, None]:
        table = self.table
        part: _Request | None = None
        while True:
            if not self.queue and not self.batch and part is None:
                idle_from = self.env.now
                self.woken = self.env.event()
                yield self.woken
                self.energy_j += table.idle_w * (self.env.now - idle_from)
            decoding = list(self.batch)
            room = self.step_tokens - len(decoding)
            tokens = square = 0
            done: list[_Request] = []
            while room > 0:
                if part is None:
                    if not self.queue or len(decoding) + len(done) >= table.max_batch:
                        break
                    part = self.queue.popleft()
                new = min(part.prompt - part.computed, room)
                square += 2 * part.computed * new + new * new
                part.computed += new
                tokens += new
                room -= new
                if part.computed == part.prompt:
                    done.append(part)
                    part = None
            seconds = joules = 0.0
            size = len(decoding)
            if size:
                context = sum(request.prompt + request.made for request in decoding)
                seconds += table.decode_s[size] + table.decode_context_s[size] * context
                joules += table.decode_j[size] + table.decode_context_j[size] * context
            if tokens:
                seconds += table.prefill_token_s * tokens + table.prefill_context_s * square
                joules += table.prefill_token_j * tokens + table.prefill_context_j * square
                if not size:
                    seconds += table.prefill_step_s
                    joules += table.prefill_step_j
            yield self.env.timeout(seconds)
            self.energy_j += joules
            for request in decoding + done:
                request.made += 1
                if request.made == request.answer:
                    request.end_s = self.env.now
            self.batch = [request for request in decoding + done if request.made < request.answer]


def serve(trace: Trace, table: StepTable, step_tokens: int) -> tuple[list[float], float]:
    """Latency of each request [s] and energy of the replica [J]."""
    env = simpy.Environment()
    replica = _Replica(env, table, step_tokens)
    requests = [
        _Request(*row)
        for row in zip(
            trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.answer_tokens.tolist(), strict=True
        )
    ]

    def arrive() -> Generator[simpy.Event, None, None]:
        for request in requests:
            yield env.timeout(request.arrival_s - env.now)
            replica.put(request)

    env.process(arrive())
    env.process(replica.run())
    env.run()
    return [request.end_s - request.arrival_s for request in requests], replica.energy_j
