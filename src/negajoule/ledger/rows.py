"""Activities to rows and back."""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.fingerprint import fingerprint
from negajoule.ledger.activity import Activity
from negajoule.units import INDICATORS, Energy, Factor, Footprint, Part, Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COLUMNS", "Row", "from_row", "to_context", "to_row"]

_PLAIN = (
    "id",
    "started_s",
    "seconds",
    "kind",
    "stage",
    "status",
    "label",
    "model",
    "host",
    "zone",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "inside",
    "cpu_seconds",
)
_plain = attrgetter(*_PLAIN)
_encode = msgspec.json.Encoder().encode
_WHO = ("caller", "team", "project")
_BY_UNIT: dict[str, type[Quantity]] = {kind.unit: kind for kind in Quantity.__subclasses__()}

COLUMNS: tuple[str, ...] = (
    *_PLAIN,
    "boundary",
    *(f"{name}{end}" for name in INDICATORS for end in ("", "_low", "_high")),
    "bases",
    "parts",
    "context",
)
"""Columns of an activity, in the order of ``to_row``."""


class Row(NamedTuple):
    """An activity as the ledger holds it.

    Attributes:
        context: id of what it shares with others.
        content: that, as JSON.
        values: in the order of ``COLUMNS``.
    """

    context: str
    content: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, activity: Activity) -> Row:
        """The row of an activity."""
        context, content = to_context(activity)
        return cls(context, content, to_row(activity, context))


def to_context(activity: Activity) -> tuple[str, str]:
    """Id and JSON of what many activities share: factors, notes, who asked, what a cache avoided."""
    footprint = activity.footprint
    who = (activity.caller, activity.team, activity.project)
    return _context(footprint.factors, footprint.notes, who, activity.avoided)


@lru_cache(maxsize=256)
def _context(
    factors: tuple[Factor, ...], notes: tuple[str, ...], who: tuple[str, ...], avoided: Energy | None
) -> tuple[str, str]:
    shared: dict[str, Any] = {
        "factors": [[f.name, f.key, f.year, f.quantity.to_dict()] for f in factors],
        "notes": notes,
    }
    named = {name: _storable(value) for name, value in zip(_WHO, who, strict=True) if value}
    if named:
        shared["who"] = named
    if avoided is not None:
        shared["avoided"] = avoided
    content = msgspec.json.encode(shared)
    return fingerprint(content), content.decode()


def to_row(activity: Activity, context: str) -> tuple[Any, ...]:
    """Values in the order of ``COLUMNS``."""
    footprint = activity.footprint
    bases: dict[str, tuple[str, str]] = {}
    numbers: list[float | None] = []
    for name in INDICATORS:
        quantity: Quantity | None = getattr(footprint, name)
        if quantity is None:
            numbers += (None, None, None)
        else:
            numbers += (quantity.value, quantity.low, quantity.high)
            bases[name] = (quantity.basis, quantity.boundary)
    parts = [(p.name, p.source, p.grade, p.energy) for p in footprint.parts]
    return (
        *map(_storable, _plain(activity)),
        footprint.boundary,
        *numbers,
        _encode(bases).decode(),
        _encode(parts).decode(),
        context,
    )


def from_row(row: Mapping[str, Any], context: str) -> Activity:
    """Read what ``to_row`` and ``to_context`` wrote.

    Args:
        row: the row by column name.
        context: the context's JSON.
    """
    bases = msgspec.json.decode(row["bases"])
    shared = msgspec.json.decode(context)
    quantities: dict[str, Any] = {
        name: INDICATORS[name](row[name], row[f"{name}_low"], row[f"{name}_high"], *basis)
        for name, basis in bases.items()
    }
    parts = tuple(
        Part(name, msgspec.convert(energy, Energy), source, grade)
        for name, source, grade, energy in msgspec.json.decode(row["parts"])
    )
    factors = tuple(
        Factor(name, key, _BY_UNIT[quantity["unit"]].from_dict(quantity), year)
        for name, key, year, quantity in shared["factors"]
    )
    footprint = Footprint(
        boundary=row["boundary"], **quantities, parts=parts, factors=factors, notes=tuple(shared["notes"])
    )
    avoided = shared.get("avoided")
    return Activity(
        footprint=footprint,
        avoided=None if avoided is None else msgspec.convert(avoided, Energy),
        **{name: row[name] for name in _PLAIN},
        **shared.get("who", {}),
    )


def _storable(value: Any) -> Any:  # noqa: ANN401 (each column has its own type)
    """A command line may hold bytes that are no text; they are written as escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
