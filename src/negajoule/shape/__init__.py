"""When requests go: policies of release, and the search for the cheapest that keeps what was promised.

- ``policies``: at once, pacing, join while busy, gates, control limit, deadlines, cleaner hours
- ``promise``: limits on quantiles, and whether they were kept
- ``fleets``: what may be done beside timing: sleep, few replicas, lower clocks
- ``search``: the choice for a trace, judged on a stretch that nothing was tuned on
- ``frontier``: cost against the promised quantile
- ``live``: rules that hold calls in a server; ``guard``: stops holding when a promise is broken
- ``chart``: the frontier as a picture
- ``parts``: which part of a gain the engine, concurrency, timing and sleep have
"""

from negajoule.shape.fleets import LEVERS, Variant, variants
from negajoule.shape.frontier import Point, frontier
from negajoule.shape.parts import Part, gain_by_part
from negajoule.shape.policies import (
    AtOnce,
    CleanerHours,
    ControlLimit,
    Deadline,
    Gated,
    JoinBusy,
    TokenBucket,
)
from negajoule.shape.promise import Kept, Promise, parse_promise
from negajoule.shape.search import Plan, Shaped, Trial, shape

__all__ = [
    "LEVERS",
    "AtOnce",
    "CleanerHours",
    "ControlLimit",
    "Deadline",
    "Gated",
    "JoinBusy",
    "Kept",
    "Part",
    "Plan",
    "Point",
    "Promise",
    "Shaped",
    "TokenBucket",
    "Trial",
    "Variant",
    "frontier",
    "gain_by_part",
    "parse_promise",
    "shape",
    "variants",
]
