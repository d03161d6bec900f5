"""How a caller's budgets stand: ``GET /v1/budgets``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from negajoule.gateway.caller import CALLER

if TYPE_CHECKING:
    from starlette.requests import Request

    from negajoule.gateway.caller import Caller
    from negajoule.ledger.accounts import AccountStore, Terms

__all__ = ["standing_page"]


def standing_page(store: AccountStore) -> Route:
    """The page of the budgets that count the caller: those of its key, team and project; for admins, all."""

    async def page(_: Request) -> Response:
        caller = CALLER.get()
        usages = await asyncio.to_thread(store.usage)
        data = [usage.to_dict() for usage in usages if _concerns(usage.account.terms, caller)]
        body = msgspec.json.encode({"schema": "negajoule.budgets/1", "object": "list", "data": data})
        return Response(body, media_type="application/json")

    return Route("/v1/budgets", page)


def _concerns(terms: Terms, caller: Caller) -> bool:
    if "admin" in caller.scopes:
        return True
    whose = {"key": caller.name, "team": caller.team, "project": caller.project}.get(terms.scope)
    return bool(whose) and whose == terms.name
