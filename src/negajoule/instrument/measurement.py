"""Measure a stretch of a program: a context manager and a decorator."""

from __future__ import annotations

import functools
import threading
import time
import warnings
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from negajoule.errors import MeterError, NegajouleError
from negajoule.instrument.here import Here, find_here
from negajoule.ledger import Activity, Ledger, Stage, new_id
from negajoule.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from negajoule.meter import Snapshot, Window
    from negajoule.units import Footprint

__all__ = ["Measurement", "measure", "measured"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Shared:
    """The meter and the place, found once a process and used by every measurement."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[Meter, Here] | None = None

    def get(self) -> tuple[Meter, Here]:
        with self._lock:
            if self._found is None:
                self._found = Meter.for_process(), find_here()
            return self._found


_SHARED = _Shared()


class Measurement:
    """A measured stretch; its footprint is there once it has ended. Measurements may nest and overlap.

    Args:
        label: your name for the work.
        stage: stage of the life cycle.
        record: whether the ledger keeps it.
    """

    def __init__(self, label: str = "", *, stage: Stage = "unknown", record: bool = True) -> None:
        self.label = label
        self.stage = stage
        self.record = record
        self.id = new_id("win")
        self._started_s = 0.0
        self._first: Snapshot | None = None
        self._window: Window | None = None
        self._footprint: Footprint | None = None

    def start(self) -> Measurement:
        """Read the meter for the first time.

        Raises:
            MeterError: (M104) if it has been started before.
        """
        if self._first is not None:
            raise MeterError(f"measurement {self.label!r} has been started before", code="M104")
        meter, _ = _SHARED.get()
        self._started_s = time.time()
        self._first = meter.read()
        return self

    def stop(self) -> Footprint:
        """Read the meter again, work out the footprint and book it.

        Raises:
            MeterError: (M104) if it isn't running.
        """
        if self._first is None or self._window is not None:
            state = "never started" if self._first is None else "stopped before"
            raise MeterError(f"measurement {self.label!r} was {state}", code="M104")
        meter, here = _SHARED.get()
        self._window = meter.between(self._first, meter.read())
        self._footprint = here.cost_of(self._window)
        if self.record:
            self._book(here)
        return self._footprint

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

    def _done(self) -> Window:
        if self._window is None:
            raise MeterError(f"measurement {self.label!r} hasn't ended yet", code="M104")
        return self._window

    def _book(self, here: Here) -> None:
        activity = Activity(
            id=self.id,
            started_s=self._started_s,
            seconds=self.seconds,
            kind="window",
            stage=self.stage,
            label=self.label,
            host=here.host.host_id,
            zone=here.factors.zone,
            cpu_seconds=self.cpu_seconds,
            footprint=self.footprint,
        )
        try:
            with Ledger() as ledger:
                ledger.append([activity])
        except NegajouleError as error:
            # The measured program must not fail because its account couldn't be kept.
            warnings.warn(f"not recorded: {error}", RuntimeWarning, stacklevel=4)


def measure(label: str = "", *, stage: Stage = "unknown", record: bool = True) -> Measurement:
    """Measure a ``with`` block.

    >>> with measure("tickets", record=False) as m:
    ...     answers = [len(str(n)) for n in range(1000)]
    >>> m.footprint.it_energy.unit
    'J'

    Args:
        label: your name for the work.
        stage: stage of the life cycle.
        record: whether the ledger keeps it.
    """
    return Measurement(label, stage=stage, record=record)


def measured(
    label: str | None = None, *, stage: Stage = "unknown", record: bool = True
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a function so that each call is measured and booked under its name.

    Args:
        label: name of the work; by default the function's.
        stage: stage of the life cycle.
        record: whether the ledger keeps it.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        name = label if label is not None else function.__qualname__

        @functools.wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with Measurement(name, stage=stage, record=record):
                return function(*args, **kwargs)

        return wrapper

    return decorate
