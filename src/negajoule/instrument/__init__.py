"""Measuring from inside other people's programs.

- ``budget``: what a piece of work or a project may use, and how that stands
- ``heartbeat``: one thread that looks after measurements which last
- ``here``: this machine at this place, which turns a share of it into a footprint
- ``interrupted``: what was killed, booked from its journal
- ``measurement``: ``with measure("label")`` and the decorator ``measured``
"""

from negajoule.instrument.budget import Budget, BudgetWarning
from negajoule.instrument.here import Here, find_here
from negajoule.instrument.measurement import Measurement, measure, measured

__all__ = ["Budget", "BudgetWarning", "Here", "Measurement", "find_here", "measure", "measured"]
