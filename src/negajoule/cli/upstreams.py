"""The servers behind ours: from the command line or negajoule.toml to a backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from negajoule.config import Settings
    from negajoule.gateway import Accounts, Fleet
    from negajoule.gateway.colocated import Colocated
    from negajoule.gateway.plan import UpstreamPlan
    from negajoule.gateway.server import Server
    from negajoule.instrument import Here
    from negajoule.meter import Splitter

    _Servers = dict[str, tuple[tuple[Any, ...], Server]]

__all__ = ["Upstreams"]

_KEY = "NEGAJOULE_UPSTREAM_KEY"


class Upstreams:
    """The servers that calls are passed on to.

    Args:
        settings: the settings, whose file may hold ``[[upstream]]`` tables.
        url: the one server that was given on the command line; the tables don't count then.
        embedded: whether an engine was asked for on the command line; the tables don't count then either.

    Raises:
        ConfigError: (C101, C103) if a table is wrong or a key isn't set.
    """

    def __init__(self, settings: Settings, url: str | None, *, embedded: bool) -> None:
        from negajoule.gateway.plan import plan_for

        self._settings = settings
        self._url = url
        self._servers: _Servers = {}
        self.plans: tuple[UpstreamPlan, ...] = ()
        self._keys: dict[str, str] = {}
        if url is not None:
            self.plans = (plan_for(url),)
            if os.environ.get(_KEY):
                self._keys = {self.plans[0].name: os.environ[_KEY]}
        elif not embedded:
            self.plans, self._keys = _read(settings)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.plans)

    def __str__(self) -> str:
        """What to call them."""
        if len(self.plans) == 1:
            return f"upstream {self.plans[0].base}"
        return f"upstreams {', '.join(plan.name for plan in self.plans)}"

    @property
    def secrets(self) -> list[str]:
        """Their keys, which logs must never show."""
        return list(self._keys.values())

    def fleet(self, here: Here, splitter: Splitter, accounts: Accounts) -> Fleet:
        """The backend that passes calls on to them."""
        from negajoule.gateway import Fleet
        from negajoule.gateway.retry import Retry

        if not self.plans:
            raise ConfigError("there is no upstream", fix="give --upstream URL")
        retry = Retry(self._settings["upstream_tries"])
        self._servers = self._made(self._settings, self.plans, self._keys, here)
        servers = [server for _, server in self._servers.values()]
        fleet = Fleet(servers, splitter, accounts, retry=retry)
        accounts.metrics.watch(
            "negajoule_metered_gaps",
            "Calls that an instrument should have metered and couldn't",
            lambda: sum(meter.gaps for _, server in self._servers.values() if (meter := server.metered)),
        )
        return fleet

    def renewal(
        self, settings: Settings, *, fleet: Fleet, here: Here, after: Callable[[], None]
    ) -> Callable[[], None]:
        """What puts the servers of changed tables in the place of those that run; nothing happens before.

        Servers whose table, key and time-out are the same stay, with their connections.

        Args:
            settings: the settings, read anew.
            fleet: passes calls on.
            here: this machine and its place.
            after: called once they are in place.

        Raises:
            ConfigError: (C101, C103) if a table is wrong, a key isn't set, an instrument isn't there, or no
                table is left.
        """
        if self._url is not None:
            return lambda: None
        from negajoule.gateway.turnover import replace_servers

        plans, keys = _read(settings)
        if not plans:
            raise ConfigError("no [[upstream]] table is left", fix="stop the server to use its own engine")

        made = self._made(settings, plans, keys, here)

        def renew() -> None:
            self._settings, self.plans, self._keys, self._servers = settings, plans, keys, made
            replace_servers(fleet, [server for _, server in made.values()])
            after()

        return renew

    def _made(
        self, settings: Settings, plans: Iterable[UpstreamPlan], keys: Mapping[str, str], here: Here
    ) -> _Servers:
        """A server for each plan; one that runs already, where nothing of it has changed."""
        from negajoule.gateway import upstream_cost
        from negajoule.gateway.server import Server

        made: _Servers = {}
        silence_s = settings["upstream_timeout_s"]
        for plan in plans:
            key = keys.get(plan.name)
            asked = (plan, key, silence_s)
            before, server = self._servers.get(plan.name, (None, None))
            if server is None or before != asked:
                server = Server(
                    plan,
                    estimate=upstream_cost(plan.base, here),
                    key=key,
                    silence_s=silence_s,
                    metered=_meter(plan, here),
                )
            made[plan.name] = (asked, server)
        return made


def _meter(plan: UpstreamPlan, here: Here) -> Colocated | None:
    if plan.metered_by is None:
        return None
    from negajoule.gateway.colocated import meter_for
    from negajoule.meter import find_probes

    return meter_for(plan, here, find_probes())


def _read(settings: Settings) -> tuple[tuple[UpstreamPlan, ...], dict[str, str]]:
    from negajoule.gateway.plan import keys_of, read_plan

    table = settings.table("upstream")
    plans = () if table is None else read_plan(*table)
    return plans, keys_of(plans, os.environ)
