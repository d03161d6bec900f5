"""One request on its way: booked exactly once, however it ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from negajoule.instrument.clients.answers import Said, gateway_footprint
from negajoule.instrument.clients.providers import provider_name
from negajoule.instrument.labels import current_label
from negajoule.instrument.telemetry.mapping import Finished
from negajoule.ledger import Activity, new_id

if TYPE_CHECKING:
    from negajoule.instrument.clients.account import Account
    from negajoule.instrument.clients.answers import Api
    from negajoule.ledger import Status
    from negajoule.units import Footprint

__all__ = ["Call"]

_NEVER_REACHED = ("ConnectError", "ConnectTimeout", "ClientConnectorError", "ConnectionRefusedError")
"""How the clients' HTTP libraries name an error before anything was sent."""
_GRID = "grid.carbon."


class Call:
    """A request between its start and its end.

    Args:
        account: where it's booked.
        api: which API it uses.
        flavour: whose interface it is; names a provider that isn't known.
        url: address of the server.
        model: the model asked for.
    """

    def __init__(self, account: Account, api: Api, flavour: str, url: str, model: str) -> None:
        self.api = api
        self.footprint: Footprint | None = None
        self._account = account
        self._flavour = flavour
        self._url = url
        self._model = model
        self._label = current_label()
        self._started_s = time.time()
        self._clock_s = time.perf_counter()
        self._lock = threading.Lock()
        self._ended = False
        account.opened(self)

    def end(self, said: Said, *, status: Status = "ok", error: str = "") -> Footprint | None:
        """Book it; a second end changes nothing.

        Args:
            said: what the answer told.
            status: how it ended.
            error: class of the error, if one ended it.

        Returns:
            What it cost.
        """
        with self._lock:
            if self._ended:
                return self.footprint
            self._ended = True
        self._account.guarded(lambda: self._book(said, status, error))
        return self.footprint

    def fail(self, error: BaseException, said: Said | None = None) -> None:
        """Book a call that ended with an error.

        A refusal (a client's error, or a server that was never reached) computed nothing, so it isn't booked.
        After anything else the server may have worked: a row without figures says so.
        """
        if _computed_nothing(error):
            with self._lock:
                self._ended = True
            return
        status: Status = "failed" if isinstance(error, Exception) else "cancelled"
        if type(error).__name__ == "CancelledError":
            status = "cancelled"
        if said is None:
            # The clients raise for an answer that was cut at its length limit, and hand it over so.
            said = self._account.guarded(lambda: self.api.answer(getattr(error, "completion", None)))
        self.end(said or Said(), status=status, error=type(error).__name__)

    def abandon(self) -> None:
        """Book a call that nobody will end any more."""
        self.end(Said(), status="cancelled")

    def _book(self, said: Said, status: Status, error: str) -> None:
        given = said.footprint
        footprint = gateway_footprint(given)
        if footprint is None:
            given = None
            footprint = self._account.cost(self._model, said, self._url)
        self.footprint = footprint
        model = said.model or self._model
        activity = Activity(
            id=_gateway_id(given) or new_id("req"),
            started_s=self._started_s,
            seconds=max(0.0, time.perf_counter() - self._clock_s),
            kind="request",
            stage="inference",
            status=status,
            label=self._label,
            model=model,
            zone=_zone_of(footprint, given),
            tokens_in=said.tokens_in,
            tokens_cached=said.tokens_cached,
            tokens_out=said.tokens_out,
            footprint=footprint,
        )
        self._account.book(
            Finished(
                activity,
                operation=self.api.operation,
                provider=provider_name(self._url, self._flavour),
                request_model=self._model,
                tokens_reasoning=said.tokens_reasoning,
                error=error,
            )
        )


def _computed_nothing(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        return False
    code = getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(code, int):
        return 400 <= code < 500
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ in _NEVER_REACHED:
            return True
        cause = cause.__cause__
    return False


def _gateway_id(given: dict[str, object] | None) -> str | None:
    """The gateway's own id of the request: in the gateway's ledger, the row is there already."""
    found = None if given is None else given.get("request_id")
    return found if isinstance(found, str) and found else None


def _zone_of(footprint: Footprint, given: dict[str, object] | None) -> str:
    """The zone by the key of the intensity that was used; ``world`` if no zone was."""
    factors: object = {factor.name: factor.key for factor in footprint.factors}
    if given is not None:
        factors = given.get("factors")
    key = factors.get("carbon intensity") if isinstance(factors, dict) else None
    zone = key.removeprefix(_GRID) if isinstance(key, str) and key.startswith(_GRID) else "world"
    return "world" if zone == "unknown" else zone
