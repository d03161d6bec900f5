"""Pages of routing: what would be decided, and how good an answer was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from negajoule.errors import RequestError
from negajoule.gateway.caller import CALLER
from negajoule.gateway.wire import FeedbackBody, parse_call

if TYPE_CHECKING:
    from starlette.requests import Request

    from negajoule.gateway.routed import RoutedBackend

__all__ = ["route_pages"]


def route_pages(backend: RoutedBackend) -> list[Route]:
    """The pages of a backend that routes."""

    async def decide(request: Request) -> Response:
        call = parse_call("chat", await request.scope["intake"].read())
        CALLER.get().check_model(call.model)
        return _json(backend.rule(call).told())

    async def judge(request: Request) -> Response:
        raw = await request.scope["intake"].read()
        try:
            body = msgspec.json.decode(raw, type=FeedbackBody)
        except msgspec.ValidationError as error:
            raise RequestError(
                str(error), fix='send {"request_id": "req-...", "score": 0.0 to 1.0}'
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"the body isn't valid JSON: {error}", code="R101") from None
        found = backend.log.take(body.request_id)
        if found is None or not CALLER.get().may_see(found.caller):
            raise RequestError(
                "no request of that id waits to be judged",
                code="R106",
                status=404,
                fix="judge each answer of a pool once, within its last 10,000",
            )
        backend.log.judged(body.request_id, body.score)
        backend.judged += 1
        pool, prediction = found.ruling.pool, found.ruling.prediction
        learned = pool.router is not None and prediction is not None
        if pool.router is not None and prediction is not None:
            pool.router.observe_predicted(prediction, found.served, body.score)
        return _json({"schema": "negajoule.feedback/1", "request_id": body.request_id, "learned": learned})

    return [
        Route("/v1/route", decide, methods=["POST"]),
        Route("/v1/feedback", judge, methods=["POST"]),
    ]


def _json(data: object) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json")
