"""Measuring from inside other people's programs.

- ``budget``: what a piece of work or a project may use, and how that stands
- ``heartbeat``: one thread that looks after measurements which last
- ``here``: this machine at this place, which turns a share of it into a footprint
- ``interrupted``: what was killed, booked from its journal
- ``measurement``: ``with measure("label")`` and the decorator ``measured``
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negajoule.instrument.here import Here, find_here
from negajoule.instrument.measurement import Measurement, measure, measured

if TYPE_CHECKING:
    from negajoule.instrument.budget import Budget, BudgetWarning

__all__ = ["Budget", "BudgetWarning", "Here", "Measurement", "find_here", "measure", "measured"]

_LAZY = {"Budget": "budget", "BudgetWarning": "budget"}
"""Names whose modules only some programs need."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 (the face of many types)
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
