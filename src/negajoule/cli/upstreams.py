"""The servers behind ours: from the command line or negajoule.toml to a backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from negajoule.config import Settings
    from negajoule.gateway import Accounts, Fleet
    from negajoule.gateway.plan import UpstreamPlan
    from negajoule.instrument import Here
    from negajoule.meter import RequestSplitter

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
        from negajoule.gateway.plan import keys_of, plan_for, read_plan

        self._settings = settings
        table = settings.table("upstream")
        self.plans: tuple[UpstreamPlan, ...] = ()
        self._keys: dict[str, str] = {}
        if url is not None:
            self.plans = (plan_for(url),)
            if os.environ.get(_KEY):
                self._keys = {self.plans[0].name: os.environ[_KEY]}
        elif table is not None and not embedded:
            self.plans = read_plan(*table)
            self._keys = keys_of(self.plans, os.environ)

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

    def fleet(self, here: Here, splitter: RequestSplitter, accounts: Accounts) -> Fleet:
        """The backend that passes calls on to them."""
        from negajoule.gateway import Fleet, upstream_cost
        from negajoule.gateway.retry import Retry
        from negajoule.gateway.server import Server

        if not self.plans:
            raise ConfigError("there is no upstream", fix="give --upstream URL")
        servers = [
            Server(
                plan,
                estimate=upstream_cost(plan.base, here),
                key=self._keys.get(plan.name),
                silence_s=self._settings["upstream_timeout_s"],
            )
            for plan in self.plans
        ]
        return Fleet(servers, splitter, accounts, retry=Retry(self._settings["upstream_tries"]))
