"""What is remembered of one request for the log and the trace: never its prompt, its answer or its key."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from negajoule.gateway.accounts import Tokens
from negajoule.gateway.caller import ANYBODY

if TYPE_CHECKING:
    from negajoule.gateway.backend import Exchange

__all__ = ["Visit"]


class Visit:
    """One request.

    Attributes:
        method: its HTTP method.
        path: the path's template, such as ``/v1/models/{model}``.
        started_s: when it began, seconds since the epoch [s].
        caller: who asks.
        request_id: our id of it; empty until it has one.
        client_id: the client's id of it, ``None`` if it gave none that can be echoed.
        operation: ``chat``, ``completion`` and so on; empty for pages.
        model: the model asked for.
        stream: whether the answer streams.
        status: HTTP status of the answer; 0 until there is one; 499 if the client went away first.
        error: code of the error it ended with; empty if it ended well.
        tokens: what was counted.
        energy_j: IT energy of the answer [J], ``None`` if unknown.
    """

    __slots__ = (
        "_started",
        "caller",
        "client_id",
        "energy_j",
        "error",
        "method",
        "model",
        "operation",
        "path",
        "request_id",
        "started_s",
        "status",
        "stream",
        "tokens",
    )

    def __init__(self, method: str, path: str, operation: str = "") -> None:
        self._started = time.perf_counter()
        self.started_s = time.time()
        self.method = method
        self.path = path
        self.operation = operation
        self.caller = ANYBODY
        self.request_id = ""
        self.client_id: str | None = None
        self.model = ""
        self.stream = False
        self.status = 0
        self.error = ""
        self.tokens = Tokens()
        self.energy_j: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far [s]."""
        return time.perf_counter() - self._started

    def take(self, exchange: Exchange) -> None:
        """Remember what an ended exchange counted."""
        self.tokens = exchange.tokens
        cost = exchange.cost
        if cost is not None and cost.it_energy is not None:
            self.energy_j = cost.it_energy.value
