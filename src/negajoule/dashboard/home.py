"""The home page: how much, on what, and how well it is known."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse
from starlette.routing import Route

from negajoule._version import __version__
from negajoule.units import INDICATORS
from negajoule.units.text import LABELS, interval_text, value_text

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from negajoule.instrument import Here
    from negajoule.ledger import Activity, IndicatorTotal, Ledger

__all__ = ["pages"]

_LATEST = 20
_ALWAYS_SHOWN = (
    "it_energy",
    "facility_energy",
    "carbon_location",
    "water_onsite",
    "water_offsite",
    "embodied",
)


def pages(ledger: Ledger, here: Here, behind: str) -> list[BaseRoute]:
    """Routes of the dashboard.

    Args:
        ledger: read, never written.
        here: the machine and its place, for the list of assumptions.
        behind: what answers the requests, for people.
    """
    environment = Environment(
        loader=PackageLoader("negajoule.dashboard"), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("home.html")

    async def home(_: Request) -> HTMLResponse:
        content = await asyncio.to_thread(_content, ledger, here)
        return HTMLResponse(template.render(behind=behind, version=__version__, **content))

    return [Route("/", home)]


def _content(ledger: Ledger, here: Here) -> dict[str, Any]:
    totals = ledger.totals()
    groups = {group.group: group for group in ledger.totals(by="kind")}
    latest = ledger.latest(_LATEST, kind="request")
    whole = totals[0] if totals else None
    newest = latest[0].footprint if latest else None
    return {
        "totals": [
            (LABELS[name], *_total_text(name, whole.indicators[name]))
            for name in INDICATORS
            if whole.indicators[name].value is not None or name in _ALWAYS_SHOWN
        ]
        if whole
        else [],
        "requests": groups["request"].activities if "request" in groups else 0,
        "tokens_out": _count(whole.tokens_out if whole else 0),
        "kinds": [
            (name, group.activities, *_total_text("it_energy", group.indicators["it_energy"]))
            for name, group in groups.items()
        ],
        "latest": [_latest_row(activity) for activity in latest],
        "parts": [(part.name, interval_text(part.energy), part.grade, part.source) for part in newest.parts]
        if newest
        else [],
        "factors": [
            (factor.name, interval_text(factor.quantity, 3), factor.key, factor.year or "")
            for factor in (newest.factors if newest else ())
        ],
        "widest": newest.widest if newest else None,
        "notes": here.factors.notes,
        "zone": here.factors.zone,
        "origin": here.location.origin,
    }


def _total_text(name: str, total: IndicatorTotal) -> tuple[str, str]:
    if total.value is None or total.low is None or total.high is None:
        return "unknown", ""
    kind = INDICATORS[name]
    low, high = value_text(kind.exact(total.low)), value_text(kind.exact(total.high))
    missing = f", unknown for {total.missing} rows" if total.missing else ""
    return value_text(kind.exact(total.value)), f"{low} to {high}{missing}"


def _latest_row(activity: Activity) -> dict[str, str]:
    cost = activity.footprint
    return {
        "at": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(activity.started_s)),
        "id": activity.id,
        "model": activity.model,
        "status": activity.status,
        "tokens": f"{_count(activity.tokens_in)} / {_count(activity.tokens_out)}",
        "seconds": f"{activity.seconds:.2f}",
        "energy": interval_text(cost.it_energy) if cost.it_energy else "unknown",
        "carbon": value_text(cost.carbon_location) if cost.carbon_location else "unknown",
        "embodied": value_text(cost.embodied) if cost.embodied else "unknown",
    }


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)
