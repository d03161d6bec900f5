"""The account of a training: segments by stage and epoch, each a row, one after the other without a gap.

A segment ends where the next one begins, so none is counted twice and none is left out. What was trained
before a resume was booked by the process that trained it.
"""

from __future__ import annotations

import threading
import time
import warnings
from typing import TYPE_CHECKING, NamedTuple

from negajoule.instrument.callbacks.ranks import LocalRank, local_rank, meter_of_ranks
from negajoule.instrument.heartbeat import HEARTBEAT
from negajoule.instrument.here import Here, find_here
from negajoule.instrument.interrupted import done_with
from negajoule.ledger import Activity, Ledger, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.ledger import Stage, Status
    from negajoule.meter import Meter, Snapshot
    from negajoule.meter.journal import Journal
    from negajoule.units import Footprint

__all__ = ["MeasuredTraining", "Segment", "TrainingAccount"]


class Segment(NamedTuple):
    """A stretch of a training that has ended.

    Attributes:
        stage: training, evaluation or inference.
        epoch: which epoch, from 1; ``None`` outside of one.
        first_step: optimiser steps done before it.
        last_step: optimiser steps done at its end.
        seconds: how long it took [s].
        footprint: what it cost.
    """

    stage: Stage
    epoch: int | None
    first_step: int
    last_step: int
    seconds: float
    footprint: Footprint


class TrainingAccount:
    """Measures a training on this host. It never raises: what goes wrong is told by one warning.

    Args:
        label: name of the training; its rows are labelled ``NAME/epoch N``.
        record: whether the ledger keeps it.
        rank: which local rank this is; any but the first measures nothing.
    """

    def __init__(self, label: str, *, record: bool = True, rank: LocalRank | None = None) -> None:
        self.label = label
        self.record = record
        self.segments: list[Segment] = []
        """What has ended, in its order; empty on all but the host's first rank."""
        self._rank = local_rank() if rank is None else rank
        self._works = self._rank.number == 0
        self._found: tuple[Meter, Here] | None = None
        self._open: _Open | None = None
        self._base: Stage | None = None
        self._epoch: int | None = None
        self._step = 0

    @property
    def footprint(self) -> Footprint | None:
        """What all segments cost on this host; ``None`` before the first has ended."""
        total: Footprint | None = None
        for segment in self.segments:
            total = segment.footprint if total is None else total + segment.footprint
        return total

    def begin(self, *, epoch: int, step: int) -> None:
        """A training begins; one that never ended, because it raised, is booked as failed."""
        self.end("failed")
        self.train(epoch=epoch, step=step)

    def train(self, *, epoch: int, step: int) -> None:
        """Training goes on in an epoch; a new segment begins unless it's the one that runs."""
        self._base, self._epoch = "training", epoch
        self._switch("training", step)

    def turn_to(self, stage: Stage, *, step: int | None = None) -> None:
        """Leave training for an evaluation or the like."""
        self._switch(stage, step)

    def turn_back(self) -> None:
        """Return to training, or to nothing if there was none."""
        if self._base is None:
            self._guarded(lambda: self._close("ok"))
        else:
            self._switch(self._base, None)
            if self._open is not None:
                self._open.is_between = True

    def stepped(self, step: int) -> None:
        """So many optimiser steps have been done."""
        self._step = step
        if self._open is not None:
            self._open.is_between = False

    def end(self, status: Status = "ok") -> None:
        """The training has ended."""
        self._base = self._epoch = None
        self._guarded(lambda: self._close(status))

    def _switch(self, stage: Stage, step: int | None) -> None:
        if step is not None:
            self._step = step
        running = self._open
        if running is None or (running.stage, running.epoch) != (stage, self._epoch):
            self._guarded(lambda: self._begin(stage))

    def _guarded(self, work: Callable[[], object]) -> None:
        if not self._works:
            return
        try:
            work()
        except Exception as error:
            self._works, self._open = False, None
            warnings.warn(f"the training isn't measured any more: {error}", RuntimeWarning, stacklevel=4)

    def _begin(self, stage: Stage) -> None:
        if self._found is None:
            self._found = meter_of_ranks(self._rank), find_here()
        meter, here = self._found
        name = self.label if self._epoch is None else f"{self.label}/epoch {self._epoch}"
        running = self._open
        if running is not None and running.stage == stage and running.is_between:
            # Between an evaluation and the next epoch nothing was trained: that belongs to the next epoch.
            running.epoch, running.label = self._epoch, name
            return
        first = self._close("ok") or meter.read()
        self._open = _Open(meter, here, first, name, stage, self._epoch, self._step, record=self.record)

    def _close(self, status: Status) -> Snapshot | None:
        running, self._open = self._open, None
        if running is None:
            return None
        last, segment = running.end(self._step, status)
        self.segments.append(segment)
        return last


class _Open:
    """A segment that runs; its journal survives a kill."""

    def __init__(
        self,
        meter: Meter,
        here: Here,
        first: Snapshot,
        label: str,
        stage: Stage,
        epoch: int | None,
        step: int,
        *,
        record: bool,
    ) -> None:
        self.stage = stage
        self.epoch = epoch
        self.label = label
        self.step = step
        self.is_between = False
        """Whether it follows an evaluation and nothing has been trained in it yet."""
        self._meter, self._here = meter, here
        self._first = first
        self._record = record
        self._id = new_id("win")
        self._started_s = time.time()
        self._journal: Journal | None = None
        self._ended = False
        self._lock = threading.Lock()
        if record:
            HEARTBEAT.add(self)

    def beat(self) -> None:
        """Write the journal; called by the heartbeat of segments that last."""
        with self._lock:
            if self._ended:
                return
            if self._journal is not None:
                self._journal.beat()
                return
            from negajoule.meter.journal import Journal  # only segments that last need it

            self._journal = Journal(
                self._meter,
                run=self._id,
                label=self.label,
                zone=self._here.location.zone or "",
                first=self._first,
                heartbeat_s=None,
            )

    def end(self, step: int, status: Status) -> tuple[Snapshot, Segment]:
        """Work out the footprint and book it; also gives where the next segment begins."""
        HEARTBEAT.remove(self)
        with self._lock:
            self._ended = True
        last = self._meter.read()
        window = self._meter.between(self._first, last)
        footprint = self._here.cost_of(window)
        if self._record:
            activity = Activity(
                id=self._id,
                started_s=self._started_s,
                seconds=window.seconds,
                kind="window",
                stage=self.stage,
                status=status,
                label=self.label,
                host=self._here.host.host_id,
                zone=self._here.factors.zone,
                cpu_seconds=window.cpu_s,
                footprint=footprint,
            )
            with Ledger() as ledger:
                ledger.append([activity])
            if self._journal is not None:
                done_with(self._journal)
        return last, Segment(self.stage, self.epoch, self.step, step, window.seconds, footprint)


class MeasuredTraining:
    """What the callbacks of all libraries have in common.

    Args:
        label: name of the training.
        record: whether the ledger keeps it.
    """

    def __init__(self, label: str = "", *, record: bool = True) -> None:
        super().__init__()
        self._label = label
        self._record = record
        self._account: TrainingAccount | None = None

    @property
    def footprint(self) -> Footprint | None:
        """What everything so far cost on this host; ``None`` on other ranks and before the first end."""
        return None if self._account is None else self._account.footprint

    @property
    def segments(self) -> list[Segment]:
        """Training and evaluations so far, in their order."""
        return [] if self._account is None else self._account.segments

    def _opened(self, number: int | None, label: str | None) -> TrainingAccount:
        """The account, opened when the library first tells which rank this is and what its run is called."""
        if self._account is None:
            rank = local_rank()
            if number is not None:
                rank = rank._replace(number=number)
            name = self._label or label or "training"
            self._account = TrainingAccount(name, record=self._record, rank=rank)
        return self._account
