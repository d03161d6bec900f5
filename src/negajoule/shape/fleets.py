"""What may be done with a fleet beside timing: sleep when idle, use few replicas, clock down."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.errors import ConfigError
from negajoule.simulate.fleet import Fleet, Routing

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LEVERS", "Variant", "variants"]

LEVERS = ("sleep", "consolidate", "clocks")
_FILLS = (4, 8, 16, 32, 64)


class Variant(NamedTuple):
    """A way to run the fleet.

    Attributes:
        title: what is changed, in words; empty if nothing is.
        fleet: the fleet as changed.
    """

    title: str
    fleet: Fleet


def variants(fleet: Fleet, levers: Sequence[str] = ()) -> tuple[Variant, ...]:
    """Every way that the levers allow, the unchanged fleet first.

    Sleep starts after the idle time at which keeping ready has cost what waking costs: whoever knows nothing
    of the next arrival pays at most twice the optimum then (Karlin et al., Algorithmica 11, 1994).

    Raises:
        ConfigError: (C101) for an unknown lever, or one that the fleet doesn't have.
    """
    unknown = [lever for lever in levers if lever not in LEVERS]
    if unknown:
        raise ConfigError(f"the lever {unknown[0]!r} isn't known", fix=f"one of {', '.join(LEVERS)}")
    found = [Variant("", fleet)]
    table = fleet.table
    if "sleep" in levers:
        saved_w = table.idle_w - table.sleep_w
        if not saved_w > 0:
            raise ConfigError(
                "sleeping saves nothing here: its power isn't below idle power", fix="give the power of sleep"
            )
        after_s = max(table.wake_j - table.sleep_w * table.wake_s, 0.0) / saved_w
        found.append(
            Variant(
                f"sleep after {after_s:.3g} s of idling",
                msgspec.structs.replace(fleet, sleep_after_s=after_s),
            )
        )
    if "clocks" in levers:
        if not fleet.slower:
            raise ConfigError(
                "no costs at lower clocks are known", fix="measure them: negajoule calibrate --serving"
            )
        limit_s = fleet.inter_token_limit_s
        found = [
            *(Variant(variant.title, msgspec.structs.replace(variant.fleet, slower=())) for variant in found),
            *(
                Variant(
                    f"{_and(variant.title)}lower clocks within {1e3 * limit_s:.3g} ms a step",
                    variant.fleet,
                )
                for variant in found
            ),
        ]
    if "consolidate" in levers and fleet.replicas > 1:
        found += [
            Variant(
                f"{_and(variant.title)}fill {fill} before the next replica",
                msgspec.structs.replace(variant.fleet, routing=Routing.FEWEST, fill=fill),
            )
            for variant in list(found)
            for fill in _FILLS
            if fill <= fleet.batch
        ]
    return tuple(found)


def _and(title: str) -> str:
    return f"{title}, " if title else ""
