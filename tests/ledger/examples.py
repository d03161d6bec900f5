"""Activities and ledgers to test with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.ledger import Activity, Ledger, new_id
from negajoule.units import Energy, Factor, Footprint, Part, Ratio

if TYPE_CHECKING:
    from pathlib import Path

ENERGY = Energy(5.0, 4.0, 6.0, "modelled", "node")
FOOTPRINT = Footprint(
    boundary="facility",
    it_energy=ENERGY,
    parts=(Part("cpu active", ENERGY, "cpu.core.active_power", "D"),),
    factors=(Factor("PUE", "pue.world", Ratio(1.5, 1.2, 1.8), 2024),),
    notes=("the location is unknown",),
)


def activity(**fields: Any) -> Activity:
    """An activity with an id of its own; fields as you like."""
    defaults = {"id": new_id("test"), "started_s": 1.0, "seconds": 2.0, "kind": "run", "footprint": FOOTPRINT}
    return Activity(**{**defaults, **fields})


def filled(path: Path, count: int) -> list[Activity]:
    """Make a ledger of that many rows, close it, and return the rows in order of writing."""
    rows = [activity(label=f"row {number}") for number in range(count)]
    with Ledger(path) as ledger:
        ledger.append(rows)
    return rows
