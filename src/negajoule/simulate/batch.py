"""The slots of a replica's batch: who decodes, who is done first, who joined last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.simulate import layout as at

if TYPE_CHECKING:
    from negajoule.simulate.layout import State

__all__ = ["add", "first_due", "remove", "sift_down", "sift_up"]


def add(s: State, replica: int, request: int, due: int, origin: int) -> None:
    """Give a request a slot: done at decode step ``due``, its context is ``origin`` and the steps so far."""
    own = replica * at.WHOLES
    base = replica * s.fleet_wholes[at.MAX_BATCH]
    s.wholes[own + at.FREED] -= 1
    slot = s.slots[(base + s.wholes[own + at.FREED]) * at.SLOTS + at.FREE]
    record = (base + slot) * at.SLOTS
    s.slots[record + at.REQUEST] = request
    s.slots[record + at.DUE] = due
    s.slots[record + at.ORIGIN] = origin
    before = s.wholes[own + at.NEWEST]
    s.slots[record + at.BEFORE] = before
    s.slots[record + at.AFTER] = at.NONE
    if before != at.NONE:
        s.slots[(base + before) * at.SLOTS + at.AFTER] = slot
    s.wholes[own + at.NEWEST] = slot
    last = s.wholes[own + at.HEAPED]
    s.wholes[own + at.HEAPED] = last + 1
    s.slots[(base + last) * at.SLOTS + at.HEAP] = slot
    s.slots[record + at.RANK] = last
    sift_up(s, base, last)


def remove(s: State, replica: int, slot: int) -> None:
    """Free a slot."""
    own = replica * at.WHOLES
    base = replica * s.fleet_wholes[at.MAX_BATCH]
    record = (base + slot) * at.SLOTS
    before, after = s.slots[record + at.BEFORE], s.slots[record + at.AFTER]
    if before != at.NONE:
        s.slots[(base + before) * at.SLOTS + at.AFTER] = after
    if after != at.NONE:
        s.slots[(base + after) * at.SLOTS + at.BEFORE] = before
    else:
        s.wholes[own + at.NEWEST] = before
    s.slots[(base + s.wholes[own + at.FREED]) * at.SLOTS + at.FREE] = slot
    s.wholes[own + at.FREED] += 1
    last = s.wholes[own + at.HEAPED] - 1
    s.wholes[own + at.HEAPED] = last
    rank = s.slots[record + at.RANK]
    if rank != last:
        moved = s.slots[(base + last) * at.SLOTS + at.HEAP]
        s.slots[(base + rank) * at.SLOTS + at.HEAP] = moved
        s.slots[(base + moved) * at.SLOTS + at.RANK] = rank
        sift_up(s, base, rank)
        sift_down(s, base, s.slots[(base + moved) * at.SLOTS + at.RANK], last)


def first_due(s: State, replica: int) -> int:
    """The slot that is done first; there must be one."""
    return s.slots[replica * s.fleet_wholes[at.MAX_BATCH] * at.SLOTS + at.HEAP]


def sift_up(s: State, base: int, rank: int) -> None:
    """Move a slot towards the root of the heap while it is done before its parent."""
    slot = s.slots[(base + rank) * at.SLOTS + at.HEAP]
    due = s.slots[(base + slot) * at.SLOTS + at.DUE]
    while rank > 0:
        above = (rank - 1) // 2
        parent = s.slots[(base + above) * at.SLOTS + at.HEAP]
        if s.slots[(base + parent) * at.SLOTS + at.DUE] <= due:
            break
        s.slots[(base + rank) * at.SLOTS + at.HEAP] = parent
        s.slots[(base + parent) * at.SLOTS + at.RANK] = rank
        rank = above
    s.slots[(base + rank) * at.SLOTS + at.HEAP] = slot
    s.slots[(base + slot) * at.SLOTS + at.RANK] = rank


def sift_down(s: State, base: int, rank: int, size: int) -> None:
    """Move a slot towards the leaves of the heap while a child is done before it."""
    slot = s.slots[(base + rank) * at.SLOTS + at.HEAP]
    due = s.slots[(base + slot) * at.SLOTS + at.DUE]
    while True:
        below = 2 * rank + 1
        if below >= size:
            break
        child = s.slots[(base + below) * at.SLOTS + at.HEAP]
        child_due = s.slots[(base + child) * at.SLOTS + at.DUE]
        if below + 1 < size:
            other = s.slots[(base + below + 1) * at.SLOTS + at.HEAP]
            other_due = s.slots[(base + other) * at.SLOTS + at.DUE]
            if other_due < child_due:
                below, child, child_due = below + 1, other, other_due
        if due <= child_due:
            break
        s.slots[(base + rank) * at.SLOTS + at.HEAP] = child
        s.slots[(base + child) * at.SLOTS + at.RANK] = rank
        rank = below
    s.slots[(base + rank) * at.SLOTS + at.HEAP] = slot
    s.slots[(base + slot) * at.SLOTS + at.RANK] = rank
