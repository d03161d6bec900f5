"""Coefficients: watts of a core, of a byte, of an idle server; calibrated here or from the catalogue.

    active  = CPU time x cores per thread x cpu.core.active_power
    idle    = reserved cores x cpu.core.idle_power x time
    memory  = bytes x memory.power x time

A hardware thread isn't a core. With two threads to a core, the second adds little power while both are busy,
so a second of CPU time counts as ``meter.thread.core_share`` of a core (0.5 if the sibling is always busy, 1
if never). A virtual processor is taken for such a thread, because clouds sell them so and the guest can't
tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.catalog import core_power, lookup

if TYPE_CHECKING:
    from negajoule.meter.host import Host

__all__ = ["Coefficients", "Span", "from_catalog"]

BYTES_PER_GB = 1e9


class Span(NamedTuple):
    """A bare value with its bounds, for arithmetic that would be slow with quantities."""

    value: float
    low: float
    high: float

    def times(self, other: Span) -> Span:
        """Product of two spans without negative numbers."""
        return Span(self.value * other.value, self.low * other.low, self.high * other.high)

    def scaled(self, factor: float) -> Span:
        """All three times a number that isn't negative."""
        return Span(self.value * factor, self.low * factor, self.high * factor)

    def minus(self, other: Span) -> Span:
        """Difference of the values with the widest bounds, none below zero."""
        return Span(
            max(self.value - other.value, 0.0),
            max(self.low - other.high, 0.0),
            max(self.high - other.low, 0.0),
        )


ZERO = Span(0.0, 0.0, 0.0)
ONE = Span(1.0, 1.0, 1.0)


class Coefficients(msgspec.Struct, frozen=True):
    """What the model multiplies with.

    Attributes:
        active_w: power of a busy physical core above idle [W].
        idle_w: power of the idle server without memory, for each physical core [W].
        package_idle_w: the share of ``idle_w`` that a package counter sees [W].
        memory_w_per_byte: power of a byte of memory [W/B].
        cores_per_busy_thread: which part of a core a busy thread occupies [1].
        cores_per_reserved_thread: which part of a core a reserved thread sets aside [1].
        active_grade: of ``active_w``: C calibrated, D not.
        idle_grade: of ``idle_w``, likewise.
        active_source: catalogue key or calibration behind ``active_w``.
        idle_source: the same for ``idle_w``.
        notes: what a reader of the result must know.
    """

    active_w: Span
    idle_w: Span
    package_idle_w: Span
    memory_w_per_byte: Span
    cores_per_busy_thread: Span
    cores_per_reserved_thread: Span
    active_grade: str
    idle_grade: str
    active_source: str
    idle_source: str
    notes: tuple[str, ...] = ()


def from_catalog(host: Host) -> Coefficients:
    """The catalogue's coefficients for a machine, grade D.

    Raises:
        CatalogError: if the catalogue lacks a row.
    """
    notes: tuple[str, ...] = ()
    busy = reserved = ONE
    if host.virtual or host.threads_per_core > 1:
        busy = _span("meter.thread.core_share")
        reserved = _span("meter.vcpu.core_share") if host.virtual else ONE.scaled(1 / host.threads_per_core)
        kind = "virtual processor" if host.virtual else "hardware thread"
        notes = (f"a busy {kind} counts as {busy.value:g} ({busy.low:g} to {busy.high:g}) of a core",)
    active, idle = core_power(host.cpu, family=host.family, model=host.model)
    idle_w = Span(idle.value, idle.low, idle.high)
    return Coefficients(
        active_w=Span(active.value, active.low, active.high),
        idle_w=idle_w,
        package_idle_w=idle_w.times(_span("meter.package.idle_share")),
        memory_w_per_byte=_span("memory.power").scaled(1 / BYTES_PER_GB),
        cores_per_busy_thread=busy,
        cores_per_reserved_thread=reserved,
        active_grade="D",
        idle_grade="D",
        active_source=active.key,
        idle_source=idle.key,
        notes=notes,
    )


def _span(key: str) -> Span:
    fact = lookup(key)
    return Span(fact.value, fact.low, fact.high)
