"""Which server answers a call, and which ones if it can't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import EngineError, RequestError
from negajoule.gateway.fit import Needs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.gateway.server import Server
    from negajoule.gateway.wire import Call

__all__ = ["Route", "Routes"]


class Route(NamedTuple):
    """One way for a call.

    Attributes:
        server: who is asked.
        model: the server's name of the model.
    """

    server: Server
    model: str


class Routes:
    """Finds servers by the models they have.

    Args:
        servers: in order of preference; those that name their models come before those that take any.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = tuple(servers)
        self._by_name = {server.plan.name: server for server in servers}
        self._ranked = sorted(servers, key=lambda server: not server.plan.models)

    def find(self, call: Call) -> list[Route]:
        """The ways for a call: the server that has its model, then those it falls back to.

        Raises:
            RequestError: (R103) if no server has the model, (R102, R104) if none that has it could answer.
        """
        routes = self.of_model(call.model)
        if not routes:
            raise RequestError(
                f"the model {call.model!r} isn't served here",
                code="R103",
                status=404,
                param="model",
                fix="GET /v1/models lists those that are",
            )
        if call.task == "embedding":
            return routes
        if call.task != "count" and all(route.server.plan.limitless for route in routes):
            return routes
        needs = Needs.of(call)
        able, refusals = [], []
        for route in routes:
            refusal = needs.refusal(route.server.plan, call.model)
            if refusal is None:
                able.append(route)
            else:
                refusals.append(refusal)
        if not able:
            raise refusals[0]
        return sorted(able, key=lambda route: needs.is_tight(route.server.plan))

    def of_model(self, name: str) -> list[Route]:
        """The ways for a model; none if no server has it."""
        for server in self._ranked:
            model = server.plan.model_for(name)
            if model is not None:
                break
        else:
            return []
        routes = [Route(server, model)]
        for fallback in server.plan.fallback:
            other = self._by_name[fallback]
            model = other.plan.model_for(name)
            if model is not None:
                routes.append(Route(other, model))
        return routes

    async def models(self) -> list[dict[str, Any]]:
        """The models of all servers that can be asked.

        Raises:
            EngineError: (E103, E104) if none can be asked.
        """
        found: dict[str, dict[str, Any]] = {}
        failure: EngineError | None = None
        reached = False
        for server in self._ranked:
            try:
                listed = await server.models()
            except EngineError as error:
                failure = failure or error
                continue
            reached = True
            for model in listed:
                found.setdefault(str(model["id"]), model)
        if failure is not None and not reached:
            raise failure
        return list(found.values())
