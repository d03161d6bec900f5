"""What stands behind the gateway: something that answers a call and tells what it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from negajoule.gateway.accounts import Tokens
    from negajoule.gateway.wire import Call
    from negajoule.ledger import Status
    from negajoule.units import Footprint

__all__ = ["Backend", "Exchange"]


class Exchange(Protocol):
    """One call on its way. It is accounted for exactly once, however it ends.

    Its id is that of its answer's header and of its row in the ledger.
    """

    @property
    def request_id(self) -> str:
        """Id of the call; settled once the answer begins."""
        ...

    async def plain(self) -> dict[str, Any]:
        """The whole answer, footprint included.

        Raises:
            NegajouleError: if the call can't be answered.
        """
        ...

    def events(self) -> AsyncIterator[bytes]:
        """The answer as server-sent events; the last but one carries the footprint.

        Raises:
            NegajouleError: before the first event, if the call can't be answered.
        """
        ...

    @property
    def cost(self) -> Footprint | None:
        """The footprint, once the call has ended."""
        ...

    @property
    def status(self) -> Status:
        """How it ended."""
        ...

    @property
    def tokens(self) -> Tokens:
        """What was counted."""
        ...

    async def cancel(self) -> None:
        """The client has gone: stop the work, keep the account."""
        ...


class Backend(Protocol):
    """Answers calls."""

    async def models(self) -> list[dict[str, Any]]:
        """The models, as OpenAI lists them."""
        ...

    async def open(self, call: Call) -> Exchange:
        """Take a call on.

        Raises:
            NegajouleError: if it can't be taken on; nothing has run then.
        """
        ...

    async def close(self) -> None:
        """Finish what runs and let go."""
        ...
