"""The worker: a process that makes one artefact, or answers with one.

Before and after never share a process: what a library changes in itself while it measures the one (repacked
weights, warm caches, threads) must not touch the other. Orders come as JSON lines on standard input; replies
go to the pipe that standard output was, while all that libraries print goes to the log on standard error.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from negajoule.compress.artefact import Bench, check_reload, open_runner
from negajoule.compress.fine_tune import FineTuning, make_baseline
from negajoule.compress.orders import Order, Reply
from negajoule.compress.passes import Cost, Latency, Opened, Pass
from negajoule.compress.steps import HOMES
from negajoule.errors import NegajouleError
from negajoule.meter import Meter

if TYPE_CHECKING:
    from negajoule.compress.artefact import Runner
    from negajoule.compress.texts import LabelledTexts

__all__ = ["main"]

KIBIBYTE = 1024
PARENT_CHECK_S = 2.0


class _Worker:
    """State of the process."""

    def __init__(self) -> None:
        self.meter = Meter.for_process()
        self.texts: LabelledTexts | None = None
        self.runner: Runner | None = None
        self.threads, self.seed = 1, 0

    def obey(self, order: Order) -> Reply:
        return getattr(self, f"_{order.do}")(order)  # type: ignore[no-any-return]

    def _begin(self, order: Order) -> Reply:
        assert order.texts is not None, "an order to begin brings texts"
        self.texts = order.texts.load()
        self.threads, self.seed = order.threads, order.seed
        return Reply()

    def _baseline(self, order: Order) -> Reply:
        tuning = order.tuning or FineTuning()
        losses: list[float] = []

        def make(bench: Bench) -> None:
            losses.extend(make_baseline(bench, order.name, tuning, order.max_length)[1])

        cost = self._made(order, "baseline", make)
        return Reply(cost=msgspec.structs.replace(cost, losses=tuple(losses)))

    def _step(self, order: Order) -> Reply:
        step = order.step
        assert step is not None, "an order to do a step brings it"
        module, _, name = HOMES[type(step)].partition(":")
        function = getattr(import_module(module), name)
        tag = str(type(step).__struct_config__.tag)
        return Reply(cost=self._made(order, tag, lambda bench: function(step, bench)))

    def _made(self, order: Order, step: str, make: Any) -> Cost:  # noqa: ANN401
        assert self.texts is not None, "a worker begins before it works"
        bench = Bench(
            source=Path(order.source),
            target=Path(order.target),
            teacher=Path(order.teacher),
            texts=self.texts,
            threads=self.threads,
            seed=self.seed,
        )
        started_s, before = time.time(), self.meter.read()
        make(bench)
        window = self.meter.between(before, self.meter.read())
        return Cost(step=step, window=window, started_s=started_s)

    def _open(self, order: Order) -> Reply:
        start_s = time.perf_counter()
        self.runner = open_runner(Path(order.source), self.threads)
        load_s = time.perf_counter() - start_s
        check_reload(Path(order.source), self.runner)
        opened = Opened(load_s=load_s, host=self.meter.host.host_id, threads=self.threads)
        return Reply(opened=opened)

    def _answer(self, order: Order) -> Reply:
        started_s, before = time.time(), self.meter.read()
        rows, phases_s = self._run(order)
        window = self.meter.between(before, self.meter.read())
        done = Pass(texts=len(rows), window=window, phases_s=phases_s, started_s=started_s)
        return Reply(rows=rows if order.rows else None, measured=done)

    def _single(self, order: Order) -> Reply:
        texts, runner = self._asked(order)
        seconds = []
        for text in texts:
            start_s = time.perf_counter()
            runner.run([text])
            seconds.append(time.perf_counter() - start_s)
        return Reply(latency=Latency(tuple(seconds)))

    def _end(self, order: Order) -> Reply:
        return Reply(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE)

    def _asked(self, order: Order) -> tuple[tuple[str, ...], Runner]:
        assert self.texts is not None, "a worker begins before it works"
        assert self.runner is not None, "a worker opens an artefact before it answers"
        return self.texts.part(order.part).first(order.count).texts, self.runner

    def _run(self, order: Order) -> tuple[list[list[float]], dict[str, float]]:
        texts, runner = self._asked(order)
        rows: list[list[float]] = []
        phases_s: dict[str, float] = {}
        for start in range(0, len(texts), order.batch):
            found = runner.run(texts[start : start + order.batch])
            rows += found.rows
            for phase, seconds in found.phases_s.items():
                phases_s[phase] = phases_s.get(phase, 0.0) + seconds
        return rows, phases_s


def _serve(orders: IO[bytes], replies: IO[bytes]) -> None:
    worker = _Worker()
    for line in orders:
        order = msgspec.json.decode(line, type=Order)
        try:
            reply = worker.obey(order)
        except NegajouleError as error:
            reply = Reply(error=(error.code, error.message, error.fix))
        except (MemoryError, RuntimeError) as error:
            text = str(error) or type(error).__name__
            if not isinstance(error, MemoryError) and "alloc" not in text and "memory" not in text:
                raise
            reply = Reply(error=("K106", f"out of memory: {text.splitlines()[0]}", _SMALLER))
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()
        if order.do == "end":
            return


_SMALLER = "take a smaller batch (--batch), shorter texts (--max-length) or fewer recipes at once"


def _end_with(parent: int) -> None:
    """End when the study is gone: a worker that nobody listens to would train on for hours."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def main() -> None:
    """Obey orders from standard input until told to end."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
