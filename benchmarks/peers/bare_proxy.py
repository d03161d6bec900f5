"""The yardstick for gateways: Starlette and aiohttp, bytes in and out, nothing read and nothing kept."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

UPSTREAM = sys.argv[2]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one client session."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


async def chat(request: Request) -> Response:
    """Pass one request on."""
    body = await request.body()
    headers = {"content-type": "application/json"}
    answer = await request.app.state.session.post(UPSTREAM + request.url.path, data=body, headers=headers)
    kind = answer.headers["content-type"]
    if kind.startswith("text/event-stream"):
        return StreamingResponse(answer.content.iter_any(), media_type=kind)
    return Response(await answer.read(), answer.status, media_type=kind)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
