"""What a worker measures: one pass over texts, single answers, and the process as a whole."""

from __future__ import annotations

import msgspec

from negajoule.meter import Window

__all__ = ["Cost", "Latency", "Opened", "Pass"]


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the measured texts.

    Attributes:
        texts: how many were answered.
        window: what the meter saw.
        phases_s: CPU time of each phase [s].
        started_s: UTC seconds since 1970 [s].
    """

    texts: int
    window: Window
    phases_s: dict[str, float]
    started_s: float

    @property
    def cpu_s(self) -> float:
        """CPU time of a text [s]."""
        return self.window.cpu_s / self.texts

    @property
    def energy_j(self) -> float:
        """Energy of a text [J]."""
        return self.window.energy.value / self.texts


class Latency(msgspec.Struct, frozen=True):
    """Times of single texts, one after the other [s]."""

    seconds: tuple[float, ...]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded artefact.

    Attributes:
        load_s: time it took to load [s].
        host: hashed identity of the machine.
        threads: that it may use.
    """

    load_s: float
    host: str
    threads: int


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What making an artefact took.

    Attributes:
        step: what was done.
        window: what the meter saw, in the worker's process.
        started_s: UTC seconds since 1970 [s].
        losses: the mean loss of each epoch, if something was trained.
    """

    step: str
    window: Window
    started_s: float
    losses: tuple[float, ...] = ()
