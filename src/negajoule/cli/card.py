"""A footprint as a card for the terminal: every figure with range, unit and basis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.units.text import LABELS, interval_text

if TYPE_CHECKING:
    from negajoule.units import Footprint, Quantity

__all__ = ["card"]

_ALWAYS = ("it_energy", "facility_energy", "carbon_location", "water_onsite", "water_offsite", "embodied")


def card(title: str, footprint: Footprint) -> str:
    """The lines of a card.

    Args:
        title: the heading.
        footprint: what to show.
    """
    lines = [title]
    for name, label in LABELS.items():
        quantity: Quantity | None = getattr(footprint, name)
        if quantity is not None:
            lines.append(f"  {label:<18} {interval_text(quantity)}")
        elif name in _ALWAYS:
            lines.append(f"  {label:<18} unknown")
    lines += [
        f"    {part.name:<16} {interval_text(part.energy)}  [{part.grade}, {part.source}]"
        for part in footprint.parts
    ]
    for factor in footprint.factors:
        if factor.name in ("PUE", "carbon intensity", "WUE", "grid water"):
            year = f", {factor.year}" if factor.year else ""
            lines.append(f"    {factor.name:<16} {interval_text(factor.quantity, 3)}  [{factor.key}{year}]")
    if footprint.widest:
        lines.append(f"  biggest doubt      {footprint.widest}")
    lines += [f"  note               {note}" for note in footprint.notes]
    return "\n".join(lines)
