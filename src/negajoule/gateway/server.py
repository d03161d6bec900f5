"""One upstream server: its connections, its key, its breaker, and what its refusals mean."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import msgspec

from negajoule.errors import EngineError
from negajoule.gateway.adapters import listed_models, refusal
from negajoule.gateway.breaker import Breaker
from negajoule.gateway.hop import HOP_FAULTS, Hop
from negajoule.gateway.logs import log_crash
from negajoule.gateway.retry import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from negajoule.gateway.accounts import Tokens
    from negajoule.gateway.colocated import Colocated
    from negajoule.gateway.hop import Answer
    from negajoule.gateway.plan import UpstreamPlan
    from negajoule.units import Footprint

    Estimate = Callable[[str, Tokens], Footprint | None]

__all__ = ["Server", "decoded"]

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "it refuses connections"),
    (ConnectionError, "it broke off"),
    (socket.gaierror, "its name isn't known"),
    (ssl.SSLError, "its certificate or its TLS isn't right"),
)
_LONGEST_REFUSAL = 65_536
_OWN_HEADERS = {
    "anthropic-beta": "anthropic",
    "openai-beta": "openai",
    "x-negajoule-cache": "ours",
    "x-negajoule-class": "ours",
}
"""Headers that only servers of one dialect understand; ours is nobody's."""


class Server:
    """One upstream server.

    Args:
        plan: how it was asked for.
        estimate: footprint of its models' own work; ``None`` from it means unknown.
        key: its key; without it none is sent, never the client's.
        silence_s: longest silence before it counts as gone [s].
        metered: meters its calls, if it runs on this machine and an instrument reads it.
    """

    def __init__(
        self,
        plan: UpstreamPlan,
        *,
        estimate: Estimate,
        key: str | None = None,
        silence_s: float = 600.0,
        metered: Colocated | None = None,
    ) -> None:
        self.plan = plan
        self.estimate = estimate
        self.metered = metered
        self.breaker = Breaker()
        self._hop = Hop(plan.base, plan.provider.greeting(key), silence_s)

    async def models(self) -> list[dict[str, Any]]:
        """The models: those of its plan or, without any, those that it lists.

        Raises:
            EngineError: (E103) if it can't be reached, (E104) if what it lists isn't a list of models.
        """
        plan = self.plan
        if plan.models:
            return [
                {
                    "id": public,
                    "object": "model",
                    "created": 0,
                    "owned_by": plan.name,
                    "served_as": model,
                    **({} if plan.context_tokens is None else {"context_tokens": plan.context_tokens}),
                }
                for public, model in plan.models.items()
            ]
        try:
            answer = await self._hop.get(plan.provider.models)
            data = await answer.read()
        except HOP_FAULTS as error:
            raise self.unreachable(error) from None
        if answer.status != 200:
            raise refusal(answer.status if answer.status >= 400 else 502, data)
        return listed_models(plan.provider.dialect, decoded(data))

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body.

        Args:
            path: below the base.
            body: what is sent.
            headers: the client's that may go on.

        Raises:
            EngineError: (E103) if the server can't be reached or refuses; its status is passed on.
        """
        if headers:
            dialect = self.plan.provider.dialect
            headers = {
                name: value
                for name, value in headers.items()
                if _OWN_HEADERS.get(name, dialect) == dialect and not name.startswith("x-negajoule-")
            }
        try:
            answer = await self._hop.post(path, body, headers)
        except HOP_FAULTS as error:
            raise self.unreachable(error) from None
        if answer.status == 200:
            return answer
        try:
            text = await answer.read(_LONGEST_REFUSAL)
        except HOP_FAULTS:
            text = b""
        answer.close()
        failure = refusal(answer.status if answer.status >= 400 else 502, text[:_LONGEST_REFUSAL])
        failure.retry_after_s = retry_after_s(answer.headers.get("retry-after"), time.time())
        raise failure

    def unreachable(self, error: Exception) -> EngineError:
        """The error for a server that can't be reached or fell silent; its address is nobody's business."""
        timed_out = isinstance(error, TimeoutError)
        return EngineError(
            f"the upstream can't be reached: {_reason(error)}",
            code="E103",
            tried=self.plan.base,
            fix="check that the server runs and the URL is right",
            status=504 if timed_out else 502,
        )

    def resting(self, now_s: float) -> EngineError:
        """The error for a server that is left alone for a while."""
        failure = EngineError(
            f"the upstream {self.plan.name!r} keeps failing and is left alone for a while",
            code="E103",
            tried=self.plan.base,
            fix="try again later, or give it a fallback in negajoule.toml",
            status=503,
        )
        failure.retry_after_s = max(1.0, self.breaker.wait_s(now_s))
        return failure

    def cost_of(self, model: str, tokens: Tokens, begun_s: float) -> Footprint | None:
        """What a call that has just ended took of it; a call isn't broken because that can't be worked out.

        Args:
            model: its name of the model.
            tokens: what was counted.
            begun_s: when the call was sent, on the monotonic clock [s].

        Returns:
            Metered if it can be, else estimated; ``None`` if it isn't known.
        """
        try:
            estimated = self.estimate(model, tokens)
            return estimated if self.metered is None else self.metered.cost(begun_s, tokens, estimated)
        except Exception as error:
            log_crash(error)
            return None

    async def close(self) -> None:
        """Let the connections go."""
        if self.metered is not None:
            await asyncio.to_thread(self.metered.close)
        await self._hop.close()


def _reason(error: Exception) -> str:
    """What went wrong, without the addresses that the system's own words have."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "the connection failed" if isinstance(error, OSError) else str(error)


def decoded(data: bytes) -> Any:  # noqa: ANN401 (another server's JSON)
    """What JSON holds.

    Raises:
        EngineError: (E104) if it isn't JSON.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineError("the upstream's answer isn't JSON", code="E104") from None
