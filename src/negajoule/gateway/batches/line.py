"""One line's way through the server: by its owner's key as it stands now, asked again where that helps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.errors import EngineError, LedgerError, NegajouleError, RequestError
from negajoule.gateway.caller import CALLER
from negajoule.gateway.dialects import CALLS
from negajoule.gateway.logs import log_crash, log_visit
from negajoule.gateway.visit import Visit
from negajoule.gateway.wire import error_body, status_of
from negajoule.ledger import new_id

if TYPE_CHECKING:
    from negajoule.gateway.backend import Backend
    from negajoule.gateway.caller import Caller
    from negajoule.gateway.door import Door

__all__ = ["Answered", "ask", "check_owner", "pause_s", "unanswered"]

_TRIES = 5
_LONGEST_PAUSE_S = 60.0
_HELD = b"x-negajoule-held-s"


class Answered(NamedTuple):
    """What came of a line.

    Attributes:
        status: the HTTP status that its answer would have had.
        request_id: its id in the ledger.
        body: the answer, or the error.
        seconds: how long it took [s].
        held_s: how much of that it was held [s].
        error: why it failed; ``None`` if it didn't.
    """

    status: int
    request_id: str
    body: bytes
    seconds: float
    held_s: float = 0.0
    error: NegajouleError | None = None

    def record(self, custom_id: str) -> bytes:
        """The line of the file with answers or errors, as OpenAI writes it."""
        response = {"status_code": self.status, "request_id": self.request_id, "body": msgspec.Raw(self.body)}
        return _record(custom_id, response=response, error=None)


def unanswered(custom_id: str, code: str, message: str) -> bytes:
    """The line of the file with errors for a line that never ran."""
    return _record(custom_id, response=None, error={"code": code, "message": message})


def _record(custom_id: str, **fields: Any) -> bytes:  # noqa: ANN401 (anything that JSON can say)
    return msgspec.json.encode({"id": new_id("batch_req"), "custom_id": custom_id, **fields})


async def ask(
    backend: Backend,
    door: Door,
    owner: str,
    endpoint: str,
    body: bytes,
    headers: dict[str, str],
    longest_s: float,
) -> Answered:
    """Run a line once; must run in a task of its own.

    Args:
        backend: answers it.
        door: knows what its owner may do.
        owner: name of the key that it is run for.
        endpoint: what it asks.
        body: the request.
        headers: what travels with it.
        longest_s: time after which it is given up [s].
    """
    surface = CALLS[endpoint]
    visit = Visit("BATCH", endpoint, surface.task)
    held_s, answer = 0.0, b""
    failure: NegajouleError | None = None
    try:
        visit.caller = caller = door.caller_of(owner, surface.need)
        CALLER.set(caller)
        talk = surface.talk()
        call = talk.read(body)
        visit.model = call.model
        if call.stream:
            raise RequestError("a batch's answers don't come as streams", param="stream")
        caller.check_model(call.model)
        call = msgspec.structs.replace(call, headers=headers)
        door.enter(caller)
        try:
            async with asyncio.timeout(longest_s):
                exchange = await backend.open(call)
                try:
                    answer = talk.whole(await exchange.plain())
                finally:
                    if exchange.cost is None:
                        await exchange.cancel()
                    visit.request_id = exchange.request_id
                    visit.take(exchange)
                    held_s = _held_s(getattr(exchange, "fields", ()))
        finally:
            door.leave(caller)
    except NegajouleError as error:
        failure = error
    except TimeoutError:
        failure = RequestError("the request took too long", code="R112", status=504)
    except Exception as error:
        log_crash(error)
        failure = EngineError(f"the server failed: {type(error).__name__}", status=500)
    visit.request_id = visit.request_id or new_id("req")
    visit.status = 200 if failure is None else status_of(failure)
    visit.error = "" if failure is None else failure.code
    log_visit(visit)
    whole = answer if failure is None else error_body(failure)
    return Answered(visit.status, visit.request_id, whole, visit.seconds, held_s, failure)


def pause_s(error: NegajouleError, tries: int) -> float | None:
    """How long to wait before a line is asked again [s]; ``None`` if that wouldn't help.

    A used-up budget is waited for if it fills again; a server that is busy, for as long as the batch lasts;
    one that fails, five times.
    """
    if error.code in ("R112", "R109"):
        return None
    after_s: float | None = getattr(error, "retry_after_s", None)
    if error.code == "R108":
        return None if after_s is None else max(1.0, after_s)
    status = status_of(error)
    busy = status in (429, 503) or isinstance(error, LedgerError)
    if busy or (status in (502, 504) and tries < _TRIES):
        return max(after_s or 0.0, min(_LONGEST_PAUSE_S, 0.5 * 2.0 ** min(tries, 10)))
    return None


def _held_s(fields: list[tuple[bytes, bytes]] | tuple[()]) -> float:
    return next((float(value) for name, value in fields if name == _HELD), 0.0)


def check_owner(caller: Caller, endpoint: str) -> None:
    """Refuse a batch that its owner's key isn't for.

    Raises:
        RequestError: (R111) with status 403.
    """
    need = CALLS[endpoint].need
    if need not in caller.scopes:
        raise RequestError(f"this API key hasn't the scope {need!r}", code="R111", status=403)
