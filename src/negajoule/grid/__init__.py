"""The grid's signals: where, and how clean.

- ``location``: the place, by order of who said it, and never by a network call
"""

from negajoule.grid.location import Location, locate

__all__ = ["Location", "locate"]
