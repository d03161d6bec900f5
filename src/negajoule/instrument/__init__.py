"""Measuring from inside other people's programs.

- ``budget``: what a piece of work or a project may use, and how that stands
- ``heartbeat``: one thread that looks after measurements which last
- ``here``: this machine at this place, which turns a share of it into a footprint
- ``interrupted``: what was killed, booked from its journal
- ``live``, ``processes``: the machine as it is now, by device and by process
- ``labels``: the name of the work that requests are made for
- ``measurement``: ``with measure("label")`` and the decorator ``measured``
- ``nesting``: which measured work lies inside which, so that no total counts both
- ``hosted``, ``provider``: the estimate for models that run elsewhere, and who serves them
- ``chat_export``: one's own chat history out of the archives of ChatGPT and Claude
- ``clients``: the ``openai``, ``anthropic`` and ``google-genai`` clients, followed
- ``callbacks``: training with Hugging Face or Lightning, measured
- ``pytest_plugin``: ``pytest --footprint``
- ``telemetry``: Prometheus and OpenTelemetry out

Its names are looked up when first used, so that a part can be had without the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.lazy import names_from

if TYPE_CHECKING:
    from negajoule.instrument.budget import Budget, BudgetWarning
    from negajoule.instrument.here import Here, find_here
    from negajoule.instrument.measurement import Measurement, measure, measured

__all__ = ["Budget", "BudgetWarning", "Here", "Measurement", "find_here", "measure", "measured"]

__getattr__ = names_from(
    globals(),
    {
        "Budget": ".budget",
        "BudgetWarning": ".budget",
        "Here": ".here",
        "Measurement": ".measurement",
        "find_here": ".here",
        "measure": ".measurement",
        "measured": ".measurement",
    },
)
