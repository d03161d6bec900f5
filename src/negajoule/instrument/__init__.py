"""Measuring from inside other people's programs.

- ``here``: this machine at this place, which turns a share of it into a footprint
- ``measurement``: ``with measure("label")`` and the decorator ``measured``
"""

from negajoule.instrument.here import Here, find_here
from negajoule.instrument.measurement import Measurement, measure, measured

__all__ = ["Here", "Measurement", "find_here", "measure", "measured"]
