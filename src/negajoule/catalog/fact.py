"""One row of the catalogue: a figure with its interval and its provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog.scales import SCALES
from negajoule.errors import UnitError

if TYPE_CHECKING:
    from negajoule.units import Quantity

__all__ = ["SHIPPED", "Fact"]

SHIPPED = "shipped"
"""The origin of rows that come with the package."""


class Fact(msgspec.Struct, frozen=True):
    """A figure, how far it may be off, and who says so.

    Attributes:
        key: dotted name, e.g. ``grid.carbon.FRA``.
        value: the best estimate, in ``unit``.
        low: lower end of the interval, in ``unit``.
        high: upper end of the interval, in ``unit``.
        unit: a unit of ``SCALES``, the one people use.
        year: the year the figure describes, or else of the source's version.
        source: who published it, and by what way it came here.
        licence: terms of the source; empty for a user's own row.
        note: how the interval came about, and what else a reader must know.
        origin: ``shipped``, or the user's file that overrides the shipped row.
    """

    key: str
    value: float
    low: float
    high: float
    unit: str
    year: int
    source: str
    licence: str
    note: str = ""
    origin: str = SHIPPED

    def quantity(self) -> Quantity:
        """The figure in SI, basis ``assumed``; a row per core or per GB gives the value of one.

        Raises:
            UnitError: (U101) if no class of quantity has this unit; use ``si_interval`` then.
        """
        scale = SCALES[self.unit]
        if scale.kind is None:
            raise UnitError(f"{self.key} is in {self.unit}, and no quantity has the unit {scale.unit}")
        return scale.kind(*self.si_interval(), "assumed")

    def si_interval(self) -> tuple[float, float, float]:
        """Value, low and high in SI, in the unit that ``si_unit`` names."""
        factor = SCALES[self.unit].factor
        return self.value * factor, self.low * factor, self.high * factor

    @property
    def si_unit(self) -> str:
        """The unit of ``si_interval``."""
        return SCALES[self.unit].unit

    @property
    def overridden(self) -> bool:
        """Whether the row is a user's own."""
        return self.origin != SHIPPED

    def to_dict(self) -> dict[str, float | str]:
        """The form every JSON output uses."""
        return {field: getattr(self, field) for field in self.__struct_fields__}
