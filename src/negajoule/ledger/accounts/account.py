"""A budget's terms: whose use it counts, what it counts, in which window, and how much it allows."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from negajoule.errors import ConfigError
from negajoule.ledger.accounts.amounts import amount_of, amount_text, check_indicator, limit_units
from negajoule.ledger.accounts.windows import WINDOWS, Window, window_end, window_start

__all__ = ["SCOPES", "Account", "Scope", "Terms", "Usage", "stamp"]

Scope = Literal["key", "team", "project", "model", "global"]
"""Whose requests count: those of an API key, a team, a project, a model, or all."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


class Terms(NamedTuple):
    """What tells one budget from another; at most one open budget has the same terms.

    Attributes:
        scope: whose requests count.
        name: which key, team, project or model; empty for ``global``.
        indicator: ``J``, ``gCO2e``, ``L`` or a currency's code.
        window: what the limit holds for.
    """

    scope: Scope
    name: str
    indicator: str
    window: Window

    @classmethod
    def checked(cls, scope: str, name: str, indicator: str, window: str) -> Terms:
        """Terms from outside.

        Raises:
            ConfigError: (C101) if one is unknown, or a name is missing or too many.
        """
        if scope not in SCOPES:
            raise ConfigError(f"a budget can't be for a {scope!r}", fix=f"use {', '.join(SCOPES)}")
        if window not in WINDOWS:
            raise ConfigError(f"a budget can't last a {window!r}", fix=f"use {', '.join(WINDOWS)}")
        if (scope == "global") == bool(name):
            fix = "leave the name out" if name else f"name the {scope}"
            raise ConfigError(f"a {scope} budget can't have the name {name!r}", fix=fix)
        if not name.isprintable() or len(name) > 200:
            raise ConfigError("a budget's name must be at most 200 printable characters")
        return cls(scope, name, check_indicator(indicator), window)

    def __str__(self) -> str:
        whose = "all requests" if self.scope == "global" else f"{self.scope} {self.name}"
        return f"{self.indicator} of {whose}, {'in total' if self.window == 'total' else 'by ' + self.window}"


class Account(NamedTuple):
    """A budget in a store.

    Attributes:
        id: the store's number for it.
        terms: what it is.
        limit: what a window allows, in units of ``amounts``.
        closed: whether it counts no more.
    """

    id: int
    terms: Terms
    limit: int
    closed: bool = False

    @staticmethod
    def limit_of(terms: Terms, limit: float) -> int:
        """A limit in the indicator as units.

        Raises:
            ConfigError: (C101) if it is no limit.
        """
        return limit_units(terms.indicator, limit)

    def __str__(self) -> str:
        return f"{amount_text(self.terms.indicator, self.limit)} of budget {self.id} ({self.terms})"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, amounts in the indicator."""
        return {
            "id": self.id,
            **self.terms._asdict(),
            "limit": amount_of(self.terms.indicator, self.limit),
            "closed": self.closed,
        }


class Usage(NamedTuple):
    """What became of a budget in one window, in units.

    ``spent + held + presumed + forfeited`` is what the window is charged with; without overrun it never
    exceeds the limit.

    Attributes:
        account: the budget.
        window: the window's number.
        limit: the limit last in force in the window.
        highest_limit: the highest limit that was in force in the window.
        spent: what settled requests cost, as far as the workers have said.
        held: what living workers hold for requests, running or to come.
        presumed: what workers hold that were not heard of in time; it counts as spent until they or their
            journal show otherwise.
        forfeited: what dead workers held and nobody can account for; spent for good.
        overrun: what requests cost beyond their bound; it is part of ``spent``.
        requests: requests that may have reached a model.
        refusals: requests that were refused.
    """

    account: Account
    window: int
    limit: int
    highest_limit: int
    spent: int = 0
    held: int = 0
    presumed: int = 0
    forfeited: int = 0
    overrun: int = 0
    requests: int = 0
    refusals: int = 0

    @property
    def charged(self) -> int:
        """What counts against the limit."""
        return self.spent + self.held + self.presumed + self.forfeited

    @property
    def starts_s(self) -> float | None:
        """Begin of the window, seconds since the epoch [s]."""
        return window_start(self.account.terms.window, self.window)

    @property
    def ends_s(self) -> float | None:
        """End of the window [s]."""
        return window_end(self.account.terms.window, self.window)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, amounts in the indicator."""
        indicator = self.account.terms.indicator
        amounts = ("limit", "highest_limit", "spent", "held", "presumed", "forfeited", "overrun", "charged")
        return {
            "budget": self.account.to_dict(),
            "starts": None if self.starts_s is None else stamp(self.starts_s),
            "resets": None if self.ends_s is None else stamp(self.ends_s),
            **{name: amount_of(indicator, getattr(self, name)) for name in amounts},
            "requests": self.requests,
            "refusals": self.refusals,
        }


def stamp(moment_s: float) -> str:
    """A moment as people and programs read it, e.g. ``2026-11-23T16:00:00Z``."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
