"""negajoule: measure, cut and report what large language models cost.

Rooms, lowest first; arrows point only downward (``docs/design/house.md``):

    units                        quantities, intervals, series, footprints
    catalog                      facts with provenance
    meter physics grid engine    measured; modelled; where and when; the embedded model
    ledger                       what was
    instrument                   measuring other people's programs
    gateway dashboard            the server and its page
    cli                          the command line

Importing this package loads none of them: names are looked up when first used.
"""

from __future__ import annotations

from negajoule._version import __version__
from negajoule.lazy import names_from

TYPE_CHECKING = False  # as type checkers read it, without the cost of importing typing
if TYPE_CHECKING:
    from negajoule.errors import NegajouleError
    from negajoule.instrument import Budget, BudgetWarning, Measurement, measure, measured
    from negajoule.instrument.clients import instrument_clients
    from negajoule.instrument.hosted import estimate
    from negajoule.instrument.labels import label
    from negajoule.units import Footprint, Quantity

__all__ = [
    "Budget",
    "BudgetWarning",
    "Footprint",
    "Measurement",
    "NegajouleError",
    "Quantity",
    "__version__",
    "estimate",
    "instrument_clients",
    "label",
    "measure",
    "measured",
]

_HOME = {
    "Budget": "negajoule.instrument",
    "BudgetWarning": "negajoule.instrument",
    "Footprint": "negajoule.units",
    "Measurement": "negajoule.instrument",
    "NegajouleError": "negajoule.errors",
    "Quantity": "negajoule.units",
    "estimate": "negajoule.instrument.hosted",
    "instrument_clients": "negajoule.instrument.clients",
    "label": "negajoule.instrument.labels",
    "measure": "negajoule.instrument",
    "measured": "negajoule.instrument",
}


__getattr__ = names_from(globals(), _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
