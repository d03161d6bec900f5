"""Whose joules: a machine's energy split over claims, with what nobody claimed kept apart.

Machine = idle + active. Active goes by CPU time, idle by reservation, memory by bytes, each GPU by its use.
What the claims leave is ``unattributed``; claims and unattributed add to the machine, because the last is
what is left when the others are taken off. Claims that add to more than the whole are scaled down together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.meter.model import ONE, ZERO, Coefficients, Span
from negajoule.units import Basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.meter.host import Host

__all__ = [
    "Claim",
    "Counted",
    "CpuShare",
    "Slice",
    "Split",
    "machine_slices",
    "modelled",
    "reserved_cores",
    "reserved_share",
    "split",
]

SHARE_SPAN_S = 0.5
"""Shares of CPU time are taken over at least this long, for the machine's clock ticks in hundredths."""
MACHINE_CLOCK_ERROR_S = 0.04
"""Four fields of ``/proc/stat``, each cut to a hundredth of a second."""


class Counted(msgspec.Struct, frozen=True):
    """Energy of one domain over a stretch, as a probe gave it.

    Attributes:
        component: cpu, memory, gpu or platform.
        domain: e.g. ``gpu 0``.
        source: the counter behind it.
        grade: A, B or E.
        energy_j: how much [J].
    """

    component: str
    domain: str
    source: str
    grade: str
    energy_j: Span


class Claim(msgspec.Struct, frozen=True):
    """What a process, a container or a request took of the machine during a stretch.

    Attributes:
        cpu: its share of the machine's busy CPU time [1].
        reserved: its share of the machine's cores, busy or not [1].
        memory: its share of the machine's memory [1].
        gpus: its share of each board, by domain [1]; a board not named isn't used.
    """

    cpu: Span
    reserved: Span
    memory: Span
    gpus: dict[str, Span] = {}


class Slice(msgspec.Struct, frozen=True):
    """A named piece of energy [J]."""

    name: str
    source: str
    grade: str
    basis: Basis
    energy_j: Span


class Split(msgspec.Struct, frozen=True):
    """The slices of each claim, in their order, and what is left."""

    claims: tuple[tuple[Slice, ...], ...]
    unattributed: tuple[Slice, ...]


def split(counted: Sequence[Counted], claims: Sequence[Claim], *, idle_j: Span, server_idle_j: Span) -> Split:
    """Split what the counters gave over claims.

    Args:
        counted: every domain once. If a ``platform`` is among them it contains the others.
        claims: who took what.
        idle_j: what the packages would have drawn idle [J].
        server_idle_j: what the whole server would have drawn idle, memory included [J].
    """
    slices: list[list[Slice]] = [[] for _ in claims]
    left: list[Slice] = []
    cpu = [claim.cpu for claim in claims]
    reserved = [claim.reserved for claim in claims]

    def share_out(name: str, item: Counted, energy_j: Span, shares: Sequence[Span]) -> None:
        taken = _fitted(shares)
        rest = energy_j
        for own, share in zip(slices, taken, strict=True):
            part = energy_j.times(share)
            own.append(_slice(name, item, part))
            rest = Span(rest.value - part.value, rest.low - part.high, rest.high - part.low)
        left.append(_slice(name, item, _ordered(rest)))

    platform = [item for item in counted if item.component == "platform"]
    others = [item for item in counted if item.component not in ("platform", "check")]
    packages_j = sum(item.energy_j.value for item in others if item.component == "cpu")
    for item in others:
        if item.component == "cpu":
            weight = item.energy_j.value / packages_j if packages_j > 0 else 0.0
            idle, active = _idle_and_active(item.energy_j, idle_j.scaled(weight))
            share_out("cpu active", item, active, cpu)
            share_out("cpu idle", item, idle, reserved)
        elif item.component == "memory":
            share_out("memory", item, item.energy_j, [claim.memory for claim in claims])
        else:
            share_out(
                item.domain, item, item.energy_j, [claim.gpus.get(item.domain, ZERO) for claim in claims]
            )
    for item in platform:
        rest = item.energy_j
        for inner in others:
            rest = rest.minus(inner.energy_j)
        if any(inner.component == "cpu" for inner in others):
            share_out("rest of the machine", item, rest, reserved)
        else:
            idle, active = _idle_and_active(rest, server_idle_j)
            share_out("machine active", item, active, cpu)
            share_out("machine idle", item, idle, reserved)
    return Split(tuple(tuple(own) for own in slices), tuple(left))


def modelled(
    coefficients: Coefficients,
    *,
    seconds: float,
    cpu_s: float,
    cores: Span,
    memory_bytes: Span,
    counted: frozenset[str],
) -> tuple[Slice, ...]:
    """What no counter covers, by the model (equations in ``model``).

    Args:
        coefficients: of this machine.
        seconds: length of the stretch [s].
        cpu_s: CPU time in it [s].
        cores: physical cores set aside for it.
        memory_bytes: memory set aside or held [B].
        counted: components that a counter covers; they aren't modelled again.
    """
    slices = []
    basis: Basis = "modelled"
    if not counted & {"cpu", "platform"}:
        active_j = coefficients.active_w.times(coefficients.cores_per_busy_thread).scaled(cpu_s)
        idle_j = coefficients.idle_w.times(cores).scaled(seconds)
        for name, source, grade, energy_j in (
            ("cpu active", coefficients.active_source, coefficients.active_grade, active_j),
            ("machine idle", coefficients.idle_source, coefficients.idle_grade, idle_j),
        ):
            slices.append(Slice(name, source, grade, basis, energy_j))
    elif "platform" not in counted:
        rest_w = coefficients.idle_w.minus(coefficients.package_idle_w)
        rest_j = rest_w.times(cores).scaled(seconds)
        grade = coefficients.idle_grade
        slices.append(Slice("rest of the machine", coefficients.idle_source, grade, basis, rest_j))
    if not counted & {"memory", "platform"}:
        memory_j = coefficients.memory_w_per_byte.times(memory_bytes).scaled(seconds)
        slices.append(Slice("memory", "memory.power", "D", basis, memory_j))
    return tuple(slices)


def reserved_cores(host: Host, coefficients: Coefficients, *, cpu_s: float, seconds: float) -> Span:
    """Physical cores set aside for us.

    A limit that someone set is a reservation. Without one the whole machine is presumed ours, and the lower
    bound is what we kept busy, for others may be using the rest.
    """
    per_thread = coefficients.cores_per_reserved_thread
    cores = per_thread.scaled(host.reserved_threads)
    if host.reservation_is_explicit or seconds <= 0:
        return cores
    busy_threads = min(cpu_s / seconds, host.reserved_threads)
    return cores._replace(low=per_thread.low * busy_threads)


def reserved_share(host: Host, *, cpu_s: float, seconds: float) -> Span:
    """The same as a share of the machine's threads [1]."""
    share = ONE.scaled(host.reserved_threads / host.threads)
    if host.reservation_is_explicit or seconds <= 0:
        return share
    return share._replace(low=min(cpu_s / seconds / host.threads, share.value))


def machine_slices(counted: Sequence[Counted]) -> list[Slice]:
    """What the counters gave, for a whole machine: unsplit, and what a platform contains taken off it."""
    inner = [item for item in counted if item.component not in ("platform", "check")]
    slices = []
    for item in counted:
        if item.component == "check":
            continue
        energy_j, name = item.energy_j, item.domain
        if item.component == "platform":
            name = "rest of the machine"
            for other in inner:
                energy_j = energy_j.minus(other.energy_j)
        basis: Basis = "assumed" if item.grade == "E" else "measured"
        slices.append(Slice(name, item.source, item.grade, basis, energy_j))
    return slices


class CpuShare:
    """A tree's share of the machine's busy time, over a span long enough for the machine's coarse clock.

    Args:
        time_s: when the counting begins [s].
        tree_s: the tree's CPU time then [s].
        machine_s: the machine's busy time then [s].
    """

    def __init__(self, time_s: float, tree_s: float, machine_s: float) -> None:
        self.machine_s = machine_s
        self._base = self._next = self._last = (time_s, tree_s, machine_s)

    def since(self, time_s: float, tree_s: float, machine_s: float) -> Span:
        """The share over the stretch since the last call, or over a longer span that ends with it."""
        self.machine_s = machine_s
        base = self._last if time_s - self._last[0] >= SHARE_SPAN_S else self._base
        self._last = (time_s, tree_s, machine_s)
        if time_s - self._next[0] >= SHARE_SPAN_S:
            self._base, self._next = self._next, self._last
        tree = max(tree_s - base[1], 0.0)
        machine = max(machine_s - base[2], tree)
        if tree == 0.0:
            return ZERO
        least = max(machine - MACHINE_CLOCK_ERROR_S, tree)
        return Span(tree / machine, tree / (machine + MACHINE_CLOCK_ERROR_S), tree / least)


def _idle_and_active(energy_j: Span, idle_j: Span) -> tuple[Span, Span]:
    idle = Span(*(min(part, whole) for part, whole in zip(idle_j, energy_j, strict=True)))
    value = energy_j.value - idle.value
    low = min(max(energy_j.low - idle_j.high, 0.0), value)
    return idle, Span(value, low, max(energy_j.high - idle_j.low, value))


def _fitted(shares: Sequence[Span]) -> list[Span]:
    """Scale shares down where their values add to more than 1; no bound leaves 0 to 1."""
    claimed = sum(share.value for share in shares)
    scale = 1 / claimed if claimed > 1 else 1.0
    return [
        Span(
            share.value * scale,
            min(share.low * scale, share.value * scale),
            min(max(share.high, share.value * scale), 1.0),
        )
        for share in shares
    ]


def _ordered(span: Span) -> Span:
    """No rounding below zero, and the value between its bounds."""
    value = max(span.value, 0.0)
    return Span(value, min(max(span.low, 0.0), value), max(span.high, value))


def _slice(name: str, item: Counted, energy_j: Span) -> Slice:
    basis: Basis = "assumed" if item.grade == "E" else "inferred"
    return Slice(name, item.source, item.grade, basis, energy_j)
