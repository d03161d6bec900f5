"""Which measured work lies inside which, so that its energy is booked in both and counted in one.

A window of this process covers the whole process, so every other window that is open meanwhile lies inside
it as long as it lasts. ``negajoule run`` covers the process as a whole and says so in the environment. The
ledger's totals leave out a row that lies inside another row they count.

Windows of several threads may overlap without one holding the other. When the outer one ends first, the inner
one is cut there: what it used so far becomes a row inside the outer one, and the rest a row of its own.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.meter import Meter, Snapshot

__all__ = ["OPEN", "OUTER_VARIABLE", "Nest", "Nested", "outer_of_process"]

OUTER_VARIABLE = "NEGAJOULE_INSIDE"
"""Names the row of the run that started this process, for the processes it starts."""


def outer_of_process(environment: Mapping[str, str] | None = None) -> str:
    """Id of the run that covers this process; empty if none does."""
    return (os.environ if environment is None else environment).get(OUTER_VARIABLE, "")


class Nested(Protocol):
    """A window that may lie inside others.

    Attributes:
        id: of its row.
        inside: id of the row that holds it now; empty if none does.
    """

    id: str
    inside: str

    def cut(self, at: Snapshot) -> None:
        """End a row here and begin another; its ``inside`` is about to change."""
        ...


class Nest:
    """The windows that are open in this process, outermost first.

    The meter is read while nobody else opens or closes, so that rows meet without a gap or an overlap.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[Nested] = []
        self._pid = os.getpid()

    def enter(self, window: Nested, meter: Meter) -> Snapshot:
        """A window opens: it lies inside the newest that is open, or inside the process's run."""
        if self._pid != os.getpid():
            # A forked child has windows of its own; those it inherited are its parent's, and so is the lock.
            self._open, self._pid, self._lock = [], os.getpid(), threading.Lock()
        with self._lock:
            window.inside = self._open[-1].id if self._open else outer_of_process()
            self._open.append(window)
            return meter.read()

    def leave(self, window: Nested, meter: Meter) -> Snapshot:
        """A window closes: those inside it are cut, and go on inside what held it."""
        with self._lock:
            last = meter.read()
            if window in self._open:
                self._open.remove(window)
            for other in self._open:
                if other.inside == window.id:
                    other.cut(last)
                    other.inside = window.inside
            return last


OPEN = Nest()
"""The windows of this process."""
