"""Runs batches within their windows; what a crash or a stop interrupts goes on at the next start.

A line counts once its answer is on disk (``journal``). After a restart lines without an answer run, and no
others; one that was under way when the server died runs again, with the same ``idempotency-key``.

Lines are of the class ``batch``, so that ``[[shape]]`` tables hold them. They tell how long they may be held
at most: half of the time that would be left over if all lines took as long as the slowest of late, twice. So
holds shrink before they can break the window, whatever the table says.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING

from negajoule.gateway.batches.journal import Journal
from negajoule.gateway.batches.line import Answered, ask, pause_s, unanswered
from negajoule.gateway.batches.lines import Asked, Line, body_of, read_lines
from negajoule.gateway.logs import LOGGER, log_crash

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.gateway.backend import Backend
    from negajoule.gateway.batches.record import Batch, Status
    from negajoule.gateway.batches.shelf import Shelf
    from negajoule.gateway.door import Door
    from negajoule.gateway.limits import Limits

__all__ = ["Runner"]

_LOOK_S = 1.0
_TIDY_S = 3600.0
_MEND_S = 30.0  # before a batch is tried again whose files couldn't be written
_SLOWEST_OF = 64
_SPARE = 2.0  # serving may take so many times as long as the slowest of late
_CODES = {"expired": "batch_expired", "cancelled": "batch_cancelled"}
_REASONS = {"expired": "the batch's window ended first", "cancelled": "the batch was cancelled"}


class Runner:
    """Runs batches, one server at a time for a data folder.

    Args:
        shelf: where they are.
        backend: answers them.
        door: knows what their owners may do.
        limits: of requests.
    """

    def __init__(self, shelf: Shelf, backend: Backend, door: Door, limits: Callable[[], Limits]) -> None:
        self.shelf, self.backend, self.door, self.limits = shelf, backend, door, limits
        self.places = asyncio.Semaphore(shelf.limits.at_once)
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._works: dict[str, _Work] = {}
        self._lock: int | None = None
        self._tidied_s = 0.0

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()
        for work in self._works.values():
            work.news.set()

    async def run(self) -> None:
        """Run what there is until cancelled."""
        try:
            while True:
                try:
                    await self._look()
                except OSError as error:
                    LOGGER.error("batches: %s", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _LOOK_S)
                self._wake.clear()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            if self._lock is not None:
                os.close(self._lock)

    async def _look(self) -> None:
        """Take up batches that nobody runs yet."""
        if not self.shelf.used or not self._first():
            return
        now_s = self.shelf.clock()
        if now_s - self._tidied_s >= _TIDY_S:
            self._tidied_s = now_s
            await asyncio.to_thread(self.shelf.tidy)
        for batch in reversed(await asyncio.to_thread(self.shelf.batches)):
            if not batch.ended and batch.id not in self._tasks:
                task = asyncio.create_task(self._work(batch))
                self._tasks[batch.id] = task

    def _first(self) -> bool:
        """Whether this server runs the folder's batches; another one takes over when it ends."""
        if self._lock is None:
            lock = os.open(self.shelf.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    async def _work(self, batch: Batch) -> None:
        work = self._works[batch.id] = _Work(self, batch)
        try:
            await work.run()
        except Exception as error:
            log_crash(error)
            await asyncio.sleep(_MEND_S)
        finally:
            del self._works[batch.id], self._tasks[batch.id]


class _Work:
    """One batch under way."""

    def __init__(self, runner: Runner, batch: Batch) -> None:
        self.runner, self.shelf, self.batch = runner, runner.shelf, batch
        self.path = self.shelf.content(batch.input_file_id)
        self.left = 0
        self.seconds: deque[float] = deque(maxlen=_SLOWEST_OF)
        self.news = asyncio.Event()

    async def run(self) -> None:
        """From its file to its end."""
        asked = await asyncio.to_thread(self._read)
        if asked.errors:
            self._become("failed", errors=asked.errors)
            return
        if self.batch.status == "validating":
            self._become("in_progress", counts=self.batch.counts._replace(total=len(asked.lines)))
        answers = Journal(self.shelf.content(self.batch.output_id))
        try:
            errors = Journal(self.shelf.content(self.batch.error_id))
            try:
                await self._answer_all(asked.lines, answers, errors)
            finally:
                errors.close()
        finally:
            answers.close()

    async def _answer_all(self, lines: list[Line], answers: Journal, errors: Journal) -> None:
        done = await asyncio.to_thread(lambda: answers.answered() | errors.answered())
        todo = [line for line in lines if line.custom_id not in done]
        self.left = len(todo)
        finished: set[str] = set()
        running = asyncio.create_task(self._run_lines(todo, finished, answers, errors))
        stopping = asyncio.create_task(self._until_stopped())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            end: Status = "completed"
            if not running.done():
                end = stopping.result()
                running.cancel()
                await asyncio.wait({running})
            if not running.cancelled():
                running.result()
        finally:
            for task in (running, stopping):
                task.cancel()
            await asyncio.gather(running, stopping, return_exceptions=True)
        for line in todo:
            if line.custom_id not in finished:
                await errors.append(unanswered(line.custom_id, _CODES[end], _REASONS[end]))
        counts = await asyncio.to_thread(self.shelf.show_answers, self.batch)
        self._become(end, counts=counts)

    async def _run_lines(
        self, todo: list[Line], finished: set[str], answers: Journal, errors: Journal
    ) -> None:
        own_places = asyncio.Semaphore(self.shelf.limits.at_once)

        async def run(line: Line) -> None:
            try:
                answered = await self._answered(line)
                kept = answers if answered.error is None else errors
                await kept.append(answered.record(line.custom_id))
                finished.add(line.custom_id)
                self.left -= 1
            finally:
                own_places.release()

        async with asyncio.TaskGroup() as group:
            for number, line in enumerate(todo):
                await own_places.acquire()
                task = group.create_task(run(line))
                if number == 0:
                    await asyncio.wait({task})  # alone and not held: it shows how long a line takes

    async def _answered(self, line: Line) -> Answered:
        """Ask until there is an answer, or an error that asking again can't mend."""
        tries, body = 0, await asyncio.to_thread(body_of, self.path, line)
        while True:
            async with self.runner.places:
                hold_s = self._hold_s()
                headers = {
                    "idempotency-key": f"{self.batch.id}-{line.number}",
                    "x-negajoule-class": "batch",
                    "x-negajoule-hold-s": f"{hold_s:.3f}",
                }
                longest_s = hold_s + self.runner.limits().request_timeout_s
                answered = await ask(
                    self.runner.backend, self.runner.door, self.batch.owner, self.batch.endpoint, body,
                    headers, longest_s,
                )  # fmt: skip
            tries += 1
            wait_s = None if answered.error is None else pause_s(answered.error, tries)
            if wait_s is None:
                self.seconds.append(max(0.0, answered.seconds - answered.held_s))
                return answered
            await asyncio.sleep(wait_s)

    def _hold_s(self) -> float:
        """The longest that a line may be held now [s]."""
        if not self.seconds:
            return 0.0
        rounds = ceil(self.left / self.shelf.limits.at_once)
        serving_s = _SPARE * rounds * max(self.seconds)
        return max(0.0, 0.5 * (self.batch.expires_s - self.shelf.clock() - serving_s))

    async def _until_stopped(self) -> Status:
        while True:
            asked_s = self.shelf.cancel_asked_s(self.batch.id)
            if asked_s is not None:
                self.batch = self.batch.now("cancelling", asked_s)
                return "cancelled"
            left_s = self.batch.expires_s - self.shelf.clock()
            if left_s <= 0.0:
                return "expired"
            self.news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), min(_LOOK_S, left_s))

    def _read(self) -> Asked:
        try:
            return read_lines(
                self.path,
                self.batch.endpoint,
                most_lines=self.shelf.limits.lines,
                most_bytes=self.runner.limits().max_body_bytes,
            )
        except FileNotFoundError:
            gone = {"code": "file_missing", "line": None, "message": "the file is gone", "param": None}
            return Asked([], [gone])

    def _become(self, status: Status, **changed: object) -> None:
        self.batch = self.batch.now(status, self.shelf.clock(), **changed)
        self.shelf.save(self.batch)
