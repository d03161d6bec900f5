"""Instruments that are slow to ask: sampled in a thread of their own, so that no reading waits for them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from negajoule.meter.probe import Component, Reading
from negajoule.meter.track import PowerTrack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SampledProbe"]

LATE = 3.0
"""After this many periods without an answer, what is missing is bridged."""


class SampledProbe:
    """Asks for watts once a period and integrates them.

    An answer that doesn't come, or comes as an error, is bridged and flagged as any failed read.

    Args:
        name: its family, e.g. ``ipmi``.
        fetch: asks for the power of each domain [W]; may take long, may raise, may leave domains out.
        domains: every domain and what it feeds.
        ceiling_w: more than this no domain can draw [W].
        accuracy: relative error [1].
        period_s: time between two questions [s].
        clock: monotonic clock [s].
        start: whether to start asking; tests ask by hand (``sample``).
    """

    heartbeat_s: float | None = None

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Mapping[str, float]],
        domains: Mapping[str, Component],
        *,
        ceiling_w: float,
        accuracy: float,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
        start: bool = True,
    ) -> None:
        self.name = name
        self._fetch, self._domains, self._period_s, self._clock = fetch, domains, period_s, clock
        self._lock = threading.Lock()
        self._tracks = {
            domain: PowerTrack(domain, ceiling_w=ceiling_w, accuracy=accuracy, period_s=period_s)
            for domain in domains
        }
        self._watts: dict[str, float] = {}
        self._asked_s = clock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if start:
            self._thread = threading.Thread(target=self._run, name=f"negajoule-{name}", daemon=True)
            self._thread.start()

    def sample(self) -> None:
        """Ask once; never raises."""
        try:
            watts = dict(self._fetch())
        except Exception:
            watts = {}
        with self._lock:
            self._advance(watts)

    def read(self) -> tuple[Reading, ...]:
        """What has been integrated so far."""
        with self._lock:
            if self._clock() - self._asked_s > LATE * self._period_s:
                self._advance({})
            return tuple(
                Reading(
                    domain=domain,
                    energy_j=track.energy_j,
                    power_w=self._watts.get(domain),
                    source=f"{self.name} {domain}",
                    grade=track.grade,
                    component=self._domains[domain],
                    low_j=track.low_j,
                    high_j=track.high_j,
                    gap=track.gap,
                )
                for domain, track in self._tracks.items()
            )

    def close(self) -> None:
        """Stop asking."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=self._period_s)

    def _advance(self, watts: dict[str, float]) -> None:
        self._asked_s, self._watts = self._clock(), watts
        for domain, track in self._tracks.items():
            track.advance(watts.get(domain), self._asked_s)

    def _run(self) -> None:
        while True:
            self.sample()
            if self._stop.wait(self._period_s):
                return
