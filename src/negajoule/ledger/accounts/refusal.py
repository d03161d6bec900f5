"""What is said when a budget refuses a request: which budget, how it stands, when to try again."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from negajoule.errors import RequestError
from negajoule.ledger.accounts.account import Account, stamp
from negajoule.ledger.accounts.amounts import amount_of, amount_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.ledger.accounts.slices import Standing

__all__ = ["Headroom", "Reason", "Refusal"]

Reason = Literal["used up", "held", "too large", "unknown"]
"""Spent until the reset; held by running requests, so that some may come back; larger than the whole budget;
or without a known upper bound."""


class Refusal(NamedTuple):
    """A request that a budget doesn't let through; amounts in units.

    Attributes:
        account: the budget that refuses; of several the one that refuses longest.
        reason: why.
        needed: the request's upper bound; ``None`` if it isn't known.
        limit: what the window allows.
        spent: what is spent in it.
        held: what is held for requests, running or to come.
        resets_s: when the window ends, seconds since the epoch [s]; ``None`` for never or not known.
        retry_after_s: when the same request may succeed, from now [s]; ``None`` for never or not known.
    """

    account: Account
    reason: Reason
    needed: int | None = None
    limit: int = 0
    spent: int = 0
    held: int = 0
    resets_s: float | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(
        cls, account: Account, standing: Standing, needed: int, *, now_s: float, returns_s: float
    ) -> Refusal:
        """A refusal because a budget's standing lacks room.

        Args:
            account: the budget.
            standing: how it stands.
            needed: the request's upper bound.
            now_s: the store's clock [s].
            returns_s: within which time workers give back what they don't need [s].
        """
        to_reset_s = None if standing.ends_s is None else max(1.0, standing.ends_s - now_s)
        if needed > standing.limit:
            reason, retry_s = "too large", None
        elif needed <= standing.limit - standing.spent:
            reason, retry_s = "held", returns_s if to_reset_s is None else min(returns_s, to_reset_s)
        else:
            reason, retry_s = "used up", to_reset_s
        return cls(
            account,
            reason,  # type: ignore[arg-type]
            needed,
            standing.limit,
            standing.spent,
            max(0, standing.claimed - standing.spent),
            standing.ends_s,
            retry_s,
        )

    @property
    def lasts_s(self) -> float:
        """For ordering refusals: how long this one lasts [s]."""
        if self.reason in ("unknown", "too large"):
            return float("inf")
        return 1e18 if self.retry_after_s is None else self.retry_after_s

    def __str__(self) -> str:
        terms = self.account.terms
        if self.reason == "unknown":
            return f"the budget {self.account.id} counts {terms}; how much of it this takes isn't known"

        def text(units: int) -> str:
            return amount_text(terms.indicator, units)

        head = f"the budget {self.account.id} ({terms}) allows {text(self.limit)}"
        if self.reason == "too large":
            return f"{head}; this request may take {text(self.needed or 0)}"
        resets = "" if self.resets_s is None else f"; it resets at {stamp(self.resets_s)}"
        return (
            f"{head}: {text(self.spent)} spent, {text(self.held)} held, and this request may take "
            f"{text(self.needed or 0)}{resets}"
        )

    def to_error(self, param: str | None = None) -> RequestError:
        """The error that a client gets: R108 with status 429, or R109 with 400 if the cost isn't known.

        Args:
            param: the field of the request that would help, such as ``max_tokens``, if the caller knows.
        """
        if self.reason == "unknown":
            fix = "use another model, or have the operator state what this one costs"
            return RequestError(str(self), code="R109", status=400, param=param, fix=fix)
        fix = {
            "used up": "wait for the reset, ask for fewer tokens, or have the limit raised",
            "held": "try again soon, or ask for fewer tokens",
        }.get(self.reason, "ask for fewer tokens, or have the limit raised")
        return RequestError(
            str(self), code="R108", status=429, param=param, fix=fix, retry_after_s=self.retry_after_s
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, amounts in the indicator."""
        indicator = self.account.terms.indicator
        return {
            "budget": self.account.to_dict(),
            "reason": self.reason,
            "needed": None if self.needed is None else amount_of(indicator, self.needed),
            "limit": amount_of(indicator, self.limit),
            "spent": amount_of(indicator, self.spent),
            "held": amount_of(indicator, self.held),
            "resets": None if self.resets_s is None else stamp(self.resets_s),
            "retry_after_s": None if self.retry_after_s is None else ceil(self.retry_after_s),
        }


class Headroom(NamedTuple):
    """The largest bounds that would be granted now, for choosing a cheaper model or a smaller cap.

    Attributes:
        amounts: by indicator, what the tightest budget has left, in the indicator; an indicator without a
            budget isn't there.
        tightest: the budget behind each amount.
    """

    amounts: dict[str, float]
    tightest: dict[str, Account]

    def share(self, bounds: Mapping[str, float]) -> float:
        """The largest part of these bounds that fits: 1 if all of it does, 0 if nothing."""
        shares = [
            1.0 if bounds[name] <= amount else amount / bounds[name]
            for name, amount in self.amounts.items()
            if name in bounds
        ]
        return max(0.0, min(shares, default=1.0))
