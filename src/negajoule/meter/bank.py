"""All probes of a meter read together: what each domain gave since the last time, none counted twice."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from negajoule.meter.attribution import Counted
from negajoule.meter.model import ZERO, Span
from negajoule.meter.probe import Gap, Probe, Reading, SharingProbe

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["ProbeBank"]

KEPT_GAPS = 1024
JOINED_S = 10.0
"""Gaps of one kind and domain no further apart than this are one gap."""


class ProbeBank:
    """Reads the probes in the order given; the first that gives a component keeps it.

    GPUs are told apart by their domains; of processors, memory and whole machines there is one each, and a
    second probe for the same (a chassis behind IPMI and Redfish, a package behind RAPL and hwmon) is only
    looked at.

    Args:
        probes: instruments, the better one of a component first.
    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = list(probes)
        self._sharing = [probe for probe in probes if isinstance(probe, SharingProbe)]
        self._owners: dict[str, str] = {}
        self._seen: dict[tuple[str, str], Reading] = {}
        self._gaps: deque[Gap] = deque(maxlen=KEPT_GAPS)
        self._latest: dict[tuple[str, str], Gap] = {}

    def __len__(self) -> int:
        return len(self._probes)

    @property
    def components(self) -> frozenset[str]:
        """Components that some probe has given."""
        return frozenset(self._owners)

    def owner(self, component: str) -> str:
        """The probe that gives a component.

        Raises:
            KeyError: if none does.
        """
        return self._owners[component]

    def uuids(self) -> dict[str, str]:
        """Domain to UUID of all boards that have one."""
        return {domain: uuid for probe in self._sharing for domain, uuid in probe.uuids().items()}

    @property
    def period_s(self) -> float | None:
        """The shortest heartbeat any probe asks for; ``None`` if none does [s]."""
        return min((probe.heartbeat_s for probe in self._probes if probe.heartbeat_s), default=None)

    def note(self, gap: Gap) -> None:
        """Keep a gap, as one with the last of its kind and domain if that has hardly ended."""
        key = (gap.kind, gap.domain)
        last = self._latest.get(key)
        if last is not None and last.start_s <= gap.start_s <= last.end_s + JOINED_S:
            gap = Gap(gap.kind, gap.domain, last.start_s, max(last.end_s, gap.end_s), gap.detail)
        elif last is not None:
            self._gaps.append(last)
        self._latest[key] = gap

    def gaps(self, start_s: float, end_s: float) -> tuple[Gap, ...]:
        """Gaps that touch a stretch of the meter's clock."""
        kept = [*list(self._gaps), *list(self._latest.values())]
        return tuple(gap for gap in kept if gap.start_s <= end_s and gap.end_s >= start_s)

    def poll(self, now_s: float) -> list[Counted]:
        """Read all probes; one that raises leaves a gap and nothing else.

        Args:
            now_s: the meter's clock, for gaps of probes that don't tell [s].
        """
        counted: list[Counted] = []
        for probe in self._probes:
            try:
                readings = probe.read()
            except Exception as error:
                self.note(Gap("failed read", probe.name, now_s, now_s, str(error)))
                continue
            for reading in readings:
                if reading.gap is not None:
                    self.note(reading.gap)
                if reading.energy_j is None or not self._counts(probe.name, reading):
                    continue
                key = (probe.name, reading.domain)
                last, self._seen[key] = self._seen.get(key), reading
                energy_j = ZERO if last is None else _grown(last, reading)
                counted.append(
                    Counted(reading.component, reading.domain, reading.source, reading.grade, energy_j)
                )
        return counted

    def shares(
        self, counted: Sequence[Counted], pids: Collection[int], now_s: float, *, numbers_match: bool
    ) -> dict[str, Span]:
        """Which part of each board some processes use.

        A board whose probe can't tell is presumed theirs, with nothing as the lower bound.
        """
        shares = {item.domain: Span(1.0, 0.0, 1.0) for item in counted if item.component == "gpu"}
        for probe in self._sharing if shares else ():
            try:
                found = probe.shares(pids, numbers_match=numbers_match)
            except Exception as error:
                self.note(Gap("failed read", probe.name, now_s, now_s, str(error)))
                continue
            shares |= {domain: Span(*share) for domain, share in found.items()}
        return shares

    def close(self) -> None:
        """Close all probes."""
        probes, self._probes, self._sharing = self._probes, [], []
        for probe in probes:
            probe.close()

    def _counts(self, name: str, reading: Reading) -> bool:
        if reading.component == "check":
            return False
        return reading.component == "gpu" or self._owners.setdefault(reading.component, name) == name


def _grown(last: Reading, reading: Reading) -> Span:
    """What a domain gave since its last reading; a probe without bounds is taken at its word."""
    assert reading.energy_j is not None
    assert last.energy_j is not None
    value = max(reading.energy_j - last.energy_j, 0.0)
    low = value if reading.low_j is None or last.low_j is None else reading.low_j - last.low_j
    high = value if reading.high_j is None or last.high_j is None else reading.high_j - last.high_j
    return Span(value, min(max(low, 0.0), value), max(high, value))
