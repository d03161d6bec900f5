"""The arithmetic on which the promise rests: what a slice claims of its budget.

A worker gets a slice of a budget's window and grants requests from it in memory. It speaks of its slice in
totals since the slice began, which only grow, so saying a thing twice or late changes nothing.

A slice claims ``max(granted - returned, spent)`` of its window. The store grants more only while the claims
of all slices and the new grant fit the limit. A worker's honest totals keep ``spent + held <= granted -
returned``, so what is spent never exceeds the claims, and the claims never exceed the limit.
"""

from __future__ import annotations

from typing import NamedTuple

from negajoule.ledger.accounts.amounts import LARGEST_LIMIT

__all__ = [
    "NO_SLICE",
    "SLICE_SHARE",
    "Answer",
    "Movement",
    "Slice",
    "Standing",
    "Statement",
    "Want",
    "grant_for",
    "movement",
    "returned_whole",
    "stated",
]

SLICE_SHARE = 16
"""A slice is at most one part in so many of what is left, unless a single request needs more."""

_LARGEST_SUM = LARGEST_LIMIT


class Statement(NamedTuple):
    """What a worker says of its slice of an account's window, in totals since it began.

    Attributes:
        account: the account's id.
        window: the window's number.
        spent: what settled requests cost.
        returned: what of the slice it gives back.
        overrun: the part of ``spent`` beyond the requests' bounds.
        requests: settled requests.
        refusals: refused requests.
    """

    account: int
    window: int
    spent: int = 0
    returned: int = 0
    overrun: int = 0
    requests: int = 0
    refusals: int = 0


class Want(NamedTuple):
    """A wish for more of an account: at least ``need``, if it can be ``wish``."""

    account: int
    need: int
    wish: int


class Slice(NamedTuple):
    """A worker's slice of an account's window, all in totals."""

    granted: int = 0
    returned: int = 0
    spent: int = 0
    overrun: int = 0
    requests: int = 0
    refusals: int = 0

    @property
    def claim(self) -> int:
        """What it takes of the window."""
        return max(self.granted - self.returned, self.spent)

    @property
    def held(self) -> int:
        """What of its claim isn't known to be spent."""
        return self.claim - self.spent


NO_SLICE = Slice()


class Standing(NamedTuple):
    """How an account's current window stands, and a worker in it.

    Attributes:
        account: the account's id.
        window: the window's number.
        ends_s: when it ends by the store's clock [s]; ``None`` for never.
        limit: what it allows.
        claimed: what all slices claim.
        spent: what of that is known to be spent.
        mine: the worker's own slice as the store knows it.
    """

    account: int
    window: int
    ends_s: float | None
    limit: int
    claimed: int
    spent: int
    mine: Slice = NO_SLICE

    @property
    def free(self) -> int:
        """What may still be granted; negative after overruns or a lowered limit."""
        return self.limit - self.claimed


class Answer(NamedTuple):
    """A store's answer to statements and wants.

    Attributes:
        now_s: the store's clock [s].
        version: changes whenever a budget is opened, changed or closed.
        standings: by account id; closed accounts aren't there.
        lacking: accounts whose want can't be met; if there are any, nothing was granted.
    """

    now_s: float
    version: int
    standings: dict[int, Standing]
    lacking: tuple[int, ...]


class Movement(NamedTuple):
    """What a window's sums change by when a slice does."""

    claimed: int
    spent: int
    overrun: int
    requests: int
    refusals: int


def stated(before: Slice, statement: Statement) -> Slice:
    """A slice after a statement: totals only grow, and no more is returned than was granted."""
    return Slice(
        before.granted,
        max(before.returned, min(statement.returned, before.granted)),
        min(max(before.spent, statement.spent), _LARGEST_SUM),
        min(max(before.overrun, statement.overrun), _LARGEST_SUM),
        max(before.requests, statement.requests),
        max(before.refusals, statement.refusals),
    )


def returned_whole(before: Slice) -> Slice:
    """A slice whose worker holds nothing of it any more: what isn't spent is returned."""
    return before._replace(returned=max(before.returned, before.granted - before.spent))


def movement(before: Slice, after: Slice) -> Movement:
    """The differences that a window's sums take over."""
    return Movement(
        after.claim - before.claim,
        after.spent - before.spent,
        after.overrun - before.overrun,
        after.requests - before.requests,
        after.refusals - before.refusals,
    )


def grant_for(want: Want, free: int) -> int | None:
    """How much a want gets of what is free; ``None`` if less is free than it needs."""
    if want.need > free:
        return None
    return max(want.need, min(want.wish, free // SLICE_SHARE))
