"""Models: from energy and time to every indicator.

- ``factors``: PUE, intensities, water and embodied rates of a place
- ``footprint``: the indicators of a piece of work
"""

from negajoule.physics.factors import Factors, factors_for
from negajoule.physics.footprint import footprint

__all__ = ["Factors", "factors_for", "footprint"]
