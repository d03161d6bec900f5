"""What a running server takes up on SIGHUP, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.config import Settings
from negajoule.errors import NegajouleError
from negajoule.gateway import Limits
from negajoule.gateway.logs import LOGGER, configure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from negajoule.cli.listen import Certificate
    from negajoule.gateway import Gateway

__all__ = ["RELOADED", "Reload"]

RELOADED: tuple[str, ...] = (
    *Limits._fields,
    "max_requests_per_key",
    "metrics_open",
    "log_format",
    "log_level",
)
"""Settings that are taken up; all others hold from start to stop."""


class Reload:
    """Reads settings, upstreams, API keys and TLS certificate again, all of them or, if one is wrong, none.

    Args:
        arguments: what was given on the command line; it still beats the files.
        gateway: the running application.
        certificate: its certificate, if it has one.
        secrets: what logs must never show; asked again each time.
        renewals: from the new settings to what puts others in place, such as upstreams.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        gateway: Gateway,
        certificate: Certificate | None,
        secrets: Callable[[], Iterable[str]],
        renewals: Sequence[Callable[[Settings], Callable[[], None]]] = (),
    ) -> None:
        self._arguments = arguments
        self._gateway = gateway
        self._certificate = certificate
        self._secrets = secrets
        self._hidden: set[str] = set()
        self._renewals = renewals

    def __call__(self, *_: object) -> None:
        """Take up what has changed; also serves as a handler of signals."""
        door = self._gateway.door
        try:
            settings = Settings(self._arguments)
            if self._certificate is not None:
                self._certificate.load()
            renew = [renewal(settings) for renewal in self._renewals]
        except NegajouleError as error:
            LOGGER.error("nothing was reloaded: %s", error.message)
            return
        self._hidden.update(self._secrets())  # a server that leaves may still say its key in an error
        for put_in_place in renew:
            put_in_place()
        if door.ring is not None:
            door.ring.refresh()
        door.metrics_open = settings["metrics_open"]
        door.places = settings["max_requests_per_key"]
        self._gateway.limits = Limits.of(settings)
        configure(settings["log_format"], settings["log_level"], hide=self._hidden.union(self._secrets()))
        LOGGER.info("reloaded")
