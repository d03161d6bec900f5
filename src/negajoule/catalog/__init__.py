"""Facts with provenance: value, interval, unit, year, source and licence of every figure the package uses.

- ``fact``: one row
- ``scales``: the units a row may have, and what they are in SI
- ``files``: CSV in, checked facts out
- ``shelf``: look up, search, override
- ``zones``: countries and grid zones by any of their names
- ``processors``: from the name of a CPU or GPU to its rows
- ``data/``: the rows; ``data/SOURCES.md`` says where they come from
"""

from negajoule.catalog.fact import SHIPPED, Fact
from negajoule.catalog.processors import architecture_of, core_power, cpu_tdp, gpu_tdp
from negajoule.catalog.shelf import Catalog, default_catalog, first_of, lookup, search

__all__ = [
    "SHIPPED",
    "Catalog",
    "Fact",
    "architecture_of",
    "core_power",
    "cpu_tdp",
    "default_catalog",
    "first_of",
    "gpu_tdp",
    "lookup",
    "search",
]
