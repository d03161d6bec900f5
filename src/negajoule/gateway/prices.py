"""What calls cost in money: by the token where a provider is paid, by the kWh where the model runs here.

Prices are the operator's: they stand in the configuration, and nothing here knows or guesses any. A call
whose price isn't stated in a budget's currency can't be counted by it and is refused (R109); there are no
rates of exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from negajoule.errors import ConfigError, RequestError
from negajoule.gateway.bounds import INDICATORS
from negajoule.ledger.accounts import parse_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from negajoule.gateway.accounts import Tokens
    from negajoule.gateway.backend import Exchange
    from negajoule.gateway.routes import Routes
    from negajoule.ledger.accounts import Account

__all__ = ["EnergyTariff", "Price", "Tariff", "TokenTariff", "unpriced"]

_PER = 1_000_000.0  # tokens that a price is for
_JOULES_PER_KWH = 3.6e6


class Price(NamedTuple):
    """What a provider asks for a model.

    Attributes:
        currency: ISO 4217 code.
        input: for a million prompt tokens.
        output: for a million generated tokens, reasoning included.
        cached: for a million prompt tokens out of the provider's cache; ``None`` for the same as others.
    """

    currency: str
    input: float
    output: float
    cached: float | None = None

    def of(self, tokens: Tokens) -> float | None:
        """What so many tokens cost; ``None`` if a count isn't known."""
        if tokens.prompt is None or tokens.output is None:
            return None
        cached = min(tokens.cached or 0, tokens.prompt)
        reused = self.input if self.cached is None else self.cached
        return ((tokens.prompt - cached) * self.input + cached * reused + tokens.output * self.output) / _PER

    def most(self, tokens: Tokens) -> float:
        """The most that no more than so many tokens can cost, wherever the prompt comes from."""
        prompt = max(self.input, self.cached or 0.0)
        return ((tokens.prompt or 0) * prompt + (tokens.output or 0) * self.output) / _PER


class Tariff(Protocol):
    """Tells what calls cost in money, by currency."""

    def currencies(self, model: str) -> set[str]:
        """The currencies that a model is paid in; empty if nobody stated a price."""
        ...

    def bound(
        self, model: str, tokens: Tokens | None, used: Mapping[str, float | None]
    ) -> dict[str, float | None]:
        """The most that a call can cost.

        Args:
            model: the public name.
            tokens: the most that it takes; ``None`` if that can't be told.
            used: the most that it uses, by indicator.
        """
        ...

    def actual(self, exchange: Exchange) -> dict[str, float | None]:
        """What a call that has ended cost; ``None`` where that isn't known."""
        ...


class TokenTariff:
    """Upstream servers, paid by the token.

    Args:
        routes: where they are found; asked at each call, for the servers may change.
    """

    def __init__(self, routes: _HasRoutes) -> None:
        self._owner = routes

    def currencies(self, model: str) -> set[str]:
        """See ``Tariff``: those of every server that may come to answer."""
        return {price.currency for price in self._prices(model) if price is not None}

    def bound(
        self, model: str, tokens: Tokens | None, used: Mapping[str, float | None]
    ) -> dict[str, float | None]:
        """See ``Tariff``: the dearest server that may come to answer; unknown if one states no price."""
        prices = self._prices(model)
        bounds: dict[str, float | None] = {}
        for price in prices:
            if price is not None:
                bounds[price.currency] = None
        if len(bounds) == 1 and tokens is not None and None not in prices:
            (currency,) = bounds
            bounds[currency] = max(price.most(tokens) for price in prices if price is not None)
        return bounds

    def actual(self, exchange: Exchange) -> dict[str, float | None]:
        """See ``Tariff``: by the price of the server that answered."""
        price: Price | None = getattr(exchange, "price", None)
        return {} if price is None else {price.currency: price.of(exchange.tokens)}

    def _prices(self, model: str) -> list[Price | None]:
        return [route.server.plan.price_of(model) for route in self._owner.routes.of_model(model)]


class _HasRoutes(Protocol):
    routes: Routes


class EnergyTariff:
    """The embedded engine, paid by the kWh of the whole facility.

    Args:
        price: what a kWh costs, such as ``0.25 EUR``.
        pue_high: upper end of the site's PUE, for bounds [1].

    Raises:
        ConfigError: (C101) if it isn't a price.
    """

    def __init__(self, price: str, *, pue_high: float) -> None:
        currency, self._per_kwh = parse_limit(price)
        if currency in INDICATORS:
            raise ConfigError(
                f"price_per_kwh must be money, not {price!r}", fix='write for example "0.25 EUR"'
            )
        self._currency = currency
        self._pue_high = pue_high

    def currencies(self, model: str) -> set[str]:
        """See ``Tariff``."""
        return {self._currency}

    def bound(
        self, model: str, tokens: Tokens | None, used: Mapping[str, float | None]
    ) -> dict[str, float | None]:
        """See ``Tariff``."""
        joules = used.get("J")
        return {self._currency: None if joules is None else self._of(joules * self._pue_high)}

    def actual(self, exchange: Exchange) -> dict[str, float | None]:
        """See ``Tariff``."""
        energy = None if exchange.cost is None else exchange.cost.facility_energy
        return {self._currency: None if energy is None else self._of(energy.value)}

    def _of(self, joules: float) -> float:
        return joules / _JOULES_PER_KWH * self._per_kwh


def unpriced(account: Account, model: str, known: Iterable[str]) -> RequestError:
    """The error for a call that a budget in money counts and whose price isn't stated in its currency."""
    currency, others = account.terms.indicator, sorted(set(known) - {account.terms.indicator})
    if others:
        problem = f"the price of {model!r} is in {' and '.join(others)}, and there are no rates of exchange"
    else:
        problem = f"no price in {currency} is stated for {model!r} and every server that may answer for it"
    return RequestError(
        f"the budget {account.id} counts {account.terms}; {problem}",
        code="R109",
        status=400,
        param="model",
        fix=f"use another model, or have the operator state its price in {currency} or set another budget",
    )
