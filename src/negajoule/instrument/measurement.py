"""Measure a stretch of a program: a context manager and a decorator."""

from __future__ import annotations

import functools
import os
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from negajoule.errors import MeterError, NegajouleError
from negajoule.instrument.heartbeat import HEARTBEAT
from negajoule.instrument.here import Here, find_here
from negajoule.instrument.interrupted import book_interrupted, done_with
from negajoule.instrument.nesting import OPEN
from negajoule.ledger import Activity, Ledger, Stage, new_id
from negajoule.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from negajoule.instrument.budget import Budget, BudgetAlarm, Standing
    from negajoule.meter import Journal, Snapshot, Window
    from negajoule.units import Footprint

__all__ = ["Measurement", "measure", "measured"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Shared:
    """The meter and the place, found once a process and used by every measurement."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[Meter, Here] | None = None
        self._looked_back = False

    def get(self) -> tuple[Meter, Here]:
        with self._lock:
            if self._found is None:
                self._found = Meter.for_process(), find_here()
            return self._found

    def look_back(self, ledger: Ledger, here: Here) -> None:
        """Book what was killed before this process started; once."""
        with self._lock:
            first, self._looked_back = not self._looked_back, True
        if first:
            book_interrupted(ledger, here)


_SHARED = _Shared()


class Measurement:
    """A measured stretch; its footprint is there once it has ended.

    Measurements may nest and overlap: each has the whole of its footprint, and the ledger's totals count what
    several of them share once (``nesting``).

    One that lasts longer than a heartbeat keeps a journal, so that a kill costs at most a heartbeat.

    Args:
        label: your name for the work.
        stage: stage of the life cycle.
        record: whether the ledger keeps it.
        budget: what it may use, such as ``5 Wh``, ``50 gCO2e`` or ``1.5 L``; a ``BudgetWarning`` tells when
            80 % and when all of it is used, at a heartbeat or at the end.

    Raises:
        ConfigError: (C101) if the budget isn't one.
    """

    def __init__(
        self,
        label: str = "",
        *,
        stage: Stage = "unknown",
        record: bool = True,
        budget: Budget | str | None = None,
    ) -> None:
        self.label = label
        self.stage = stage
        self.record = record
        self.budget = _budget(budget)
        """What it may use, if anybody said."""
        self.standing: Standing | None = None
        """How the budget stands; ``None`` without one, or before the end."""
        self.id = new_id("win")
        self.inside = ""
        """Id of the row that holds this one's energy, while it runs; empty if none does."""
        self._started_s = 0.0
        self._first: Snapshot | None = None
        self._since: tuple[Snapshot, float] | None = None
        self._rows: list[Activity] = []
        self._window: Window | None = None
        self._footprint: Footprint | None = None
        self._alarm: BudgetAlarm | None = None
        self._journal: Journal | None = None
        self._lock = threading.Lock()
        self._pid = 0

    def start(self) -> Measurement:
        """Read the meter for the first time.

        Raises:
            MeterError: (M104) if it has been started before.
        """
        if self._first is not None:
            raise MeterError(f"measurement {self.label!r} has been started before", code="M104")
        meter, _ = _SHARED.get()
        if self.budget is not None:
            from negajoule.instrument.budget import warning_alarm  # only work with a budget needs it

            self._alarm = warning_alarm(self.budget)
        self._pid = os.getpid()
        self._started_s = time.time()
        self._first = OPEN.enter(self, meter)
        self._since = (self._first, self._started_s)
        if self.record or self._alarm:
            HEARTBEAT.add(self)
        return self

    def stop(self) -> Footprint:
        """Read the meter again, work out the footprint, book it and judge the budget.

        Raises:
            MeterError: (M104) if it isn't running.
        """
        if self._first is None or self._window is not None:
            state = "never started" if self._first is None else "stopped before"
            raise MeterError(f"measurement {self.label!r} was {state}", code="M104")
        meter, here = _SHARED.get()
        HEARTBEAT.remove(self)
        with self._lock:
            last = OPEN.leave(self, meter)
            self._window = meter.between(self._first, last)
            self._footprint = here.cost_of(self._window)
        if self.record:
            self._rows.append(self._row(self.id, last))
            self._book(here)
        if self._alarm is not None:
            self.standing = self._alarm.standing(self._footprint)
            self._alarm.tell(self.standing)
        return self._footprint

    def cut(self, at: Snapshot) -> None:
        """End a row here: the measurement that held this one has ended, and this one goes on."""
        self._rows.append(self._row(f"{self.id}.{len(self._rows) + 1}", at))
        self._since = (at, time.time())

    def beat(self) -> None:
        """Write the journal and look at the budget; called by the heartbeat."""
        with self._lock:
            if self._first is None or self._window is not None:
                return
            meter, here = _SHARED.get()
            if self.record and self._journal is None:
                from negajoule.meter.journal import Journal  # only work that lasts needs it

                self._journal = Journal(
                    meter,
                    run=self.id,
                    label=self.label,
                    zone=here.location.zone or "",
                    first=self._first,
                    heartbeat_s=None,
                )
            elif self._journal is not None:
                self._journal.beat()
            if self._alarm is not None:
                window = meter.between(self._first, meter.read())
                footprint = here.cost(window.parts, window.seconds)
                # Where warnings are errors this one is raised at the end, in the program's own thread.
                with suppress(UserWarning):
                    self._alarm.tell(self._alarm.standing(footprint))

    def __enter__(self) -> Measurement:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def seconds(self) -> float:
        """How long it lasted [s]."""
        return self._done().seconds

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this process and its children [s]."""
        return self._done().cpu_s

    @property
    def footprint(self) -> Footprint:
        """What it cost.

        Raises:
            MeterError: (M104) if it hasn't ended.
        """
        self._done()
        assert self._footprint is not None, "stop sets the window and the footprint together"
        return self._footprint

    @property
    def over_budget(self) -> bool | None:
        """Whether it used more than its budget; ``None`` without a budget, or if that can't be judged.

        Raises:
            MeterError: (M104) if it hasn't ended.
        """
        self._done()
        state = None if self.standing is None else self.standing.state
        return None if state in (None, "unknown") else state == "over"

    def _done(self) -> Window:
        if self._window is None:
            raise MeterError(f"measurement {self.label!r} hasn't ended yet", code="M104")
        return self._window

    def _row(self, row_id: str, last: Snapshot) -> Activity:
        """What was used since the start or the last cut."""
        assert self._since is not None, "a measurement that is booked has been started"
        (first, started_s), (meter, here) = self._since, _SHARED.get()
        window = meter.between(first, last)
        return Activity(
            id=row_id,
            started_s=started_s,
            seconds=window.seconds,
            kind="window",
            stage=self.stage,
            label=self.label,
            host=here.host.host_id,
            zone=here.factors.zone,
            inside=self.inside,
            cpu_seconds=window.cpu_s,
            footprint=here.cost_of(window),
        )

    def _book(self, here: Here) -> None:
        try:
            with Ledger() as ledger:
                ledger.append(self._rows)
                # The journal of a measurement that a fork inherited is its parent's.
                if self._journal is not None and self._pid == os.getpid():
                    done_with(self._journal)
                _SHARED.look_back(ledger, here)
        except NegajouleError as error:
            # The measured program must not fail because its account couldn't be kept.
            warnings.warn(f"not recorded: {error}", RuntimeWarning, stacklevel=4)


def _budget(given: Budget | str | None) -> Budget | None:
    if not isinstance(given, str):
        return given
    from negajoule.instrument.budget import Budget  # only work with a budget needs it

    return Budget.parse(given)


def measure(
    label: str = "", *, stage: Stage = "unknown", record: bool = True, budget: Budget | str | None = None
) -> Measurement:
    """Measure a ``with`` block.

    >>> with measure("tickets", record=False) as m:
    ...     answers = [len(str(n)) for n in range(1000)]
    >>> m.footprint.it_energy.unit
    'J'

    Args:
        label: your name for the work.
        stage: stage of the life cycle.
        record: whether the ledger keeps it.
        budget: what it may use, such as ``5 Wh``, ``50 gCO2e`` or ``1.5 L``.
    """
    return Measurement(label, stage=stage, record=record, budget=budget)


def measured(
    label: str | None = None,
    *,
    stage: Stage = "unknown",
    record: bool = True,
    budget: Budget | str | None = None,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a function so that each call is measured and booked under its name.

    Args:
        label: name of the work; by default the function's.
        stage: stage of the life cycle.
        record: whether the ledger keeps it.
        budget: what each call may use, such as ``5 Wh``, ``50 gCO2e`` or ``1.5 L``.

    Raises:
        ConfigError: (C101) if the budget isn't one.
    """
    allowed = _budget(budget)

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        name = label if label is not None else function.__qualname__

        @functools.wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with Measurement(name, stage=stage, record=record, budget=allowed):
                return function(*args, **kwargs)

        return wrapper

    return decorate
