"""What a request cost: from a model, its tokens and the server's address to a footprint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from negajoule.instrument.here import find_here
from negajoule.instrument.hosted import serving_factors
from negajoule.instrument.provider import is_on_site, provider_of_url
from negajoule.physics import Doubt, Lengths, estimate, estimate_request, hosted_footprint
from negajoule.units import Footprint

if TYPE_CHECKING:
    from negajoule.physics import Factors

__all__ = ["Estimator", "HostedCost", "unknown_cost"]


class Estimator(Protocol):
    """Works out what a request cost; raises a ``NegajouleError`` if it can't."""

    def __call__(
        self, model: str, tokens_in: int, tokens_out: int, tokens_cached: int | None, url: str
    ) -> Footprint:
        """The footprint of one request.

        Args:
            model: its name, as the server writes it.
            tokens_in: length of the prompt, cached part included.
            tokens_out: length of the answer, hidden reasoning included.
            tokens_cached: part of the prompt that came out of a cache, ``None`` if that wasn't told.
            url: address of the server.
        """
        ...


class HostedCost:
    """The estimator that is used unless another one is given.

    A server on this machine or in a private network stands where you are. Any other is a provider's: known by
    its address or, for closed models, by who made the model; where it computes is unknown unless you say it.

    Args:
        zone: where the models are served, if you know.

    Raises:
        CatalogError: (F101) if the zone doesn't exist.
    """

    def __init__(self, zone: str | None = None) -> None:
        self.zone = zone
        self._known: dict[tuple[str, str], Factors] = {}
        serving_factors(None, zone)

    def __call__(
        self, model: str, tokens_in: int, tokens_out: int, tokens_cached: int | None, url: str
    ) -> Footprint:
        """The footprint of one request, boundary ``facility``; arguments as in ``Estimator``.

        Raises:
            CatalogError: (F101) if the model isn't known.
            ConfigError: (C101) if no token was computed.
        """
        if tokens_cached is None:
            lengths = Lengths(tokens_in, tokens_out)
            all_cached = lengths._replace(cached=tokens_in)
            found = estimate_request(model, lengths, [Doubt("prompt cache", all_cached, lengths)])
        else:
            found = estimate(model, tokens_in, tokens_out, cached_tokens=tokens_cached)
        return hosted_footprint(found, self._factors(model, url))

    def _factors(self, model: str, url: str) -> Factors:
        """What a joule costs at a server, looked up once for each model."""
        found = self._known.get((model, url))
        if found is None:
            if self.zone is None and is_on_site(url):
                found = find_here().factors
            else:
                found = serving_factors(model, self.zone, provider_of_url(url))
            self._known[model, url] = found
        return found


def unknown_cost(note: str) -> Footprint:
    """A footprint without any figure, and why."""
    return Footprint(boundary="facility", notes=(note,))
