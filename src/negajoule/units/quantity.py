"""Values with an interval, a basis and a boundary, in SI inside.

One class per unit, so that mypy refuses ``Energy + Carbon`` before it runs and the classes refuse it when it
does. A missing value is ``None``, never a quantity of zero.

Intervals are propagated by interval arithmetic: sums add the bounds, products take the extreme products. That
treats the parts as fully dependent, the cautious choice (requests of one hour share one carbon intensity, so
their errors don't cancel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self, TypeVar, get_args, overload

import msgspec

from negajoule.errors import UnitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "AbioticDepletion",
    "Basis",
    "Boundary",
    "Carbon",
    "CarbonIntensity",
    "Duration",
    "Energy",
    "Power",
    "PrimaryEnergy",
    "Quantity",
    "Ratio",
    "Water",
    "WaterIntensity",
    "total",
    "weakest",
]

Basis = Literal["measured", "inferred", "modelled", "assumed"]
"""How a number came about, strongest first."""

Boundary = Literal["none", "accelerator", "node", "facility", "life cycle"]
"""What a number includes; ``none`` marks factors, which have no boundary of their own."""

_RANK: dict[str, int] = {basis: rank for rank, basis in enumerate(get_args(Basis))}
_INFINITY = float("inf")
_Q = TypeVar("_Q", bound="Quantity")


def weakest(first: Basis, second: Basis) -> Basis:
    """Return the weaker of two bases: a sum is no better known than its worst part."""
    return first if first is second or _RANK[first] >= _RANK[second] else second


class Quantity(msgspec.Struct, frozen=True):
    """A value with its interval; use a subclass, which fixes the unit.

    Attributes:
        value: the best estimate, in the class's unit.
        low: lower end of the interval, in the same unit.
        high: upper end of the interval, in the same unit.
        basis: how it came about.
        boundary: what it includes.

    Raises:
        UnitError: (U103) unless ``low <= value <= high`` and all three are finite.
    """

    value: float
    low: float
    high: float
    basis: Basis = "assumed"
    boundary: Boundary = "none"

    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not (self.low <= self.value <= self.high and self.high - self.low < _INFINITY):
            raise UnitError(
                f"{type(self).__name__} needs finite low <= value <= high, got "
                f"{self.low!r}, {self.value!r}, {self.high!r} [{self.unit}]",
                code="U103",
            )

    @classmethod
    def exact(cls, value: float, basis: Basis = "measured", boundary: Boundary = "none") -> Self:
        """A value without spread."""
        return cls(value, value, value, basis, boundary)

    @classmethod
    def around(
        cls, value: float, relative: float, basis: Basis = "measured", boundary: Boundary = "none"
    ) -> Self:
        """A value with a symmetric relative half-width, e.g. 0.05 for +-5 %."""
        spread = abs(value) * relative
        return cls(value, value - spread, value + spread, basis, boundary)

    def __add__(self, other: Self) -> Self:
        if other.__class__ is not self.__class__ or other.boundary != self.boundary:
            self._refuse(other, "add")
        basis = self.basis
        return self.__class__(
            self.value + other.value,
            self.low + other.low,
            self.high + other.high,
            basis if basis is other.basis else weakest(basis, other.basis),
            self.boundary,
        )

    def __sub__(self, other: Self) -> Self:
        if other.__class__ is not self.__class__ or other.boundary != self.boundary:
            self._refuse(other, "subtract")
        return self.__class__(
            self.value - other.value,
            self.low - other.high,
            self.high - other.low,
            weakest(self.basis, other.basis),
            self.boundary,
        )

    def __neg__(self) -> Self:
        return self.__class__(-self.value, -self.high, -self.low, self.basis, self.boundary)

    @overload
    def __mul__(self, other: float) -> Self: ...
    @overload
    def __mul__(self, other: Quantity) -> Quantity: ...
    def __mul__(self, other: float | Quantity) -> Quantity:
        """Scale by a number, or multiply by a factor whose product is a known unit."""
        if isinstance(other, Quantity):
            product = _PRODUCTS.get((self.__class__, other.__class__))
            if product is None:
                raise UnitError(f"no unit for {self.unit} x {other.unit}")
            low, high = _bounds(self.low, self.high, other.low, other.high)
            basis, boundary = self.basis, other.boundary
            return product(
                self.value * other.value,
                low,
                high,
                basis if basis is other.basis else weakest(basis, other.basis),
                boundary if self.boundary == "none" else _shared(self.boundary, boundary),
            )
        if other < 0:
            return -(self * -other)
        return self.__class__(
            self.value * other, self.low * other, self.high * other, self.basis, self.boundary
        )

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Self:
        if other < 0:
            return -(self / -other)
        return self.__class__(
            self.value / other, self.low / other, self.high / other, self.basis, self.boundary
        )

    def within(self, boundary: Boundary) -> Self:
        """The same value, stated for another boundary: only for a step that really crosses it."""
        return self.__class__(self.value, self.low, self.high, self.basis, boundary)

    def known_as(self, basis: Basis) -> Self:
        """The same value with another basis."""
        return self.__class__(self.value, self.low, self.high, basis, self.boundary)

    def overlaps(self, other: Self) -> bool:
        """Whether two intervals share a point; if they do, no order may be claimed."""
        if other.__class__ is not self.__class__ or other.boundary != self.boundary:
            self._refuse(other, "compare")
        return self.low <= other.high and other.low <= self.high

    @property
    def spread(self) -> float:
        """Width of the interval, in the unit."""
        return self.high - self.low

    def to_dict(self) -> dict[str, float | str]:
        """The form every JSON output uses."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "basis": self.basis,
            "boundary": self.boundary,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` wrote.

        Raises:
            UnitError: (U101) if the unit differs from the class's, (U103) if a field is missing or wrong.
        """
        if data.get("unit") != cls.unit:
            raise UnitError(f"expected unit {cls.unit}, got {data.get('unit')!r}")
        try:
            return msgspec.convert({name: data[name] for name in cls.__struct_fields__}, cls)
        except KeyError as error:
            raise UnitError(f"{cls.__name__} lacks {error}", code="U103") from None
        except msgspec.ValidationError as error:
            cause = error.__cause__
            if isinstance(cause, UnitError):
                raise cause from None
            raise UnitError(f"{cls.__name__} is malformed: {error}", code="U103") from None

    def _refuse(self, other: Quantity, verb: str) -> NoReturn:
        if other.__class__ is not self.__class__:
            theirs = f"{other.unit} ({type(other).__name__})" if isinstance(other, Quantity) else repr(other)
            raise UnitError(f"can't {verb} {self.unit} ({type(self).__name__}) and {theirs}")
        raise UnitError(
            f"can't {verb} values of different boundaries: {self.boundary!r} and {other.boundary!r}",
            code="U102",
        )


class Energy(Quantity, frozen=True):
    """Electrical energy [J]."""

    unit: ClassVar[str] = "J"


class Power(Quantity, frozen=True):
    """Electrical power [W]."""

    unit: ClassVar[str] = "W"


class Duration(Quantity, frozen=True):
    """A span of time [s]."""

    unit: ClassVar[str] = "s"


class Carbon(Quantity, frozen=True):
    """Greenhouse gases as 100-year warming potential [gCO2e]."""

    unit: ClassVar[str] = "gCO2e"


class Water(Quantity, frozen=True):
    """Water consumed, that is withdrawn and not returned [L]."""

    unit: ClassVar[str] = "L"


class AbioticDepletion(Quantity, frozen=True):
    """Depletion of minerals and metals [gSbeq]."""

    unit: ClassVar[str] = "gSbeq"


class PrimaryEnergy(Quantity, frozen=True):
    """Primary energy [J], kept apart from electricity."""

    unit: ClassVar[str] = "J primary"


class Ratio(Quantity, frozen=True):
    """A pure number, such as power usage effectiveness [1]."""

    unit: ClassVar[str] = "1"


class CarbonIntensity(Quantity, frozen=True):
    """Greenhouse gases of electricity [gCO2e/J]."""

    unit: ClassVar[str] = "gCO2e/J"


class WaterIntensity(Quantity, frozen=True):
    """Water of electricity or of cooling [L/J]."""

    unit: ClassVar[str] = "L/J"


_PRODUCTS: dict[tuple[type[Quantity], type[Quantity]], type[Quantity]] = {
    (Power, Duration): Energy,
    (Duration, Power): Energy,
    (Energy, CarbonIntensity): Carbon,
    (CarbonIntensity, Energy): Carbon,
    (Energy, WaterIntensity): Water,
    (WaterIntensity, Energy): Water,
    **{(kind, Ratio): kind for kind in (Energy, Power, Duration, Carbon, Water, Ratio)},
    **{(Ratio, kind): kind for kind in (Energy, Power, Duration, Carbon, Water)},
}


def _bounds(low: float, high: float, other_low: float, other_high: float) -> tuple[float, float]:
    if low >= 0 and other_low >= 0:
        return low * other_low, high * other_high
    # The four corner products, compared by hand: min and max would cost as much as all the rest.
    a, b, c, d = low * other_low, low * other_high, high * other_low, high * other_high
    if a > b:
        a, b = b, a
    if c > d:
        c, d = d, c
    return (a if a < c else c), (b if b > d else d)


def _shared(first: Boundary, second: Boundary) -> Boundary:
    if second not in ("none", first):
        raise UnitError(
            f"can't multiply values of different boundaries: {first!r} and {second!r}", code="U102"
        )
    return first


def total(quantities: Iterable[_Q]) -> _Q | None:
    """Sum quantities of one unit and boundary; ``None`` for none at all.

    Raises:
        UnitError: if units or boundaries differ.
    """
    result: _Q | None = None
    for quantity in quantities:
        result = quantity if result is None else result + quantity
    return result
