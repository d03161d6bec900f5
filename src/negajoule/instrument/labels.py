"""The name of the work that is going on, so that requests can be told apart afterwards."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["current_label", "label"]

_LABEL: ContextVar[str] = ContextVar("negajoule_label", default="")


@contextmanager
def label(name: str) -> Iterator[None]:
    """Book every request made inside the block under a name of yours.

    Holds for the thread or task of the block and for tasks started in it. An inner block's name goes before
    an outer one's.

    >>> with label("search"):
    ...     current_label()
    'search'

    Args:
        name: what the ledger shows as label.
    """
    token = _LABEL.set(name)
    try:
        yield
    finally:
        _LABEL.reset(token)


def current_label() -> str:
    """The innermost name that holds here; empty if none does."""
    return _LABEL.get()
