"""What isn't a call to a model: the list of models, single footprints, health, metrics."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from negajoule._version import __version__
from negajoule.errors import RequestError
from negajoule.gateway.adapters import gemini
from negajoule.gateway.caller import CALLER
from negajoule.gateway.openapi import document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from negajoule.gateway.accounts import Accounts
    from negajoule.gateway.backend import Backend
    from negajoule.ledger import Ledger
    from negajoule.meter import Splitter

__all__ = ["Pages"]


class Pages:
    """The server's own pages.

    Args:
        backend: asked for its models.
        accounts: the books, the machine and the counters.
        splitter: this process's joules.
        ledger: read for single footprints.
    """

    def __init__(self, backend: Backend, accounts: Accounts, splitter: Splitter, ledger: Ledger) -> None:
        self._backend = backend
        self._accounts = accounts
        self._splitter = splitter
        self._ledger = ledger

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/v1/models", self._models),
            Route("/v1/models/{model:path}", self._models),
            Route("/v1beta/models", self._gemini_models),
            Route("/v1beta/models/{model:path}", self._gemini_models),
            Route("/v1/footprints/{id}", self._footprint),
            Route("/openapi.json", self._openapi),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
        ]

    async def _models(self, request: Request) -> Response:
        models = await self._listed()
        wanted = request.path_params.get("model")
        return _json({"object": "list", "data": models} if wanted is None else _named(models, wanted))

    async def _gemini_models(self, request: Request) -> Response:
        models = await self._listed()
        wanted = request.path_params.get("model")
        if wanted is None:
            return _json({"models": [gemini.listed_model(model) for model in models]})
        return _json(gemini.listed_model(_named(models, wanted)))

    async def _listed(self) -> list[dict[str, Any]]:
        may_ask = CALLER.get().may_ask
        return [model for model in await self._backend.models() if may_ask(str(model["id"]))]

    async def _footprint(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._ledger.get, request.path_params["id"])
        if found is None or not CALLER.get().may_see(found.caller):
            raise RequestError("no request of that id is in the ledger", code="R106", status=404)
        return _json(
            {
                "id": found.id,
                "model": found.model,
                "status": found.status,
                "tokens_in": found.tokens_in,
                "tokens_out": found.tokens_out,
                "cpu_seconds": found.cpu_seconds,
                "footprint": found.footprint.to_dict(),
            }
        )

    async def _openapi(self, _: Request) -> Response:
        return Response(document(), media_type="application/json")

    async def _health(self, _: Request) -> Response:
        writer = self._accounts.writer
        status = "ok" if not writer.failures or not writer.pending else "ledger behind"
        health: dict[str, object] = {"schema": "negajoule.health/1", "status": status}
        if "admin" in CALLER.get().scopes:
            balance = self._splitter.balance()
            health |= {
                "version": __version__,
                "zone": self._accounts.here.factors.zone,
                "cpu_seconds": time.process_time(),
                "energy": {**balance._asdict(), "residual_relative": balance.residual_relative},
                "ledger": {"pending": writer.pending, "failed_writes": writer.failures},
            }
        return _json(health)

    async def _metrics(self, _: Request) -> Response:
        text = await asyncio.to_thread(self._accounts.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _named(models: Sequence[dict[str, Any]], wanted: str) -> dict[str, Any]:
    for model in models:
        if model["id"] == wanted:
            return model
    raise RequestError(f"the model {wanted!r} isn't served here", code="R103", status=404, param="model")


def _json(data: object) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json")
